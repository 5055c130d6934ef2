//! The real clocks: gateway time from the monotonic clock, wall labels from the system clock.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use edge_core::time::{ClockQuality, GatewayClock, Millis, Now, WallTime};

/// The system's time daemon says here that the clock is disciplined.
const SYNCED_FLAG: &str = "/run/systemd/timesync/synchronized";
/// How often that is looked for while it is missing.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A system clock this close to the control plane's is as good as synced.
const VOUCHED_MS_MAX: u64 = 10_000;

/// What time it is.
#[derive(Debug)]
pub(super) struct Clock {
    gateway: GatewayClock,
    started: Instant,
    quality: ClockQuality,
    /// Where the time daemon says that the clock is disciplined, and when that was last looked for.
    flag: PathBuf,
    looked: Instant,
}

impl Clock {
    /// Goes on from the last committed gateway time.
    #[must_use]
    pub(super) fn start(committed: Millis) -> Self {
        Self::with_flag(committed, PathBuf::from(SYNCED_FLAG), Instant::now())
    }

    fn with_flag(committed: Millis, flag: PathBuf, now: Instant) -> Self {
        let gateway = GatewayClock::start(committed, 0);
        let quality = ClockQuality::Unsynced;
        let mut clock = Self { gateway, started: now, quality, flag, looked: now };
        clock.look();
        clock
    }

    /// Looks from time to time whether the clock was disciplined meanwhile: the time daemon often
    /// needs the network, which comes after the start. True where that is news.
    pub(super) fn look_again(&mut self) -> bool {
        self.look_at(Instant::now())
    }

    fn look_at(&mut self, now: Instant) -> bool {
        if self.quality == ClockQuality::Synced || now - self.looked < LOOK_EVERY {
            return false;
        }
        self.looked = now;
        self.look()
    }

    fn look(&mut self) -> bool {
        let synced = self.flag.exists();
        if synced {
            self.quality = ClockQuality::Synced;
        }
        synced
    }

    /// Now.
    pub(super) fn now(&mut self) -> Now {
        let mono = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let wall = WallTime { unix_ms: system_unix_ms(), quality: self.quality };
        Now { at: self.gateway.now(mono), wall }
    }

    /// Seconds since the process started.
    #[must_use]
    pub(super) fn uptime_s(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// How long until a gateway time.
    pub(super) fn until(&mut self, at: Millis) -> Duration {
        Duration::from_millis(at.since(self.now().at).0)
    }

    /// The control plane says what time it is. Returns the system clock's error where it is large.
    pub(super) fn vouched(&mut self, unix_ms: u64) -> Option<i64> {
        let own = system_unix_ms();
        if own.abs_diff(unix_ms) <= VOUCHED_MS_MAX {
            self.quality = ClockQuality::Synced;
            return None;
        }
        Some(own.cast_signed().wrapping_sub(unix_ms.cast_signed()))
    }
}

fn system_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_disciplined_later_is_found_out() {
        let dir = tempfile::tempdir().expect("a folder");
        let (flag, start) = (dir.path().join("synchronized"), Instant::now());
        let mut clock = Clock::with_flag(Millis(5), flag.clone(), start);
        assert_eq!(clock.now().wall.quality, ClockQuality::Unsynced);
        assert!(!clock.look_at(start + LOOK_EVERY), "not yet");
        std::fs::write(&flag, "").expect("a file");
        assert!(!clock.look_at(start + LOOK_EVERY), "it is looked for now and then");
        assert!(clock.look_at(start + 2 * LOOK_EVERY));
        assert_eq!(clock.now().wall.quality, ClockQuality::Synced);
        assert!(!clock.look_at(start + 3 * LOOK_EVERY), "that is no news any more");
    }
}
