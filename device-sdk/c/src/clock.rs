//! The time driver: the time is what C said last, and the alarms of a device lie in its [`Alarm`].
//!
//! # Invariants
//! - Time never goes back, whatever C says. All devices of a program share it.
//! - An alarm holds the earliest moment that its device's future waits for since the poll began. A future of one task asks
//!   anew for all its moments whenever it is polled, so nothing else has to be kept.

use core::cell::Cell;
use core::task::Waker;

use critical_section::Mutex;
use embassy_time_driver::Driver;

use crate::border::waker;

/// What wakes the future of a device.
pub(crate) struct Alarm(Mutex<Cell<Due>>);

#[derive(Clone, Copy)]
struct Due {
    at_ms: u64,
    is_awake: bool,
}

/// Nothing is due.
const NEVER: Due = Due { at_ms: u64::MAX, is_awake: false };

impl Alarm {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Cell::new(NEVER)))
    }

    /// Forgets what was due before.
    pub(crate) fn begin(&self) {
        critical_section::with(|section| self.0.borrow(section).set(NEVER));
    }

    /// The future has something to do now.
    pub(crate) fn wake(&self) {
        self.change(|due| due.is_awake = true);
    }

    /// The future has something to do then.
    fn wake_at(&self, at_ms: u64) {
        self.change(|due| due.at_ms = due.at_ms.min(at_ms));
    }

    /// When the future has something to do: `now_ms` if at once, `u64::MAX` if time alone brings nothing.
    pub(crate) fn due_ms(&self, now_ms: u64) -> u64 {
        let due = critical_section::with(|section| self.0.borrow(section).get());
        if due.is_awake { now_ms } else { due.at_ms.max(now_ms) }
    }

    fn change(&self, with: impl FnOnce(&mut Due)) {
        critical_section::with(|section| {
            let place = self.0.borrow(section);
            let mut due = place.get();
            with(&mut due);
            place.set(due);
        });
    }
}

struct Clock(Mutex<Cell<u64>>);

embassy_time_driver::time_driver_impl!(static CLOCK: Clock = Clock(Mutex::new(Cell::new(0))));

impl Driver for Clock {
    fn now(&self) -> u64 {
        critical_section::with(|section| self.0.borrow(section).get())
    }

    fn schedule_wake(&self, at_ms: u64, waker: &Waker) {
        match waker::alarm(waker) {
            Some(alarm) => alarm.wake_at(at_ms),
            // Not one of ours: it looks again.
            None => waker.wake_by_ref(),
        }
    }
}

/// It is `now_ms`, or as late as it was; which.
pub(crate) fn advance(now_ms: u64) -> u64 {
    critical_section::with(|section| {
        let place = CLOCK.0.borrow(section);
        let now_ms = place.get().max(now_ms);
        place.set(now_ms);
        now_ms
    })
}
