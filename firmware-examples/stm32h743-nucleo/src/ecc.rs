//! Reading words of flash that a power cut may have torn.
//!
//! A word whose code does not match raises a bus fault where it is read (RM0433, 4.3.7). Here such a read is not a fault but an
//! answer: at the priority of FAULTMASK, and with BFHFNMIGN set, the core ignores bus faults of loads (ARMv7-M, B3.2.8), and
//! the flash tells by its flag.
//!
//! # Invariants
//! - Only bank 2 is read so, and only whole, aligned words of it.
//! - FAULTMASK and BFHFNMIGN are as before when a read returns; in between nothing runs but the read.
#![expect(
    unsafe_code,
    reason = "memory of flash, and registers of the core that have no safe interface"
)]

use core::arch::asm;

use board_common::slots::{WORD_BYTES, Word};
use embassy_stm32::pac;

const FLASH_BASE: u32 = 0x0800_0000;
/// Of the whole flash; bank 2 is the second half.
const FLASH_BYTES: u32 = 2 * 1024 * 1024;
/// CCR.BFHFNMIGN: bus faults of loads and stores are ignored at priorities -1 and -2.
const IGNORE_BUS_FAULTS: u32 = 1 << 8;
/// CFSR: the bits of the bus fault status.
const BUS_FAULT_STATUS: u32 = 0xFF << 8;

/// The word at `offset` from the beginning of flash; none if its code does not match.
pub(crate) fn read(offset: u32) -> Option<Word> {
    let is_within = (FLASH_BYTES / 2..FLASH_BYTES).contains(&offset);
    assert!(is_within && offset.is_multiple_of(WORD_BYTES), "a whole word of bank 2");
    let place = (FLASH_BASE + offset) as *const u32;
    critical_section::with(|_| {
        let bank = pac::FLASH.bank(1);
        bank.ccr().write(|w| w.set_clr_dbeccerr(true));
        let mut word = Word::default();
        // SAFETY: `place` is in bank 2, which is memory that is always there and that nobody holds a reference into; writes to
        // it wait for the critical section. FAULTMASK, set here and cleared before the block ends, masks no more than the
        // critical section does and faults, which none of these instructions raises otherwise. SCB is used by nobody else
        // meanwhile.
        unsafe {
            let scb = &*cortex_m::peripheral::SCB::PTR;
            scb.ccr.modify(|ccr| ccr | IGNORE_BUS_FAULTS);
            asm!("cpsid f", "dsb", "isb", options(nostack, preserves_flags));
            for (index, bytes) in word.chunks_mut(4).enumerate() {
                bytes.copy_from_slice(&place.add(index).read_volatile().to_le_bytes());
            }
            asm!("dsb", options(nostack, preserves_flags));
            scb.cfsr.write(BUS_FAULT_STATUS);
            scb.ccr.modify(|ccr| ccr & !IGNORE_BUS_FAULTS);
            asm!("cpsie f", options(nostack, preserves_flags));
        }
        if bank.sr().read().dbeccerr() {
            bank.ccr().write(|w| w.set_clr_dbeccerr(true));
            return None;
        }
        Some(word)
    })
}
