//! Flash whose words can be written only once, as flash whose words can be written a few times.
//!
//! Flash with an error-correcting code of its own (STM32H7: 8 bytes of code for 32 of data) takes one write a word between
//! erasures: a second one breaks the code. `sequential-storage` marks a record that was taken out by writing over its head.
//! So each word has [`SLOTS`] words here, used in order; the last one that is whole counts.
//!
//! # Invariants
//! - A word of the flash below is written when it reads as erased, and at no other time.
//! - A word that a power cut has torn (its code does not match) counts as not written: the next write goes to the next slot.
//!   So a word takes [`SLOTS`] writes between erasures, less one for each cut in the middle of one; then it is an error.
//! - Writing clears bits and sets none, as the trait says.

use embedded_storage_async::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

/// Words of the flash below for each word.
pub const SLOTS: u32 = 4;
/// Bytes of a word.
pub const WORD_BYTES: u32 = 32;
/// A word.
pub type Word = [u8; WORD_BYTES as usize];

const ERASED: Word = [0xFF; WORD_BYTES as usize];

/// The flash below; offsets count from its beginning.
pub trait Cells {
    /// Bytes that are erased together.
    const SECTOR_BYTES: u32;

    /// Bytes of it, whole sectors.
    fn bytes(&self) -> u32;

    /// The word at `offset`; none where its code does not match.
    fn read(&mut self, offset: u32) -> Option<Word>;

    /// Writes an erased word.
    ///
    /// # Errors
    /// The flash says that it did not work.
    fn program(&mut self, offset: u32, word: &Word) -> Result<(), SlotsError>;

    /// Erases the sector that begins at `offset`.
    ///
    /// # Errors
    /// The flash says that it did not work.
    fn erase(&mut self, offset: u32) -> Result<(), SlotsError>;
}

/// Why an access failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum SlotsError {
    /// It reaches out of the flash, or ends before it begins.
    OutOfBounds,
    /// Not whole words (write) or pages (erase).
    NotAligned,
    /// The word has no slot left until it is erased.
    Worn,
    /// The flash says that it did not work.
    Flash,
}

impl NorFlashError for SlotsError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::OutOfBounds => NorFlashErrorKind::OutOfBounds,
            Self::NotAligned => NorFlashErrorKind::NotAligned,
            Self::Worn | Self::Flash => NorFlashErrorKind::Other,
        }
    }
}

/// See the module. It has a quarter of the bytes of the flash below, in pages of a quarter of its sectors.
#[derive(Debug)]
pub struct Slots<C>(C);

impl<C: Cells> Slots<C> {
    /// Over this flash.
    pub const fn new(cells: C) -> Self {
        Self(cells)
    }

    /// How long it is, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u32 {
        self.0.bytes() / SLOTS
    }

    /// Whether `offset..offset + length` is of whole units and within it.
    fn check(&self, offset: u32, length: usize, unit: u32) -> Result<(), SlotsError> {
        let length = u32::try_from(length).map_err(|_| SlotsError::OutOfBounds)?;
        let end = offset.checked_add(length).ok_or(SlotsError::OutOfBounds)?;
        if end > self.bytes() {
            return Err(SlotsError::OutOfBounds);
        }
        let is_whole = offset.is_multiple_of(unit) && length.is_multiple_of(unit);
        if is_whole { Ok(()) } else { Err(SlotsError::NotAligned) }
    }

    /// What the word at `offset` says, and its first free slot.
    fn word(&mut self, offset: u32) -> (Word, u32) {
        let (mut word, mut free) = (ERASED, 0);
        for slot in 0..SLOTS {
            match self.0.read(place(offset, slot)) {
                Some(ERASED) => {}
                Some(whole) => (word, free) = (whole, slot + 1),
                None => free = slot + 1,
            }
        }
        (word, free)
    }

    fn write_word(&mut self, offset: u32, bytes: &[u8]) -> Result<(), SlotsError> {
        let (old, free) = self.word(offset);
        let mut new = old;
        for (new, byte) in new.iter_mut().zip(bytes) {
            *new &= byte;
        }
        if new == old {
            return Ok(());
        }
        for slot in free..SLOTS {
            let place = place(offset, slot);
            let programmed = self.0.program(place, &new);
            // A word that a cut has left nearly erased does not take what is written: the next one does.
            if programmed.is_ok() && self.0.read(place) == Some(new) {
                return Ok(());
            }
        }
        Err(SlotsError::Worn)
    }
}

/// Where a slot of the word at `offset` lies in the flash below.
const fn place(offset: u32, slot: u32) -> u32 {
    offset * SLOTS + slot * WORD_BYTES
}

impl<C> ErrorType for Slots<C> {
    type Error = SlotsError;
}

impl<C: Cells> ReadNorFlash for Slots<C> {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, mut bytes: &mut [u8]) -> Result<(), SlotsError> {
        self.check(offset, bytes.len(), 1)?;
        let mut at = offset - offset % WORD_BYTES;
        let mut skip = (offset % WORD_BYTES) as usize;
        while !bytes.is_empty() {
            let (word, _) = self.word(at);
            let length = bytes.len().min(word.len() - skip);
            let (now, later) = bytes.split_at_mut(length);
            now.copy_from_slice(&word[skip..skip + length]);
            (bytes, at, skip) = (later, at + WORD_BYTES, 0);
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes() as usize
    }
}

impl<C: Cells> NorFlash for Slots<C> {
    const WRITE_SIZE: usize = WORD_BYTES as usize;
    const ERASE_SIZE: usize = (C::SECTOR_BYTES / SLOTS) as usize;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), SlotsError> {
        let page = C::SECTOR_BYTES / SLOTS;
        let length = to.checked_sub(from).ok_or(SlotsError::OutOfBounds)?;
        self.check(from, length as usize, page)?;
        for page_from in (from..to).step_by(page as usize) {
            self.0.erase(page_from * SLOTS)?;
            // A sector takes a second or two: others have their turn in between.
            embassy_futures::yield_now().await;
        }
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), SlotsError> {
        self.check(offset, bytes.len(), WORD_BYTES)?;
        for (at, word) in (offset..).step_by(Self::WRITE_SIZE).zip(bytes.chunks(Self::WRITE_SIZE)) {
            self.write_word(at, word)?;
        }
        Ok(())
    }
}

impl<C: Cells> MultiwriteNorFlash for Slots<C> {}

#[cfg(test)]
mod tests;
