//! embassy's clock in microseconds: timer 0 counts freely, timer 1 rings once for the next deadline.
//! Nothing ticks in between.

use core::cell::RefCell;
use core::task::Waker;

use critical_section::{CriticalSection, Mutex};
use embassy_time_driver::Driver;
use embassy_time_queue_utils::Queue;

use crate::interrupts::{Interrupt, unmask};
use crate::mmio::{CLOCK_MHZ, Registers, TIMER0, TIMER1};

// Registers of a CMSDK timer, a down-counter of 32 bits.
const CONTROL: usize = 0x0;
const VALUE: usize = 0x4;
const RELOAD: usize = 0x8;
const INTERRUPT: usize = 0xC;
const ENABLE_WITH_INTERRUPT: u32 = 1 | 1 << 3;

/// The longest that one alarm is set for: the counter holds 171 s. A later deadline takes several.
const ALARM_US_MAX: u64 = 100_000_000;
const _: () = assert!(ALARM_US_MAX * (CLOCK_MHZ as u64) <= u32::MAX as u64);

struct Clock(Mutex<RefCell<State>>);

struct State {
    running: bool,
    /// How often timer 0 has gone round.
    wraps: u32,
    queue: Queue,
}

embassy_time_driver::time_driver_impl!(
    static CLOCK: Clock = Clock(Mutex::new(RefCell::new(State {
        running: false,
        wraps: 0,
        queue: Queue::new(),
    })))
);

/// Starts the clock at 0.
pub(crate) fn start() {
    TIMER0.write(RELOAD, u32::MAX);
    TIMER0.write(VALUE, u32::MAX);
    TIMER0.write(CONTROL, ENABLE_WITH_INTERRUPT);
    critical_section::with(|cs| CLOCK.0.borrow_ref_mut(cs).running = true);
    unmask(Interrupt::Timer0);
    unmask(Interrupt::Timer1);
}

/// Timer 0 has gone round.
pub(crate) extern "C" fn on_wrap() {
    critical_section::with(|cs| {
        acknowledge(TIMER0);
        CLOCK.0.borrow_ref_mut(cs).wraps += 1;
    });
}

/// Timer 1 has rung.
pub(crate) extern "C" fn on_alarm() {
    critical_section::with(|cs| {
        acknowledge(TIMER1);
        CLOCK.0.borrow_ref_mut(cs).wake_due(cs);
    });
}

fn acknowledge(timer: Registers) {
    timer.write(INTERRUPT, 1);
}

impl Driver for Clock {
    fn now(&self) -> u64 {
        critical_section::with(|cs| self.0.borrow_ref(cs).now_us(cs))
    }

    fn schedule_wake(&self, at_us: u64, waker: &Waker) {
        critical_section::with(|cs| {
            let state = &mut *self.0.borrow_ref_mut(cs);
            if state.queue.schedule_wake(at_us, waker) {
                state.wake_due(cs);
            }
        });
    }
}

impl State {
    /// Asks for the critical section, because a wrap must not be counted while it reads.
    fn now_us(&self, _: CriticalSection<'_>) -> u64 {
        if !self.running {
            return 0;
        }
        let mut ticks = !TIMER0.read(VALUE);
        let mut wraps = self.wraps;
        // A wrap that is not counted yet shows here. The value may be from before: read it again.
        if TIMER0.read(INTERRUPT) & 1 != 0 {
            ticks = !TIMER0.read(VALUE);
            wraps += 1;
        }
        ((u64::from(wraps) << 32) | u64::from(ticks)) / u64::from(CLOCK_MHZ)
    }

    /// Wakes all whose time has come and sets the alarm for the next.
    fn wake_due(&mut self, cs: CriticalSection<'_>) {
        let now_us = self.now_us(cs);
        let next_us = self.queue.next_expiration(now_us);
        TIMER1.write(CONTROL, 0);
        if next_us == u64::MAX {
            return;
        }
        let wait_us = next_us.saturating_sub(now_us).clamp(1, ALARM_US_MAX);
        let ticks = u32::try_from(wait_us).expect("invariant: clamped") * CLOCK_MHZ;
        acknowledge(TIMER1);
        TIMER1.write(RELOAD, u32::MAX);
        TIMER1.write(VALUE, ticks);
        TIMER1.write(CONTROL, ENABLE_WITH_INTERRUPT);
    }
}
