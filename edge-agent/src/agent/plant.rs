//! Bugs planted on purpose, for the test-only build `edge-agent-planted`: each must be found by
//! whoever claims to check this gateway (`cargo xtask demo --plant ...`). Without the feature
//! `plant` nothing here does anything.

/// Every so-many-th time a planted bug strikes.
#[cfg(feature = "plant")]
const EVERY: u64 = 97;
/// How long a planted early ack runs ahead of its commit, in milliseconds.
#[cfg(feature = "plant")]
const COMMIT_LATE_MS: u64 = 500;

use edge_core::time::Millis;

/// The planted bug of this process, if any.
#[derive(Debug, Default)]
pub(super) struct Plant {
    #[cfg(feature = "plant")]
    bug: String,
    #[cfg(feature = "plant")]
    count: u64,
    #[cfg(feature = "plant")]
    sealed_at: Millis,
}

#[cfg(feature = "plant")]
impl Plant {
    /// The bug named by `HOLM_PLANT`.
    #[must_use]
    pub fn from_environment() -> Self {
        Self { bug: std::env::var("HOLM_PLANT").unwrap_or_default(), ..Self::default() }
    }

    /// Acks leave before their batch is durable.
    #[must_use]
    pub fn acks_early(&self) -> bool {
        self.bug == "ack-before-commit"
    }

    /// The commit of an early ack is not due yet.
    pub fn holds_commit(&mut self, now: Millis) -> bool {
        if self.acks_early() && now.since(self.sealed_at) < Millis(COMMIT_LATE_MS) {
            return true;
        }
        self.sealed_at = now;
        false
    }

    /// This message is worked on twice.
    pub fn doubles(&mut self) -> bool {
        self.bug == "double-apply" && self.strikes()
    }

    /// This record never reaches the outbox.
    pub fn drops_record(&mut self) -> bool {
        self.bug == "drop-outbox" && self.strikes()
    }

    fn strikes(&mut self) -> bool {
        self.count += 1;
        self.count % EVERY == 0
    }
}

#[cfg(not(feature = "plant"))]
impl Plant {
    /// No bug.
    #[must_use]
    pub(super) fn from_environment() -> Self {
        Self::default()
    }

    /// Never.
    #[must_use]
    pub(super) fn acks_early(&self) -> bool {
        false
    }

    /// Never.
    pub(super) fn holds_commit(&mut self, _now: Millis) -> bool {
        false
    }

    /// Never.
    pub(super) fn doubles(&mut self) -> bool {
        false
    }

    /// Never.
    pub(super) fn drops_record(&mut self) -> bool {
        false
    }
}
