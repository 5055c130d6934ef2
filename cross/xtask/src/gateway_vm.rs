//! `cargo xtask gateway-vm`: the image as a gateway in QEMU, with a control plane on this machine.

mod judge;
mod machine;
mod offline;
mod programs;
mod site;
mod slots;
mod status;
mod story;
mod updates;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use crate::image::{self, PARTS_DIR};
use crate::setup::{self, Agent};

const EXAMPLES: &str = "\
Builds the image of the board `virt`, boots it in QEMU with a clock that shows 1970, lets it enrol with a
control plane on this machine, deploys an app and sends messages over TLS. With --test there are
10,000 messages, and QEMU is killed in the midst of them and started again; in the end every message that
was acked has its record in the control plane, once.

After that the agent is updated by deployments, while another device sends: to a good one, which must stay, and
to three that must go by themselves, with their reason at the control plane: one that crashes, one that hangs,
one that works and does not reach the control plane. These are scripts around the agent itself.

In the end systems are put into the other slot: one that is well while the agent is itself on trial, which must
be kept after the agent is; one that does not boot and one that hangs, from which the gateway must come back.

  host     from QEMU's start, on this machine
  guest    from the start of the kernel, by the clock of the guest
  PSS      memory of the agent in the guest, from smaps_rollup

The kill is one of the gateway's software: what QEMU has written stays in the caches of this machine.
Power cuts of the card itself are the business of `cargo xtask crash-replay`.

Examples:
  cargo xtask gateway-vm                  200 messages, for a look
  cargo xtask gateway-vm --keep           ... and it goes on running, until Enter
  cargo xtask gateway-vm --test           the proof
  cargo xtask gateway-vm --board rpi3 --test
  cargo xtask gateway-vm --test --idle 15 ... and PSS over 10 idle minutes, after 5 of warm-up
";

/// Options of `cargo xtask gateway-vm`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GatewayVmArgs {
    /// Run the whole test, and fail where something is not as it has to be.
    #[arg(long)]
    test: bool,
    /// The board that is emulated. `rpi3` has no network in QEMU: it boots, and returns from a bad slot.
    #[arg(long, default_value = "virt", value_parser = ["virt", "rpi3"])]
    board: String,
    /// Leave it running at the end, until Enter.
    #[arg(long)]
    keep: bool,
    /// Messages that are sent [default: 200, with --test 10000].
    #[arg(long, value_parser = clap::value_parser!(u32).range(20..=1_000_000))]
    messages: Option<u32>,
    /// Minutes without messages before them: a third is warm-up, the median of the rest is the idle PSS.
    #[arg(long, value_name = "MINUTES", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=120))]
    idle: u64,
    /// MiB of memory of the machine.
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(128..=4_096))]
    memory: u32,
    /// The agent for 64-bit ARM [default: what `cargo xtask targets` built].
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// With --test: the agent that it is updated to [default: the same with a byte behind its end].
    #[arg(long, value_name = "FILE")]
    update: Option<PathBuf>,
    /// What `edge-agent --version` of that says [default: what the other one says].
    #[arg(long, value_name = "VERSION", requires = "update")]
    update_version: Option<String>,
    /// Take control plane and command line as they were built last.
    #[arg(long)]
    no_build: bool,
    /// Where packages for images are kept.
    #[arg(long, value_name = "FOLDER", default_value = PARTS_DIR, env = "HOLM_IMAGE_PARTS")]
    parts: PathBuf,
    /// Where image, ledgers and logs are written.
    #[arg(long, default_value = ".holm/gateway-vm")]
    dir: PathBuf,
}

/// Runs the gateway.
pub(crate) fn run(args: &GatewayVmArgs) -> Result<()> {
    image::tools()?;
    let missing = setup::offer(setup::GATEWAY_VM, false)?;
    ensure!(missing.is_empty(), "missing: {}", setup::apt_line(&missing));
    let agent = image::agent(args.agent.as_ref())?;
    let is_virt = args.board == "virt";
    if !is_virt {
        // Neither control plane nor functions.
    } else if args.no_build {
        setup::wasm_target()?;
        machine::check_programs()?;
    } else {
        setup::programs(Agent::Shipped)?;
    }
    let dir = setup::empty_dir(&args.dir)?;
    println!("console, ledgers and logs in {}", dir.display());
    let options = story::Options {
        dir,
        agent,
        update: args.update.clone(),
        update_version: args.update_version.clone(),
        parts: crate::command::project_root().join(&args.parts),
        messages: args.messages.unwrap_or(if args.test { 10_000 } else { 200 }),
        memory_mib: args.memory,
        idle: std::time::Duration::from_secs(args.idle * 60),
        is_test: args.test,
        keep: args.keep,
    };
    if is_virt { story::tell(&options) } else { offline::tell(&options) }
}
