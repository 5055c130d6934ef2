//! The only heap of the device: it belongs to the function.

use core::ptr::addr_of_mut;

use embedded_alloc::LlffHeap;

/// Its size.
pub(crate) const BYTES: usize = 384 << 10;
/// What was never written holds.
const PAINT: u32 = 0xaaaa_5555;

#[global_allocator]
static HEAP: LlffHeap = LlffHeap::empty();

static mut ROOM: [u32; BYTES / 4] = [0; BYTES / 4];

/// Gives the heap its room; called once, first.
#[expect(unsafe_code, reason = "the allocator is given memory that nothing else uses")]
pub(crate) fn start() {
    let room = addr_of_mut!(ROOM);
    // SAFETY: `ROOM` is named here only, and `start` is called once, before the first allocation.
    unsafe {
        (*room).fill(PAINT);
        HEAP.init(room.addr(), BYTES);
    }
}

/// Bytes in use.
pub(crate) fn used_bytes() -> usize {
    HEAP.used()
}

/// Bytes from the beginning of the heap to the last one that was ever written: what a heap of the
/// same kind must have at least.
#[expect(unsafe_code, reason = "reads the heap's memory beside its users")]
pub(crate) fn peak_bytes() -> usize {
    let room = addr_of_mut!(ROOM).cast::<u32>();
    // SAFETY: all words of `ROOM` are initialised; there is one thread.
    let is_painted = |n: usize| unsafe { room.add(n).read_volatile() } == PAINT;
    (0..BYTES / 4).rev().find(|n| !is_painted(*n)).map_or(0, |n| (n + 1) * 4)
}
