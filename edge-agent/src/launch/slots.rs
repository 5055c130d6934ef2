//! The folder of the slots:
//!
//! | name | what |
//! |---|---|
//! | `a/edge-agent`, `b/edge-agent` | the programs |
//! | `state-0`, `state-1` | two copies of the state ([`edge_core::boot::record`]) |
//! | `current` | link to the folder of the confirmed slot |
//! | `lock` | held by the launcher |
//!
//! Whatever is written is durable when the call returns: the file is synced, and its folder where a
//! name is new.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use edge_core::boot::record::{self, COPIES, COPY_BYTES_MAX, Stored};
use edge_core::boot::{Found, Slot, State};
use edge_core::id::Digest;

/// Name of a program in its slot.
pub const PROGRAM: &str = "edge-agent";
const CURRENT: &str = "current";
const LOCK: &str = "lock";
/// Mode of a program: everyone may run it, its owner replace it.
const PROGRAM_MODE: u32 = 0o755;
/// Longest program that is looked at.
pub const PROGRAM_BYTES_MAX: u64 = 512 << 20;

/// A folder of slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    dir: PathBuf,
}

impl Slots {
    /// Opens the folder, and makes what is missing of it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let dir = std::path::absolute(dir)?;
        for slot in Slot::ALL {
            fs::create_dir_all(dir.join(slot.as_str()))?;
        }
        sync_dir(&dir)?;
        Ok(Self { dir })
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
        let file = open(&self.dir.join(LOCK))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::Error(error)) => Err(error),
            Err(fs::TryLockError::WouldBlock) => {
                let text = "another launcher runs with these slots: stop it first";
                Err(io::Error::new(io::ErrorKind::ResourceBusy, text))
            }
        }
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

    /// Writes the state over its older copy, in place: on a full disk, blocks that were given up would
    /// not come back.
    ///
    /// # Errors
    /// The disk refuses; then the state before counts.
    pub fn save(&self, state: &State) -> io::Result<()> {
        let last = self.load()?.map_or(0, |stored| stored.generation);
        let written = record::encode(state, last);
        let path = self.copy(written.place);
        let is_new = !path.exists();
        let file = open(&path)?;
        file.write_all_at(&written.bytes, 0)?;
        file.sync_all()?;
        if is_new { sync_dir(&self.dir) } else { Ok(()) }
    }

    /// Looks at the programs and the link.
    #[must_use]
    pub fn found(&self) -> Found {
        let digest = |slot: Slot| digest_of(&self.program(slot)).ok();
        let link = fs::read_link(self.dir.join(CURRENT)).ok();
        let linked = link.and_then(|path| Slot::named(path.to_str()?));
        Found { programs: Slot::ALL.map(digest), linked }
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
        let dir = self.dir.join(slot.as_str());
        let next = dir.join("edge-agent.new");
        let installed = write_program(&next, bytes).and_then(|()| {
            let read = digest_of(&next)?;
            if read != digest {
                let text = format!("what was read back has digest {read}, not {digest}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            fs::rename(&next, self.program(slot))?;
            sync_dir(&dir)
        });
        if installed.is_err() {
            // Its room is needed for the next try.
            let _ = fs::remove_file(&next);
        }
        installed
    }

    fn copy(&self, n: usize) -> PathBuf {
        self.dir.join(format!("state-{n}"))
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
