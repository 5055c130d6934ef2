//! What was typed. What it means is decided in the module of each command.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

mod develop;
mod device;
mod fleet;
mod messages;
mod overview;
mod simulate;

pub use develop::{
    Build, BuildTarget, Events, Filter, FilterCommand, FilterTest, Invoke, KeyCommand, Keys, New,
};
pub use device::{
    Body, Device, DeviceAdd, DeviceCa, DeviceCommand, DeviceFolder, DeviceListener, DeviceShow,
    OneDevice, SendCommand, SetDesired,
};
pub use fleet::{
    App, Cloud, CloudCommand, CloudInit, Context, ContextCommand, DeadLetterCommand, DeadLetters,
    Deploy, Dev, Gateway, GatewayCommand, LetterFilter, Login, Logs, OneLetter, SomeLetters, State,
    StateCommand, StateTarget, Status, Targets,
};
pub use messages::{Broker, Publish, Subscribe};
pub use overview::command;
pub use simulate::{
    Simulate, SimulateCommand, SimulateGateway, SimulatePrepare, SimulateRun, SimulateSet,
};

/// Heading of the options that every command takes.
const GLOBAL: &str = "Global options";

/// Functions that run where the devices are
#[derive(Debug, Parser)]
#[command(name = "holm", version, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Print JSON, one object a line where output streams; failures go to standard error
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// Print no progress
    #[arg(long, short, global = true, help_heading = GLOBAL)]
    pub quiet: bool,
    /// Configuration file with the known control planes [default: ~/.config/holm/config.toml]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE")]
    #[arg(env = "HOLM_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Control plane to talk to, one of `holm context` [default: the current one]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "NAME")]
    #[arg(env = "HOLM_CONTEXT", hide_env_values = true)]
    pub context: Option<String>,
}

/// All commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the folder of a new app
    New(New),
    /// Build an app's functions to WebAssembly and bundle them
    Build(Build),
    /// Run one function here on one event or more, without a broker
    Invoke(Invoke),
    /// Try the event filters of an app
    Filter(Filter),
    /// Run control plane, gateway and a simulated device in this process
    Dev(Dev),
    /// Run a fleet of simulated devices on a bad day, and judge
    Simulate(Simulate),
    /// Make and show the keys that sign apps
    Keys(Keys),
    /// Make the folder of a control plane
    Cloud(Cloud),
    /// Add, remove and list gateways
    Gateway(Gateway),
    /// Provision devices and listeners, command devices, set and show shadows
    Device(Device),
    /// Remember a control plane and its token
    Login(Login),
    /// Show or choose the control plane
    Context(Context),
    /// Send an app to gateways
    Deploy(Deploy),
    /// Give gateways the app's revision before the present one
    Rollback(App),
    /// Take an app off gateways
    Undeploy(App),
    /// Show gateways and what runs on them
    Status(Status),
    /// Show the log of a gateway as it comes
    Logs(Logs),
    /// Publish messages to a gateway
    Pub(Publish),
    /// Print messages of a gateway
    Sub(Subscribe),
    /// Look at, save and reset the state of functions
    State(State),
    /// Look at, redrive and purge events that were given up
    DeadLetters(DeadLetters),
    /// Print what completes commands in a shell
    Completions(Completions),
    /// Explain holm.toml
    #[command(name = "holm.toml", hide = true)]
    HolmToml,
}

/// `holm completions`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(holm completions bash)       # this shell; in ~/.bashrc for all
  holm completions zsh > ~/.zfunc/_holm
  holm completions fish > ~/.config/fish/completions/holm.fish")]
pub struct Completions {
    /// Shell
    pub shell: clap_complete::Shell,
}
