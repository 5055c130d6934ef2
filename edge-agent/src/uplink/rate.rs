//! How fast records may leave: for metered links.
//!
//! # Invariants
//! - Over any span of `t` seconds at most `burst_bytes + t * bytes_per_s` bytes of records leave, and
//!   one record more: a record is never cut.
//! - Only records count. What keeps the link alive, states, health, answers and requests for
//!   artifacts are never held back, and what comes down is not counted.

use edge_core::time::Millis;

/// Bytes gathered before a message is sent, so that records travel together.
const GATHER_BYTES_MAX: u64 = 8 << 10;

/// A bound on the records that leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// On average.
    pub bytes_per_s: u64,
    /// At once, after a pause.
    pub burst_bytes: u64,
}

/// What of a rate is used up: a bucket that fills with time.
#[derive(Debug)]
pub struct Bucket {
    rate: Rate,
    /// Below zero: the last message was longer than what was there.
    bytes: i64,
    /// When it was filled last.
    at: Millis,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let rate = Rate {
            bytes_per_s: rate.bytes_per_s.max(1),
            burst_bytes: rate.burst_bytes.clamp(1, i64::MAX.cast_unsigned()),
        };
        Self { rate, bytes: rate.burst_bytes.cast_signed(), at: Millis(0) }
    }

    /// Bytes that the next message may have; `None`: not yet.
    pub fn available(&mut self, now: Millis) -> Option<u64> {
        self.fill(now);
        let bytes = u64::try_from(self.bytes).unwrap_or_default();
        (bytes >= self.gathered()).then_some(bytes)
    }

    /// When [`Bucket::available`] has an answer.
    #[must_use]
    pub fn ready_at(&self) -> Millis {
        let missing = self.gathered().cast_signed().saturating_sub(self.bytes);
        let missing = u64::try_from(missing).unwrap_or_default();
        self.at + Millis(missing.saturating_mul(1_000).div_ceil(self.rate.bytes_per_s))
    }

    /// A message was sent.
    pub fn spent(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes.try_into().unwrap_or(i64::MAX));
    }

    fn gathered(&self) -> u64 {
        self.rate.burst_bytes.min(GATHER_BYTES_MAX)
    }

    fn fill(&mut self, now: Millis) {
        let per_s = self.rate.bytes_per_s;
        let earned = now.since(self.at).0.saturating_mul(per_s) / 1_000;
        if earned == 0 {
            return;
        }
        let full = self.rate.burst_bytes.cast_signed();
        self.bytes = self.bytes.saturating_add(earned.try_into().unwrap_or(i64::MAX)).min(full);
        // What is too little for a byte counts next time.
        self.at = self.at + Millis(earned.saturating_mul(1_000) / per_s);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_stays_within_burst_and_rate() {
        let rate = Rate { bytes_per_s: 1_000, burst_bytes: 20_000 };
        let mut bucket = Bucket::new(rate);
        let (mut now, mut sent, mut longest) = (0, 0, 0);
        for step in 0..10_000_u64 {
            now += step % 13;
            if let Some(bytes) = bucket.available(Millis(now)) {
                let message = bytes.min(3_000) + step % 700;
                bucket.spent(message);
                sent += message;
                longest = longest.max(message);
                assert!(sent <= 20_000 + now + 700, "{sent} bytes in {now} ms");
            } else {
                let ready = bucket.ready_at();
                assert!(ready > Millis(now), "it would spin");
                assert!(ready <= Millis(now + 9_000), "it would starve: {ready:?} at {now}");
            }
        }
        assert!(sent + 10_000 >= now, "it is used: {sent} bytes in {now} ms");
    }

    #[test]
    fn a_record_longer_than_the_burst_goes_and_is_paid_for() {
        let mut bucket = Bucket::new(Rate { bytes_per_s: 100, burst_bytes: 50 });
        assert_eq!(bucket.available(Millis(0)), Some(50));
        bucket.spent(1_050);
        assert_eq!(bucket.available(Millis(10_000)), None);
        assert_eq!(bucket.ready_at(), Millis(10_500));
        assert_eq!(bucket.available(Millis(10_500)), Some(50));
        assert_eq!(bucket.available(Millis(60_000_000)), Some(50), "a pause saves no more");
    }
}
