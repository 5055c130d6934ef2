//! What each worker was doing when the process died.
//!
//! # Invariants
//! - A worker writes its crumb before an attempt and removes it after; a crumb that is found at
//!   start names an attempt during which the process died.
//! - A crumb counts only under the kernel boot that wrote it: a power cut is nobody's fault.
//! - What was found stays in the file until it is accounted for ([`Breadcrumbs::settle`]): no
//!   attempt begins before that, or it would take the place of a crumb that nobody has counted yet.
//!
//! One file of slots ([`crate::slot`]), one per worker, which keeps its blocks: crumbs can be
//! dropped on a full disk too. Nothing is synced: the page cache outlives the process, and what does
//! not outlive the kernel does not count. On gateways the directory is best on a RAM disk that outlives a service (`/run` with
//! `RuntimeDirectoryPreserve`), which spares the card.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use edge_core::effect::Work;
use edge_core::id::{Digest, EventId, FunctionId, JobId};
use serde::{Deserialize, Serialize};

use super::prepared::FunctionProfile;
use crate::slot::{self, SLOT_BYTES};

const FILE: &str = "breadcrumbs";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Bytes read back at most: more slots than any gateway has workers.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Bytes the file has at least: slots for 64 workers.
const FILE_BYTES_MIN: usize = 64 * SLOT_BYTES;

/// An attempt during which the process died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crashed {
    /// The job in work; of a batch the first one.
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
    /// It worked on more than this event: any of them may be to blame.
    pub batched: bool,
}

impl Crashed {
    /// What is told of an attempt, should the process die in it.
    #[must_use]
    pub fn of(work: &Work, run: u32, profile: &FunctionProfile) -> Self {
        let first = work.first();
        Self {
            job: first.job,
            run,
            event: first.event.id,
            likeness: first.event.likeness(),
            revision: profile.revision,
            function: profile.function.clone(),
            batched: work.members().len() > 1,
        }
    }
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
    /// What the last process left, until it is accounted for.
    left: Arc<Mutex<Vec<Crashed>>>,
}

/// The kernel's name of this boot; empty where it tells none.
#[must_use]
pub fn boot_id() -> String {
    fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned()
}

impl Breadcrumbs {
    /// Opens the file in `dir`, made if absent, and reads what the last process left in it.
    ///
    /// # Errors
    /// When the file cannot be made or read.
    pub fn open(dir: &Path) -> io::Result<Self> {
        Self::open_under(dir, &boot_id())
    }

    fn open_under(dir: &Path, boot: &str) -> io::Result<Self> {
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
        let left = bytes
            .chunks(SLOT_BYTES)
            .filter_map(slot::decode::<Crumb<'_>>)
            .filter(|crumb| !boot.is_empty() && crumb.boot == boot)
            .map(|crumb| crumb.crashed)
            .collect();
        let more = FILE_BYTES_MIN.saturating_sub(bytes.len());
        if let Err(error) = file.write_all_at(&vec![0; more], bytes.len() as u64) {
            tracing::warn!("attempts may run without a breadcrumb: {error}");
        }
        let left = Arc::new(Mutex::new(left));
        Ok(Self { file: Arc::new(file), boot: Arc::from(boot), left })
    }

    /// What the last process left and nobody has accounted for.
    #[must_use]
    pub fn left(&self) -> Vec<Crashed> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It is accounted for, durably: all slots are emptied. No attempt is running.
    ///
    /// # Errors
    /// The file cannot be written; what is left in it may be counted once more.
    pub fn settle(&self) -> io::Result<()> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let bytes = self.file.metadata()?.len().min(FILE_BYTES_MAX);
        let zeros = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        // In place: on a full disk, blocks that were given up would not come back.
        self.file.write_all_at(&zeros, 0)
    }

    /// Notes that `slot` begins an attempt, until the returned guard is dropped.
    pub(super) fn drop_one(&self, slot: usize, crashed: Crashed) -> io::Result<Dropped<'_>> {
        let bytes = slot::encode(&Crumb { boot: &self.boot, crashed })?;
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
            batched: job.is_multiple_of(2),
        }
    }

    #[test]
    fn what_was_in_work_is_found_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let crumbs = Breadcrumbs::open_under(dir.path(), "boot").unwrap();
        assert_eq!(crumbs.left(), []);
        std::mem::forget(crumbs.drop_one(0, crashed(10)).unwrap());
        drop(crumbs.drop_one(1, crashed(11)).unwrap());
        std::mem::forget(crumbs.drop_one(2, crashed(12)).unwrap());
        for _ in 0..2 {
            let crumbs = Breadcrumbs::open_under(dir.path(), "boot").unwrap();
            assert_eq!(crumbs.left(), [crashed(10), crashed(12)], "nobody has accounted for it");
        }
        let crumbs = Breadcrumbs::open_under(dir.path(), "boot").unwrap();
        crumbs.settle().unwrap();
        assert_eq!(crumbs.left(), []);
        assert_eq!(Breadcrumbs::open_under(dir.path(), "boot").unwrap().left(), []);
    }

    #[test]
    fn the_file_never_gives_up_its_blocks() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let mut blocks = 0;
        for _ in 0..3 {
            let crumbs = Breadcrumbs::open_under(dir.path(), "boot").unwrap();
            crumbs.settle().unwrap();
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
            let crumbs = Breadcrumbs::open_under(dir.path(), before).unwrap();
            std::mem::forget(crumbs.drop_one(0, crashed(1)).unwrap());
            assert_eq!(Breadcrumbs::open_under(dir.path(), after).unwrap().left(), []);
        }
    }

    #[test]
    fn damaged_slots_are_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let crumbs = Breadcrumbs::open_under(dir.path(), "boot").unwrap();
        for slot in 0..3 {
            std::mem::forget(crumbs.drop_one(slot, crashed(slot as u64)).unwrap());
        }
        crumbs.file.write_all_at(&[0xff], SLOT_BYTES as u64 + 20).unwrap();
        crumbs.file.write_all_at(&[0xff; 4], 2 * SLOT_BYTES as u64).unwrap();
        assert_eq!(Breadcrumbs::open_under(dir.path(), "boot").unwrap().left(), [crashed(0)]);
    }
}
