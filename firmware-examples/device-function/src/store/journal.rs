//! Records in NOR flash, appended one after the other, each of them whole or not there.
//!
//! The region is two banks of whole pages. A bank begins with a header (magic, generation, checksum; 32 bytes), then come
//! records: length and CRC-32 (4 bytes each, little-endian), the bytes, `0xff` up to a whole word of the flash. The first
//! record of a bank stands for all that was before it. When a bank is full, the other one is begun with such a record.
//!
//! # Invariants
//! - The header of a bank is written after its first record: a bank with a header is of use.
//! - The bank with the greater generation counts. The other one is erased only to be begun anew.
//! - Nothing is appended behind a record that a power cut tore: the next one begins the other bank.
//! - A call that fails or is dropped half way is a power cut: the journal is to be opened anew.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use embedded_storage_async::nor_flash::NorFlash;

/// Longest record in bytes: state and outputs of a function, with room for their frames.
const RECORD_BYTES_MAX: usize = 64 << 10;
const MAGIC: [u8; 4] = *b"hfj1";
/// Longest word of a flash that this serves, and what the header of a bank takes.
const HEADER_BYTES: usize = 32;
/// Length and checksum.
const FRAME_BYTES: usize = 8;
/// Bytes that are read at once where they are only looked at.
const BLOCK_BYTES: usize = 256;

/// Why state is not kept. Nothing more is to be written before it is opened anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The flash failed.
    Flash,
    /// The region is not two times the same number of whole pages.
    Layout,
    /// State and outputs do not fit into half of the region, or have over 64 KiB.
    TooLong,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flash => "the flash for the function's state fails",
            Self::Layout => "the region for the function's state is not an even number of pages",
            Self::TooLong => "state and outputs of the function do not fit into their region",
        })
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Journal<F> {
    flash: F,
    /// The bank that counts: 0 or 1.
    bank: usize,
    generation: u32,
    /// Where the next record goes, from the beginning of the bank; `None`: only into a new bank.
    end: Option<usize>,
}

impl<F: NorFlash> Journal<F> {
    const SOUND: () = assert!(
        HEADER_BYTES.is_multiple_of(F::WRITE_SIZE)
            && F::WRITE_SIZE.is_multiple_of(F::READ_SIZE)
            && F::ERASE_SIZE.is_multiple_of(BLOCK_BYTES),
        "words of at most 32 bytes, pages of whole blocks"
    );

    /// Opens the region and hands over its records, oldest first; none if it is empty or holds something else.
    pub(super) async fn open(flash: F, mut each: impl FnMut(&[u8])) -> Result<Self, StoreError> {
        let () = Self::SOUND;
        let bytes = flash.capacity();
        if bytes == 0 || !bytes.is_multiple_of(2 * F::ERASE_SIZE) || u32::try_from(bytes).is_err() {
            return Err(StoreError::Layout);
        }
        let mut journal = Self { flash, bank: 1, generation: 0, end: None };
        let newest = journal.generation_of(0).await?.map(|generation| (generation, 0));
        let newest = newest.max(journal.generation_of(1).await?.map(|generation| (generation, 1)));
        let Some((generation, bank)) = newest else { return Ok(journal) };
        (journal.bank, journal.generation) = (bank, generation);
        let mut at = HEADER_BYTES;
        while let Some(record) = journal.record(at).await? {
            each(&record);
            at += Self::taken(&record);
        }
        journal.end = journal.is_erased_from(at).await?.then_some(at);
        Ok(journal)
    }

    /// Appends a record; `false`: it has no room, and the journal is to be [begun](Self::begin) anew.
    pub(super) async fn append(&mut self, record: &[u8]) -> Result<bool, StoreError> {
        let fits = |at: &usize| at + Self::taken(record) <= self.bank_bytes();
        let Some(at) = self.end.filter(fits) else { return Ok(false) };
        self.write(self.bank, at, &frame(record, F::WRITE_SIZE)?).await?;
        self.end = Some(at + Self::taken(record));
        Ok(true)
    }

    /// Begins anew with a record that stands for all before it.
    pub(super) async fn begin(&mut self, record: &[u8]) -> Result<(), StoreError> {
        let end = HEADER_BYTES + Self::taken(record);
        if end > self.bank_bytes() {
            return Err(StoreError::TooLong);
        }
        let (bank, generation) = (1 - self.bank, self.generation.wrapping_add(1));
        let record = frame(record, F::WRITE_SIZE)?;
        let (from, to) = (self.place(bank, 0), self.place(bank, self.bank_bytes()));
        self.flash.erase(from, to).await.map_err(|_| StoreError::Flash)?;
        self.write(bank, HEADER_BYTES, &record).await?;
        self.write(bank, 0, &header(generation)).await?;
        (self.bank, self.generation, self.end) = (bank, generation, Some(end));
        Ok(())
    }

    fn bank_bytes(&self) -> usize {
        self.flash.capacity() / 2
    }

    fn place(&self, bank: usize, at: usize) -> u32 {
        let place = bank * self.bank_bytes() + at;
        u32::try_from(place).expect("invariant: the region is below 4 GiB")
    }

    /// Bytes of flash that a record takes.
    fn taken(record: &[u8]) -> usize {
        (FRAME_BYTES + record.len()).next_multiple_of(F::WRITE_SIZE)
    }

    async fn write(&mut self, bank: usize, at: usize, bytes: &[u8]) -> Result<(), StoreError> {
        let place = self.place(bank, at);
        self.flash.write(place, bytes).await.map_err(|_| StoreError::Flash)
    }

    async fn read(&mut self, bank: usize, at: usize, out: &mut [u8]) -> Result<(), StoreError> {
        let place = self.place(bank, at);
        self.flash.read(place, out).await.map_err(|_| StoreError::Flash)
    }

    /// The generation of a bank that has a header.
    async fn generation_of(&mut self, bank: usize) -> Result<Option<u32>, StoreError> {
        let mut bytes = [0; HEADER_BYTES];
        self.read(bank, 0, &mut bytes).await?;
        let generation = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        Ok((bytes == header(generation)).then_some(generation))
    }

    /// The record at a place, if a whole one is there.
    async fn record(&mut self, at: usize) -> Result<Option<Vec<u8>>, StoreError> {
        // Whole words, of which the frame may be a part.
        let mut start = [0; HEADER_BYTES];
        let shortest = Self::taken(&[]);
        if at + shortest > self.bank_bytes() {
            return Ok(None);
        }
        self.read(self.bank, at, &mut start[..shortest]).await?;
        let word = |at: usize| {
            u32::from_le_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]])
        };
        let (len, sum) = (word(0) as usize, word(4));
        let bytes = (FRAME_BYTES + len.min(RECORD_BYTES_MAX)).next_multiple_of(F::WRITE_SIZE);
        if len > RECORD_BYTES_MAX || at + bytes > self.bank_bytes() {
            return Ok(None);
        }
        let mut record = vec![0; bytes];
        self.read(self.bank, at, &mut record).await?;
        record.truncate(FRAME_BYTES + len);
        record.drain(..FRAME_BYTES);
        Ok((checksum(&record) == sum).then_some(record))
    }

    async fn is_erased_from(&mut self, at: usize) -> Result<bool, StoreError> {
        let mut block = [0; BLOCK_BYTES];
        let mut at = at;
        while at < self.bank_bytes() {
            let bytes = BLOCK_BYTES.min(self.bank_bytes() - at);
            self.read(self.bank, at, &mut block[..bytes]).await?;
            if block[..bytes].iter().any(|byte| *byte != 0xff) {
                return Ok(false);
            }
            at += bytes;
        }
        Ok(true)
    }
}

/// A record as it lies in flash.
fn frame(record: &[u8], word: usize) -> Result<Vec<u8>, StoreError> {
    let len = u32::try_from(record.len()).map_err(|_| StoreError::TooLong)?;
    if record.len() > RECORD_BYTES_MAX {
        return Err(StoreError::TooLong);
    }
    let mut bytes = Vec::with_capacity((FRAME_BYTES + record.len()).next_multiple_of(word));
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&checksum(record).to_le_bytes());
    bytes.extend_from_slice(record);
    bytes.resize(bytes.len().next_multiple_of(word), 0xff);
    Ok(bytes)
}

fn header(generation: u32) -> [u8; HEADER_BYTES] {
    let mut bytes = [0xff; HEADER_BYTES];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..8].copy_from_slice(&generation.to_le_bytes());
    let sum = checksum(&bytes[..8]);
    bytes[8..12].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// CRC-32 (ISO-HDLC). Its length is in it: erased flash, and zeros, are no records.
fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&bytes.len().to_le_bytes());
    sum.update(bytes);
    sum.finalize()
}
