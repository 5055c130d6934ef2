//! What the program brings: a lock, and what to do when nothing can be done.

use critical_section::{Impl, RawRestoreState};

unsafe extern "C" {
    safe fn holm_hook_lock() -> u32;
    safe fn holm_hook_unlock(state: u32);
}

struct Lock;

critical_section::set_impl!(Lock);

// SAFETY: between the two hooks no other code of this library runs: their contract in the header.
unsafe impl Impl for Lock {
    unsafe fn acquire() -> RawRestoreState {
        holm_hook_lock()
    }

    unsafe fn release(state: RawRestoreState) {
        holm_hook_unlock(state);
    }
}

/// Where it happened is what fits on any microcontroller; the message would bring the formatter of texts.
#[cfg(panic = "abort")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        safe fn holm_hook_panic(file: *const u8, file_length: usize, line: u32) -> !;
    }
    let (file, line) = info.location().map_or(("", 0), |place| (place.file(), place.line()));
    holm_hook_panic(file.as_ptr(), file.len(), line)
}
