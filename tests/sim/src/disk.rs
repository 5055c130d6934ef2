//! A disk that forgets what was not synced.
//!
//! # Invariants
//! - A file has a live image, which reads see, and a durable one, which a power cut leaves. Writes
//!   go to the live image and wait; a sync moves those of its own file, and of no other, to the
//!   durable image.
//! - At a power cut the waiting writes of each file are sorted by offset, and each is kept, lost or
//!   torn at sectors by the seed; so writes are reordered within a file and across files. Names are
//!   lost from the end: a file system's own journal keeps them in order.
//! - At the end of a process without a power cut everything written stays, as in a page cache.
//! - After a failed sync what waited is kept or lost by the seed, and reads see what is left: the
//!   system has marked the pages clean, and the store drops them from the cache.
//! - A disk that is read-only refuses every change; a sync fails as above.
//! - Handles of an ended process do nothing any more.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edge_agent::store::disk::{Disk, DiskFile};

use crate::rng::Rng;

mod file;

use file::File;
pub use file::MARK;

/// How often the disk does not do as told, per million operations.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFaults {
    /// A sync fails.
    pub sync_fails: u32,
    /// A write fails after a part of it.
    pub write_fails: u32,
}

/// What went wrong, counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskCounts {
    /// Syncs that failed.
    pub syncs_failed: u64,
    /// Writes that failed after a part.
    pub short_writes: u64,
    /// Operations refused because the disk was full.
    pub full: u64,
    /// Writes lost at power cuts.
    pub lost: u64,
    /// Writes torn at power cuts.
    pub torn: u64,
    /// Syncs done.
    pub syncs: u64,
    /// Operations refused because the disk was read-only.
    pub sealed: u64,
    /// Bytes of all files, at most.
    pub most_bytes: u64,
}

#[derive(Debug)]
enum NameOp {
    Put(String, usize),
    Rename(String, String),
    Remove(String),
}

#[derive(Debug)]
struct State {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    name_ops: Vec<NameOp>,
    /// Handles of an older process are dead.
    life: u64,
    /// Operations left before the process is dead, if that is planned.
    dies_after: Option<u64>,
    dead: bool,
    capacity: u64,
    /// Bytes that something else on the disk takes.
    taken: u64,
    /// It is read-only.
    is_sealed: bool,
    faults: DiskFaults,
    counts: DiskCounts,
    rng: Rng,
}

/// The disk; what survives every process.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    /// An empty disk of `capacity` bytes.
    #[must_use]
    pub fn new(capacity: u64, rng: Rng) -> Self {
        Self(Arc::new(Mutex::new(State {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_ops: Vec::new(),
            life: 0,
            dies_after: None,
            dead: false,
            capacity,
            taken: 0,
            is_sealed: false,
            faults: DiskFaults::default(),
            counts: DiskCounts::default(),
            rng,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk as the process that begins now sees it.
    #[must_use]
    pub fn mount(&self) -> Arc<dyn Disk> {
        let mut state = self.state();
        state.life += 1;
        state.dead = false;
        let life = state.life;
        drop(state);
        Arc::new(Mounted { disk: self.clone(), life })
    }

    /// From now on this often.
    pub fn set_faults(&self, faults: DiskFaults) {
        self.state().faults = faults;
    }

    /// Something else takes so many bytes of the disk.
    pub fn take(&self, bytes: u64) {
        self.state().taken = bytes;
    }

    /// From now on it is read-only, or no longer.
    pub fn seal(&self, is_sealed: bool) {
        self.state().is_sealed = is_sealed;
    }

    /// Bytes of all files.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// After so many more operations the process is dead; `None` takes that back.
    pub fn die_after(&self, operations: Option<u64>) {
        self.state().dies_after = operations;
    }

    /// Whether the process died at an operation.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// The process ends now; what it wrote is in the page cache.
    pub fn end_process(&self) {
        let mut state = self.state();
        state.life += 1;
        state.dies_after = None;
        state.dead = false;
    }

    /// The power goes.
    pub fn cut_power(&self) {
        self.end_process();
        let mut state = self.state();
        let State { files, rng, counts, .. } = &mut *state;
        for file in files {
            file.cut_power(rng, counts);
        }
        let names = state.name_ops.len();
        let kept = state.rng.index(names + 1);
        let ops: Vec<NameOp> = state.name_ops.drain(..).collect();
        for op in ops.into_iter().take(kept) {
            apply(&mut state.durable_names, &op);
        }
        state.names = state.durable_names.clone();
    }

    /// Whether a sync has covered a write with the mark and this id.
    #[must_use]
    pub fn has_durable(&self, id: u64) -> bool {
        self.state().files.iter().any(|file| file.has_durable(id))
    }

    /// What went wrong so far.
    #[must_use]
    pub fn counts(&self) -> DiskCounts {
        self.state().counts
    }
}

fn apply(names: &mut BTreeMap<String, usize>, op: &NameOp) {
    match op {
        NameOp::Put(name, file) => {
            names.insert(name.clone(), *file);
        }
        NameOp::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
        NameOp::Remove(name) => {
            names.remove(name);
        }
    }
}

fn eio() -> io::Error {
    io::Error::other("simulated input/output error")
}

impl State {
    fn used(&self) -> u64 {
        self.names.values().map(|file| self.files[*file].len()).sum()
    }

    /// Every operation passes here first.
    fn operation(&mut self, life: u64) -> io::Result<()> {
        if self.life != life || self.dead {
            return Err(eio());
        }
        match &mut self.dies_after {
            Some(0) => {
                self.dead = true;
                self.dies_after = None;
                Err(eio())
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Every operation that changes something passes here first.
    fn change(&mut self, life: u64) -> io::Result<()> {
        self.operation(life)?;
        self.unsealed()
    }

    fn unsealed(&mut self) -> io::Result<()> {
        if self.is_sealed {
            self.counts.sealed += 1;
            return Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem));
        }
        Ok(())
    }

    fn name_op(&mut self, op: NameOp) {
        apply(&mut self.names, &op);
        self.name_ops.push(op);
    }

    /// Refuses to grow a file beyond the disk.
    fn room(&mut self, file: usize, len: u64) -> io::Result<()> {
        let grows = len.saturating_sub(self.files[file].len());
        if grows > 0 {
            let used = self.used() + grows;
            if used + self.taken > self.capacity {
                self.counts.full += 1;
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            self.counts.most_bytes = self.counts.most_bytes.max(used);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Mounted {
    disk: SimDisk,
    life: u64,
}

impl Mounted {
    fn handle(&self, file: usize) -> Arc<dyn DiskFile> {
        Arc::new(Handle { disk: self.disk.clone(), life: self.life, file })
    }
}

impl Disk for Mounted {
    fn open(&self, name: &str) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let mut state = self.disk.state();
        state.operation(self.life)?;
        let file = state.names.get(name).copied();
        drop(state);
        Ok(file.map(|file| self.handle(file)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.disk.state();
        state.change(self.life)?;
        let file = state.files.len();
        state.files.push(File::default());
        state.name_op(NameOp::Put(name.to_owned(), file));
        drop(state);
        Ok(self.handle(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.disk.state();
        state.change(self.life)?;
        state.name_op(NameOp::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.disk.state();
        state.change(self.life)?;
        state.name_op(NameOp::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.change(self.life)?;
        state.name_ops.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.operation(self.life)?;
        Ok(state.capacity.saturating_sub(state.used() + state.taken))
    }
}

#[derive(Debug)]
struct Handle {
    disk: SimDisk,
    life: u64,
    file: usize,
}

impl DiskFile for Handle {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.operation(self.life)?;
        Ok(state.files[self.file].len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        state.operation(self.life)?;
        state.files[self.file].read_at(offset, out)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.life != self.life || state.dead {
            return Err(eio());
        }
        let dies = state.operation(self.life).is_err();
        state.unsealed()?;
        state.room(self.file, offset + data.len() as u64)?;
        let fails = state.faults.write_fails;
        if !dies && !state.rng.chance(fails) {
            state.files[self.file].write_at(offset, data);
            return Ok(());
        }
        // The process or the disk ended in the middle of it.
        let part = state.rng.index(data.len() + 1);
        state.counts.short_writes += 1;
        state.files[self.file].write_at(offset, &data[..part]);
        Err(eio())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.change(self.life)?;
        state.room(self.file, len)?;
        state.files[self.file].set_len(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.operation(self.life)?;
        let fails = state.faults.sync_fails;
        let State { files, rng, counts, is_sealed, .. } = &mut *state;
        if *is_sealed || rng.chance(fails) {
            counts.syncs_failed += 1;
            files[self.file].fail_sync(rng, counts);
            return Err(eio());
        }
        counts.syncs += 1;
        files[self.file].sync();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
