//! Commands for who writes functions.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `holm new`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  holm new hello
  holm new thermostat --template alarm
  holm new hello --sdk-path ~/holm/edge-agent/function-sdk")]
pub struct New {
    /// Name of the app and of its folder: a-z, 0-9 and inner hyphens, a letter first
    pub name: String,
    /// What to begin with
    #[arg(long, value_name = "TEMPLATE", default_value = "counter")]
    pub template: crate::new::Template,
    /// Folder of the `function-sdk` package [default: found beside the checkout `holm` was built
    /// from]
    #[arg(long, value_name = "DIR", env = "HOLM_SDK_PATH", hide_env_values = true)]
    pub sdk_path: Option<PathBuf>,
    /// Folder to make the app's folder in
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub into: PathBuf,
}

/// `holm build`
#[derive(Debug, Args)]
#[command(after_help = "\
Needs Rust (https://rustup.rs) with the target wasm32-unknown-unknown. The bundle is signed with your
key if you have one (`holm keys new`); gateways take only signed ones. `holm deploy` builds by itself.

With `--target device` it writes an image for microcontrollers of each function instead: the core
module inside the very component that gateways run, compiled for their interpreter, with limits and
grants, signed. A device gives 128 KiB of memory: set `stack = \"16 KiB\"` in [functions.NAME].

Examples:
  holm build                        # the app in this folder
  holm build apps/cold-chain --out cold-chain.holm
  holm build --key release
  holm build --target device --function smooth --out smooth.img
  holm build --check                # only read holm.toml and report its mistakes")]
pub struct Build {
    /// Folder of the app, or its holm.toml
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// What to build for
    #[arg(long, value_name = "TARGET", default_value = "gateway")]
    pub target: BuildTarget,
    /// Only this function, with `--target device`
    #[arg(long, value_name = "NAME")]
    pub function: Option<String>,
    /// Where the bundle goes [default: DIR/target/holm/NAME-VERSION.holm], or the image [default:
    /// DIR/target/holm/FUNCTION.img]
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Key to sign with [default: `default`, if it exists]
    #[arg(long, value_name = "NAME", conflicts_with = "unsigned")]
    pub key: Option<String>,
    /// Do not sign
    #[arg(long)]
    pub unsigned: bool,
    /// Only read holm.toml and report all its mistakes
    #[arg(long)]
    pub check: bool,
}

/// What is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum BuildTarget {
    /// A bundle, for gateways
    #[default]
    Gateway,
    /// An image of each function, for microcontrollers
    Device,
}

/// `holm invoke`
#[derive(Debug, Args)]
#[command(after_help = "\
The function runs in the gateway's own sandbox with the limits and grants of holm.toml. Nothing
leaves this machine: publishes, records and state changes are printed.

An event file holds one JSON object, or several one after the other:
  {\"topic\": \"sensors/a/temperature\", \"device\": \"a\", \"payload\": {\"celsius\": 21.5}}
`payload` is JSON; `payload_text` and `payload_hex` give other bytes. Also `content_type`,
`properties` (pairs), `trigger`, `time_unix_ms` and `attempt`. Lines TOPIC PAYLOAD do, too.

Events of a trigger with `batch` that follow each other are run together, as on a gateway where all
of them wait; with an order, as far as they are of one lane.

Examples:
  holm invoke hello                             # on the events of event.json in the app's folder
  holm invoke smooth --event readings.jsonl
  holm invoke smooth --topic sensors/a/temperature --payload '{\"celsius\": 21.5}' --device a
  holm invoke smooth --event - --state state.json < events.jsonl
  holm invoke smooth --event event.json --app apps/cold-chain --json")]
pub struct Invoke {
    /// Function of the app
    pub function: String,
    /// What to run it on.
    #[command(flatten)]
    pub events: Events,
    /// Folder of the app
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub app: PathBuf,
    /// File with the state to begin with, made by `holm state export` or by this option: what
    /// changed is written back. Without it state lasts as long as this command
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Run what was built the last time
    #[arg(long)]
    pub no_build: bool,
}

/// Events that are given to a command.
#[derive(Debug, Args)]
pub struct Events {
    /// File with events, `-` for standard input [default: event.json in the app's folder]
    #[arg(long, short, value_name = "FILE")]
    pub event: Option<PathBuf>,
    /// Topic of a single event
    #[arg(long, short, value_name = "TOPIC", conflicts_with = "event")]
    pub topic: Option<String>,
    /// Payload of a single event, `-` for standard input
    #[arg(long, short, value_name = "TEXT", conflicts_with = "event", requires = "topic")]
    pub payload: Option<String>,
    /// Device that the events come from, where they do not say
    #[arg(long, short, value_name = "NAME")]
    pub device: Option<String>,
}

/// `holm filter`
#[derive(Debug, Args)]
pub struct Filter {
    /// What to do.
    #[command(subcommand)]
    pub command: FilterCommand,
}

/// What to do with filters.
#[derive(Debug, Subcommand)]
pub enum FilterCommand {
    /// Say which events match, and which fields of the others do not
    Test(FilterTest),
}

/// `holm filter test`
#[derive(Debug, Args)]
#[command(after_help = "\
The patterns are those of a trigger of the app, or JSON: one pattern, or an array of them. `holm help
holm.toml` has the grammar, `holm help invoke` what an event file looks like. The exit code is 0 if
all events match, and 1 if one does not.

Examples:
  holm filter test --trigger hot --topic sensors/a --payload '{\"celsius\": 75}'
  holm filter test --trigger hot --event readings.jsonl --json
  holm filter test --pattern pattern.json --event event.json
  echo '{\"body\": {\"door\": [\"open\"]}}' | holm filter test --pattern - --event event.json")]
pub struct FilterTest {
    /// Trigger of the app whose filter it is [default: the only one that has a filter]
    #[arg(long, value_name = "NAME", conflicts_with = "pattern")]
    pub trigger: Option<String>,
    /// File with a pattern or an array of patterns as JSON, `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub pattern: Option<PathBuf>,
    /// What to test.
    #[command(flatten)]
    pub events: Events,
    /// Folder of the app
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub app: PathBuf,
}

/// `holm keys`
#[derive(Debug, Args)]
#[command(after_help = "\
Keys are kept in the folder `keys` beside the configuration file. Gateways run only what a key signed
that their control plane or their configuration names; `holm cloud init` names yours.

Examples:
  holm keys new                     # a key named `default`
  holm keys new release
  holm keys list
  holm keys show release            # its public half, for a gateway's `author_keys`
  holm keys export release --out release.pub")]
pub struct Keys {
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key
    New {
        /// Its name
        #[arg(default_value = "default")]
        name: String,
    },
    /// List the keys
    List,
    /// Show the public half
    Show {
        /// Its name
        #[arg(default_value = "default")]
        name: String,
    },
    /// Write the public half to a file
    Export {
        /// Its name
        #[arg(default_value = "default")]
        name: String,
        /// Where to
        #[arg(long, short, value_name = "FILE")]
        out: PathBuf,
    },
}
