//! Wall time, passed in so that tests can set it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Where the time comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The system.
    System {
        /// When the process started to look, for time that never goes back.
        start: Instant,
    },
    /// A number that a test moves.
    Set(Arc<AtomicU64>),
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::System { start: Instant::now() }
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        match self {
            Self::System { .. } => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            }
            Self::Set(now_ms) => now_ms.load(Ordering::Relaxed),
        }
    }

    /// Milliseconds that only grow, from an arbitrary beginning.
    #[must_use]
    pub fn monotonic_ms(&self) -> u64 {
        match self {
            Self::System { start } => {
                u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
            }
            Self::Set(now_ms) => now_ms.load(Ordering::Relaxed),
        }
    }
}
