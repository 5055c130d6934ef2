//! What was typed. What it means is decided in the module of each command.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

mod develop;
mod fleet;
mod messages;

pub use develop::{Build, Invoke, KeyCommand, Keys, New};
pub use fleet::{
    App, Cloud, CloudCommand, CloudInit, Context, ContextCommand, DeadLetterCommand, DeadLetters,
    Deploy, Dev, Gateway, GatewayCommand, Login, Logs, OneLetter, State, StateCommand, StateTarget,
    Status, Targets,
};
pub use messages::{Broker, Publish, Subscribe};

const AFTER: &str = "\
First steps:
  holm new hello && cd hello      # an app with one function
  holm build                      # to WebAssembly
  holm invoke hello --event event.json
  holm dev                        # control plane, gateway and a device in one process

Exit codes:
  0 done              3 bad input file     6 not allowed
  1 refused, failed   4 not reachable      7 the function did not return ok
  2 wrong usage       5 not found          8 not done within the given time

`holm help COMMAND` explains a command, `holm help holm.toml` the file that describes an app.";

/// Functions that run where the devices are
#[derive(Debug, Parser)]
#[command(name = "holm", version, after_help = AFTER, max_term_width = 100)]
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
    /// Print JSON: one document, or one object a line where output streams
    #[arg(long, global = true)]
    pub json: bool,
    /// Print no progress
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Configuration file with the known control planes [default: ~/.config/holm/config.toml]
    #[arg(long, global = true, value_name = "FILE", env = "HOLM_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Control plane to talk to, one of `holm context` [default: the current one]
    #[arg(long, global = true, value_name = "NAME", env = "HOLM_CONTEXT", hide_env_values = true)]
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
    /// Run control plane, gateway and a simulated device in this process
    Dev(Dev),
    /// Make and show the keys that sign apps
    Keys(Keys),
    /// Make a control plane
    Cloud(Cloud),
    /// Add and list gateways
    Gateway(Gateway),
    /// Remember a control plane and its token
    Login(Login),
    /// Show or choose the control plane
    Context(Context),
    /// Send an app to gateways
    Deploy(Deploy),
    /// Go back to the revision before
    Rollback(App),
    /// Take an app off gateways
    Undeploy(App),
    /// Show gateways and what runs on them
    Status(Status),
    /// Show the log of a gateway
    Logs(Logs),
    /// Publish messages to a gateway
    Pub(Publish),
    /// Print messages of a gateway
    Sub(Subscribe),
    /// Look at and change the state of functions
    State(State),
    /// Look at and redrive events that were given up
    DeadLetters(DeadLetters),
    /// Explain holm.toml
    #[command(name = "holm.toml", hide = true)]
    HolmToml,
}
