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
the author that its gateways trust. It runs with `cloud-sync serve --dir DIR`. Without --host it
listens on this machine only (127.0.0.1), with it on all addresses.

Examples:
  holm cloud init ~/holm-cloud
  holm cloud init ~/holm-cloud --host cloud.example.org --name production")]
pub struct CloudInit {
    /// Folder to make
    pub dir: PathBuf,
    /// Name or address under which gateways and operators reach it; may be repeated. The first one
    /// goes into gateway tokens [default: localhost]
    #[arg(long, value_name = "HOST")]
    pub host: Vec<String>,
    /// Port that gateways connect to (MQTT)
    #[arg(long, value_name = "PORT", default_value_t = 8883)]
    pub mqtt_port: u16,
    /// Port of its HTTP API and web page
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub http_port: u16,
    /// Name of its context
    #[arg(long, value_name = "NAME", default_value = "local")]
    pub name: String,
    /// Signing key whose apps its gateways run
    #[arg(long, value_name = "NAME", default_value = crate::keys::DEFAULT)]
    pub key: String,
}

/// `holm gateway`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  holm gateway add gw-1             # prints a token that works once and within a day
  holm gateway list
  holm gateway remove gw-1 --yes    # it loses its access, at once; its data stay

Then, on the gateway: `edge-agent enroll TOKEN` and `edge-agent run`.")]
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
        /// Its name: a-z, 0-9 and inner hyphens; the same as `name` in its agent.toml
        name: String,
    },
    /// End a gateway's access: its connection, its certificates and its tokens
    #[command(after_help = "\
For a gateway that was stolen, sold or scrapped. What it sent stays in the control plane, under its name.
`holm gateway add` with the same name lets a gateway enrol in its place, which goes on where it stood.")]
    Remove {
        /// Its name
        name: String,
        /// Do it: a gateway that is still wanted must enrol anew
        #[arg(long)]
        yes: bool,
    },
    /// List gateways, as `holm status` does
    List,
}

/// `holm login`
#[derive(Debug, Args)]
#[command(after_help = "\
The token is read from a file or from standard input, never from the command line. Who ran
`holm cloud init` has it: `holm context show --token` prints it there. The certificate is the file
tls/gateway-ca.pem in the control plane's folder.

Examples:
  holm login https://cloud.example.org:8080 --ca gateway-ca.pem --token-file operator.token
  ssh cloud holm context show --token | holm login https://cloud:8080 --ca gateway-ca.pem")]
pub struct Login {
    /// https://HOST:PORT
    pub url: String,
    /// Authority of its certificate (PEM): tls/gateway-ca.pem of its folder
    #[arg(long, value_name = "FILE")]
    pub ca: PathBuf,
    /// File with the operator token [default: standard input]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Name to remember it by, for --context and `holm context use`
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
    Show {
        /// Print only its operator token, for `holm login` on another machine
        #[arg(long)]
        token: bool,
    },
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
    /// Gateways, by name, with commas between them [default: the only one, if there is one]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', conflicts_with = "all")]
    pub to: Vec<String>,
    /// All gateways
    #[arg(long)]
    pub all: bool,
    /// Wait until every gateway is done, and say how it went
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
A new revision is on probation first: it works, and is live for good after 100 good attempts or a
minute without a fault; at a fault the gateway takes it back to the revision before.

Examples:
  holm deploy --to gw-1 --wait                  # the app in this folder
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
    /// One gateway, with details [default: all of them]
    pub gateway: Option<String>,
    /// Show it again every 2 seconds, until Ctrl-C; with --json one document a line
    #[arg(long, short)]
    pub watch: bool,
}

/// `holm logs`
#[derive(Debug, Args)]
#[command(after_help = "\
The gateway sends lines while somebody looks: what functions log, how attempts fail, what is given up
or dropped, which revision runs. Older ones are in its own log (`journalctl -u edge-agent` there).
Times are UTC.

Examples:
  holm logs -f gw-1
  holm logs -f gw-1 --function cold-chain/alarm
  holm logs gw-1 --count 20 --json")]
pub struct Logs {
    /// The gateway
    pub gateway: String,
    /// Go on until Ctrl-C; the default without --count
    #[arg(long, short, conflicts_with = "count")]
    pub follow: bool,
    /// End after so many lines
    #[arg(long, short = 'n', value_name = "N")]
    pub count: Option<u64>,
    /// Only lines of this function: APP/FUNCTION
    #[arg(long, value_name = "NAME")]
    pub function: Option<String>,
}

/// Whose state.
#[derive(Clone, Debug, Args)]
pub struct StateTarget {
    /// The gateway
    #[arg(long, short, value_name = "NAME")]
    pub gateway: String,
    /// The function: APP/FUNCTION
    pub function: String,
    /// Only the state of this device, or of the lane with this key where the function is `ordered`;
    /// needed by `get`, unless the function has `state = "function"`
    #[arg(long, short, value_name = "NAME", visible_alias = "lane")]
    pub device: Option<String>,
}

/// `holm state`
#[derive(Debug, Args)]
#[command(after_help = "\
State is what the function wrote, under the version that is live. Nothing stands still while it is
read: a running function may change it.

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
        /// Only keys that begin with this [default: all]
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        prefix: String,
    },
    /// Print one value as it is
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
    /// Delete all keys, of one device or of the whole function
    Reset {
        /// Whose.
        #[command(flatten)]
        target: StateTarget,
        /// Do it: without this nothing is deleted
        #[arg(long)]
        yes: bool,
    },
}

/// `holm dead-letters`
#[derive(Debug, Args)]
#[command(after_help = "\
An event becomes a dead letter when its attempts are used up, when it is too old, or when it was shed
because a queue was full. The gateway keeps the newest 1,000.

Examples:
  holm dead-letters list            # what gateways have reported, also while they are offline
  holm dead-letters list --gateway gw-1
  holm dead-letters show EVENT --gateway gw-1
  holm dead-letters list --function shop/order --older-than 6h
  holm dead-letters redrive EVENT --gateway gw-1    # it gets a new set of attempts
  holm dead-letters redrive --gateway gw-1 --function shop/order --yes
  holm dead-letters purge --gateway gw-1 --all --yes")]
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
    /// List them, newest first
    List {
        /// What this gateway keeps now [default: what all gateways have reported]
        #[arg(long, short, value_name = "NAME")]
        gateway: Option<String>,
        /// Which of them.
        #[command(flatten)]
        filter: LetterFilter,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 1_000)]
        limit: usize,
    },
    /// Show one with its payload and error
    Show(OneLetter),
    /// Let the gateway work on them again; each is redriven at most once
    Redrive(SomeLetters),
    /// Delete them on the gateway
    Purge(SomeLetters),
}

/// Which dead letters.
#[derive(Clone, Debug, Args)]
pub struct LetterFilter {
    /// Only those of this function: APP/FUNCTION
    #[arg(long, value_name = "NAME")]
    pub function: Option<String>,
    /// Only those given up longer ago, such as 30min, 6h or 2d
    #[arg(long, value_name = "TIME", value_parser = edge_agent::letters::parse_age)]
    pub older_than: Option<u64>,
}

/// One dead letter of a gateway, or several.
#[derive(Clone, Debug, Args)]
pub struct SomeLetters {
    /// Event, as `list` shows it
    #[arg(conflicts_with = "all", required_unless_present_any = ["all", "function", "older_than"])]
    pub event: Option<String>,
    /// The gateway
    #[arg(long, short, value_name = "NAME")]
    pub gateway: String,
    /// Which of them.
    #[command(flatten)]
    pub filter: LetterFilter,
    /// All that the gateway keeps
    #[arg(long)]
    pub all: bool,
    /// Do it to more than one: without this it is only said how many there are
    #[arg(long)]
    pub yes: bool,
}

/// `holm dev`
#[derive(Debug, Args)]
#[command(after_help = "\
Everything in this process and in one folder: a control plane, a gateway that is enrolled with it,
and a device that publishes the payload of the app's event.json, its fractions moved a little each
time. The app is built and deployed, and again whenever its files change. Ctrl-C ends it.

Examples:
  holm dev                          # the app in this folder
  holm dev apps/cold-chain --topic sensors/sim/temperature --every 200
  holm dev --no-device              # publish yourself with `holm pub`")]
pub struct Dev {
    /// Folder of the app
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// Folder for keys, state and everything else it keeps [default: a temporary one]
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
