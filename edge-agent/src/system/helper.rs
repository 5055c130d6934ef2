//! The side of root: keeps the state, compares it with the boot record, and does what the agent asks.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use edge_core::boot::card::BootRecord;
use edge_core::boot::system::{Refused, Request, Settled, System, View, When};
use edge_core::boot::{Slot, Version};
use sync_protocol::revision::{AuthorKey, AuthorKeys};

use super::source::Source;
use super::{ASK, REQUEST, VIEW, card, read_json, read_plain, write, write_json};
use crate::identity::Identity;

/// A file in the shared folder: the machine is to leave the system that runs, which is not kept any more. Gone
/// with a restart, as all of that folder.
const LEAVING: &str = "leaving";
/// Longest identity of a gateway.
const IDENTITY_BYTES_MAX: u64 = 256 << 10;

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Places {
    /// Folder that is shared with the agent.
    pub shared: PathBuf,
    /// The state, which only root writes; the pinned authors lie beside it.
    pub state: PathBuf,
    /// The card.
    pub disk: PathBuf,
    /// The partitions of both roots.
    pub roots: [PathBuf; 2],
    /// Where the boot partition is mounted, if it is.
    pub boot: Option<PathBuf>,
    /// The slot that runs.
    pub slot: Slot,
    /// The board that the image is made for.
    pub board: String,
    /// Version of the system that runs.
    pub version: Version,
    /// Where the agent's user has its data.
    pub data_dir: PathBuf,
    /// Authors that `agent.toml`, which is root's, names.
    pub author_keys: Vec<String>,
}

/// What the image has to do after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    Nothing,
    /// Restart the machine.
    Restart,
    /// Mount the boot partition, and ask again.
    Mount,
}

impl Places {
    fn authors(&self) -> PathBuf {
        self.state.with_file_name("authors")
    }

    fn load(&self) -> io::Result<System> {
        match read_json(&self.state) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(System::default()),
            read => read,
        }
    }

    fn show(&self, system: System, refused: Option<Refused>) -> io::Result<()> {
        let (board, version) = (self.board.clone(), self.version);
        let view = View { board, version, slot: self.slot, system, refused };
        write_json(&self.shared.join(VIEW), &view, 0o644)
    }
}

/// Writes the state.
pub(super) fn save(path: &Path, system: &System) -> io::Result<()> {
    write_json(path, system, 0o600)
}

/// Compares the state with the boot record, and shows what comes of it.
///
/// # Errors
/// State or boot record cannot be read or written; then nothing is shown, and the agent takes no system.
pub fn settle(places: &Places, when: When) -> Result<Then, String> {
    let failed = |what: &Path| {
        let what = what.display().to_string();
        move |error: io::Error| format!("{what}: {error}")
    };
    if let Err(error) = pin_authors(places, false) {
        tracing::warn!(%error, "the authors of this gateway cannot be pinned");
    }
    let system = places.load().map_err(failed(&places.state))?;
    let record = card::read(&places.disk).map_err(failed(&places.disk))?;
    let Settled { system: next, record } = system.settle(record, places.slot, when);
    // A trial that is to end ends in the boot record before the state forgets it.
    if let Some(record) = record {
        card::write(&places.disk, record).map_err(failed(&places.disk))?;
    }
    let saved = if next == system { Ok(()) } else { save(&places.state, &next) };
    // On a full disk the agent sees what is: the boot record says the same at the next start.
    places.show(next, None).map_err(failed(&places.shared))?;
    saved.map_err(failed(&places.state))?;
    let was_its = |system: &System| system.trial.as_ref().is_some_and(|it| it.slot == places.slot);
    if record.is_some() && was_its(&system) { leave(places) } else { Ok(Then::Nothing) }
}

/// From here on the system that runs is not kept, however well it is.
fn leave(places: &Places) -> Result<Then, String> {
    let path = places.shared.join(LEAVING);
    fs::write(&path, "").map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Then::Restart)
}

/// The system that runs has proved itself: the boot loader starts it from now on, unless it is being left.
///
/// # Errors
/// The boot record cannot be read or written.
pub fn keep(places: &Places) -> Result<Then, String> {
    if places.shared.join(LEAVING).exists() {
        return Ok(Then::Restart);
    }
    let said = |error: io::Error| format!("{}: {error}", places.disk.display());
    let record = card::read(&places.disk).map_err(said)?;
    let kept = BootRecord { good: places.slot, ..record.with_trial(None) };
    card::write(&places.disk, kept).map_err(said)?;
    settle(places, When::Later)
}

/// Holds the others of its kind off for as long as it lives: keeper and server are two.
///
/// # Errors
/// The lock's file cannot be made.
pub fn lock(places: &Places) -> io::Result<fs::File> {
    let file = fs::File::create(places.shared.join("lock"))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
    Ok(file)
}

/// Notes for root whose revisions count: those that the gateway pinned at its enrolment. The agent's user could
/// write that file later; `anew` after an enrolment, else at the first start alone, nobody where it is not enrolled.
///
/// # Errors
/// The identity cannot be read, or the note not written.
pub fn pin_authors(places: &Places, anew: bool) -> io::Result<()> {
    if places.authors().exists() && !anew {
        return Ok(());
    }
    let keys: Vec<String> = match read_plain(&Identity::path(&places.data_dir), IDENTITY_BYTES_MAX)
    {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => {
            let keys = Identity::decode(&read?, &places.data_dir)?.enrolled.author_keys;
            keys.iter().map(ToString::to_string).collect()
        }
    };
    write_json(&places.authors(), &keys, 0o600)
}

/// The authors whose systems are written.
fn authors(places: &Places) -> Result<AuthorKeys, String> {
    let pinned: Vec<String> = match read_json(&places.authors()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read.map_err(|error| format!("{}: {error}", places.authors().display()))?,
    };
    let keys =
        places.author_keys.iter().chain(&pinned).map(|text| {
            text.parse::<AuthorKey>().map_err(|_| format!("{text:?} is no author key"))
        });
    keys.collect()
}

/// Takes what the agent asks, and does it; `None`: it asks nothing.
///
/// # Errors
/// As [`settle`]. What is refused is no error: the agent is shown why.
pub fn serve(places: &Places) -> Result<Option<Then>, String> {
    serve_by(places, &mut |_| Ok(()))
}

pub(super) fn serve_by(places: &Places, step: write::Step<'_>) -> Result<Option<Then>, String> {
    let path = places.shared.join(ASK).join(REQUEST);
    let request = match read_json::<Request>(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read,
    };
    if matches!(request, Ok(Request::Install { .. })) && places.boot.is_none() {
        return Ok(Some(Then::Mount));
    }
    // It is taken once, whatever it says.
    fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let request = request.map_err(|error| format!("the request: {error}"))?;
    tracing::info!(?request, "asked");
    match request {
        Request::Install { ask, revision } => {
            let done = install(places, sync_protocol::id::Digest(revision.0), step);
            // What an error left half done is put right.
            settle(places, When::Later)?;
            if let Err(reason) = done {
                tracing::error!(reason, "the system is not written");
                let system = places.load().map_err(|error| error.to_string())?;
                let refused = Some(Refused { ask, reason });
                places.show(system, refused).map_err(|error| error.to_string())?;
            }
            Ok(Some(Then::Nothing))
        }
        Request::Restart => leave(places).map(Some),
        Request::CallOff => call_off(places).map(Some),
    }
}

fn install(
    places: &Places,
    revision: sync_protocol::id::Digest,
    step: write::Step<'_>,
) -> Result<(), String> {
    let library = places.data_dir.join("library");
    let source = Source::open(&library, revision, &authors(places)?, &places.board)?;
    let system = places.load().map_err(|error| error.to_string())?;
    let by = edge_core::id::Digest(revision.0);
    write::install(places, &system, &source, by, step).map(|_| ())
}

fn call_off(places: &Places) -> Result<Then, String> {
    let said = |error: io::Error| error.to_string();
    let system = places.load().map_err(said)?;
    save(&places.state, &system.calling_off()).map_err(said)?;
    settle(places, When::Later)
}
