//! For tests: which batches the disk has really been asked to keep.
//!
//! [`SyncLog`] sees the writes and syncs of the journal's files below the store, and the commits
//! above it. A batch counts as synced when a sync of the file it was written to returned after the
//! write. A test asserts that no ack leaves for a batch above [`SyncLog::synced`]: a SIGKILL does
//! not show a missing sync, because the page cache survives it.
//!
//! From outside the process nobody knows batches. [`SyncLog::with_mark`] also notes which marked
//! payloads were among the synced bytes, so that every PUBACK on a socket can be compared.
//!
//! The same disk can be made to fail ([`SyncLog::set_fault`]), as one that was remounted read-only
//! or is about to die.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edge_core::id::BatchSeq;

use super::disk::{Disk, DiskFile};
use super::{Batch, Store, StoreError};

/// What was written and synced.
#[derive(Clone, Debug, Default)]
pub struct SyncLog(Arc<Mutex<Log>>);

#[derive(Debug, Default)]
struct Log {
    /// The batch being committed.
    current: BatchSeq,
    /// Last batch written to a file and not synced, by file.
    dirty: BTreeMap<String, BatchSeq>,
    synced: BatchSeq,
    syncs: u64,
    /// What marked payloads begin with; empty: nobody asks.
    mark: &'static [u8],
    /// Ids in what was written to a file and not synced, by file.
    dirty_ids: BTreeMap<String, Vec<MarkedId>>,
    synced_ids: BTreeSet<MarkedId>,
    fault: Option<DiskFault>,
}

/// How a disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// Nothing can be written, and no file can be opened to write.
    ReadOnly,
    /// What was written cannot be made durable (EIO).
    SyncFails,
}

/// The bytes that follow a mark.
pub type MarkedId = [u8; 8];

impl Log {
    /// Ids of the marked payloads in `data`. A journal write holds whole batches.
    fn ids(&self, data: &[u8]) -> Vec<MarkedId> {
        let mark = self.mark;
        if mark.is_empty() {
            return Vec::new();
        }
        let found = data.windows(mark.len() + size_of::<MarkedId>());
        let found = found.filter(|window| window.starts_with(mark));
        found.filter_map(|window| window[mark.len()..].try_into().ok()).collect()
    }
}

impl SyncLog {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A log that also notes the ids of payloads: the 8 bytes after each `mark`.
    #[must_use]
    pub fn with_mark(mark: &'static [u8]) -> Self {
        Self(Arc::new(Mutex::new(Log { mark, ..Log::default() })))
    }

    /// Whether a sync covers a batch that holds the payload of this id.
    #[must_use]
    pub fn has_synced(&self, id: &MarkedId) -> bool {
        self.log().synced_ids.contains(id)
    }

    /// The last batch that a sync covers.
    #[must_use]
    pub fn synced(&self) -> BatchSeq {
        self.log().synced
    }

    /// Syncs of the journal so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.log().syncs
    }

    /// The disk fails from now on, or is well again.
    pub fn set_fault(&self, fault: Option<DiskFault>) {
        self.log().fault = fault;
    }

    fn may_write(&self) -> io::Result<()> {
        match self.log().fault {
            Some(DiskFault::ReadOnly) => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            Some(DiskFault::SyncFails) | None => Ok(()),
        }
    }

    fn may_sync(&self) -> io::Result<()> {
        match self.log().fault {
            Some(_) => Err(rustix::io::Errno::IO.into()),
            None => Ok(()),
        }
    }

    /// The disk, watched.
    #[must_use]
    pub fn watch_disk(&self, disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
        Arc::new(WatchedDisk { disk, log: self.clone() })
    }

    /// The store, watched. Its disk must be watched by the same log.
    #[must_use]
    pub fn watch_store<S: Store>(&self, store: S) -> SyncCheck<S> {
        SyncCheck { store, log: self.clone() }
    }
}

/// A store whose commits are checked: one that returns `Ok` without a sync is turned into an error.
#[derive(Debug)]
pub struct SyncCheck<S> {
    store: S,
    log: SyncLog,
}

impl<S: Store> Store for SyncCheck<S> {
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.log.log().current = batch.seq;
        self.store.commit(batch)?;
        if self.log.synced() < batch.seq {
            let source = io::Error::other("commit returned before the batch was synced");
            return Err(StoreError::Io { step: "checking the sync", source: Arc::new(source) });
        }
        Ok(())
    }
}

#[derive(Debug)]
struct WatchedDisk {
    disk: Arc<dyn Disk>,
    log: SyncLog,
}

impl WatchedDisk {
    fn watch(&self, name: &str, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let is_journal = name.starts_with("journal-");
        Arc::new(WatchedFile { name: name.into(), is_journal, file, log: self.log.clone() })
    }
}

impl Disk for WatchedDisk {
    fn open(&self, name: &str) -> io::Result<Option<Arc<dyn DiskFile>>> {
        self.log.may_write()?;
        Ok(self.disk.open(name)?.map(|file| self.watch(name, file)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.log.may_write()?;
        Ok(self.watch(name, self.disk.create(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.log.may_write()?;
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.log.may_write()?;
        self.disk.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.log.may_sync()?;
        self.disk.sync_dir()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

#[derive(Debug)]
struct WatchedFile {
    name: String,
    is_journal: bool,
    file: Arc<dyn DiskFile>,
    log: SyncLog,
}

impl DiskFile for WatchedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.log.may_write()?;
        self.file.write_at(offset, data)?;
        if !self.is_journal {
            return Ok(());
        }
        let mut log = self.log.log();
        let current = log.current;
        log.dirty.insert(self.name.clone(), current);
        let ids = log.ids(data);
        log.dirty_ids.entry(self.name.clone()).or_default().extend(ids);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.log.may_write()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.log.may_sync()?;
        self.file.sync_data()?;
        if !self.is_journal {
            return Ok(());
        }
        let mut log = self.log.log();
        log.syncs += 1;
        if let Some(batch) = log.dirty.remove(&self.name) {
            log.synced = log.synced.max(batch);
        }
        let ids = log.dirty_ids.remove(&self.name).unwrap_or_default();
        log.synced_ids.extend(ids);
        Ok(())
    }
}
