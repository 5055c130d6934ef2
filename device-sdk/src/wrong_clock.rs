//! Clocks that are wrong, for simulations.

use device_protocol::{Quality, Timestamp};

/// How wrong the clock of a device is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockError {
    /// How much faster than the true time it runs, in parts per million; from -1,000,000: it stands still.
    pub drift_ppm: i32,
    /// How much later than it should the device takes it to be, in milliseconds, once it knows the time.
    pub offset_ms: i64,
}

impl ClockError {
    /// What the device takes its uptime to be, in milliseconds.
    pub(crate) fn uptime_ms(self, true_ms: u64) -> u64 {
        let wrong = i128::from(true_ms) * i128::from(self.drift_ppm) / 1_000_000;
        u64::try_from(i128::from(true_ms) + wrong).unwrap_or(0)
    }

    /// What the device takes the time to be.
    pub(crate) fn stamp(self, stamp: Timestamp) -> Timestamp {
        match stamp.quality {
            Quality::Uptime => stamp,
            _ => Timestamp { ms: stamp.ms.saturating_add_signed(self.offset_ms), ..stamp },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_drifts_and_is_off() {
        let error = ClockError { drift_ppm: 100, offset_ms: -3_000 };
        assert_eq!(error.uptime_ms(1_000_000), 1_000_100);
        assert_eq!(ClockError { drift_ppm: -500_000, ..error }.uptime_ms(10), 5);
        assert_eq!(ClockError { drift_ppm: i32::MIN, ..error }.uptime_ms(10), 0);
        assert_eq!(error.stamp(Timestamp::uptime(7)), Timestamp::uptime(7), "it knows no better");
        let known = Timestamp { quality: Quality::Synced, ms: 10_000 };
        assert_eq!(error.stamp(known), Timestamp { ms: 7_000, ..known });
        assert_eq!(ClockError::default().stamp(known), known);
    }
}
