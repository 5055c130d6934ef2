//! How long to wait before the next attempt. Pure: the caller sleeps.

/// Bounds of the wait between attempts to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BackoffConfig {
    /// Wait after the first failure, in milliseconds.
    pub min_ms: u32,
    /// Longest wait, in milliseconds.
    pub max_ms: u32,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self { min_ms: 500, max_ms: 60_000 }
    }
}

/// Waits that double from failure to failure, each between half and the whole of its step, so that devices which lost
/// the same gateway do not come back at the same moment.
#[derive(Clone, Debug)]
pub struct Backoff {
    config: BackoffConfig,
    step_ms: u32,
    random: u64,
}

impl Backoff {
    /// Starts at the shortest wait. `seed`: anything that differs between devices.
    #[must_use]
    pub const fn new(config: BackoffConfig, seed: u64) -> Self {
        // xorshift stays at zero if it starts there.
        Self { config, step_ms: 0, random: seed | 1 }
    }

    /// It worked: the next failure starts at the shortest wait again.
    pub const fn reset(&mut self) {
        self.step_ms = 0;
    }

    /// It failed: how many milliseconds to wait. At least 1, at most `max_ms`.
    pub fn next_ms(&mut self) -> u32 {
        let max_ms = self.config.max_ms.max(1);
        let min_ms = self.config.min_ms.clamp(1, max_ms);
        self.step_ms = self.step_ms.saturating_mul(2).clamp(min_ms, max_ms);
        let half = self.step_ms / 2;
        let above = self.random() % (u64::from(self.step_ms - half) + 1);
        (half + u32::try_from(above).unwrap_or(0)).max(1)
    }

    /// xorshift64: for spreading, not for secrets.
    const fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_wait_doubles_up_to_the_bound_and_starts_again_after_a_success() {
        let mut backoff = Backoff::new(BackoffConfig { min_ms: 100, max_ms: 1_000 }, 7);
        for step in [100, 200, 400, 800, 1_000, 1_000] {
            let wait = backoff.next_ms();
            assert!((step / 2..=step).contains(&wait), "{wait} in the step of {step} ms");
        }
        backoff.reset();
        assert!(backoff.next_ms() <= 100);
    }

    #[test]
    fn two_devices_do_not_wait_the_same() {
        let waits = |seed| {
            let mut backoff = Backoff::new(BackoffConfig::default(), seed);
            core::array::from_fn::<u32, 8, _>(|_| backoff.next_ms())
        };
        assert_ne!(waits(0x1234_5678_9abc_def0), waits(0x0fed_cba9_8765_4321));
    }

    proptest! {
        #[test]
        fn bounds_hold_whatever_they_are(min_ms: u32, max_ms: u32, seed: u64) {
            let mut backoff = Backoff::new(BackoffConfig { min_ms, max_ms }, seed);
            for _ in 0..80 {
                prop_assert!((1..=max_ms.max(1)).contains(&backoff.next_ms()));
            }
        }
    }
}
