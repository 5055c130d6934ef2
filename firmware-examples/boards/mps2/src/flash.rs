//! PSRAM as NOR flash: writing only clears bits, erasing sets all bits of whole pages.
//!
//! It does not model torn writes and wear. A machine that starts without a file has 0x00 in its
//! PSRAM, where flash that was never used has 0xFF, and a store may take 0x00 for its own marks:
//! hence [`Flash::prepare`], by which a region's owner tells its own format from what lay there.

use embedded_storage_async::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

use crate::{mmio, psram};

/// Bytes that are erased together.
pub const PAGE_BYTES: usize = 4096;
/// Bytes that are written together.
pub const WORD_BYTES: usize = 4;

/// A part of flash: offsets count from its beginning, nothing outside of it is reached.
#[derive(Debug)]
pub struct Flash {
    offset: usize,
    bytes: usize,
}

/// What lay in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The owner's format; all is as it was left.
    Kept,
    /// Something else; the region is erased and now has the owner's format.
    Formatted,
}

/// An access that flash cannot serve. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlashError {
    /// It reaches out of the region, or its end lies before its beginning.
    OutOfBounds,
    /// Not whole words (write) or pages (erase).
    NotAligned,
}

impl NorFlashError for FlashError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::OutOfBounds => NorFlashErrorKind::OutOfBounds,
            Self::NotAligned => NorFlashErrorKind::NotAligned,
        }
    }
}

impl Flash {
    /// Called with the ranges of [`crate::regions`] alone: none overlaps another.
    pub(crate) const fn new(offset: usize, bytes: usize) -> Self {
        Self { offset, bytes }
    }

    /// Keeps the first page for the owner's mark and gives the rest, erased unless the mark of this
    /// owner was there. The mark is written after the erase: a power cut in between begins anew.
    ///
    /// # Errors
    /// The region has no page beside the mark's.
    pub async fn prepare(mut self, mark: [u8; 8]) -> Result<(Self, Found), FlashError> {
        let rest_bytes = self.bytes.checked_sub(PAGE_BYTES).filter(|bytes| *bytes > 0);
        let rest_bytes = rest_bytes.ok_or(FlashError::OutOfBounds)?;
        let mut there = [0; 8];
        self.read(0, &mut there).await?;
        let mut found = Found::Kept;
        if there != mark {
            // The page of the mark first: a mark of somebody else must not outlive their data.
            self.erase(0, offset(self.bytes)?).await?;
            self.write(0, &mark).await?;
            found = Found::Formatted;
        }
        Ok((Self::new(self.offset + PAGE_BYTES, rest_bytes), found))
    }

    /// How long it is.
    #[must_use]
    pub fn bytes(&self) -> u32 {
        u32::try_from(self.bytes).expect("invariant: flash has less than 4 GiB")
    }

    /// What it holds, in place: the region is only read from here on, and costs no RAM.
    #[must_use]
    pub fn into_bytes(self) -> &'static [u8] {
        psram::view(self.offset, self.bytes)
    }

    /// Where it lies in the address space, for a boot loader: code in flash can be run in place.
    #[must_use]
    pub fn address(&self) -> usize {
        mmio::psram_base() + self.offset
    }

    fn read_now(&self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        psram::read(self.locate(offset, bytes.len())?, bytes);
        Ok(())
    }

    /// The word at `offset`.
    #[cfg(feature = "boot")]
    pub(crate) fn word(&self, offset: u32) -> u32 {
        let mut word = [0; 4];
        self.read_now(offset, &mut word).expect("invariant: inside of the region");
        u32::from_le_bytes(word)
    }

    fn erase_now(&self, from: u32, to: u32) -> Result<(), FlashError> {
        let bytes = to.checked_sub(from).ok_or(FlashError::OutOfBounds)? as usize;
        let at = self.locate(from, bytes)?;
        aligned(from, bytes, PAGE_BYTES)?;
        psram::set_all_bits(at, bytes);
        Ok(())
    }

    fn write_now(&self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let at = self.locate(offset, bytes.len())?;
        aligned(offset, bytes.len(), WORD_BYTES)?;
        psram::clear_bits(at, bytes);
        Ok(())
    }

    /// Where `offset..offset + bytes` lies in PSRAM.
    fn locate(&self, offset: u32, bytes: usize) -> Result<usize, FlashError> {
        let start = usize::try_from(offset).map_err(|_| FlashError::OutOfBounds)?;
        let end = start.checked_add(bytes).filter(|end| *end <= self.bytes);
        end.map(|_| self.offset + start).ok_or(FlashError::OutOfBounds)
    }
}

fn offset(bytes: usize) -> Result<u32, FlashError> {
    u32::try_from(bytes).map_err(|_| FlashError::OutOfBounds)
}

fn aligned(offset: u32, bytes: usize, unit: usize) -> Result<(), FlashError> {
    let whole = (offset as usize).is_multiple_of(unit) && bytes.is_multiple_of(unit);
    if whole { Ok(()) } else { Err(FlashError::NotAligned) }
}

impl ErrorType for Flash {
    type Error = FlashError;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        self.read_now(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.bytes
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = WORD_BYTES;
    const ERASE_SIZE: usize = PAGE_BYTES;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        self.erase_now(from, to)
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.write_now(offset, bytes)
    }
}

impl MultiwriteNorFlash for Flash {}

/// The same without async, for a boot loader.
#[cfg(feature = "boot")]
mod blocking {
    use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};

    use super::{Flash, FlashError, PAGE_BYTES, WORD_BYTES};

    impl ReadNorFlash for Flash {
        const READ_SIZE: usize = 1;

        fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
            self.read_now(offset, bytes)
        }

        fn capacity(&self) -> usize {
            self.bytes
        }
    }

    impl NorFlash for Flash {
        const WRITE_SIZE: usize = WORD_BYTES;
        const ERASE_SIZE: usize = PAGE_BYTES;

        fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
            self.erase_now(from, to)
        }

        fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
            self.write_now(offset, bytes)
        }
    }
}
