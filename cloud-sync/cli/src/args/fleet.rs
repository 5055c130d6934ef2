//! Commands that speak to a control plane.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `holm cloud`
#[derive(Debug, Args)]
pub struct Cloud {
    /// What to do.
    #[command(subcommand)]
    pub command: CloudCommand,
}

/// What to do about a control plane.
#[derive(Debug, Subcommand)]
pub enum CloudCommand {
    /// Make the folder of a control plane: authorities, operator token, store
    Init(CloudInit),
}

/// `holm cloud init`
#[derive(Debug, Args)]
#[command(after_help = "\
The new control plane becomes the current context, and your signing key (made if there is none) is
the author that its gateways trust. It runs with `cloud-sync serve --dir DIR`.

Examples:
  holm cloud init ~/holm-cloud
  holm cloud init ~/holm-cloud --host cloud.example.org --name production")]
pub struct CloudInit {
    /// Folder to make
    pub dir: PathBuf,
    /// Name or address under which gateways and operators reach it, may be repeated; the first one
    /// goes into gateway tokens [default: this machine]
    #[arg(long, value_name = "HOST")]
    pub host: Vec<String>,
    /// Port for gateways
    #[arg(long, value_name = "PORT", default_value_t = 8883)]
    pub mqtt_port: u16,
    /// Port of its HTTP API and web page
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub http_port: u16,
    /// Name of its context
    #[arg(long, value_name = "NAME", default_value = "local")]
    pub name: String,
    /// Key whose apps its gateways run
    #[arg(long, value_name = "NAME", default_value = crate::keys::DEFAULT)]
    pub key: String,
}

/// `holm gateway`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  holm gateway add gw-1             # prints a token that works once
  holm gateway list")]
pub struct Gateway {
    /// What to do.
    #[command(subcommand)]
    pub command: GatewayCommand,
}

/// What to do about gateways.
#[derive(Debug, Subcommand)]
pub enum GatewayCommand {
    /// Add a gateway and print its enrolment token
    Add {
        /// Its name
        name: String,
    },
    /// List gateways, as `holm status` does
    List,
}

/// `holm login`
#[derive(Debug, Args)]
#[command(after_help = "\
The token is read from a file or from standard input, never from the command line.

Examples:
  holm login https://cloud.example.org:8443 --ca ca.pem --token-file operator.token
  ssh cloud cat operator.token | holm login https://cloud:8443 --ca ca.pem --name production")]
pub struct Login {
    /// https://HOST:PORT
    pub url: String,
    /// Authority of its certificate (PEM): the file `ca.pem` of its folder
    #[arg(long, value_name = "FILE")]
    pub ca: PathBuf,
    /// File with the operator token [default: standard input]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Name to remember it by
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub name: String,
}

/// `holm context`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  holm context                      # all, the current one marked
  holm context use production
  holm context show
  holm status --context staging     # another one for one command; also HOLM_CONTEXT")]
pub struct Context {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<ContextCommand>,
}

/// What to do about contexts.
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// List the known control planes
    List,
    /// Show the one in use
    Show,
    /// Choose one
    Use {
        /// Its name
        name: String,
    },
    /// Forget one
    Remove {
        /// Its name
        name: String,
    },
}

/// Which gateways.
#[derive(Clone, Debug, Args)]
pub struct Targets {
    /// Gateways, by name, with commas between them
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', conflicts_with = "all")]
    pub to: Vec<String>,
    /// All gateways
    #[arg(long)]
    pub all: bool,
    /// Wait until every gateway is done
    #[arg(long, short)]
    pub wait: bool,
    /// Seconds to wait
    #[arg(long, value_name = "S", default_value_t = 300, requires = "wait")]
    pub timeout: u64,
}

/// `holm deploy`
#[derive(Debug, Args)]
#[command(after_help = "\
Builds and signs the app if a folder is named, uploads it and assigns it to gateways. With --wait
the command ends when each of them runs it (exit code 0), or has taken it back (1), or time is up (8).

Examples:
  holm deploy --to gw-1 --wait
  holm deploy apps/cold-chain --all
  holm deploy cold-chain-1.4.0.holm --to gw-1,gw-2")]
pub struct Deploy {
    /// Folder of the app, or a bundle made by `holm build`
    #[arg(default_value = ".")]
    pub source: PathBuf,
    /// Key to sign with [default: `default`]
    #[arg(long, value_name = "NAME")]
    pub key: Option<String>,
    /// Gateways.
    #[command(flatten)]
    pub targets: Targets,
}

/// `holm rollback`, `holm undeploy`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  holm rollback cold-chain --all --wait     # each gateway returns to the revision before
  holm undeploy cold-chain --to gw-1        # gw-1 no longer runs it; its state is kept")]
pub struct App {
    /// The app
    pub app: String,
    /// Gateways.
    #[command(flatten)]
    pub targets: Targets,
}

/// `holm status`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  holm status                       # all gateways
  holm status gw-1                  # one, with its apps, queue and outbox
  holm status --watch")]
pub struct Status {
    /// One gateway
    pub gateway: Option<String>,
    /// Show it again every 2 seconds
    #[arg(long, short)]
    pub watch: bool,
}

/// `holm logs`
#[derive(Debug, Args)]
#[command(after_help = "\
The gateway sends lines while somebody looks; older ones are in its own journal.

Examples:
  holm logs -f gw-1
  holm logs -f gw-1 --function cold-chain/alarm
  holm logs gw-1 --count 20 --json")]
pub struct Logs {
    /// The gateway
    pub gateway: String,
    /// Go on until Ctrl-C (as without it and without --count)
    #[arg(long, short, conflicts_with = "count")]
    pub follow: bool,
    /// End after so many lines
    #[arg(long, short = 'n', value_name = "N")]
    pub count: Option<u64>,
    /// Only lines of this function, `app/function`
    #[arg(long, value_name = "NAME")]
    pub function: Option<String>,
}

/// Whose state.
#[derive(Clone, Debug, Args)]
pub struct StateTarget {
    /// The gateway
    #[arg(long, short, value_name = "NAME")]
    pub gateway: String,
    /// The function, `app/function`
    pub function: String,
    /// The device; without one, the state of a function with `state = "function"`
    #[arg(long, short, value_name = "NAME")]
    pub device: Option<String>,
}

/// `holm state`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  holm state list cold-chain/smooth --gateway gw-1 --device press-1
  holm state get cold-chain/smooth window --gateway gw-1 --device press-1
  holm state export cold-chain/smooth --gateway gw-1 --device press-1 > state.json
  holm invoke smooth --event event.json --state state.json     # what would it do?
  holm state reset cold-chain/smooth --gateway gw-1 --device press-1 --yes")]
pub struct State {
    /// What to do.
    #[command(subcommand)]
    pub command: StateCommand,
}

/// What to do with state.
#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// List keys
    List {
        /// Whose.
        #[command(flatten)]
        target: StateTarget,
        /// Only keys that begin with this
        #[arg(long, value_name = "TEXT", default_value = "")]
        prefix: String,
    },
    /// Print a value
    Get {
        /// Whose.
        #[command(flatten)]
        target: StateTarget,
        /// The key
        key: String,
    },
    /// Write all keys and values as JSON, for `holm invoke --state`
    Export {
        /// Whose.
        #[command(flatten)]
        target: StateTarget,
        /// Where to [default: standard output]
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Delete all keys
    Reset {
        /// Whose.
        #[command(flatten)]
        target: StateTarget,
        /// Do it
        #[arg(long)]
        yes: bool,
    },
}

/// `holm dead-letters`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  holm dead-letters list --gateway gw-1
  holm dead-letters show EVENT --gateway gw-1
  holm dead-letters redrive EVENT --gateway gw-1    # it gets a new set of attempts
  holm dead-letters purge --gateway gw-1 --yes")]
pub struct DeadLetters {
    /// What to do.
    #[command(subcommand)]
    pub command: DeadLetterCommand,
}

/// Which dead letter.
#[derive(Clone, Debug, Args)]
pub struct OneLetter {
    /// Event, as `list` shows it
    pub event: String,
    /// The gateway
    #[arg(long, short, value_name = "NAME")]
    pub gateway: String,
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLetterCommand {
    /// List them
    List {
        /// Only those of this gateway
        #[arg(long, short, value_name = "NAME")]
        gateway: Option<String>,
    },
    /// Show one with its payload and error
    Show(OneLetter),
    /// Let the gateway work on it again
    Redrive(OneLetter),
    /// Delete one, or all of a gateway
    Purge {
        /// Event; without one, all
        event: Option<String>,
        /// The gateway
        #[arg(long, short, value_name = "NAME")]
        gateway: String,
        /// Do it
        #[arg(long)]
        yes: bool,
    },
}

/// `holm dev`
#[derive(Debug, Args)]
#[command(after_help = "\
Everything in this process and in one folder: a control plane, a gateway that is enrolled with it,
and a device that publishes. The app is built and deployed, and again whenever its files change.

Examples:
  holm dev                          # the app in this folder
  holm dev apps/cold-chain --topic sensors/sim/temperature --every 200
  holm dev --no-device              # publish yourself with `holm pub`")]
pub struct Dev {
    /// Folder of the app
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// Folder for what it keeps [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Topic of the simulated device [default: from the app's first `mqtt` trigger]
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
    /// Milliseconds between its messages
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    pub every: u64,
    /// No simulated device
    #[arg(long)]
    pub no_device: bool,
    /// Port of the gateway's broker on 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = 1883)]
    pub port: u16,
    /// End after so many seconds
    #[arg(long = "for", value_name = "S")]
    pub for_s: Option<u64>,
}
