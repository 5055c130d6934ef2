//! How deep the stack has been: painted at the start, measured by what of the paint is gone. And which calls stand on it.

#![allow(
    unsafe_code,
    reason = "paint lies below the stack pointer, where no value lives; return addresses lie anywhere"
)]

use core::ptr::{read_volatile, write_volatile};

/// Bytes below the start of the stack that are painted: deeper use is told as this much.
pub const PAINTED_BYTES: usize = 256 * 1024;

const PAINT: u32 = 0xAAAA_5555;
/// Left free for the frames of `paint` and its callers.
const MARGIN_BYTES: usize = 256;

unsafe extern "C" {
    /// Where the stack begins (cortex-m-rt): it grows downwards.
    static _stack_start: u32;
    /// Where the last static ends (cortex-m-rt).
    static __euninit: u32;
    /// Where code begins and ends (cortex-m-rt).
    #[cfg(not(feature = "panic-messages"))]
    static __stext: u32;
    #[cfg(not(feature = "panic-messages"))]
    static __etext: u32;
}

fn painted() -> core::ops::Range<usize> {
    let (start, statics_end) = (&raw const _stack_start as usize, &raw const __euninit as usize);
    start.saturating_sub(PAINTED_BYTES).max(statics_end)..start
}

/// Paints what lies below the stack pointer.
pub(crate) fn paint() {
    let end = cortex_m::register::msp::read() as usize - MARGIN_BYTES;
    for address in (painted().start..end).step_by(4) {
        // SAFETY: between the last static and the stack pointer lies RAM that nothing uses; there is
        // no heap.
        unsafe { write_volatile(address as *mut u32, PAINT) }
    }
}

/// The most bytes of stack in use at any time since the start, at most [`PAINTED_BYTES`].
#[must_use]
pub fn high_water_bytes() -> usize {
    let range = painted();
    let untouched = range.clone().step_by(4).take_while(|address| {
        // SAFETY: inside of RAM, aligned; a word is read whatever it holds.
        unsafe { read_volatile(*address as *const u32) == PAINT }
    });
    range.len() - untouched.count() * 4
}

/// Addresses of call instructions whose return addresses stand on the stack, the innermost first. There are no frames to
/// follow: one that returned long ago may stand among them.
#[cfg(not(feature = "panic-messages"))]
pub(crate) fn calls() -> impl Iterator<Item = usize> {
    let top = cortex_m::register::msp::read() as usize;
    (top..&raw const _stack_start as usize).step_by(4).filter_map(|address| {
        // SAFETY: the stack in use, aligned; a word is read whatever it holds.
        call_before(unsafe { read_volatile(address as *const usize) })
    })
}

/// The call instruction that this would be the return address of (Armv7-M ARM A7.7.18, A7.7.19: BL, BLX).
#[cfg(not(feature = "panic-messages"))]
fn call_before(return_address: usize) -> Option<usize> {
    let code = &raw const __stext as usize..&raw const __etext as usize;
    // Odd, for Thumb; behind an instruction of two halfwords, or of one.
    let long = return_address.checked_sub(5).filter(|at| at % 2 == 0 && code.contains(at))?;
    // SAFETY: four bytes of code, which is read as data, at an even address.
    let [first, second] = unsafe { read_volatile(long as *const [u16; 2]) };
    if first & 0xF800 == 0xF000 && second & 0xD000 == 0xD000 {
        Some(long)
    } else {
        (second & 0xFF87 == 0x4780).then_some(long + 2)
    }
}
