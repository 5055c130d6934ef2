//! The real clocks: gateway time from the monotonic clock, wall labels from the system clock.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use edge_core::time::{ClockQuality, GatewayClock, Millis, Now, WallTime};

/// The system's time daemon says here that the clock is disciplined.
const SYNCED_FLAG: &str = "/run/systemd/timesync/synchronized";
/// A system clock this close to the control plane's is as good as synced.
const VOUCHED_MS_MAX: u64 = 10_000;

/// What time it is.
#[derive(Debug)]
pub(super) struct Clock {
    gateway: GatewayClock,
    started: Instant,
    quality: ClockQuality,
}

impl Clock {
    /// Goes on from the last committed gateway time.
    #[must_use]
    pub(super) fn start(committed: Millis) -> Self {
        let synced = Path::new(SYNCED_FLAG).exists();
        Self {
            gateway: GatewayClock::start(committed, 0),
            started: Instant::now(),
            quality: if synced { ClockQuality::Synced } else { ClockQuality::Unsynced },
        }
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
