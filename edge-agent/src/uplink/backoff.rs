//! Waits between connection attempts: doubling with full jitter, bounded.

use std::time::Duration;

const WAIT_MS_MIN: u64 = 500;
const WAIT_MS_MAX: u64 = 60_000;

/// Waits between attempts. The jitter keeps a fleet from coming back in step after an outage.
#[derive(Clone, Debug)]
pub struct Backoff {
    failures: u32,
    random: u64,
}

impl Backoff {
    /// A sequence of waits; `seed` makes it differ between gateways.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { failures: 0, random: seed | 1 }
    }

    /// How long to wait now.
    pub fn next_wait(&mut self) -> Duration {
        let ceiling = (WAIT_MS_MIN << self.failures.min(10)).min(WAIT_MS_MAX);
        self.failures = self.failures.saturating_add(1);
        // xorshift64: jitter needs no better randomness.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        Duration::from_millis(ceiling / 2 + self.random % (ceiling / 2 + 1))
    }

    /// The connection stands: the next loss begins with a short wait.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_start_again() {
        let mut backoff = Backoff::new(7);
        let waits: Vec<_> = (0..40).map(|_| backoff.next_wait().as_millis()).collect();
        assert!(waits[0] <= 500);
        assert!(waits[20..].iter().all(|wait| (30_000..=60_000).contains(wait)), "{waits:?}");
        backoff.succeeded();
        assert!(backoff.next_wait().as_millis() <= 500);
    }
}
