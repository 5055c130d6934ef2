//! A model of flash with a code: a word takes one write between erasures, and a power cut tears the word that is written.
//! The queue of device-sdk runs on it and is cut at every write.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use device_sdk::Overflow;
use device_sdk::queue::{FlashQueue, Queue};
use embassy_futures::block_on;

use super::*;

const SECTOR: u32 = 4096;
const SECTORS: u32 = 4;

/// What a word below holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Whole(Word),
    Torn,
    /// A cut has left it nearly erased: it reads as erased, and what is written to it does not hold.
    Weak,
}

/// The flash, which outlives the device, and how many more writes and erasures the power lasts for.
struct Chip {
    cells: Vec<Cell>,
    power: Option<u32>,
    /// What the cut leaves of the word that is written: it goes through all three.
    cuts: usize,
}

#[derive(Clone)]
struct Shared(Rc<RefCell<Chip>>);

fn chip() -> Shared {
    let cells = vec![Cell::Whole(ERASED); (SECTORS * SECTOR / WORD_BYTES) as usize];
    Shared(Rc::new(RefCell::new(Chip { cells, power: None, cuts: 0 })))
}

impl Shared {
    /// True if the power goes now. Afterwards nothing works until [`Shared::restart`].
    fn is_cut(&self) -> Option<bool> {
        let mut chip = self.0.borrow_mut();
        match chip.power {
            None => Some(false),
            Some(0) => None,
            Some(left) => {
                chip.power = Some(left - 1);
                Some(left == 1)
            }
        }
    }

    fn restart(&self, power: Option<u32>) {
        self.0.borrow_mut().power = power;
    }
}

impl Cells for Shared {
    const SECTOR_BYTES: u32 = SECTOR;

    fn bytes(&self) -> u32 {
        SECTORS * SECTOR
    }

    fn read(&mut self, offset: u32) -> Option<Word> {
        assert!(offset.is_multiple_of(WORD_BYTES));
        match self.0.borrow().cells[(offset / WORD_BYTES) as usize] {
            Cell::Whole(word) => Some(word),
            Cell::Torn => None,
            Cell::Weak => Some(ERASED),
        }
    }

    fn program(&mut self, offset: u32, word: &Word) -> Result<(), SlotsError> {
        let is_cut = self.is_cut().ok_or(SlotsError::Flash)?;
        let mut chip = self.0.borrow_mut();
        let index = (offset / WORD_BYTES) as usize;
        let left = [Cell::Torn, Cell::Weak, Cell::Whole(*word)][chip.cuts % 3];
        chip.cells[index] = match chip.cells[index] {
            Cell::Whole(ERASED) if is_cut => left,
            Cell::Whole(ERASED) => Cell::Whole(*word),
            Cell::Weak => Cell::Torn,
            other => panic!("a second write at {offset}: {other:?}"),
        };
        if is_cut {
            chip.cuts += 1;
            return Err(SlotsError::Flash);
        }
        Ok(())
    }

    fn erase(&mut self, offset: u32) -> Result<(), SlotsError> {
        assert!(offset.is_multiple_of(SECTOR));
        let is_cut = self.is_cut().ok_or(SlotsError::Flash)?;
        let mut chip = self.0.borrow_mut();
        let first = (offset / WORD_BYTES) as usize;
        let words = (SECTOR / WORD_BYTES) as usize;
        // A cut leaves a part erased, and torn what had been written elsewhere.
        let erased = if is_cut { words / 2 } else { words };
        for (index, cell) in chip.cells[first..first + words].iter_mut().enumerate() {
            if index < erased {
                *cell = Cell::Whole(ERASED);
            } else if *cell != Cell::Whole(ERASED) {
                *cell = Cell::Torn;
            }
        }
        if is_cut { Err(SlotsError::Flash) } else { Ok(()) }
    }
}

fn word(byte: u8) -> Word {
    [byte; WORD_BYTES as usize]
}

fn read(slots: &mut Slots<Shared>, offset: u32) -> Word {
    let mut bytes = ERASED;
    block_on(slots.read(offset, &mut bytes)).unwrap();
    bytes
}

#[test]
fn a_word_takes_four_writes_that_only_clear_bits() {
    let mut slots = Slots::new(chip());
    for (written, expected) in
        [(0xF7, 0xF7), (0xFF, 0xF7), (0x7F, 0x77), (0x0F, 0x07), (0x00, 0x00)]
    {
        block_on(slots.write(64, &word(written))).unwrap();
        assert_eq!(read(&mut slots, 64), word(expected));
    }
    assert_eq!((read(&mut slots, 32), read(&mut slots, 96)), (ERASED, ERASED), "its neighbours");
    block_on(slots.erase(0, SECTOR / SLOTS)).unwrap();
    assert_eq!(read(&mut slots, 64), ERASED);
    for written in [0b1110_1111, 0b1100_1111, 0b1000_1111, 0b0000_1111] {
        block_on(slots.write(64, &word(written))).unwrap();
    }
    assert_eq!(block_on(slots.write(64, &word(0))), Err(SlotsError::Worn));
    assert_eq!(read(&mut slots, 64), word(0x0F), "what it held is there");
}

#[test]
fn reads_begin_and_end_anywhere() {
    let mut slots = Slots::new(chip());
    let bytes: Vec<u8> = (0..96).collect();
    block_on(slots.write(32, &bytes)).unwrap();
    let mut out = [0; 50];
    block_on(slots.read(45, &mut out)).unwrap();
    assert_eq!(out, bytes[13..63]);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let mut slots = Slots::new(chip());
    let end = slots.bytes();
    assert_eq!(end, SECTORS * SECTOR / 4);
    assert_eq!(block_on(slots.write(end, &word(0))), Err(SlotsError::OutOfBounds));
    assert_eq!(block_on(slots.write(u32::MAX, &word(0))), Err(SlotsError::OutOfBounds));
    assert_eq!(block_on(slots.write(1, &word(0))), Err(SlotsError::NotAligned));
    assert_eq!(block_on(slots.write(0, &[0; 31])), Err(SlotsError::NotAligned));
    assert_eq!(block_on(slots.read(end, &mut [0])), Err(SlotsError::OutOfBounds));
    assert_eq!(block_on(slots.erase(0, 512)), Err(SlotsError::NotAligned));
    assert_eq!(block_on(slots.erase(1024, 0)), Err(SlotsError::OutOfBounds));
    assert_eq!(block_on(slots.erase(0, end + 1024)), Err(SlotsError::OutOfBounds));
    assert!((0..end).step_by(32).all(|at| read(&mut slots, at) == ERASED));
}

#[test]
fn a_torn_write_did_not_happen_and_can_be_repeated() {
    for kind in 0..3 {
        let chip = chip();
        chip.0.borrow_mut().cuts = kind;
        let mut slots = Slots::new(chip.clone());
        block_on(slots.write(0, &word(0x3F))).unwrap();
        chip.restart(Some(1));
        assert_eq!(block_on(slots.write(0, &word(0x0F))), Err(SlotsError::Worn));
        chip.restart(None);
        let there = read(&mut slots, 0);
        assert!(there == word(0x3F) || there == word(0x0F), "{kind}: {there:x?}");
        block_on(slots.write(0, &word(0x0F))).unwrap();
        assert_eq!(read(&mut slots, 0), word(0x0F), "{kind}");
    }
}

/// A life of a device: 60 records in and out of the queue; true if it was not cut.
fn life(chip: &Shared, kept: &mut VecDeque<u8>, next: &mut u8) -> bool {
    let mut buffer = [0; 256];
    let slots = Slots::new(chip.clone());
    let region = 0..slots.bytes();
    let mut queue = FlashQueue::new(slots, region, &mut buffer, Overflow::DropOldest).unwrap();
    let Ok(records) = block_on(queue.open()) else { return false };
    assert_eq!(queue.reformatted(), 0, "what was there is never lost");
    // The last push or pop may have happened or not.
    let mut found = VecDeque::new();
    for nth in 0..records {
        let mut out = [0; 256];
        let length = block_on(queue.peek(nth, &mut out)).unwrap().unwrap();
        assert!(out[..length].iter().all(|byte| *byte == out[0]), "a record is whole");
        found.push_back(out[0]);
    }
    let without_first: VecDeque<u8> = kept.iter().skip(1).copied().collect();
    let with_next: VecDeque<u8> = kept.iter().copied().chain([*next]).collect();
    let all_right = [&*kept, &without_first, &with_next].contains(&&found);
    assert!(all_right, "kept {kept:?}, found {found:?}");
    if found == with_next {
        *next = next.wrapping_add(1);
    }
    *kept = found;
    for _ in 0..60 {
        let record = [*next; 90];
        match block_on(queue.push(&record)) {
            Ok(0) => kept.push_back(*next),
            Ok(dropped) => panic!("it has room, and dropped {dropped}"),
            Err(_) => return false,
        }
        *next = next.wrapping_add(1);
        if kept.len() > 5 {
            if block_on(queue.pop()).is_err() {
                return false;
            }
            kept.pop_front();
        }
    }
    true
}

#[test]
fn the_queue_on_it_survives_a_power_cut_at_every_write() {
    let mut cuts = 0;
    for power in 1.. {
        let chip = chip();
        let (mut kept, mut next) = (VecDeque::new(), 0);
        assert!(life(&chip, &mut kept, &mut next), "it is formatted");
        chip.restart(Some(power));
        let is_whole = life(&chip, &mut kept, &mut next);
        chip.restart(None);
        assert!(life(&chip, &mut kept, &mut next), "after a cut at write {power}");
        if is_whole {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 200, "{cuts} cuts");
}
