//! The executor: polls tasks, and sleeps by WFI while there is nothing to do.
//!
//! embassy's own for threads sleeps by WFE, which QEMU 7.2 does not sleep on: an idle device would
//! take a quarter of a core of its host.

#![allow(unsafe_code, reason = "the executor's poll and its hook by name are unsafe in embassy")]

use core::sync::atomic::{AtomicBool, Ordering};

use embassy_executor::Spawner;
use embassy_executor::raw::Executor;
use static_cell::StaticCell;

static EXECUTOR: StaticCell<Executor> = StaticCell::new();
static WORK: AtomicBool = AtomicBool::new(true);

// SAFETY: embassy calls the executor's hook by this name; there is one executor.
#[unsafe(export_name = "__pender")]
fn on_work(_: *mut ()) {
    WORK.store(true, Ordering::SeqCst);
}

/// Runs tasks for ever, the first of which `start` spawns.
pub(crate) fn run(start: impl FnOnce(Spawner)) -> ! {
    let executor: &'static Executor = EXECUTOR.init(Executor::new(core::ptr::null_mut()));
    start(executor.spawner());
    loop {
        if WORK.swap(false, Ordering::SeqCst) {
            // SAFETY: polled here alone, and tasks cannot call this function again: the cell is
            // taken.
            unsafe { executor.poll() };
        }
        // With interrupts masked none slips in between the look and the sleep; one that is pending
        // ends the sleep all the same, and is handled when the mask is lifted.
        critical_section::with(|_| {
            if !WORK.load(Ordering::SeqCst) {
                cortex_m::asm::wfi();
            }
        });
    }
}
