//! What time it is: gateway time from the monotonic clock, wall labels from whoever vouches.

use std::time::Duration;

use edge_core::time::{ClockQuality, GatewayClock, Millis, Now};
use edge_core::wall::{JUMP_MS_MAX, Move, Reading, WallClock};

use super::seams::{Boot, Clocks};

/// How often it is looked whether the system's clock was set right.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// What time it is.
pub(super) struct Clock {
    clocks: Box<dyn Clocks>,
    gateway: GatewayClock,
    wall: WallClock,
    /// On the monotonic clock.
    started: Duration,
    /// When it was last looked whether the system's clock is disciplined, and what it said.
    looked: (Duration, Option<u64>),
}

impl Clock {
    /// Goes on from the last committed gateway time.
    #[must_use]
    pub(super) fn start(committed: Millis, clocks: Box<dyn Clocks>) -> Self {
        let started = clocks.mono();
        let gateway = GatewayClock::start(committed, 0);
        let wall = WallClock::start(Reading { mono_ms: 0, system_ms: clocks.unix_ms() });
        let mut clock = Self { clocks, gateway, wall, started, looked: (started, None) };
        // Nothing was shown yet that this could move.
        let _ = clock.look();
        clock
    }

    /// Looks from time to time whether the system's clock was set right meanwhile: the time daemon
    /// often needs the network, which comes after the start.
    pub(super) fn look_again(&mut self) -> Option<Move> {
        let now = self.clocks.mono();
        if now.saturating_sub(self.looked.0) < LOOK_EVERY {
            return None;
        }
        self.looked.0 = now;
        self.look()
    }

    fn look(&mut self) -> Option<Move> {
        let said = self.clocks.disciplined();
        if said.is_none() || said == self.looked.1 {
            return None;
        }
        self.looked.1 = said;
        let reading = self.reading();
        self.wall.disciplined(reading)
    }

    fn reading(&self) -> Reading {
        Reading { mono_ms: millis(self.uptime()), system_ms: self.clocks.unix_ms() }
    }

    /// Now.
    pub(super) fn now(&mut self) -> Now {
        let reading = self.reading();
        Now { at: self.gateway.now(reading.mono_ms), wall: self.wall.label(reading) }
    }

    /// On the monotonic clock: how far a turn has come.
    #[must_use]
    pub(super) fn mono(&self) -> Duration {
        self.clocks.mono()
    }

    /// The boot of the machine.
    #[must_use]
    pub(super) fn boot(&self) -> Option<Boot> {
        self.clocks.boot()
    }

    /// Whether somebody vouched for the wall clock.
    #[must_use]
    pub(super) fn is_synced(&self) -> bool {
        self.wall.quality() == ClockQuality::Synced
    }

    fn uptime(&self) -> Duration {
        self.clocks.mono().saturating_sub(self.started)
    }

    /// Seconds since the process started.
    #[must_use]
    pub(super) fn uptime_s(&self) -> u64 {
        self.uptime().as_secs()
    }

    /// How long until a gateway time.
    pub(super) fn until(&mut self, at: Millis) -> Duration {
        Duration::from_millis(at.since(self.now().at).0)
    }

    /// The control plane says what time it is.
    pub(super) fn told(&mut self, unix_ms: u64) -> Option<Move> {
        let reading = self.reading();
        self.wall.told(reading, unix_ms)
    }

    /// Whether the time daemon says that it is another day than this.
    #[must_use]
    pub(super) fn contradicts(&self, unix_ms: u64) -> bool {
        self.wall.contradicts(self.reading(), unix_ms)
    }

    /// The system clock's error where it is large, measured by this time.
    #[must_use]
    pub(super) fn system_error_ms(&self, unix_ms: u64) -> Option<i64> {
        let own = self.clocks.unix_ms();
        let error = own.cast_signed().wrapping_sub(unix_ms.cast_signed());
        (error.unsigned_abs() > JUMP_MS_MAX).then_some(error)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    #[derive(Default)]
    struct Shown {
        mono: Cell<Duration>,
        unix_ms: Cell<u64>,
        disciplined: Cell<Option<u64>>,
    }

    #[derive(Clone, Default)]
    struct Fake(Rc<Shown>);

    impl Clocks for Fake {
        fn mono(&self) -> Duration {
            self.0.mono.get()
        }

        fn unix_ms(&self) -> u64 {
            self.0.unix_ms.get()
        }

        fn disciplined(&self) -> Option<u64> {
            self.0.disciplined.get()
        }

        fn boot(&self) -> Option<Boot> {
            None
        }
    }

    #[test]
    fn a_clock_that_is_set_right_later_is_found_out_each_time() {
        let fake = Fake::default();
        let mut clock = Clock::start(Millis(5), Box::new(fake.clone()));
        let wait = |time: Duration| fake.0.mono.set(fake.0.mono.get() + time);
        assert!(!clock.is_synced());
        wait(LOOK_EVERY);
        assert_eq!(clock.look_again(), None, "not yet");
        fake.0.disciplined.set(Some(1));
        fake.0.unix_ms.set(1_790_000_000_000);
        assert_eq!(clock.look_again(), None, "it is looked for now and then");
        wait(LOOK_EVERY);
        let moved = Move { shown_ms: 60_000, true_ms: 1_790_000_000_000, first: true };
        assert_eq!(clock.look_again(), Some(moved));
        assert!(clock.is_synced());
        // It jumps, and nobody vouches for that.
        fake.0.unix_ms.set(7);
        wait(LOOK_EVERY);
        assert_eq!(clock.look_again(), None);
        assert_eq!(clock.now().wall.unix_ms, 1_790_000_030_000);
        assert_eq!(clock.system_error_ms(1_790_000_030_000), Some(7 - 1_790_000_030_000));
        // The time daemon sets it.
        fake.0.disciplined.set(Some(2));
        fake.0.unix_ms.set(1_800_000_000_000);
        wait(LOOK_EVERY);
        assert!(clock.look_again().is_some_and(|moved| !moved.first));
        assert_eq!(clock.now().wall.unix_ms, 1_800_000_000_000);
    }
}
