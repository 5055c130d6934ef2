//! Updates of the whole system of a card image (`docs/agent-updates.md`, *Images*). What is decided stands
//! in [`edge_core::boot::system`].
//!
//! Two sides, of which only the second may write to the card:
//! - [`OnImage`]: the agent's. It sees what the helper shows, and asks.
//! - [`helper`]: the same program, started as root by the image. It believes nothing that the agent says:
//!   whose signature counts, which board this is and what is tried comes from files that only root writes.
//!
//! # Invariants
//! - A request is a file that appears at once, by a rename; nothing of it reaches a shell.
//! - What the agent may write is read as an enemy's: bounded, without following links.

pub mod card;
pub mod helper;
mod source;
mod write;

#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use edge_core::boot::system::{Request, View};
use serde::de::DeserializeOwned;

/// Names the folder that the helper and the agent share; it is in memory, so that what was asked is gone with
/// a restart.
const VARIABLE: &str = "HOLM_SYSTEM";
/// What the helper shows.
const VIEW: &str = "view";
/// Folder of the agent's user, and the request in it.
const ASK: &str = "ask";
const REQUEST: &str = "request";
/// Longest file of either.
const SHARED_BYTES_MAX: u64 = 64 << 10;
/// Room that is left to everything else on the data partition.
const SPARE_BYTES: u64 = 32 << 20;

/// The card image that this agent runs from.
#[derive(Clone, Debug)]
pub struct OnImage {
    dir: PathBuf,
    data_dir: PathBuf,
}

impl OnImage {
    /// What the image said; `None` where this is none.
    #[must_use]
    pub fn from_environment(data_dir: &Path) -> Option<Self> {
        let dir = std::env::var_os(VARIABLE)?;
        Some(Self { dir: dir.into(), data_dir: data_dir.to_owned() })
    }

    /// What the helper shows.
    ///
    /// # Errors
    /// It shows nothing, or what cannot be read.
    pub fn view(&self) -> Result<View, String> {
        let path = self.dir.join(VIEW);
        read_json(&path).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Asks the helper.
    ///
    /// # Errors
    /// The request cannot be written.
    pub fn ask(&self, request: &Request) -> io::Result<()> {
        write_json(&self.dir.join(ASK).join(REQUEST), request, 0o600)
    }

    /// Whether a system of so many bytes has room beside the gateway's data.
    ///
    /// # Errors
    /// It has none, in words.
    pub fn check_room(&self, bytes: u64) -> Result<(), String> {
        let disk = rustix::fs::statvfs(&self.data_dir).map_err(|error| error.to_string())?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let needed = bytes.saturating_add(SPARE_BYTES);
        if free >= needed {
            return Ok(());
        }
        let mib = |bytes: u64| bytes >> 20;
        Err(format!(
            "the data partition has {} MiB free, the system with room to spare needs {}",
            mib(free),
            mib(needed)
        ))
    }
}

/// Opens a file that others may have put there: no link, no pipe.
fn open_plain(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"))
}

/// Reads what others may have put there.
fn read_plain(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_plain(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("it has over {bytes_max} bytes")));
    }
    Ok(bytes)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let bytes = read_plain(path, SHARED_BYTES_MAX)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

/// Writes a file at once and durably.
fn write_json(path: &Path, value: &impl serde::Serialize, mode: u32) -> io::Result<()> {
    let bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
    let next = path.with_extension("new");
    let mut file = File::create(&next)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    File::open(path.parent().unwrap_or_else(|| Path::new(".")))?.sync_all()
}
