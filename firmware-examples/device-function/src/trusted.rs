//! The one place that runs compiled code, and what the interpreter asks of a platform.

#[cfg(target_os = "none")]
use core::ptr::NonNull;

use wasmtime::{Engine, Module};

use crate::image::Image;

/// Loads the code of an image: in place, nothing of it is copied. On a host, where tests have native
/// code, it goes to pages that may be executed.
#[expect(
    unsafe_code,
    reason = "the interpreter believes its code; an `Image` is proof that a pinned key signed it"
)]
pub(crate) fn load(engine: &Engine, image: &Image) -> wasmtime::Result<Module> {
    // SAFETY: the bytes came from `Engine::precompile_module`, unchanged since, says the author's
    // signature that made the `Image`. They are 'static and shared, so nobody changes them.
    #[cfg(target_os = "none")]
    let module = unsafe { Module::deserialize_raw(engine, NonNull::from(image.code())) };
    // SAFETY: as above.
    #[cfg(not(target_os = "none"))]
    let module = unsafe { Module::deserialize(engine, image.code()) };
    module
}

/// Two words that belong to the thread. On bare metal there is one thread.
#[cfg(target_os = "none")]
mod tls {
    use core::ptr::null_mut;
    use core::sync::atomic::{AtomicPtr, Ordering};

    static SLOTS: [AtomicPtr<u8>; 2] = [const { AtomicPtr::new(null_mut()) }; 2];

    #[unsafe(no_mangle)]
    #[expect(unsafe_code, reason = "wasmtime finds its platform by these names")]
    extern "C" fn wasmtime_tls_get(slot: usize) -> *mut u8 {
        SLOTS[slot].load(Ordering::Relaxed)
    }

    #[unsafe(no_mangle)]
    #[expect(unsafe_code, reason = "wasmtime finds its platform by these names")]
    extern "C" fn wasmtime_tls_set(slot: usize, value: *mut u8) {
        SLOTS[slot].store(value, Ordering::Relaxed);
    }
}
