//! A rate with a burst, as times: nothing is dropped, it waits.

use edge_core::time::Millis;

/// So many a second, and so many at once after a pause.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Time of one, in microseconds.
    each_us: u64,
    /// How far ahead of the rate one may be, in microseconds.
    ahead_us: u64,
    /// Until when the rate is used up.
    used_until_us: u64,
}

impl Pace {
    pub(super) const fn new(per_s: u64, burst: u64) -> Self {
        let each_us = 1_000_000 / per_s;
        Self { each_us, ahead_us: each_us * (burst - 1), used_until_us: 0 }
    }

    /// From when on the next one may go.
    pub(super) const fn free_at(&self) -> Millis {
        Millis(self.used_until_us.saturating_sub(self.ahead_us).div_ceil(1_000))
    }

    /// One goes.
    pub(super) fn take(&mut self, now: Millis) {
        self.used_until_us = self.used_until_us.max(now.0.saturating_mul(1_000)) + self.each_us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let mut pace = Pace::new(64, 8);
        let (mut now, mut passed) = (Millis(5_000), 0);
        while now < Millis(6_000) {
            now = now.max(pace.free_at());
            pace.take(now);
            passed += 1;
        }
        assert!((70..=73).contains(&passed), "{passed}");
        assert!(pace.free_at() > Millis(6_000));
    }
}
