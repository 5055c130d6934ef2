//! The `edge-agent` program.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use edge_agent::agent::Agent;
use edge_agent::control::Request;
use edge_agent::last_errors::LastErrors;
use edge_agent::open_files;
use edge_agent::supervisor::Supervisor;

mod answer;
mod apps;
mod care;
mod client;
mod dead_letters;
mod launcher;
mod look;
mod setup;
mod show;
mod system_helper;

use answer::{print, print_json};
use client::{ask, rows};
use setup::read_settings;

/// The program of this process, whatever has become of its file.
const OWN_PROGRAM: &str = "/proc/self/exe";
const DEFAULT_CONFIG: &str = "/etc/holm/agent.toml";

/// The Holm gateway: runs WASM functions when devices send MQTT messages, and loses none.
#[derive(Parser)]
#[command(name = "edge-agent", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  edge-agent check agent.toml              report all problems of a configuration at once
  edge-agent run --config agent.toml       run the gateway
  edge-agent launch --slots DIR -- run     run it so that it can update itself
  edge-agent status --config agent.toml    what it is doing
  edge-agent devices --config agent.toml   who is there, and what they told of themselves
  edge-agent enroll TOKEN --config agent.toml   join a control plane (`holm gateway add NAME`)
  edge-agent deploy app.holm --config agent.toml   deploy without a control plane
  edge-agent doctor --config agent.toml    what is wrong, and how to mend it
  edge-agent backup FILE --config agent.toml       of a gateway that is stopped; `restore` puts it back

Exit code 0: done; 1: refused or failed; 2: a wrong command line. With --json a failure is one object on standard
error.";

const RUN: &str = "\
It ends at SIGTERM or SIGINT, when the attempts in work have ended (10 s at most). It updates itself only where `edge-agent
launch` starts it. HOLM_LOG filters the log, HOLM_LOG_FORMAT=json is for collectors.

Examples:
  edge-agent run                                        with /etc/holm/agent.toml
  edge-agent run --config agent.toml
  HOLM_LOG=info,edge_agent::uplink=debug edge-agent run --config agent.toml
  edge-agent launch --slots ./slots -- run --config agent.toml";

const RESUME: &str = "\
After a crash loop messages are taken and kept, and no function runs; after 10 good minutes that ends by itself.

Examples:
  edge-agent status      whether it is in safe mode, and for how long
  edge-agent resume";

const DEVICE_TOKEN: &str = "\
The token goes to the device, the line below [[devices]] of agent.toml; `holm device add NAME --token` does both.

Examples:
  edge-agent device-token";

const DEVICE_PASSWORD: &str = "\
For devices that have a password already; others are better off with a token.

Examples:
  edge-agent device-password < password.txt";

#[derive(Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM or SIGINT.
    #[command(after_help = RUN)]
    Run(Config),
    /// Run a gateway that can update itself, and take an update back.
    Launch(launcher::Arguments),
    /// What this program is, for an agent that is to be replaced by it.
    #[command(hide = true)]
    About,
    /// For a card image: its slots for systems.
    #[command(hide = true, subcommand)]
    System(system_helper::Command),
    /// Report all problems of a configuration file.
    Check(setup::Check),
    /// Join a control plane with a one-time token.
    Enroll(setup::Enroll),
    /// What the gateway is doing.
    Status(look::Status),
    /// Deploy a bundle (`holm build`) to a gateway without a control plane.
    Deploy(apps::Deploy),
    /// Take an app away from a gateway without a control plane.
    Undeploy(apps::Undeploy),
    /// Look at dead letters, redrive and purge them.
    DeadLetters(dead_letters::Arguments),
    /// List the state of a function.
    State(apps::State),
    /// Functions of this gateway.
    Functions(apps::Functions),
    /// Devices: who is connected, last heard, boot and sequence, figures that they told.
    Devices(look::Devices),
    /// The last lines that devices logged (200 over all devices).
    DeviceLogs(look::DeviceLogs),
    /// Leave safe mode: after a crash loop functions run again at once.
    #[command(after_help = RESUME)]
    Resume(Config),
    /// What is wrong with this gateway, and how to mend it.
    Doctor(care::Doctor),
    /// Back up the data of a gateway that is stopped.
    Backup(care::Backup),
    /// Put a backup back, here or on a machine that takes the place of the old one.
    Restore(care::Restore),
    /// Delete the data of a gateway that is stopped: as on the first day.
    Reset(care::Reset),
    /// Make a token for a device, and the line for the configuration.
    #[command(after_help = DEVICE_TOKEN)]
    DeviceToken,
    /// Hash a password (standard input) for `password_argon2`.
    #[command(after_help = DEVICE_PASSWORD)]
    DevicePassword,
}

#[derive(Args)]
struct Config {
    /// Configuration file.
    #[arg(long, default_value = DEFAULT_CONFIG, env = "HOLM_AGENT_CONFIG")]
    config: PathBuf,
}

pub(crate) fn main() -> ExitCode {
    // One that is started by `/proc/self/exe` would be called `exe`. It is for people only.
    let _ = rustix::thread::set_name(c"edge-agent");
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == "compile") {
        let rest: Vec<OsString> = words.collect();
        return edge_agent::runtime::compile_child_main(&rest);
    }
    let done = match Arguments::try_parse() {
        Ok(arguments) => run(arguments.command),
        Err(error) => return answer::usage(&error),
    };
    done.unwrap_or_else(|error| answer::failure(&error))
}

fn run(command: Command) -> Result<ExitCode, String> {
    let done = match command {
        Command::Run(config) => return run_agent(&config.config),
        Command::Launch(arguments) => return launcher::run(arguments),
        Command::System(command) => return system_helper::run(command),
        Command::About => launcher::about(),
        Command::Check(arguments) => setup::check(&arguments),
        Command::Enroll(arguments) => setup::enroll(&arguments),
        Command::Status(arguments) => look::status(&arguments),
        Command::Devices(arguments) => look::devices(&arguments),
        Command::DeviceLogs(arguments) => look::device_logs(arguments),
        Command::Deploy(arguments) => apps::deploy(&arguments),
        Command::Undeploy(arguments) => apps::undeploy(&arguments),
        Command::State(arguments) => apps::state(&arguments),
        Command::Functions(arguments) => apps::functions(arguments),
        Command::DeadLetters(arguments) => dead_letters::run(arguments),
        Command::Resume(config) => ask(&config.config, &Request::Resume).map(|_| ()),
        Command::Doctor(arguments) => care::examine(&arguments),
        Command::Backup(arguments) => care::back_up(&arguments),
        Command::Restore(arguments) => care::restore(&arguments),
        Command::Reset(arguments) => care::reset(&arguments),
        Command::DeviceToken => show::device_token(),
        Command::DevicePassword => show::device_password(),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn run_agent(config: &Path) -> Result<ExitCode, String> {
    let mut settings = read_settings(config)?;
    let errors = LastErrors::default();
    show::start_logging_and_keep(settings.log.clone(), errors.clone())?;
    let machine = rustix::system::uname();
    let (version, machine) = (env!("CARGO_PKG_VERSION"), machine.machine().to_string_lossy());
    tracing::info!(version, %machine, "starting");
    settings.limits.connections_max = open_files::raise(settings.limits.connections_max);
    let io = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(io_threads())
        .thread_name("io")
        .enable_all()
        .build()
        .map_err(|err| err.to_string())?;
    // Not the path of it: a package may have put another program there meanwhile, or none.
    let exe = PathBuf::from(OWN_PROGRAM);
    let mut agent =
        Agent::new(settings, exe, io.handle().clone()).map_err(|err| err.to_string())?;
    agent.shows_errors(errors);
    agent.supervised_by(Supervisor::from_environment());
    let stopper = agent.stopper();
    io.spawn(async move {
        if show::stop_signal().await.is_ok() {
            stopper.stop();
        }
    });
    let launched = launcher::join(&mut agent, &io)?;
    agent.run().map_err(|err| err.to_string())?;
    Ok(launcher::code(launched.as_ref()))
}

/// Threads for sockets: half of the cores. The loop is a thread of its own, and on few cores every
/// more costs wake-ups and no more.
fn io_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2).min(4))
}
