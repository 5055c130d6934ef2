//! Memory of the caller, given out piece by piece and never taken back.

use core::mem::{MaybeUninit, align_of, size_of};

/// What the memory must be aligned to, and what every piece begins at a multiple of.
const ALIGN: usize = crate::abi::ALIGNMENT;

/// See the module.
pub(crate) struct Arena {
    rest: &'static mut [MaybeUninit<u8>],
}

/// What a piece of `bytes` takes.
pub(crate) const fn piece(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGN)
}

impl Arena {
    /// None for a null pointer and for memory that is not aligned.
    ///
    /// # Safety
    /// The memory is the caller's to write, nobody else uses it from now on, and it outlives everything that is placed in
    /// it: the contract of `holm_device_init`.
    pub(super) unsafe fn new(memory: *mut u8, length: usize) -> Option<Self> {
        if memory.is_null() || !memory.addr().is_multiple_of(ALIGN) || length > isize::MAX as usize
        {
            return None;
        }
        // SAFETY: not null, of a length that a slice may have; the rest is the caller's promise.
        let rest = unsafe { core::slice::from_raw_parts_mut(memory.cast(), length) };
        Some(Self { rest })
    }

    /// The first so many bytes of it, as one of its own; this one keeps the others.
    pub(crate) fn split(&mut self, length: usize) -> Option<Self> {
        self.take(piece(length)).map(|rest| Self { rest })
    }

    /// All that is left, as zeros.
    pub(crate) fn into_zeros(self) -> &'static mut [u8] {
        zeros(self.rest)
    }

    /// Moves a value there. None if there is no room.
    pub(crate) fn place<T: 'static>(&mut self, value: T) -> Option<&'static mut T> {
        const { assert!(align_of::<T>() <= ALIGN, "a type that needs more than the memory has") };
        let bytes = self.take(size_of::<T>())?;
        // SAFETY: the piece is as long as a `T`, aligned for it as all pieces begin at multiples of `ALIGN`, and in no
        // other hands; a `MaybeUninit` may hold anything.
        let place = unsafe { &mut *bytes.as_mut_ptr().cast::<MaybeUninit<T>>() };
        Some(place.write(value))
    }

    /// Copies bytes there.
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Option<&'static [u8]> {
        let place = self.zeros(bytes.len())?;
        place.copy_from_slice(bytes);
        Some(place)
    }

    fn zeros(&mut self, length: usize) -> Option<&'static mut [u8]> {
        self.take(length).map(zeros)
    }

    fn take(&mut self, length: usize) -> Option<&'static mut [MaybeUninit<u8>]> {
        if piece(length) > self.rest.len() {
            return None;
        }
        let (taken, rest) = core::mem::take(&mut self.rest).split_at_mut(piece(length));
        self.rest = rest;
        taken.get_mut(..length)
    }
}

fn zeros(bytes: &'static mut [MaybeUninit<u8>]) -> &'static mut [u8] {
    bytes.fill(MaybeUninit::new(0));
    // SAFETY: all of them were just written.
    unsafe { core::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) }
}
