//! Gateway time: last committed value plus monotonic time since start. It never goes back and
//! all durations use it; wall time is only a label with a quality.

use std::ops::Add;

use serde::{Deserialize, Serialize};

/// A moment of gateway time, or a duration, in milliseconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Millis(pub u64);

impl Millis {
    /// A duration of `n` seconds.
    #[must_use]
    pub const fn from_secs(n: u64) -> Self {
        Self(n.saturating_mul(1_000))
    }

    /// Time from `earlier` to `self`; zero where `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

impl Add for Millis {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// The source of gateway time: the last committed value plus the monotonic time since start.
///
/// Never goes back, whatever the monotonic clock says; the caller reads that clock.
#[derive(Clone, Copy, Debug)]
pub struct GatewayClock {
    committed: Millis,
    started_mono_ms: u64,
    last: Millis,
}

impl GatewayClock {
    /// Starts at `committed`, the gateway time of the last durable batch, when the monotonic
    /// clock shows `mono_ms`.
    #[must_use]
    pub fn start(committed: Millis, mono_ms: u64) -> Self {
        Self { committed, started_mono_ms: mono_ms, last: committed }
    }

    /// Gateway time when the monotonic clock shows `mono_ms`.
    pub fn now(&mut self, mono_ms: u64) -> Millis {
        let since_start = Millis(mono_ms.saturating_sub(self.started_mono_ms));
        self.last = self.last.max(self.committed + since_start);
        self.last
    }
}

/// How far the wall clock could be trusted when a stamp was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClockQuality {
    /// Nobody has vouched for the clock since start (a gateway without a battery boots in 1970).
    #[default]
    Unsynced,
    /// Somebody vouched for it.
    Synced,
    /// Nobody vouched for it, and nobody will: its process run ended, and what bears it stands under
    /// another one now.
    Unknown,
}

/// A wall-clock stamp: milliseconds since 1970-01-01T00:00:00Z, and its quality.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WallTime {
    /// Milliseconds since the Unix epoch, as the system clock said.
    pub unix_ms: u64,
    /// Whether that clock was synced.
    pub quality: ClockQuality,
}

/// What time it is for one call into a core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Gateway time.
    pub at: Millis,
    /// The label for what is admitted now.
    pub wall: WallTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_time_goes_on_from_the_committed_value_and_never_back() {
        let mut clock = GatewayClock::start(Millis(5_000), 100);
        assert_eq!(clock.now(100), Millis(5_000));
        assert_eq!(clock.now(350), Millis(5_250));
        assert_eq!(clock.now(200), Millis(5_250), "a monotonic clock that is not");
        assert_eq!(clock.now(0), Millis(5_250));
        assert_eq!(clock.now(400), Millis(5_300));
        let mut next = GatewayClock::start(Millis(5_300), 7);
        assert_eq!(next.now(8), Millis(5_301));
    }
}
