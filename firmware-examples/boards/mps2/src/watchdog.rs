//! The watchdog: a device that hangs says where, and starts anew.
//!
//! The first expiry interrupts even what has masked interrupts (`fault` says it on the console), the
//! second resets the machine.

use embassy_time::Duration;

use crate::mmio::{CLOCK_MHZ, WATCHDOG};

// Registers of a CMSDK watchdog.
const LOAD: usize = 0x0;
const CONTROL: usize = 0x8;
const INTERRUPT_CLEAR: usize = 0xC;
const LOCK: usize = 0xC00;
const UNLOCKED: u32 = 0x1ACC_E551;
const INTERRUPT_AND_RESET: u32 = 0b11;

/// The longest time-out: the counter holds half of it.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(340);

/// The watchdog, not started yet.
pub struct Watchdog(());

/// The running watchdog. It cannot be stopped.
pub struct RunningWatchdog(());

impl Watchdog {
    pub(crate) fn new() -> Self {
        Self(())
    }

    /// Starts it: it has to be fed within half of `timeout` (at most [`TIMEOUT_MAX`]). Then it says that it
    /// was not, which cannot be taken back, and after the other half the machine resets.
    #[must_use = "who does not feed it is reset"]
    pub fn start(self, timeout: Duration) -> RunningWatchdog {
        let half_us = timeout.min(TIMEOUT_MAX).as_micros() / 2;
        let ticks = u32::try_from(half_us * u64::from(CLOCK_MHZ)).expect("invariant: capped");
        WATCHDOG.write(LOCK, UNLOCKED);
        WATCHDOG.write(LOAD, ticks.max(1));
        WATCHDOG.write(CONTROL, INTERRUPT_AND_RESET);
        RunningWatchdog(())
    }
}

impl RunningWatchdog {
    /// Begins its time anew.
    pub fn feed(&mut self) {
        WATCHDOG.write(INTERRUPT_CLEAR, 1);
    }
}
