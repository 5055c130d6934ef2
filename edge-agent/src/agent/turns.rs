//! How long the loop's turns take, as counts by size: four sizes to each power of two.

use std::time::Duration;

/// Microseconds below 4 have a size each; the last size is for turns over 16 s.
const SIZES: usize = 4 * 23;

/// Counts of turns since the start.
#[derive(Debug)]
pub(super) struct Turns {
    counts: [u64; SIZES],
    longest_us: u64,
}

impl Default for Turns {
    fn default() -> Self {
        Self { counts: [0; SIZES], longest_us: 0 }
    }
}

impl Turns {
    /// A turn took so long.
    pub(super) fn took(&mut self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.longest_us = self.longest_us.max(us);
        self.counts[size_of(us).min(SIZES - 1)] += 1;
    }

    /// Number of turns, the time that 99 of 100 do not exceed (at most a quarter too long) and the
    /// longest.
    #[must_use]
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "turns": self.counts.iter().sum::<u64>(),
            "p99_us": self.p99_us(),
            "longest_us": self.longest_us,
        })
    }

    fn p99_us(&self) -> u64 {
        let mut left = (self.counts.iter().sum::<u64>() * 99).div_ceil(100);
        for (size, count) in self.counts.iter().enumerate() {
            left = left.saturating_sub(*count);
            if left == 0 {
                return end_of(size).min(self.longest_us);
            }
        }
        self.longest_us
    }
}

/// Size of a time: its power of two and the two bits below the highest.
fn size_of(us: u64) -> usize {
    let power = us.max(4).ilog2();
    let quarter = us >> (power - 2);
    usize::try_from(u64::from(power - 2) * 4 + quarter).unwrap_or(usize::MAX)
}

/// Longest time of a size.
fn end_of(size: usize) -> u64 {
    let size = size as u64;
    let power = (size / 4).saturating_sub(1);
    let quarter = size - power * 4;
    ((quarter + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_each_other_without_a_gap() {
        let mut start = 0;
        for size in 0..SIZES {
            let end = end_of(size);
            assert!(end >= start, "size {size} is empty");
            assert_eq!((size_of(start), size_of(end)), (size, size));
            start = end + 1;
        }
        assert!(start > 16_000_000);
    }

    #[test]
    fn the_99th_of_a_hundred_is_told_within_a_quarter() {
        let mut turns = Turns::default();
        assert_eq!(turns.p99_us(), 0);
        for us in 1..=1_000 {
            turns.took(Duration::from_micros(us));
        }
        assert!((990..=1_000).contains(&turns.p99_us()), "{}", turns.p99_us());
        turns.took(Duration::from_secs(60));
        assert_eq!(turns.json()["longest_us"], 60_000_000);
        assert!(turns.p99_us() < 1_240);
    }
}
