//! Bank 2 of the internal flash: who owns which part of it, and access to it.
//!
//! The image runs from bank 1, which can be read while bank 2 is written. A word (32 bytes) has a code of its own and takes one
//! write between erasures; what the queue needs is made of that by `board_common::slots`. An erased sector takes one or two
//! seconds, in which no other task runs.

use board_common::RECORD_BYTES;
use board_common::identity::Copies;
use board_common::slots::{Cells, Slots, SlotsError, WORD_BYTES, Word};
use device_sdk::Overflow;
use device_sdk::queue::FlashQueue;
use embassy_stm32::Peri;
use embassy_stm32::flash::{Blocking, Flash};
use embassy_stm32::pac;
use embassy_stm32::peripherals::FLASH;
use static_cell::StaticCell;

use crate::ecc;

/// Bytes that are erased together.
const SECTOR: u32 = 128 * 1024;
/// Where bank 2 begins, from the beginning of flash.
const BANK_2: u32 = 8 * SECTOR;
/// Each copy at the beginning of a sector of its own.
const PROVISIONING: [u32; 2] = [BANK_2, BANK_2 + SECTOR];
/// Six sectors: one for the queue's head, five of records.
const QUEUE: core::ops::Range<u32> = BANK_2 + 2 * SECTOR..BANK_2 + 8 * SECTOR;

/// Readings that wait for the gateway.
pub(crate) type SensorQueue = FlashQueue<'static, Slots<Region>>;

/// The queue's part of bank 2.
pub(crate) struct Region(Flash<'static, Blocking>);

/// Reads the provisioning. To be called once.
pub(crate) fn copies() -> &'static Copies {
    static COPIES: StaticCell<Copies> = StaticCell::new();
    let copies = COPIES.init_with(|| [[0; _]; 2]);
    for (copy, begin) in copies.iter_mut().zip(PROVISIONING) {
        let places = (begin..).step_by(WORD_BYTES as usize);
        for (bytes, offset) in copy.chunks_mut(WORD_BYTES as usize).zip(places) {
            // A torn word is nothing; the copy's checksum finds it.
            bytes.copy_from_slice(&ecc::read(offset).unwrap_or_default());
        }
    }
    copies
}

/// The queue. What it held before is kept.
pub(crate) fn queue(flash: Peri<'static, FLASH>) -> SensorQueue {
    static BUFFER: StaticCell<[u8; RECORD_BYTES]> = StaticCell::new();
    let slots = Slots::new(Region(Flash::new_blocking(flash)));
    let region = 0..slots.bytes();
    FlashQueue::new(slots, region, BUFFER.init([0; RECORD_BYTES]), Overflow::DropOldest)
        .expect("invariant: whole pages, and more than three")
}

impl Cells for Region {
    const SECTOR_BYTES: u32 = SECTOR;

    fn bytes(&self) -> u32 {
        QUEUE.end - QUEUE.start
    }

    fn read(&mut self, offset: u32) -> Option<Word> {
        ecc::read(QUEUE.start + offset)
    }

    fn program(&mut self, offset: u32, word: &Word) -> Result<(), SlotsError> {
        clear_flags();
        self.0.blocking_write(QUEUE.start + offset, word).map_err(|_| SlotsError::Flash)
    }

    fn erase(&mut self, offset: u32) -> Result<(), SlotsError> {
        clear_flags();
        let from = QUEUE.start + offset;
        self.0.blocking_erase(from, from + SECTOR).map_err(|_| SlotsError::Flash)
    }
}

/// What is said of former accesses must not be taken for a failure of the next one.
fn clear_flags() {
    pac::FLASH.bank(1).ccr().write(|w| {
        w.set_clr_eop(true);
        w.set_clr_wrperr(true);
        w.set_clr_pgserr(true);
        w.set_clr_strberr(true);
        w.set_clr_incerr(true);
        w.set_clr_operr(true);
        w.set_clr_rdperr(true);
        w.set_clr_rdserr(true);
        w.set_clr_sneccerr(true);
        w.set_clr_dbeccerr(true);
    });
}
