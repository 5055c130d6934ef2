//! A queue in NOR flash: it survives a restart and a power cut at any moment.
//!
//! Layout of the region: one erase page with a header that says the region is this queue's, then at least two pages of
//! `sequential-storage`. The header is needed because memory that was never erased can look like anything: pages of
//! zeros, for one, are valid pages of records that were taken out.
//!
//! # Invariants
//! - The header is written last when the region is formatted: with it, the pages are sound.
//! - Whatever fails or is dropped half way is treated as a power cut: the next call looks at the flash anew before it does
//!   anything. Nothing that the flash says is cached from one call to the next but the number of records.

use core::ops::Range;

use embedded_storage_async::nor_flash::MultiwriteNorFlash;
use sequential_storage::cache::{Cache, Uncached};
use sequential_storage::queue::{QueueConfig, QueueStorage};

use super::{Overflow, Queue, QueueError};

/// Why a region cannot hold a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum FlashQueueError {
    /// Start and end must be multiples of the erase size.
    Unaligned,
    /// It needs three erase pages at least: one for the header, two for records.
    TooSmall,
    /// Words of more than 32 bytes, or pages of fewer words than a record needs.
    Flash,
}

type NoCache = Cache<Uncached, Uncached, Uncached, ()>;

/// Longest word of a flash that this serves; the header is one of it.
const HEADER_BYTES: usize = 32;

/// Keeps records in a region of flash that may be written twice between erasures.
pub struct FlashQueue<'a, F: MultiwriteNorFlash> {
    storage: QueueStorage<F, NoCache>,
    region: Range<u32>,
    buffer: &'a mut [u8],
    overflow: Overflow,
    records: u32,
    reformatted: u32,
    /// Whether it may erase what is foreign.
    is_given: bool,
    /// Whether `records` is true: not before the first look, and not while a call is under way.
    is_sound: bool,
}

impl<F: MultiwriteNorFlash> core::fmt::Debug for FlashQueue<'_, F> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("FlashQueue")
            .field("region", &self.region)
            .field("records", &self.records)
            .finish_non_exhaustive()
    }
}

impl<'a, F: MultiwriteNorFlash> FlashQueue<'a, F> {
    /// A queue in `region` (byte addresses in `flash`). `buffer` takes the longest record, up to a whole word of the flash.
    ///
    /// # Errors
    /// [`FlashQueueError`].
    pub fn new(
        flash: F,
        region: Range<u32>,
        buffer: &'a mut [u8],
        overflow: Overflow,
    ) -> Result<Self, FlashQueueError> {
        let page = u32::try_from(F::ERASE_SIZE).map_err(|_| FlashQueueError::Flash)?;
        if F::WRITE_SIZE > HEADER_BYTES || F::READ_SIZE > HEADER_BYTES {
            return Err(FlashQueueError::Flash);
        }
        if !region.start.is_multiple_of(page) || !region.end.is_multiple_of(page) {
            return Err(FlashQueueError::Unaligned);
        }
        if region.end.saturating_sub(region.start) < page.saturating_mul(3) {
            return Err(FlashQueueError::TooSmall);
        }
        let config = QueueConfig::try_new(region.start + page..region.end)
            .map_err(|_| FlashQueueError::Flash)?;
        let storage = QueueStorage::new(flash, config, Cache::new_uncached());
        let (records, reformatted, is_given, is_sound) = (0, 0, false, false);
        Ok(Self { storage, region, buffer, overflow, records, reformatted, is_given, is_sound })
    }

    /// Erases the region and everything in it.
    ///
    /// # Errors
    /// [`QueueError::Storage`].
    pub async fn format(&mut self) -> Result<(), QueueError> {
        self.is_sound = false;
        let header = self.header();
        let (start, first) = (self.region.start, self.storage.flash_range().start);
        // Without a header first: a cut from here on leads to here again.
        self.storage.flash().erase(start, first).await.map_err(|_| QueueError::Storage)?;
        self.storage.erase_all().await.map_err(|_| QueueError::Storage)?;
        self.storage.flash().write(start, &header).await.map_err(|_| QueueError::Storage)?;
        self.records = 0;
        self.is_sound = true;
        Ok(())
    }

    /// How often it had to format the region because what it held made no sense: records may be lost each time.
    #[must_use]
    pub const fn reformatted(&self) -> u32 {
        self.reformatted
    }

    /// Gives the flash back.
    #[must_use]
    pub fn into_flash(self) -> F {
        self.storage.destroy().0
    }

    /// What the header of this region says: whose it is, version, layout.
    fn header(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..MAGIC.len()].copy_from_slice(MAGIC);
        header[16] = 1;
        let page = u32::try_from(F::ERASE_SIZE).unwrap_or(u32::MAX);
        header[20..24].copy_from_slice(&page.to_le_bytes());
        header[24..28].copy_from_slice(&(self.region.end - self.region.start).to_le_bytes());
        let sum = checksum(&header[..28]);
        header[28..].copy_from_slice(&sum);
        header
    }

    /// Looks at the flash if need be. From here to [`Self::left`] a call is under way.
    async fn enter(&mut self) -> Result<(), QueueError> {
        if !self.is_sound {
            self.look().await?;
        }
        self.is_sound = false;
        Ok(())
    }

    /// A call has ended, with the flash as the queue knows it.
    fn left<T>(&mut self, result: T) -> T {
        self.is_sound = true;
        result
    }

    async fn look(&mut self) -> Result<(), QueueError> {
        let mut found = [0; HEADER_BYTES];
        let start = self.region.start;
        self.storage.flash().read(start, &mut found).await.map_err(|_| QueueError::Storage)?;
        let looked = if found == self.header() {
            self.count().await
        } else if found.starts_with(MAGIC) && found[28..] == checksum(&found[..28]) {
            // A whole header of another version or layout guards records that this one cannot read.
            Err(Failure::Foreign)
        } else {
            // One that was cut while it was written guards none.
            Err(Failure::Blank)
        };
        match looked {
            Ok(records) => {
                self.records = records;
                self.is_given = false;
                return Ok(());
            }
            Err(Failure::Foreign) if !self.is_given => return Err(QueueError::Foreign),
            Err(Failure::Flash) => return Err(QueueError::Storage),
            Err(Failure::Corrupt) => self.reformatted += 1,
            Err(Failure::Foreign | Failure::Blank) => {}
        }
        self.format().await?;
        self.is_given = false;
        Ok(())
    }

    async fn count(&mut self) -> Result<u32, Failure> {
        let mut records = 0;
        let mut iterator = self.storage.iter().await?;
        loop {
            match iterator.next(self.buffer).await {
                Ok(None) => return Ok(records),
                Ok(Some(_)) => records += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn push_record(&mut self, record: &[u8]) -> Result<u32, QueueError> {
        let mut dropped = 0;
        loop {
            match self.storage.push(record, false).await {
                Ok(()) => {
                    self.records += 1;
                    return Ok(self.left(dropped));
                }
                Err(sequential_storage::Error::FullStorage) => {}
                Err(sequential_storage::Error::ItemTooBig) => {
                    return self.left(Err(QueueError::TooLong));
                }
                Err(_) => return Err(QueueError::Storage),
            }
            if self.overflow == Overflow::DropNewest {
                return self.left(Err(QueueError::Full));
            }
            if self.storage.pop(self.buffer).await.map_err(|_| QueueError::Storage)?.is_none() {
                // Full of nothing: the pages make no sense.
                return Err(QueueError::Storage);
            }
            self.records = self.records.saturating_sub(1);
            dropped += 1;
        }
    }
}

/// Begins the header.
const MAGIC: &[u8; 16] = b"holm-queue\0\0\0\0\0\0";

/// FNV-1a: tells a whole header from a cut one.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    let fold = |sum: u32, byte: &u8| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    bytes.iter().fold(0x811c_9dc5, fold).to_le_bytes()
}

/// Why the region holds no records of this queue.
enum Failure {
    /// No queue was there, or one was about to be.
    Blank,
    /// The pages make no sense.
    Corrupt,
    /// Another layout or version, or a record longer than the buffer: of a firmware with longer ones.
    Foreign,
    Flash,
}

impl<E> From<sequential_storage::Error<E>> for Failure {
    fn from(error: sequential_storage::Error<E>) -> Self {
        match error {
            sequential_storage::Error::Corrupted { .. }
            | sequential_storage::Error::LogicBug { .. } => Self::Corrupt,
            sequential_storage::Error::BufferTooSmall(_) => Self::Foreign,
            _ => Self::Flash,
        }
    }
}

impl<F: MultiwriteNorFlash> Queue for FlashQueue<'_, F> {
    async fn open(&mut self) -> Result<u32, QueueError> {
        self.is_sound = false;
        self.enter().await?;
        let records = self.records;
        Ok(self.left(records))
    }

    fn give(&mut self) {
        self.is_given = true;
    }

    async fn push(&mut self, record: &[u8]) -> Result<u32, QueueError> {
        if record.len() > self.buffer.len() {
            return Err(QueueError::TooLong);
        }
        self.enter().await?;
        self.push_record(record).await
    }

    async fn peek(&mut self, nth: u32, out: &mut [u8]) -> Result<Option<usize>, QueueError> {
        self.enter().await?;
        let found = nth_record(&mut self.storage, nth, out).await?;
        Ok(self.left(found))
    }

    async fn pop(&mut self) -> Result<(), QueueError> {
        self.enter().await?;
        let popped =
            self.storage.pop(self.buffer).await.map_err(|_| QueueError::Storage)?.is_some();
        self.records = self.records.saturating_sub(u32::from(popped));
        self.left(Ok(()))
    }

    fn len(&self) -> u32 {
        self.records
    }
}

/// Copies the `nth` record, from 0, into `out`.
async fn nth_record<F: MultiwriteNorFlash>(
    storage: &mut QueueStorage<F, NoCache>,
    nth: u32,
    out: &mut [u8],
) -> Result<Option<usize>, QueueError> {
    let mut iterator = storage.iter().await.map_err(|_| QueueError::Storage)?;
    for _ in 0..nth {
        match iterator.next(out).await {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(error) => return Err(refused(&error)),
        }
    }
    match iterator.next(out).await {
        Ok(entry) => Ok(entry.map(|entry| entry.len())),
        Err(error) => Err(refused(&error)),
    }
}

const fn refused<E>(error: &sequential_storage::Error<E>) -> QueueError {
    match error {
        sequential_storage::Error::BufferTooSmall(_) => QueueError::TooLong,
        _ => QueueError::Storage,
    }
}
