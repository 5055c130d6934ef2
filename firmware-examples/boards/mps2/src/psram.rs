//! PSRAM as bytes: the only code that touches it. With `-machine memory-backend=...,share=on` it is
//! a file of the host and outlives the machine's process.

#![allow(unsafe_code, reason = "memory outside of what the linker knows is reached by address")]

use core::ptr::{copy_nonoverlapping, read_volatile, write_bytes, write_volatile};

use crate::mmio::psram_base;

/// Bytes of PSRAM on all three machines.
pub(crate) const PSRAM_BYTES: usize = 16 << 20;

/// Copies from `offset` on.
pub(crate) fn read(offset: usize, bytes: &mut [u8]) {
    let from = at(offset, bytes.len());
    // SAFETY: `at` keeps the range inside PSRAM, which holds no Rust value and so cannot overlap
    // `bytes`.
    unsafe { copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) }
}

/// The bytes themselves, as processors see flash.
pub(crate) fn view(offset: usize, bytes: usize) -> &'static [u8] {
    // SAFETY: inside PSRAM by `at`. The one caller gives up the only value by which this range is written.
    unsafe { core::slice::from_raw_parts(at(offset, bytes), bytes) }
}

/// Clears the bits that are clear in `bytes`.
pub(crate) fn clear_bits(offset: usize, bytes: &[u8]) {
    let to = at(offset, bytes.len());
    for (index, byte) in bytes.iter().enumerate() {
        // SAFETY: as for `read`; `index` is below the length that `at` has checked.
        unsafe {
            let cell = to.add(index);
            write_volatile(cell, read_volatile(cell) & *byte);
        }
    }
}

/// Sets all bits of a range.
pub(crate) fn set_all_bits(offset: usize, bytes: usize) {
    // SAFETY: as for `read`.
    unsafe { write_bytes(at(offset, bytes), 0xFF, bytes) }
}

fn at(offset: usize, bytes: usize) -> *mut u8 {
    let end = offset.checked_add(bytes);
    assert!(end.is_some_and(|end| end <= PSRAM_BYTES), "outside of PSRAM");
    (psram_base() + offset) as *mut u8
}
