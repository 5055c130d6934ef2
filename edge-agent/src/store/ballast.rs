//! A file of real bytes that is given up when the disk is full, so that redb has the pages it
//! needs to delete rows (it copies what it changes, so that even a delete needs space).

use std::io;
use std::sync::Arc;

use super::disk::{Disk, is_full};

const FILE: &str = "ballast";
const STEP: usize = 64 << 10;

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
        // Not zeros: a file system that keeps no zeros would give nothing back.
        let pattern: Vec<u8> = (1..=u8::MAX).cycle().take(STEP).collect();
        while self.held < self.bytes {
            let step = (self.bytes - self.held).min(STEP as u64);
            let data = &pattern[..usize::try_from(step).unwrap_or(STEP)];
            match file.write_at(self.held, data).and_then(|()| file.sync_data()) {
                Ok(()) => self.held += step,
                Err(error) if is_full(&error) => break,
                Err(error) => return Err(error),
            }
        }
        if self.held < self.bytes {
            file.set_len(self.held)?;
        }
        self.disk.sync_dir()
    }
}
