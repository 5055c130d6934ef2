//! The place in flash where an image is gathered, and notes of how far it has come that survive power cuts.
//!
//! The notes have pages of their own: a header that says which image it is (with a checksum), then one word for each stage
//! and for each page of the image. A word is written once, from erased to zeros, and counts only when it is all zeros.
//!
//! # Invariants
//! - A page of the image counts as kept only after all of it is written: its word comes last.
//! - Everything else is erased before it is written. What a power cut tore is erased and written again.
//! - A header that is torn is no header: fetching begins anew.
//! - The floor of a confirmed image holds on while others are fetched, tried and taken back, as it is in each header after it. Only
//!   a power cut between the notes' erasure and their next header forgets it.

use core::ops::Range;

use device_protocol::update::Digest;
use embedded_storage_async::nor_flash::NorFlash;
use sha2::{Digest as _, Sha256};

use super::plan::Plan;

/// Widest word of a flash that is supported, in bytes.
const WORD_MAX: usize = 32;
/// Length of the header, a multiple of every word.
const HEADER: usize = 64;
const MAGIC: [u8; 4] = *b"hfw2";
/// Of the header: what its checksum is over, and the end of that.
const CHECKED: usize = 52;
const CHECK_END: usize = 60;
/// Bytes that are read at once for the digest.
const BLOCK: usize = 128;

/// Where things are in the flash, in bytes. Both ranges are whole pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The image, as the boot loader expects it: its DFU partition.
    pub image: Range<u32>,
    /// The notes: a page is enough for `page / word - 70 / word - 3` pages of image.
    pub notes: Range<u32>,
}

/// What is wrong with the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SlotError {
    /// The flash failed.
    Flash,
    /// Ranges that are not whole pages, that overlap, or notes too small for the image.
    Layout,
}

/// How far the image of the slot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is being fetched: so many bytes are kept.
    Fetching(u32),
    /// It is whole and verified; the boot loader was told to start it, or is about to be.
    Armed,
    /// It was started and has confirmed itself.
    Confirmed,
    /// It was started and did not confirm itself.
    TakenBack,
}

/// Words of the notes, behind the header.
#[derive(Clone, Copy)]
enum Word {
    Armed,
    Confirmed,
    TakenBack,
    Page(u32),
}

/// See the module.
#[derive(Debug)]
pub struct Slot<F> {
    flash: F,
    layout: Layout,
    contents: Option<(Plan, Stage)>,
    /// Floor of the images that were confirmed before this one.
    base: u32,
}

impl<F: NorFlash> Slot<F> {
    /// Bytes that are erased together.
    pub(super) const PAGE: u32 = {
        assert!(
            F::ERASE_SIZE <= 1 << 20
                && F::ERASE_SIZE.is_multiple_of(F::WRITE_SIZE)
                && F::WRITE_SIZE <= WORD_MAX
                && WORD_MAX.is_multiple_of(F::WRITE_SIZE)
                && F::WRITE_SIZE.is_multiple_of(F::READ_SIZE),
            "pages of whole words, up to 1 MiB; words of 1 to 32 bytes, a power of two, that can be read"
        );
        #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
        let page = F::ERASE_SIZE as u32;
        page
    };
    #[expect(clippy::cast_possible_truncation, reason = "asserted to be at most 32")]
    const WORD: u32 = F::WRITE_SIZE as u32;

    /// Opens the slot and reads how far it has come.
    ///
    /// # Errors
    /// [`SlotError`].
    pub async fn open(flash: F, layout: Layout) -> Result<Self, SlotError> {
        let is_whole = |range: &Range<u32>| {
            range.start < range.end
                && range.start.is_multiple_of(Self::PAGE)
                && range.end.is_multiple_of(Self::PAGE)
                && usize::try_from(range.end).is_ok_and(|end| end <= flash.capacity())
        };
        let (image, notes) = (&layout.image, &layout.notes);
        let is_apart = image.end <= notes.start || notes.end <= image.start;
        let words = 3 + (image.end.saturating_sub(image.start)) / Self::PAGE;
        let needed = Self::header_end() + words * Self::WORD;
        if !is_whole(image) || !is_whole(notes) || !is_apart || needed > notes.end - notes.start {
            return Err(SlotError::Layout);
        }
        let mut slot = Self { flash, layout, contents: None, base: 0 };
        slot.contents = slot.read_contents().await?;
        Ok(slot)
    }

    /// Longest image, in bytes. The last page belongs to the boot loader, which swaps by it.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.layout.image.end - self.layout.image.start - Self::PAGE
    }

    /// Which image the slot is about, and how far that has come.
    #[must_use]
    pub const fn contents(&self) -> Option<&(Plan, Stage)> {
        self.contents.as_ref()
    }

    /// Digest of the last image, if it was taken back.
    #[must_use]
    pub fn taken_back(&self) -> Option<&Digest> {
        self.contents
            .as_ref()
            .and_then(|(plan, stage)| (*stage == Stage::TakenBack).then_some(&plan.digest))
    }

    /// Versions below this one are declined: as the images said that were confirmed.
    #[must_use]
    pub fn floor(&self) -> u32 {
        match &self.contents {
            Some((plan, Stage::Confirmed)) => self.base.max(plan.floor),
            _ => self.base,
        }
    }

    /// Makes room for an image and returns how many bytes of it are kept already: those of an interrupted fetch of the same one.
    ///
    /// # Errors
    /// [`SlotError::Flash`].
    ///
    /// # Panics
    /// With an image longer than [`Slot::capacity`].
    pub async fn begin(&mut self, plan: &Plan) -> Result<u32, SlotError> {
        assert!(plan.length <= self.capacity(), "an image longer than its place");
        if let Some((kept, Stage::Fetching(offset))) = &self.contents
            && kept == plan
        {
            return Ok(*offset);
        }
        self.begin_anew(plan).await?;
        Ok(0)
    }

    /// Makes room for an image of which nothing is kept, also if something was: its bytes were not what was signed.
    ///
    /// # Errors
    /// [`SlotError::Flash`].
    pub async fn begin_anew(&mut self, plan: &Plan) -> Result<(), SlotError> {
        self.base = self.floor();
        self.contents = None;
        let (notes, header) = (self.layout.notes.clone(), header(plan, self.base));
        self.flash.erase(notes.start, notes.end).await.map_err(|_| SlotError::Flash)?;
        self.flash.write(notes.start, &header).await.map_err(|_| SlotError::Flash)?;
        self.contents = Some((*plan, Stage::Fetching(0)));
        Ok(())
    }

    /// Keeps bytes of the image at `offset`, which is where the last ones ended. `bytes` are whole words, but for the
    /// last ones of the image, and stay within one page.
    ///
    /// # Errors
    /// [`SlotError::Flash`].
    ///
    /// # Panics
    /// If no image is being fetched, or with bytes at another place.
    pub async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), SlotError> {
        let Some((plan, Stage::Fetching(kept))) = self.contents else {
            panic!("no image is being fetched");
        };
        #[expect(clippy::cast_possible_truncation, reason = "a chunk has at most 1,024 bytes")]
        let length = bytes.len() as u32;
        let end = offset + length;
        assert!(
            kept == offset && end <= plan.length && length <= Self::PAGE,
            "bytes at another place"
        );
        let page = offset / Self::PAGE;
        assert!(length > 0 && (end - 1) / Self::PAGE == page, "bytes over the end of a page");
        let start = self.layout.image.start + page * Self::PAGE;
        if offset.is_multiple_of(Self::PAGE) {
            self.flash.erase(start, start + Self::PAGE).await.map_err(|_| SlotError::Flash)?;
        }
        self.write_padded(self.layout.image.start + offset, bytes).await?;
        if end == plan.length || end.is_multiple_of(Self::PAGE) {
            self.mark(Word::Page(page)).await?;
        }
        self.contents = Some((plan, Stage::Fetching(end)));
        Ok(())
    }

    /// Whether an image is there as a whole, not started yet, and its bytes have the digest that was offered.
    ///
    /// # Errors
    /// [`SlotError::Flash`].
    pub async fn verify(&mut self) -> Result<bool, SlotError> {
        let Some((plan, stage)) = self.contents else { return Ok(false) };
        if !matches!(stage, Stage::Armed) && stage != Stage::Fetching(plan.length) {
            return Ok(false);
        }
        let mut sha = Sha256::new();
        let mut block = [0; BLOCK];
        let mut at = 0;
        while at < plan.length {
            let offset = self.layout.image.start + at;
            #[expect(clippy::cast_possible_truncation, reason = "a block has 128 bytes")]
            let length = (plan.length - at).min(BLOCK as u32);
            let bytes = &mut block[..length.next_multiple_of(Self::WORD) as usize];
            self.flash.read(offset, bytes).await.map_err(|_| SlotError::Flash)?;
            sha.update(&bytes[..length as usize]);
            at += length;
        }
        Ok(sha.finalize()[..] == plan.digest)
    }

    /// Notes a stage that the image has reached.
    ///
    /// # Errors
    /// [`SlotError::Flash`].
    ///
    /// # Panics
    /// Without an image, and for [`Stage::Fetching`], which nobody notes.
    pub async fn reached(&mut self, stage: Stage) -> Result<(), SlotError> {
        let Some((plan, _)) = self.contents else { panic!("no image") };
        let word = match stage {
            Stage::Fetching(_) => panic!("fetching is noted page by page"),
            Stage::Armed => Word::Armed,
            Stage::Confirmed => Word::Confirmed,
            Stage::TakenBack => Word::TakenBack,
        };
        self.mark(word).await?;
        self.contents = Some((plan, stage));
        Ok(())
    }

    async fn read_contents(&mut self) -> Result<Option<(Plan, Stage)>, SlotError> {
        let mut bytes = [0; HEADER];
        let start = self.layout.notes.start;
        self.flash.read(start, &mut bytes).await.map_err(|_| SlotError::Flash)?;
        let Some((plan, base)) = parse(&bytes) else { return Ok(None) };
        self.base = base;
        if plan.length > self.capacity() {
            return Ok(None);
        }
        for (word, stage) in [
            (Word::TakenBack, Stage::TakenBack),
            (Word::Confirmed, Stage::Confirmed),
            (Word::Armed, Stage::Armed),
        ] {
            if self.is_marked(word).await? {
                return Ok(Some((plan, stage)));
            }
        }
        let mut pages = 0;
        while pages * Self::PAGE < plan.length && self.is_marked(Word::Page(pages)).await? {
            pages += 1;
        }
        let kept = (pages * Self::PAGE).min(plan.length);
        Ok(Some((plan, Stage::Fetching(kept))))
    }

    async fn mark(&mut self, word: Word) -> Result<(), SlotError> {
        let zeros = [0; WORD_MAX];
        let at = self.place(word);
        self.flash.write(at, &zeros[..F::WRITE_SIZE]).await.map_err(|_| SlotError::Flash)
    }

    async fn is_marked(&mut self, word: Word) -> Result<bool, SlotError> {
        let mut bytes = [0xff; WORD_MAX];
        let at = self.place(word);
        let word = &mut bytes[..F::WRITE_SIZE];
        self.flash.read(at, word).await.map_err(|_| SlotError::Flash)?;
        Ok(word.iter().all(|byte| *byte == 0))
    }

    const fn header_end() -> u32 {
        64
    }

    const fn place(&self, word: Word) -> u32 {
        let index = match word {
            Word::Armed => 0,
            Word::Confirmed => 1,
            Word::TakenBack => 2,
            Word::Page(page) => 3 + page,
        };
        self.layout.notes.start + Self::header_end() + index * Self::WORD
    }

    async fn write_padded(&mut self, at: u32, bytes: &[u8]) -> Result<(), SlotError> {
        let whole = bytes.len() - bytes.len() % F::WRITE_SIZE;
        let (words, rest) = bytes.split_at(whole);
        if !words.is_empty() {
            self.flash.write(at, words).await.map_err(|_| SlotError::Flash)?;
        }
        if rest.is_empty() {
            return Ok(());
        }
        let mut last = [0xff; WORD_MAX];
        last[..rest.len()].copy_from_slice(rest);
        #[expect(clippy::cast_possible_truncation, reason = "a chunk has at most 1,024 bytes")]
        let at = at + whole as u32;
        self.flash.write(at, &last[..F::WRITE_SIZE]).await.map_err(|_| SlotError::Flash)
    }
}

/// Magic, digest, length, version, floor, floor of the images before, and the first bytes of a SHA-256 over them.
fn header(plan: &Plan, base: u32) -> [u8; HEADER] {
    let mut bytes = [0xff; HEADER];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..36].copy_from_slice(&plan.digest);
    let numbers = [plan.length, plan.version, plan.floor, base];
    for (place, number) in bytes[36..CHECKED].chunks_exact_mut(4).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    let check = Sha256::digest(&bytes[..CHECKED]);
    bytes[CHECKED..CHECK_END].copy_from_slice(&check[..CHECK_END - CHECKED]);
    bytes
}

/// The image, and the floor of those before.
fn parse(bytes: &[u8; HEADER]) -> Option<(Plan, u32)> {
    let number = |at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    };
    let digest = bytes[4..36].try_into().ok()?;
    let plan = Plan { digest, length: number(36)?, version: number(40)?, floor: number(44)? };
    let base = number(48)?;
    (header(&plan, base) == *bytes).then_some((plan, base))
}

#[cfg(test)]
pub(super) mod tests;
