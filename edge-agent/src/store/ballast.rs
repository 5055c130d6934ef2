//! A file of real bytes that is given up when the disk is full, so that redb has the pages it
//! needs to delete rows (it copies what it changes, so that even a delete needs space).

use std::io;
use std::sync::Arc;

use super::disk::{Disk, DiskFile, is_full};

const FILE: &str = "ballast";
const STEP: usize = 64 << 10;
/// Bytes between two syncs. A file system may find out at a sync only that it is full.
const SYNC_BYTES: u64 = 512 << 10;

/// Bytes that no file system can keep in less room: it would give back no more than that. Not for secrets.
#[derive(Debug, Default)]
struct Noise(u64);

impl Noise {
    /// `SplitMix64`, by Guy Steele, Doug Lea and Christine Flood.
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.word().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

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
        let mut bytes = vec![0; STEP];
        let mut noise = Noise::default();
        let mut written = 0;
        loop {
            let step = (self.bytes - written).min(STEP as u64);
            let data = &mut bytes[..usize::try_from(step).unwrap_or(STEP)];
            noise.fill(data);
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::*;
    use crate::store::disk::SystemDisk;

    #[test]
    fn a_file_system_that_compresses_keeps_all_of_it() {
        const BYTES: u64 = 300_001;
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(SystemDisk::take(dir.path()).unwrap());
        let mut ballast = Ballast::open(disk, BYTES).unwrap();
        assert!(ballast.is_enough());
        let read = || std::fs::read(dir.path().join(FILE)).unwrap();
        let bytes = read();
        assert_eq!(bytes.len() as u64, BYTES);
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::best());
        packed.write_all(&bytes).unwrap();
        let packed = packed.finish().unwrap().len();
        assert!(packed > bytes.len() * 99 / 100, "{packed} of {} bytes", bytes.len());
        // Nor is one block like another, for one that keeps equal ones once.
        let mut blocks: Vec<&[u8]> = bytes.chunks_exact(512).collect();
        blocks.sort_unstable();
        blocks.dedup();
        assert_eq!(blocks.len(), bytes.len() / 512);
        ballast.release().unwrap();
        ballast.restore().unwrap();
        assert_eq!(read().len() as u64, BYTES);
    }
}
