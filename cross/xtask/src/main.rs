//! Build, test, demo and benchmark tasks of Holm: `cargo xtask --help`.

mod bench;
mod command;
mod demo;
mod devices;
mod dist;
mod fuzz;
mod gateway_vm;
mod image;
mod kill;
mod netsim;
mod packages;
mod replay;
mod setup;
mod sim;
mod soak;
mod steps;
mod targets;
mod test;

use clap::{Parser, Subcommand};

/// Tasks of the Holm project. Each sets up what it needs and says what it cannot.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Sets up what is missing and passes all tests.
    Test(test::TestArgs),
    /// Runs the demonstration and prints its proof.
    Demo(demo::DemoArgs),
    /// Kills a gateway again and again under load and shows that nothing is lost or done twice.
    Kill(kill::KillArgs),
    /// Feeds everything that reads foreign bytes with what a fuzzer makes up.
    Fuzz(fuzz::FuzzArgs),
    /// Cuts the power at many points of a recorded run and shows that what was acked is there.
    CrashReplay(replay::ReplayArgs),
    /// Runs everything for a long time, with cuts and kills, and charts what it takes.
    Soak(soak::SoakArgs),
    /// Simulates gateways by seeds and judges what must always hold.
    Sim(sim::SimArgs),
    /// Simulates the gateway's connections over networks that break.
    Netsim(netsim::NetsimArgs),
    /// Builds the firmware of the examples, runs it in QEMU at a real gateway, and checks its budgets.
    Devices(devices::DevicesArgs),
    /// Builds the agent for each target, holds it to its budget, and runs it.
    Targets(targets::TargetsArgs),
    /// Writes down which functions a gateway runs, for their order in the program.
    Layout(targets::layout::record::LayoutArgs),
    /// The linker that `targets` gives rustc.
    #[command(hide = true)]
    Link(targets::layout::LinkArgs),
    /// Packs the agent: .deb, tarball, container image, bill of materials, checksums, signature.
    Packages(packages::PackagesArgs),
    /// Makes everything that is released: packages, images, lists of licences, checksums, signature.
    Dist(dist::DistArgs),
    /// Builds a card image that a board boots from.
    Image(image::ImageArgs),
    /// Boots an image in QEMU as a gateway of a control plane on this machine.
    GatewayVm(gateway_vm::GatewayVmArgs),
    /// Recomputes the proof of a demonstration from its ledgers.
    Verify(demo::VerifyArgs),
    /// Measures, and fails where the figures are not as they have to be.
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    match Args::parse().task {
        Task::Test(args) => test::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Kill(args) => kill::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::CrashReplay(args) => replay::run(&args),
        Task::Soak(args) => soak::run(&args),
        Task::Sim(args) => sim::run(&args),
        Task::Netsim(args) => netsim::run(&args),
        Task::Devices(args) => devices::run(&args),
        Task::Targets(args) => targets::run(&args),
        Task::Layout(args) => targets::layout::record::run(&args),
        Task::Link(args) => targets::layout::link(&args),
        Task::Packages(args) => packages::run(&args),
        Task::Dist(args) => dist::run(&args),
        Task::Image(args) => image::run(&args),
        Task::GatewayVm(args) => gateway_vm::run(&args),
        Task::Verify(args) => demo::run_verify(&args),
        Task::Bench(bench) => bench::run(&bench),
    }
}
