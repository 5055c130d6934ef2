//! How deep the stack has been: painted at the start, measured by what of the paint is gone.

#![allow(unsafe_code, reason = "paint lies below the stack pointer, where no value lives")]

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
