//! What was found out about a machine and the gateway on it: plain values, so that the checks need
//! no machine.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::Value;

pub use crate::backup::HalfReset;

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The configuration file.
    pub settings: SettingsFile,
    /// What time it is.
    pub clock: Clock,
    /// The agent, as it answers.
    pub agent: Agent,
    /// What enrolment left.
    pub identity: Identity,
    /// The control plane, as it looks from here.
    pub control_plane: Option<ControlPlane>,
    /// Certificates that are shown to somebody.
    pub certificates: Vec<Certificate>,
    /// Addresses where devices connect.
    pub listeners: Vec<Listener>,
    /// The disk under the data folder.
    pub disk: Disk,
    /// What the data folder holds.
    pub sizes: Sizes,
    /// What a restore that was cut off left beside the data folder.
    pub left_over: Option<PathBuf>,
    /// A folder beside the data folder that a restore fills, or has not filled to its end.
    pub half_restore: Option<PathBuf>,
    /// Memory of the machine; `None` where the kernel does not tell.
    pub memory: Option<Memory>,
    /// Address space.
    pub space: Space,
    /// Files and folders, and who may do what with them.
    pub files: Vec<FileFact>,
    /// Where the agent's log is.
    pub log: LogPlace,
}

/// The configuration file.
#[derive(Clone, Debug, Default)]
pub struct SettingsFile {
    /// Which.
    pub file: String,
    /// The gateway's name, if the file can be used.
    pub name: Option<String>,
    /// Why it cannot.
    pub problems: Vec<String>,
    /// Why it could not even be read.
    pub unread: Option<io::ErrorKind>,
}

/// Where the agent's log is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogPlace {
    /// Whoever started the agent has what it printed.
    #[default]
    Printed,
    /// `[log]` of the settings names this file.
    File(PathBuf),
    /// The journal of systemd, where the unit of the package runs.
    Journal,
    /// The memory of the syslog daemon of a card image.
    Memory,
}

impl LogPlace {
    /// How it is read.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Printed => {
                "what the agent printed (its terminal, `docker logs NAME` of a container, \
                              /var/log/holm.log with OpenRC)"
                    .to_owned()
            }
            Self::File(file) => format!("`tail -n 2000 {}`", file.display()),
            Self::Journal => "`journalctl -u edge-agent -n 2000`".to_owned(),
            Self::Memory => "`logread`".to_owned(),
        }
    }
}

/// Times are seconds since 1970.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// What the system's clock shows.
    pub unix_s: u64,
    /// A moment before this agent was released.
    pub floor_unix_s: u64,
    /// When the store was last written, by the clock of then.
    pub store_unix_s: Option<u64>,
    /// Whether the time daemon says that the clock is set.
    pub disciplined: bool,
}

/// How the agent answers on its control socket.
#[derive(Clone, Debug, Default)]
pub enum Agent {
    /// Nobody is there.
    #[default]
    Down,
    /// Whether somebody is there is not known: whoever asks may not speak with it.
    Hidden(String),
    /// Something is there and gives no status.
    Silent(String),
    /// It runs.
    Up {
        /// `edge-agent status --json`.
        status: Box<Value>,
        /// Its newest dead letter, without payload.
        letter: Option<Letter>,
    },
}

/// A dead letter.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Whose event.
    pub function: String,
    /// The last error.
    pub error: String,
}

/// What enrolment left.
#[derive(Clone, Debug, Default)]
pub enum Identity {
    /// The gateway has no control plane.
    #[default]
    None,
    /// The file cannot be used.
    Bad(Trouble),
    /// It is enrolled under this name.
    Enrolled(String),
}

/// Why a file is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Whoever asks may not read it; it may be all right.
    Hidden(String),
    /// It is not what it should be.
    Wrong(String),
}

/// The control plane, as it looks from here.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    /// `host:port`.
    pub endpoint: String,
    /// `host:port` of the proxy that it is dialled through.
    pub proxy: Option<String>,
    /// Addresses of its name, or of the proxy's, or why there are none.
    pub addresses: Result<Vec<SocketAddr>, String>,
    /// Whether a connection can be made, and if not, why; `None`: not tried.
    pub reached: Option<Result<(), String>>,
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Whose.
    pub of: String,
    /// When it is valid, if it can be used.
    pub validity: Result<Validity, Trouble>,
    /// Whether the agent renews it by itself.
    pub renews_itself: bool,
}

/// Seconds since 1970, of the certificate in a chain that begins last and of the one that ends first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Not before.
    pub from_unix_s: i64,
    /// Not after.
    pub to_unix_s: i64,
}

/// A configured listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where.
    pub address: SocketAddr,
    /// How it is there.
    pub port: Port,
}

/// What was found at the address of a listener.
#[derive(Clone, Debug)]
pub enum Port {
    /// No agent runs, and one could listen.
    Free,
    /// No agent runs, and one could not listen.
    Refused(String),
    /// The agent listens, and connections are taken.
    Answers,
    /// The agent runs, and does not take connections here.
    Dead(String),
}

/// Space under the data folder, in bytes, and how many files may be added.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// Why nothing is known.
    pub unknown: Option<String>,
    /// Free for the agent.
    pub free_bytes: u64,
    /// All of it.
    pub all_bytes: u64,
    /// Files that may be added; `None`: the file system counts none.
    pub free_files: Option<u64>,
}

/// Bytes of the data folder.
#[derive(Clone, Debug, Default)]
pub struct Sizes {
    /// Why not all of it could be listed.
    pub unlisted: Option<Trouble>,
    /// Segments of the journal.
    pub journal_bytes: u64,
    /// The checkpoint.
    pub checkpoint_bytes: u64,
    /// Space held in reserve for deletes on a full disk.
    pub ballast_bytes: u64,
    /// Whether there is a store at all.
    pub has_store: bool,
    /// Bundles and components.
    pub library_bytes: u64,
    /// Compiled code.
    pub compiled_bytes: u64,
    /// The store's ceiling in the settings.
    pub store_bytes_max: u64,
    /// A reset was cut off.
    pub half_reset: Option<HalfReset>,
    /// How the files of the store begin.
    pub heads: Heads,
}

/// How the files of a store begin.
#[derive(Clone, Debug, Default)]
pub enum Heads {
    /// Nobody looked: an agent may have them open.
    #[default]
    Unseen,
    /// As they should, or there are none.
    Good,
    /// An agent could not open such a store, or they cannot be read.
    Bad(Trouble),
}

/// Bytes of memory.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Can be had without swapping.
    pub available_bytes: u64,
    /// All of it.
    pub all_bytes: u64,
}

/// Address space in bytes.
#[derive(Clone, Debug, Default)]
pub struct Space {
    /// The limit (`ulimit -v`); `None`: there is none.
    pub limit_bytes: Option<u64>,
    /// Whose limit that is.
    pub of: String,
    /// What all sandboxes would reserve at once.
    pub pool_bytes: u64,
    /// Bits of an address.
    pub bits: u32,
    /// Workers that the settings want.
    pub workers: u32,
    /// How many of them there is room for.
    pub workers_that_fit: u32,
}

/// A file or folder, as it is for whoever runs the doctor.
#[derive(Clone, Debug)]
pub struct FileFact {
    /// Where.
    pub path: String,
    /// What it is to the gateway.
    pub kind: FileKind,
    /// How it is.
    pub access: Result<Access, String>,
}

/// What a file is to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// The data folder.
    Data,
    /// In the data folder, where all has one owner.
    Owned,
    /// A secret of the agent, which nobody else may read.
    Secret,
    /// The key of a listener, which a group may read.
    Key,
}

/// Who may do what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Permission bits.
    pub mode: u32,
    /// Whether whoever asks may write it.
    pub writable: bool,
    /// User that owns it.
    pub owner: u32,
    /// Whether whoever asks owns it or is root, and so can tell whether the agent's user may write it.
    pub is_own: bool,
}
