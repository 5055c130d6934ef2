//! The folder of the slots:
//!
//! | name | what |
//! |---|---|
//! | `a/edge-agent`, `b/edge-agent` | the programs |
//! | `state-0`, `state-1` | two copies of the state ([`edge_core::boot::record`]) |
//! | `current` | link to the folder of the confirmed slot |
//! | `lock` | held by the launcher |
//! | `lock-agent` | held by the agent; the launcher looks whether it is free |
//!
//! Whatever is written is durable when the call returns: the file is synced, and its folder where a
//! name is new. Threads of one process that have clones of the same [`Slots`] change the state one after
//! the other, and so do those that write a program.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edge_core::boot::record::{self, COPIES, COPY_BYTES_MAX, Stored};
use edge_core::boot::{Found, Own, Seen, Slot, State};
use edge_core::id::Digest;

/// Name of a program in its slot.
pub const PROGRAM: &str = "edge-agent";
const CURRENT: &str = "current";
const NEXT: &str = "edge-agent.new";
const LOCK: &str = "lock";
const LOCK_AGENT: &str = "lock-agent";
/// Mode of a program: everyone may run it, its owner replace it.
const PROGRAM_MODE: u32 = 0o755;
/// Longest program that is looked at.
pub const PROGRAM_BYTES_MAX: u64 = 512 << 20;

/// A folder of slots. Clones share their locks.
#[derive(Clone, Debug)]
pub struct Slots {
    dir: PathBuf,
    /// Held from reading the state to writing it; for milliseconds.
    state: Arc<Mutex<()>>,
    /// A state was written and perhaps not synced: what is read may be gone with the power. The generation of the
    /// last one that surely is not.
    sure: Arc<Mutex<Option<u64>>>,
    /// Held while a program is written; for seconds, and never by the agent's loop.
    program: Arc<Mutex<()>>,
}

impl Slots {
    /// Opens the folder, and makes what is missing of it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let dir = std::path::absolute(dir)?;
        let parent = dir.parent().filter(|_| !dir.exists()).map(Path::to_owned);
        for slot in Slot::ALL {
            fs::create_dir_all(dir.join(slot.as_str()))?;
        }
        sync_dir(&dir)?;
        parent.map_or(Ok(()), |parent| sync_dir(&parent))?;
        Ok(Self { dir, state: Arc::default(), sure: Arc::default(), program: Arc::default() })
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the program of a slot is, or would be.
    #[must_use]
    pub fn program(&self, slot: Slot) -> PathBuf {
        self.dir.join(slot.as_str()).join(PROGRAM)
    }

    /// Keeps other launchers away for as long as the file lives.
    ///
    /// # Errors
    /// Another one is there, or the file cannot be made.
    pub fn lock(&self) -> io::Result<File> {
        try_lock(&self.dir.join(LOCK))?.ok_or_else(|| {
            let text = "another launcher runs with these slots: stop it first";
            io::Error::new(io::ErrorKind::ResourceBusy, text)
        })
    }

    /// Keeps other agents away for as long as the file lives; `None`: the agent of a launcher that is gone is
    /// still there.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn lock_agent(&self) -> io::Result<Option<File>> {
        try_lock(&self.dir.join(LOCK_AGENT))
    }

    /// The state; `None` where no copy of it is valid. One that cannot be read, on a bad block perhaps,
    /// is as one that is not there.
    ///
    /// # Errors
    /// No copy is valid, and one is there that cannot be read: what it says is not known.
    pub fn load(&self) -> io::Result<Option<Stored>> {
        let mut copies: [Vec<u8>; COPIES] = Default::default();
        let mut unreadable = None;
        for (n, copy) in copies.iter_mut().enumerate() {
            let read = File::open(self.copy(n))
                .and_then(|file| file.take(COPY_BYTES_MAX as u64).read_to_end(copy));
            match read {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    copy.clear();
                    unreadable = Some(error);
                }
                _ => {}
            }
        }
        let [first, second] = &copies;
        match (record::newest([first, second]), unreadable) {
            (None, Some(error)) => Err(error),
            (stored, _) => Ok(stored),
        }
    }

    /// The state as it stands on the disk.
    ///
    /// # Errors
    /// It cannot be read, or no copy of it is valid.
    pub fn state(&self) -> io::Result<State> {
        let stored = self.load()?;
        stored.map(|stored| stored.state).ok_or_else(|| io::Error::other("no copy of it is valid"))
    }

    /// Writes the state over its older copy, in place: on a full disk, blocks that were given up would
    /// not come back. Whoever is not alone uses [`Slots::change`].
    ///
    /// # Errors
    /// The disk refuses; then this state or the one before counts, and the next change writes whatever it
    /// comes to.
    pub fn save(&self, state: &State) -> io::Result<()> {
        let mut sure = self.sure.lock().unwrap_or_else(PoisonError::into_inner);
        // Over a copy that is perhaps not synced, never over the other one.
        let last = match *sure {
            Some(generation) => generation,
            None => self.load()?.map_or(0, |stored| stored.generation),
        };
        *sure = Some(last);
        let written = record::encode(state, last);
        let path = self.copy(written.place);
        let is_new = !path.exists();
        let file = open(&path)?;
        file.write_all_at(&written.bytes, 0)?;
        file.sync_all()?;
        if is_new {
            sync_dir(&self.dir)?;
        }
        *sure = None;
        Ok(())
    }

    /// Changes the state as it stands on the disk, and nobody of this process writes it between. `None`
    /// from `change` leaves it. Returns the state as it is then, durably.
    ///
    /// # Errors
    /// It cannot be read, or not written ([`Slots::save`]).
    pub fn change(&self, change: impl FnOnce(&State) -> Option<State>) -> io::Result<State> {
        let _alone = hold(&self.state);
        let state = self.state()?;
        let next = change(&state).unwrap_or_else(|| state.clone());
        let is_sure = self.sure.lock().unwrap_or_else(PoisonError::into_inner).is_none();
        if next != state || !is_sure {
            self.save(&next)?;
        }
        Ok(next)
    }

    /// Writes the state as it is: whether whoever changes it next could.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn rewrite(&self) -> io::Result<()> {
        let _alone = hold(&self.state);
        self.save(&self.state()?)
    }

    /// Looks at the programs and the link; `own` is the launcher's own program.
    #[must_use]
    pub fn found(&self, own: Option<Own>) -> Found {
        let seen = |slot: Slot| match digest_of(&self.program(slot)) {
            Ok(digest) => Seen::Present(digest),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Seen::Absent,
            Err(error) => {
                tracing::error!(%error, slot = slot.as_str(), "the program cannot be read");
                Seen::Unreadable
            }
        };
        let link = fs::read_link(self.dir.join(CURRENT)).ok();
        let linked = link.and_then(|path| Slot::named(path.to_str()?));
        Found { programs: Slot::ALL.map(seen), linked, own, said: [None; 2] }
    }

    /// Leads the link to a slot, at once and durably.
    ///
    /// # Errors
    /// The disk refuses; the link leads where it did.
    pub fn link(&self, slot: Slot) -> io::Result<()> {
        let next = self.dir.join("current.new");
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => symlink(slot.as_str(), &next)?,
        }
        fs::rename(&next, self.dir.join(CURRENT))?;
        sync_dir(&self.dir)
    }

    /// Puts a program into a slot: written beside, synced, read back, and only then named.
    ///
    /// # Errors
    /// The disk refuses, or gives back other bytes; the slot holds what it did.
    pub fn install(&self, slot: Slot, bytes: &[u8], digest: Digest) -> io::Result<()> {
        self.write_beside(slot, bytes, digest)?.name()
    }

    /// Writes a program beside that of a slot, syncs it and reads it back. Until what is returned is gone
    /// nobody else writes one.
    ///
    /// # Errors
    /// The disk refuses, or gives back other bytes; the slot holds what it did.
    pub fn write_beside(&self, slot: Slot, bytes: &[u8], digest: Digest) -> io::Result<Beside<'_>> {
        let alone = hold(&self.program);
        let dir = self.dir.join(slot.as_str());
        let beside =
            Beside { path: dir.join(NEXT), program: self.program(slot), dir, _alone: alone };
        write_program(&beside.path, bytes)?;
        let read = digest_of(&beside.path)?;
        if read != digest {
            let text = format!("what was read back has digest {read}, not {digest}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(beside)
    }

    fn copy(&self, n: usize) -> PathBuf {
        self.dir.join(format!("state-{n}"))
    }
}

/// A program beside that of its slot, whole and durable. Dropped, it is removed: its room is needed.
#[derive(Debug)]
pub struct Beside<'s> {
    path: PathBuf,
    program: PathBuf,
    dir: PathBuf,
    _alone: MutexGuard<'s, ()>,
}

impl Beside<'_> {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the place of the slot's program, durably.
    ///
    /// # Errors
    /// The disk refuses; the slot holds the one or the other.
    pub fn name(self) -> io::Result<()> {
        fs::rename(&self.path, &self.program)?;
        sync_dir(&self.dir)
    }
}

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        // There is none once it has its name.
        let _ = fs::remove_file(&self.path);
    }
}

/// Locks have no contents that a panic could leave in pieces.
fn hold(lock: &Mutex<()>) -> MutexGuard<'_, ()> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Opens a file of the owner's to write over it, and makes it where it is not there.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

fn write_program(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.set_permissions(fs::Permissions::from_mode(PROGRAM_MODE))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// SHA-256 of a file of at most [`PROGRAM_BYTES_MAX`].
///
/// # Errors
/// It cannot be read, or is longer.
pub fn digest_of(path: &Path) -> io::Result<Digest> {
    const CHUNK: usize = 64 << 10;
    let mut file = File::open(path)?.take(PROGRAM_BYTES_MAX + 1);
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let (mut chunk, mut length) = (vec![0; CHUNK], 0);
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        length += read as u64;
        context.update(&chunk[..read]);
    }
    if length > PROGRAM_BYTES_MAX {
        return Err(io::Error::other(format!("it has over {PROGRAM_BYTES_MAX} bytes")));
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok(Digest(digest))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
