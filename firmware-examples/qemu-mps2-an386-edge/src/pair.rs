//! Two regions of flash as one: a slot and the notes about it lie apart.

use board_mps2::flash::{Flash, FlashError, PAGE_BYTES, WORD_BYTES};
use embedded_storage_async::nor_flash::{ErrorType, NorFlash, ReadNorFlash};

/// The second region follows the first one. An access that spans both is out of bounds.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) first: Flash,
    pub(crate) second: Flash,
}

impl Pair {
    /// The region that an offset is in, and the offset there.
    fn at(&mut self, offset: u32) -> (&mut Flash, u32) {
        let first_bytes = self.first.bytes();
        match offset.checked_sub(first_bytes) {
            Some(behind) => (&mut self.second, behind),
            None => (&mut self.first, offset),
        }
    }
}

impl ErrorType for Pair {
    type Error = FlashError;
}

impl ReadNorFlash for Pair {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        let (flash, offset) = self.at(offset);
        flash.read(offset, bytes).await
    }

    fn capacity(&self) -> usize {
        self.first.capacity() + self.second.capacity()
    }
}

impl NorFlash for Pair {
    const WRITE_SIZE: usize = WORD_BYTES;
    const ERASE_SIZE: usize = PAGE_BYTES;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        let bytes = to.checked_sub(from).ok_or(FlashError::OutOfBounds)?;
        let (flash, from) = self.at(from);
        flash.erase(from, from + bytes).await
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let (flash, offset) = self.at(offset);
        flash.write(offset, bytes).await
    }
}
