//! What time it is: gateway time from the monotonic clock, wall labels from the system clock.

use std::time::Duration;

use edge_core::time::{ClockQuality, GatewayClock, Millis, Now, WallTime};

use super::seams::Clocks;

/// How often that is looked for while it is missing.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A system clock this close to the control plane's is as good as synced.
const VOUCHED_MS_MAX: u64 = 10_000;

/// What time it is.
pub(super) struct Clock {
    clocks: Box<dyn Clocks>,
    gateway: GatewayClock,
    /// On the monotonic clock.
    started: Duration,
    quality: ClockQuality,
    /// When it was last looked for whether the system's clock is disciplined.
    looked: Duration,
}

impl Clock {
    /// Goes on from the last committed gateway time.
    #[must_use]
    pub(super) fn start(committed: Millis, clocks: Box<dyn Clocks>) -> Self {
        let started = clocks.mono();
        let gateway = GatewayClock::start(committed, 0);
        let quality = ClockQuality::Unsynced;
        let mut clock = Self { clocks, gateway, started, quality, looked: started };
        clock.look();
        clock
    }

    /// Looks from time to time whether the clock was disciplined meanwhile: the time daemon often
    /// needs the network, which comes after the start. True where that is news.
    pub(super) fn look_again(&mut self) -> bool {
        if self.quality == ClockQuality::Synced {
            return false;
        }
        let now = self.clocks.mono();
        if now.saturating_sub(self.looked) < LOOK_EVERY {
            return false;
        }
        self.looked = now;
        self.look()
    }

    fn look(&mut self) -> bool {
        let synced = self.clocks.is_disciplined();
        if synced {
            self.quality = ClockQuality::Synced;
        }
        synced
    }

    /// Now.
    pub(super) fn now(&mut self) -> Now {
        let mono = u64::try_from(self.uptime().as_millis()).unwrap_or(u64::MAX);
        let wall = WallTime { unix_ms: self.clocks.unix_ms(), quality: self.quality };
        Now { at: self.gateway.now(mono), wall }
    }

    /// On the monotonic clock: how far a turn has come.
    #[must_use]
    pub(super) fn mono(&self) -> Duration {
        self.clocks.mono()
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

    /// The control plane says what time it is. Returns the system clock's error where it is large.
    pub(super) fn vouched(&mut self, unix_ms: u64) -> Option<i64> {
        let own = self.clocks.unix_ms();
        if own.abs_diff(unix_ms) <= VOUCHED_MS_MAX {
            self.quality = ClockQuality::Synced;
            return None;
        }
        Some(own.cast_signed().wrapping_sub(unix_ms.cast_signed()))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    #[derive(Clone, Default)]
    struct Fake(Rc<(Cell<Duration>, Cell<bool>)>);

    impl Clocks for Fake {
        fn mono(&self) -> Duration {
            self.0.0.get()
        }

        fn unix_ms(&self) -> u64 {
            7
        }

        fn is_disciplined(&self) -> bool {
            self.0.1.get()
        }
    }

    #[test]
    fn a_clock_that_is_disciplined_later_is_found_out() {
        let fake = Fake::default();
        let mut clock = Clock::start(Millis(5), Box::new(fake.clone()));
        let wait = |time: Duration| fake.0.0.set(fake.0.0.get() + time);
        assert_eq!(clock.now().wall.quality, ClockQuality::Unsynced);
        wait(LOOK_EVERY);
        assert!(!clock.look_again(), "not yet");
        fake.0.1.set(true);
        assert!(!clock.look_again(), "it is looked for now and then");
        wait(LOOK_EVERY);
        assert!(clock.look_again());
        assert_eq!(clock.now().wall.quality, ClockQuality::Synced);
        wait(LOOK_EVERY);
        assert!(!clock.look_again(), "that is no news any more");
    }
}
