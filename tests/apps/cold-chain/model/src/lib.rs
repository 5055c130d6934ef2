//! What the functions of the app `cold-chain` compute, as plain code: the functions run it in
//! WebAssembly, the demonstration's check runs it natively over the same readings, and the states
//! must be equal to the last bit.
//!
//! # Invariants
//! - Only `+ - * /`, `sqrt` and comparisons of `f64`, which IEEE 754 defines to the last bit: no
//!   `powf`, `exp` or fused operations, whose results depend on the platform.
//! - A state is a function of the readings in their order, and of nothing else.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

/// Weight of a new reading in the moving mean.
const ALPHA: f64 = 0.05;
/// Readings before scores mean something.
const WARM_UP: u64 = 20;
/// Smallest deviation that a score is measured in: a sensor's own noise.
const DEVIATION_MIN: f64 = 0.1;
/// Quiet scores in a row that end an alarm.
const CALM: u32 = 5;

/// What a device sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The device, for people; the gateway knows who sent it.
    pub device: String,
    /// Number of the reading.
    pub seq: u64,
    /// The temperature.
    pub value: f64,
}

/// Exponentially weighted mean and variance of a device's readings: the state of `smooth`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moving {
    /// Readings so far.
    pub count: u64,
    /// Number of the last one.
    pub seq: u64,
    /// The moving mean.
    pub mean: f64,
    /// The moving variance.
    pub variance: f64,
}

/// What `smooth` computes of a reading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Smoothed {
    /// The device.
    pub device: String,
    /// Number of the reading.
    pub seq: u64,
    /// The reading.
    pub value: f64,
    /// The moving mean with it.
    pub mean: f64,
    /// How many deviations it lies from the mean before it.
    pub score: f64,
}

/// What `smooth` publishes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SmoothedMessage {
    /// What it computed.
    #[serde(flatten)]
    pub smoothed: Smoothed,
    /// Which attempt at the reading did; the check looks whether retries were spent.
    pub attempt: u32,
}

impl Moving {
    /// Takes a reading in.
    #[must_use]
    pub fn observe(&mut self, reading: &Reading) -> Smoothed {
        let difference = reading.value - self.mean;
        let deviation = self.variance.sqrt().max(DEVIATION_MIN);
        let score = if self.count < WARM_UP { 0.0 } else { difference.abs() / deviation };
        if self.count == 0 {
            self.mean = reading.value;
        } else {
            let step = ALPHA * difference;
            self.mean += step;
            self.variance = (1.0 - ALPHA) * (self.variance + difference * step);
        }
        self.count += 1;
        self.seq = reading.seq;
        Smoothed {
            device: reading.device.clone(),
            seq: reading.seq,
            value: reading.value,
            mean: self.mean,
            score,
        }
    }
}

/// When an alarm begins and ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// A score at or above this begins it.
    pub raise: f64,
    /// Scores below this, some in a row, end it.
    pub clear: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { raise: 2.5, clear: 1.25 }
    }
}

/// Whether a device's alarm is on: the state of `alarm`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// It is on.
    pub on: bool,
    /// Quiet scores since the last loud one.
    pub calm: u32,
    /// Times it went on.
    pub raised: u64,
    /// Scores judged.
    pub judged: u64,
}

/// What `alarm` publishes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The device.
    pub device: String,
    /// Number of the reading that changed it.
    pub seq: u64,
    /// The alarm went on, or off.
    pub on: bool,
    /// The score that did.
    pub score: f64,
}

impl Alarm {
    /// Judges a score; says when the alarm goes on or off.
    pub fn judge(&mut self, smoothed: &Smoothed, thresholds: Thresholds) -> Option<Change> {
        let was_on = self.on;
        self.judged += 1;
        self.calm = if smoothed.score < thresholds.clear { self.calm.saturating_add(1) } else { 0 };
        if smoothed.score >= thresholds.raise {
            self.on = true;
        } else if self.calm >= CALM {
            self.on = false;
        }
        self.raised += u64::from(self.on && !was_on);
        (self.on != was_on).then(|| Change {
            device: smoothed.device.clone(),
            seq: smoothed.seq,
            on: self.on,
            score: smoothed.score,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOUD: Thresholds = Thresholds { raise: 4.0, clear: 2.0 };

    fn reading(seq: u64, value: f64) -> Reading {
        Reading { device: "m1".to_owned(), seq, value }
    }

    /// A steady signal with a little deterministic noise.
    fn steady(seq: u64) -> f64 {
        20.0 + [0.0, 0.3, -0.2, 0.1, -0.3][usize::try_from(seq % 5).unwrap()]
    }

    #[test]
    fn the_mean_follows_and_the_score_is_quiet() {
        let mut moving = Moving::default();
        for seq in 1..=200 {
            let smoothed = moving.observe(&reading(seq, steady(seq)));
            assert!(smoothed.score < 3.0, "{smoothed:?}");
        }
        assert!((moving.mean - 20.0).abs() < 0.1, "{moving:?}");
        assert_eq!((moving.count, moving.seq), (200, 200));
    }

    #[test]
    fn an_alarm_goes_on_once_and_off_once() {
        let (mut moving, mut alarm) = (Moving::default(), Alarm::default());
        let mut changes = Vec::new();
        for seq in 1..=300 {
            let value = if (100..103).contains(&seq) { 40.0 } else { steady(seq) };
            let smoothed = moving.observe(&reading(seq, value));
            changes.extend(alarm.judge(&smoothed, LOUD));
        }
        let told: Vec<(u64, bool)> = changes.iter().map(|change| (change.seq, change.on)).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told[0], (100, true));
        assert!(told[1].0 > 103 && !told[1].1, "{told:?}");
        assert_eq!((alarm.raised, alarm.judged, alarm.on), (1, 300, false));
    }

    #[test]
    fn it_does_not_flutter_between_the_thresholds() {
        let mut alarm = Alarm::default();
        let mut judge = |score: f64| {
            let smoothed =
                Smoothed { device: "m1".to_owned(), seq: 1, value: 0.0, mean: 0.0, score };
            alarm.judge(&smoothed, LOUD).map(|change| change.on)
        };
        let changes: Vec<Option<bool>> =
            [3.9, 4.0, 3.0, 1.0, 1.0, 3.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0].map(&mut judge).to_vec();
        let mut expected = vec![None; 12];
        expected[1] = Some(true);
        expected[10] = Some(false);
        assert_eq!(changes, expected);
    }
}
