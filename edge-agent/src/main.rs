//! The `edge-agent` program.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use edge_agent::agent::Agent;
use edge_agent::control::{self, Request};
use edge_agent::enroll::enroll;
use edge_agent::open_files;
use edge_agent::settings::Settings;
use edge_agent::supervisor::Supervisor;
use serde::Deserialize as _;
use serde_json::Value;
use sync_protocol::wire::{Request as Ask, StateAt};

mod care;
mod dead_letters;
mod launcher;
mod show;
mod system_helper;

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

/// What to do where there is no configuration yet.
const FIRST_CONFIG: &str = "
name another with --config FILE, or write it; the least is

  name = \"gw-1\"                  # the name given to `holm gateway add`
  data_dir = \"/var/lib/holm\"     # any folder that this user may write

  [[listeners]]                   # where devices connect
  bind = \"127.0.0.1:1883\"

  [anonymous]                     # on this machine only, to begin with
  publish = [\"#\"]
  subscribe = [\"#\"]";

const EXAMPLES: &str = "Examples:
  edge-agent check agent.toml              report all problems of a configuration at once
  edge-agent run --config agent.toml       run the gateway
  edge-agent launch --slots DIR -- run     run it so that it can update itself
  edge-agent status --config agent.toml    what it is doing
  edge-agent devices --config agent.toml   who is there, and what they told of themselves
  edge-agent enroll TOKEN --config agent.toml   join a control plane (`holm gateway add NAME`)
  edge-agent deploy app.holm --config agent.toml   deploy without a control plane
  edge-agent doctor --config agent.toml    what is wrong, and how to mend it
  edge-agent backup FILE --config agent.toml       of a gateway that is stopped; `restore` puts it back";

#[derive(Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM or SIGINT.
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
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Join a control plane with a one-time token.
    Enroll {
        /// What `holm gateway add NAME` printed.
        token: String,
        #[command(flatten)]
        config: Config,
    },
    /// What the gateway is doing.
    Status {
        /// Print the whole document as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: Config,
    },
    /// Deploy a bundle (`holm build`) to a gateway without a control plane.
    Deploy {
        /// The bundle file.
        bundle: PathBuf,
        #[command(flatten)]
        config: Config,
    },
    /// Take an app away from a gateway without a control plane.
    Undeploy {
        /// The app.
        app: String,
        #[command(flatten)]
        config: Config,
    },
    /// Look at dead letters, redrive and purge them.
    DeadLetters(dead_letters::Arguments),
    /// List the state of a function.
    State {
        /// `app/function`.
        function: String,
        /// Only this device's; or of the lane with this key, where the function is `ordered`.
        #[arg(long, visible_alias = "lane")]
        device: Option<String>,
        #[command(flatten)]
        config: Config,
    },
    /// Functions of this gateway.
    Functions {
        #[command(subcommand)]
        command: FunctionCommand,
    },
    /// Devices: who is connected, last heard, boot and sequence, figures that they told.
    Devices {
        /// Print the rows as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: Config,
    },
    /// The last lines that devices logged (200 over all devices).
    DeviceLogs {
        /// Only of this device.
        device: Option<String>,
        /// Print the lines as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: Config,
    },
    /// Leave safe mode: after a crash loop functions run again at once.
    Resume {
        #[command(flatten)]
        config: Config,
    },
    /// What is wrong with this gateway, and how to mend it.
    Doctor(care::Doctor),
    /// Back up the data of a gateway that is stopped.
    Backup(care::Backup),
    /// Put a backup back, here or on a machine that takes the place of the old one.
    Restore(care::Restore),
    /// Delete the data of a gateway that is stopped: as on the first day.
    Reset(care::Reset),
    /// Make a token for a device, and the line for the configuration.
    DeviceToken,
    /// Hash a password (standard input) for `password_argon2`.
    DevicePassword,
}

#[derive(Subcommand)]
enum FunctionCommand {
    /// End the pause of a function that faulted again and again.
    Resume {
        /// `app/function`.
        function: String,
        #[command(flatten)]
        config: Config,
    },
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
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("edge-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, String> {
    match command {
        Command::Run(config) => run_agent(&config.config),
        Command::Launch(arguments) => launcher::run(arguments),
        Command::System(command) => system_helper::run(command),
        command => answer(command).map(|()| ExitCode::SUCCESS),
    }
}

fn answer(command: Command) -> Result<(), String> {
    match command {
        Command::Run(_) | Command::Launch(_) | Command::System(_) => {
            unreachable!("invariant: they have their own code")
        }
        Command::About => launcher::about(),
        Command::Doctor(doctor) => care::examine(&doctor),
        Command::Backup(arguments) => care::back_up(&arguments),
        Command::Restore(arguments) => care::restore(&arguments),
        Command::Reset(arguments) => care::reset(&arguments),
        Command::Check { file } => {
            read_settings(&file)?;
            println!("{}: no problem", file.display());
            Ok(())
        }
        Command::Enroll { token, config } => enroll_gateway(&token, &config.config),
        Command::Status { json, config } => {
            let status = ask(&config.config, &Request::Ask(Ask::Status))?;
            if json {
                print_json(&status);
            } else {
                print(&show::status::text(&status));
            }
            Ok(())
        }
        Command::Deploy { bundle, config } => {
            let bundle = std::path::absolute(&bundle).map_err(|err| err.to_string())?;
            print_json(&ask(&config.config, &Request::Deploy { bundle })?);
            Ok(())
        }
        Command::Undeploy { app, config } => {
            ask(&config.config, &Request::Undeploy { app }).map(|_| ())
        }
        Command::DeadLetters(arguments) => dead_letters::run(arguments),
        Command::State { function, device, config } => {
            let page = |next: Option<&Value>| Ask::StateList {
                function: function.clone(),
                device: device.clone(),
                prefix: String::new(),
                after: next.and_then(|next| StateAt::deserialize(next).ok()),
                limit: u32::MAX,
            };
            let page = |next: Option<&Value>| Request::Ask(page(next));
            print_json(&Value::Array(rows(&config.config, page)?));
            Ok(())
        }
        Command::Functions { command: FunctionCommand::Resume { function, config } } => {
            ask(&config.config, &Request::ResumeFunction { function }).map(|_| ())
        }
        Command::Devices { json, config } => devices(json, &config.config),
        Command::DeviceLogs { device, json, config } => {
            let lines = ask(&config.config, &Request::DeviceLogs { device })?;
            if json {
                print_json(&lines);
            } else {
                print(&show::devices::logs(&lines));
            }
            Ok(())
        }
        Command::Resume { config } => ask(&config.config, &Request::Resume).map(|_| ()),
        Command::DeviceToken => show::device_token(),
        Command::DevicePassword => show::device_password(),
    }
}

fn devices(json: bool, config: &Path) -> Result<(), String> {
    let page = |next: Option<&Value>| Request::Devices {
        after: next.and_then(Value::as_str).map(str::to_owned),
    };
    let rows = rows(config, page)?;
    if json {
        print_json(&Value::Array(rows));
    } else {
        print(&show::devices::table(&rows));
    }
    Ok(())
}

fn read_settings(file: &Path) -> Result<Settings, String> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|err| match err.kind() {
        std::io::ErrorKind::NotFound => format!("{name}: {err}{FIRST_CONFIG}"),
        _ => format!("{name}: {err}"),
    })?;
    Settings::parse(&text).map_err(|problems| {
        let lines: Vec<_> = problems.iter().map(|problem| format!("{name}: {problem}")).collect();
        format!("{} problem(s)\n{}", lines.len(), lines.join("\n"))
    })
}

fn ask(config: &Path, request: &Request) -> Result<Value, String> {
    control::request(&read_settings(config)?.control_socket, request)
}

/// All rows of an answer that comes in pages.
fn rows(config: &Path, page: impl Fn(Option<&Value>) -> Request) -> Result<Vec<Value>, String> {
    let (mut all, mut next) = (Vec::new(), Value::Null);
    loop {
        let after = (!next.is_null()).then_some(&next);
        let mut answer = ask(config, &page(after))?;
        if let Value::Array(rows) = answer["rows"].take() {
            all.extend(rows);
        }
        let behind = answer["next"].take();
        if behind.is_null() || behind == next {
            return Ok(all);
        }
        next = behind;
    }
}

fn print_json(value: &Value) {
    print(&format!("{value:#}\n"));
}

/// To standard output. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn run_agent(config: &Path) -> Result<ExitCode, String> {
    let mut settings = read_settings(config)?;
    show::start_logging(settings.log.clone())?;
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

fn enroll_gateway(token: &str, config: &Path) -> Result<(), String> {
    show::start_logging(None)?;
    let settings = read_settings(config)?;
    let token: sync_protocol::enroll::Token = token.parse().map_err(|err| format!("{err}"))?;
    if token.gateway != settings.name {
        let (theirs, ours) = (token.gateway, settings.name);
        return Err(format!("the token is for {theirs:?}, the configuration names {ours:?}"));
    }
    let identity = block_on(enroll(&token, &settings.data_dir, &settings.proxy))?;
    let identity = identity.map_err(|err| err.to_string())?;
    println!("enrolled as {} at {}", identity.gateway, identity.enrolled.endpoint);
    Ok(())
}

/// Does this work, and nothing after it: a name that is still being looked up is waited for by nobody.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|err| err.to_string())?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(done)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// The system's resolver has no bound, and may be asked on such a thread.
    #[test]
    fn what_hangs_on_a_thread_beside_the_work_holds_nothing_up() {
        const LONG: Duration = Duration::from_secs(60);
        let (let_go, held) = mpsc::channel::<()>();
        let work = async {
            let (begun, begins) = tokio::sync::oneshot::channel();
            drop(tokio::task::spawn_blocking(move || {
                let _ = begun.send(());
                held.recv_timeout(LONG)
            }));
            begins.await
        };
        block_on(work).expect("a runtime").expect("it began");
        let_go.send(()).expect("it hangs still");
    }
}
