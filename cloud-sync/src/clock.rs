//! Time of the running process. Decisions get it as a number, so that tests can choose it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The system's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// The system's clocks; monotonic time begins now.
    #[must_use]
    pub fn system() -> Self {
        Self { start: Instant::now() }
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Milliseconds that only grow, from the making of this clock.
    #[must_use]
    pub fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
