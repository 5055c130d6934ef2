//! What each worker was doing when the process died.
//!
//! # Invariants
//! - A worker writes its crumb before an attempt and removes it after; a crumb that is found at
//!   start names an attempt during which the process died.
//! - A crumb counts only under the kernel boot that wrote it: a power cut is nobody's fault.
//!
//! One file of 512-byte slots, one per worker, which keeps its blocks: crumbs can be dropped on a
//! full disk too. A slot holds the length of its contents (u32,
//! little-endian; 0 is empty), their CRC-32C, and the crumb in postcard. Nothing is synced: the
//! page cache outlives the process, and what does not outlive the kernel does not count. On
//! gateways the directory is best on a RAM disk that outlives a service (`/run` with
//! `RuntimeDirectoryPreserve`), which spares the card.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use edge_core::id::{Digest, EventId, FunctionId, JobId};
use serde::{Deserialize, Serialize};

const FILE: &str = "breadcrumbs";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const SLOT_BYTES: usize = 512;
const HEAD_BYTES: usize = 8;
/// Bytes read back at most: more slots than any gateway has workers.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Bytes the file has at least: slots for 64 workers.
const FILE_BYTES_MIN: usize = 64 * SLOT_BYTES;

/// An attempt during which the process died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crashed {
    /// The job in work.
    pub job: JobId,
    /// Number of the run of that job.
    pub run: u32,
    /// The event it worked on.
    pub event: EventId,
    /// [`Event::likeness`](edge_core::op::Event::likeness) of the event.
    pub likeness: u64,
    /// The revision that ran.
    pub revision: Digest,
    /// The function that ran.
    pub function: FunctionId,
}

#[derive(Serialize, Deserialize)]
struct Crumb<'a> {
    boot: &'a str,
    crashed: Crashed,
}

/// The breadcrumb file of a process.
#[derive(Clone, Debug)]
pub struct Breadcrumbs {
    file: Arc<File>,
    boot: Arc<str>,
}

impl Breadcrumbs {
    /// Opens the file in `dir`, made if absent, and returns what the last process left in it. All
    /// slots are empty afterwards: who calls this answers for what it returned.
    ///
    /// # Errors
    /// When the file cannot be made, read or emptied.
    pub fn open(dir: &Path) -> io::Result<(Self, Vec<Crashed>)> {
        let boot = fs::read_to_string(BOOT_ID).unwrap_or_default();
        Self::open_under(dir, boot.trim())
    }

    fn open_under(dir: &Path, boot: &str) -> io::Result<(Self, Vec<Crashed>)> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join(FILE))?;
        let mut bytes = Vec::new();
        (&file).take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        let crashed = bytes
            .chunks(SLOT_BYTES)
            .filter_map(decode)
            .filter(|crumb| !boot.is_empty() && crumb.boot == boot)
            .map(|crumb| crumb.crashed)
            .collect();
        // In place: on a full disk, blocks that were given up would not come back.
        file.write_all_at(&vec![0; bytes.len()], 0)?;
        let more = FILE_BYTES_MIN.saturating_sub(bytes.len());
        if let Err(error) = file.write_all_at(&vec![0; more], bytes.len() as u64) {
            tracing::warn!("attempts may run without a breadcrumb: {error}");
        }
        Ok((Self { file: Arc::new(file), boot: Arc::from(boot) }, crashed))
    }

    /// Notes that `slot` begins an attempt, until the returned guard is dropped.
    pub(super) fn drop_one(&self, slot: usize, crashed: Crashed) -> io::Result<Dropped<'_>> {
        let contents =
            postcard::to_stdvec(&Crumb { boot: &self.boot, crashed }).map_err(io::Error::other)?;
        if contents.len() > SLOT_BYTES - HEAD_BYTES {
            return Err(io::Error::other("a function's name is too long for a breadcrumb"));
        }
        let mut bytes = Vec::with_capacity(HEAD_BYTES + contents.len());
        let len = u32::try_from(contents.len()).map_err(io::Error::other)?;
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&contents).to_le_bytes());
        bytes.extend_from_slice(&contents);
        let offset = (slot * SLOT_BYTES) as u64;
        self.file.write_all_at(&bytes, offset)?;
        Ok(Dropped { file: &self.file, offset })
    }
}

/// A crumb in place.
pub(super) struct Dropped<'a> {
    file: &'a File,
    offset: u64,
}

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.file.write_all_at(&[0; 4], self.offset) {
            tracing::warn!("a breadcrumb could not be removed: {error}");
        }
    }
}

/// A slot's crumb; empty and damaged ones have none.
fn decode(slot: &[u8]) -> Option<Crumb<'_>> {
    let len = u32::from_le_bytes(slot.get(..4)?.try_into().ok()?);
    let crc = u32::from_le_bytes(slot.get(4..HEAD_BYTES)?.try_into().ok()?);
    let len = usize::try_from(len).ok().filter(|len| *len > 0)?;
    let contents = slot.get(HEAD_BYTES..HEAD_BYTES.checked_add(len)?)?;
    (crc32c::crc32c(contents) == crc).then(|| postcard::from_bytes(contents).ok())?
}

#[cfg(test)]
mod tests {
    use edge_core::id::Epoch;

    use super::*;

    fn crashed(job: u64) -> Crashed {
        Crashed {
            job: JobId(job),
            run: 2,
            event: EventId { epoch: Epoch(7), n: job },
            likeness: job,
            revision: Digest([3; 32]),
            function: FunctionId::new("cold-chain/smooth"),
        }
    }

    #[test]
    fn what_was_in_work_is_found_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let (crumbs, none) = Breadcrumbs::open_under(dir.path(), "boot").unwrap();
        assert_eq!(none, []);
        std::mem::forget(crumbs.drop_one(0, crashed(10)).unwrap());
        drop(crumbs.drop_one(1, crashed(11)).unwrap());
        std::mem::forget(crumbs.drop_one(2, crashed(12)).unwrap());
        let (_, found) = Breadcrumbs::open_under(dir.path(), "boot").unwrap();
        assert_eq!(found, [crashed(10), crashed(12)]);
        let (_, again) = Breadcrumbs::open_under(dir.path(), "boot").unwrap();
        assert_eq!(again, []);
    }

    #[test]
    fn the_file_never_gives_up_its_blocks() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let mut blocks = 0;
        for _ in 0..3 {
            let (crumbs, _) = Breadcrumbs::open_under(dir.path(), "boot").unwrap();
            std::mem::forget(crumbs.drop_one(5, crashed(1)).unwrap());
            crumbs.file.sync_all().unwrap();
            let has = crumbs.file.metadata().unwrap().blocks();
            assert!(has * 512 >= FILE_BYTES_MIN as u64 && (blocks == 0 || has == blocks), "{has}");
            blocks = has;
        }
    }

    #[test]
    fn a_power_cut_is_nobodys_fault() {
        for (before, after) in [("one", "two"), ("", "")] {
            let dir = tempfile::tempdir().unwrap();
            let (crumbs, _) = Breadcrumbs::open_under(dir.path(), before).unwrap();
            std::mem::forget(crumbs.drop_one(0, crashed(1)).unwrap());
            let (_, found) = Breadcrumbs::open_under(dir.path(), after).unwrap();
            assert_eq!(found, []);
        }
    }

    #[test]
    fn damaged_slots_are_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let (crumbs, _) = Breadcrumbs::open_under(dir.path(), "boot").unwrap();
        for slot in 0..3 {
            std::mem::forget(crumbs.drop_one(slot, crashed(slot as u64)).unwrap());
        }
        crumbs.file.write_all_at(&[0xff], SLOT_BYTES as u64 + 20).unwrap();
        crumbs.file.write_all_at(&[0xff; 4], 2 * SLOT_BYTES as u64).unwrap();
        let (_, found) = Breadcrumbs::open_under(dir.path(), "boot").unwrap();
        assert_eq!(found, [crashed(0)]);
    }
}
