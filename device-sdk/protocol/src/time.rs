//! Stamps, and how far to believe them.

use serde::{Deserialize, Serialize};

/// What a [`Timestamp`] counts from, and who vouches for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Quality {
    /// Milliseconds since the device started: it has no clock, and no gateway told it the time since.
    #[default]
    Uptime,
    /// Milliseconds since 1970-01-01T00:00:00Z, from a gateway whose own clock nobody vouches for.
    Unsynced,
    /// Milliseconds since 1970-01-01T00:00:00Z, from a synchronised gateway.
    Synced,
}

/// When something was measured, by the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamp {
    /// What `ms` is worth.
    pub quality: Quality,
    /// Milliseconds; `quality` says since when.
    pub ms: u64,
}

impl Timestamp {
    /// A stamp of a device that does not know the time.
    #[must_use]
    pub const fn uptime(ms: u64) -> Self {
        Self { quality: Quality::Uptime, ms }
    }

    /// Milliseconds since 1970, if it is such a stamp.
    #[must_use]
    pub const fn unix_ms(self) -> Option<u64> {
        match self.quality {
            Quality::Uptime => None,
            Quality::Unsynced | Quality::Synced => Some(self.ms),
        }
    }
}
