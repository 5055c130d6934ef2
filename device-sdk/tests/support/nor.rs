//! NOR flash that loses power: after a given number of steps it stops half way in the next one.
//!
//! A step is a word written or half a page erased. A word that was cut has some of its bits; a page that was cut has some
//! of its bytes erased. Between steps whoever waits may give up. Words may be written twice between erasures, and only towards zero.

use std::cell::RefCell;
use std::rc::Rc;

use embassy_futures::yield_now;
use embedded_storage_async::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

pub(crate) const WORD: usize = 4;
pub(crate) const PAGE: usize = 256;

/// The chip; clones are the same chip.
#[derive(Clone)]
pub(crate) struct Nor(Rc<RefCell<Chip>>);

struct Chip {
    bytes: Vec<u8>,
    writes: Vec<u8>,
    steps: u64,
    cut_at: Option<u64>,
    is_off: bool,
    random: u64,
}

/// There is no power.
#[derive(Debug)]
pub(crate) struct PowerCut;

impl NorFlashError for PowerCut {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl Nor {
    /// A chip of so many pages, all bytes as given.
    pub(crate) fn new(pages: usize, blank: u8, seed: u64) -> Self {
        let bytes = vec![blank; pages * PAGE];
        let writes = vec![0; bytes.len() / WORD];
        let random = seed | 1;
        Self(Rc::new(RefCell::new(Chip {
            bytes,
            writes,
            steps: 0,
            cut_at: None,
            is_off: false,
            random,
        })))
    }

    /// Power is back; it fails again after so many more steps, or never.
    pub(crate) fn power_on(&self, cut_after: Option<u64>) {
        let mut chip = self.0.borrow_mut();
        chip.is_off = false;
        chip.cut_at = cut_after.map(|steps| chip.steps + steps);
    }

    /// All that it holds.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.borrow().bytes.clone()
    }

    /// Steps so far.
    pub(crate) fn steps(&self) -> u64 {
        self.0.borrow().steps
    }

    /// Whether power has failed.
    pub(crate) fn is_off(&self) -> bool {
        self.0.borrow().is_off
    }
}

impl Chip {
    /// Counts a step; whether it is the one that is cut.
    fn step(&mut self) -> bool {
        self.is_off = self.cut_at == Some(self.steps);
        self.steps += 1;
        self.is_off
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn write_word(&mut self, at: usize, word: &[u8]) -> Result<(), PowerCut> {
        let is_cut = self.step();
        let missing = if is_cut { self.random().to_le_bytes() } else { [0; 8] };
        self.writes[at / WORD] += 1;
        assert!(self.writes[at / WORD] <= 2, "the word at {at} is written a third time");
        for (offset, byte) in word.iter().enumerate() {
            let old = self.bytes[at + offset];
            assert_eq!(
                old & byte,
                *byte,
                "a bit of the byte at {} would have to be set",
                at + offset
            );
            self.bytes[at + offset] = old & (byte | missing[offset]);
        }
        if is_cut { Err(PowerCut) } else { Ok(()) }
    }

    fn erase_page(&mut self, page: usize) -> Result<(), PowerCut> {
        for half in [page, page + PAGE / 2] {
            let is_cut = self.step();
            for word in (half..half + PAGE / 2).step_by(WORD) {
                let missing = if is_cut { self.random() } else { 0 };
                for byte in 0..WORD {
                    if missing >> byte & 1 == 0 {
                        self.bytes[word + byte] = 0xff;
                    }
                }
                self.writes[word / WORD] = 0;
            }
            if is_cut {
                return Err(PowerCut);
            }
        }
        Ok(())
    }
}

impl ErrorType for Nor {
    type Error = PowerCut;
}

impl ReadNorFlash for Nor {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, out: &mut [u8]) -> Result<(), PowerCut> {
        let chip = self.0.borrow();
        if chip.is_off {
            return Err(PowerCut);
        }
        out.copy_from_slice(&chip.bytes[offset as usize..][..out.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.0.borrow().bytes.len()
    }
}

impl NorFlash for Nor {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), PowerCut> {
        for page in (from as usize..to as usize).step_by(PAGE) {
            yield_now().await;
            if self.is_off() {
                return Err(PowerCut);
            }
            self.0.borrow_mut().erase_page(page)?;
        }
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), PowerCut> {
        for (nth, word) in bytes.chunks(WORD).enumerate() {
            yield_now().await;
            if self.is_off() {
                return Err(PowerCut);
            }
            self.0.borrow_mut().write_word(offset as usize + nth * WORD, word)?;
        }
        Ok(())
    }
}

impl MultiwriteNorFlash for Nor {}
