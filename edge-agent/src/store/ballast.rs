//! A file of real bytes that is given up when the disk is full, so that redb has the pages it
//! needs to delete rows (it copies what it changes, so that even a delete needs space).

use std::io;
use std::sync::Arc;

use super::disk::{Disk, DiskFile, is_full};

const FILE: &str = "ballast";
const STEP: usize = 64 << 10;
/// Bytes between two syncs. A file system may find out at a sync only that it is full.
const SYNC_BYTES: u64 = 512 << 10;

/// The ballast of a store.
#[derive(Debug)]
pub(super) struct Ballast {
    disk: Arc<dyn Disk>,
    bytes: u64,
    /// Bytes the file has.
    held: u64,
}

impl Ballast {
    /// Finds the ballast or makes it; on a full disk the store goes without for now.
    pub(super) fn open(disk: Arc<dyn Disk>, bytes: u64) -> io::Result<Self> {
        let found = disk.open(FILE)?.map_or(Ok(0), |file| file.len())?;
        let mut ballast = Self { disk, bytes, held: found };
        ballast.restore()?;
        Ok(ballast)
    }

    /// Whether there is enough of it to delete rows on a full disk.
    pub(super) fn is_enough(&self) -> bool {
        self.held >= self.bytes / 2
    }

    /// Gives the space back to the disk.
    pub(super) fn release(&mut self) -> io::Result<()> {
        self.held = 0;
        self.disk.remove(FILE)?;
        self.disk.sync_dir()
    }

    /// Takes the space again, or as much of it as the disk has.
    pub(super) fn restore(&mut self) -> io::Result<()> {
        if self.held == self.bytes {
            return Ok(());
        }
        let file = match self.disk.create(FILE) {
            Err(error) if is_full(&error) => return Ok(()),
            other => other?,
        };
        self.held = 0;
        self.fill(&*file)?;
        if self.held < self.bytes {
            file.set_len(self.held)?;
        }
        self.disk.sync_dir()
    }

    /// Writes until there is enough, or the disk has no more.
    fn fill(&mut self, file: &dyn DiskFile) -> io::Result<()> {
        // Not zeros: a file system that keeps no zeros would give nothing back.
        let pattern: Vec<u8> = (1..=u8::MAX).cycle().take(STEP).collect();
        let mut written = 0;
        loop {
            let step = (self.bytes - written).min(STEP as u64);
            let data = &pattern[..usize::try_from(step).unwrap_or(STEP)];
            let is_full_now = match file.write_at(written, data) {
                Ok(()) => {
                    written += step;
                    false
                }
                Err(error) if is_full(&error) => true,
                Err(error) => return Err(error),
            };
            let is_last = is_full_now || written == self.bytes;
            if !is_last && written - self.held < SYNC_BYTES {
                continue;
            }
            match file.sync_data() {
                Ok(()) => self.held = written,
                Err(error) if is_full(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
            if is_last {
                return Ok(());
            }
        }
    }
}
