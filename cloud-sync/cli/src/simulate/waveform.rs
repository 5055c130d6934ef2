//! What sensors measure, as a function of time. Pure: the caller says when.
//!
//! # Invariants
//! - The same seed and the same times give the same values; a value does not depend on how often was read before.
//! - What a waveform gives is finite.

use std::sync::Arc;

use super::random::Random;

/// Steps of a random walk that one reading catches up with; of a longer silence the rest is passed over.
const STEPS_MAX: u64 = 100_000;

/// How a value changes with time.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    /// Always the same.
    Constant {
        /// The value.
        value: f64,
    },
    /// Up and down around a mean.
    Sine {
        /// The middle.
        mean: f64,
        /// From the middle to the highest value.
        swing: f64,
        /// A whole wave.
        every_ms: u64,
    },
    /// From one value to another, then from the start again.
    Ramp {
        /// First value.
        from: f64,
        /// Last value.
        to: f64,
        /// How long that takes.
        every_ms: u64,
    },
    /// Half of the time low, half of it high.
    Square {
        /// First half.
        low: f64,
        /// Second half.
        high: f64,
        /// Both halves.
        every_ms: u64,
    },
    /// A step up or down, again and again, within bounds.
    Walk {
        /// Where it starts.
        start: f64,
        /// Length of a step.
        step: f64,
        /// Lower bound.
        low: f64,
        /// Upper bound.
        high: f64,
        /// From step to step.
        every_ms: u64,
    },
    /// Recorded values, from the start again at their end.
    Replay {
        /// The values, at least one.
        values: Arc<[f64]>,
        /// From value to value.
        every_ms: f64,
    },
}

/// A shape with what lies upon it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Waveform {
    /// The shape.
    pub(super) shape: Shape,
    /// Standard deviation of noise on top.
    pub(super) noise: f64,
    /// Whether each device begins somewhere else in the wave.
    pub(super) spread: bool,
}

/// A sensor of one device.
#[derive(Clone, Debug)]
pub(super) struct Sensor {
    waveform: Waveform,
    seed: u64,
    /// How far into the wave it begins.
    ahead_ms: u64,
    walk: Walk,
}

#[derive(Clone, Debug)]
struct Walk {
    at: f64,
    steps: u64,
    random: Random,
}

impl Sensor {
    /// The sensor `name` of device `index`.
    pub(super) fn new(waveform: &Waveform, seed: u64, name: &str, index: u64) -> Self {
        let mut random = Random::of(seed, name, index);
        let whole_ms = waveform.shape.whole_ms().max(1);
        let ahead_ms = if waveform.spread { random.bits() % whole_ms } else { 0 };
        let at = if let Shape::Walk { start, .. } = waveform.shape { start } else { 0.0 };
        let seed = random.bits();
        let walk = Walk { at, steps: 0, random };
        Self { waveform: waveform.clone(), seed, ahead_ms, walk }
    }

    /// What it measures so many milliseconds after the start; not before an earlier reading.
    pub(super) fn read(&mut self, at_ms: u64) -> f64 {
        let wave_ms = at_ms.saturating_add(self.ahead_ms);
        let value = match self.waveform.shape.value(wave_ms) {
            Some(value) => value,
            None => self.walk(at_ms),
        };
        if self.waveform.noise == 0.0 {
            return value;
        }
        value + self.waveform.noise * Random::of(self.seed, "noise", at_ms).normal()
    }

    fn walk(&mut self, at_ms: u64) -> f64 {
        let Shape::Walk { step, low, high, every_ms, .. } = self.waveform.shape else {
            return 0.0;
        };
        let due = at_ms / every_ms.max(1);
        self.walk.steps = self.walk.steps.max(due.saturating_sub(STEPS_MAX));
        while self.walk.steps < due {
            self.walk.steps += 1;
            let up = self.walk.random.bits() & 1 == 1;
            let next = if up { self.walk.at + step } else { self.walk.at - step };
            self.walk.at = next.clamp(low, high);
        }
        self.walk.at
    }
}

impl Shape {
    /// How long it takes until everything begins anew.
    fn whole_ms(&self) -> u64 {
        match self {
            Self::Constant { .. } | Self::Walk { .. } => 1,
            Self::Sine { every_ms, .. }
            | Self::Ramp { every_ms, .. }
            | Self::Square { every_ms, .. } => *every_ms,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a float is cut to the bounds of the integer"
            )]
            Self::Replay { values, every_ms } => (values.len() as f64 * every_ms) as u64,
        }
    }

    /// The value at a time; a walk has to be walked.
    fn value(&self, at_ms: u64) -> Option<f64> {
        let turn = |every_ms: u64| (at_ms % every_ms.max(1)) as f64 / every_ms.max(1) as f64;
        Some(match self {
            Self::Constant { value } => *value,
            Self::Sine { mean, swing, every_ms } => {
                mean + swing * (turn(*every_ms) * std::f64::consts::TAU).sin()
            }
            Self::Ramp { from, to, every_ms } => from + (to - from) * turn(*every_ms),
            Self::Square { low, high, every_ms } => {
                if turn(*every_ms) < 0.5 {
                    *low
                } else {
                    *high
                }
            }
            Self::Replay { values, every_ms } => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a float is cut to the bounds of the integer"
                )]
                let step = (at_ms as f64 / every_ms.max(0.001)) as usize;
                *values.get(step % values.len().max(1))?
            }
            Self::Walk { .. } => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sensor(shape: Shape) -> Sensor {
        Sensor::new(&Waveform { shape, noise: 0.0, spread: false }, 1, "temperature", 0)
    }

    #[test]
    fn shapes_have_their_values_at_their_times() {
        let mut sine = sensor(Shape::Sine { mean: 20.0, swing: 5.0, every_ms: 1_000 });
        for (at_ms, value) in [(0, 20.0), (250, 25.0), (500, 20.0), (750, 15.0), (1_250, 25.0)] {
            assert!((sine.read(at_ms) - value).abs() < 1e-9, "{at_ms}");
        }
        let mut ramp = sensor(Shape::Ramp { from: 10.0, to: 20.0, every_ms: 100 });
        assert_eq!([0, 50, 100].map(|at| ramp.read(at)), [10.0, 15.0, 10.0]);
        let mut square = sensor(Shape::Square { low: 0.0, high: 1.0, every_ms: 100 });
        assert_eq!([0, 49, 50, 99, 100].map(|at| square.read(at)), [0.0, 0.0, 1.0, 1.0, 0.0]);
        let mut replay =
            sensor(Shape::Replay { values: vec![1.0, 2.0, 3.0].into(), every_ms: 10.0 });
        assert_eq!([0, 9, 10, 29, 30].map(|at| replay.read(at)), [1.0, 1.0, 2.0, 3.0, 1.0]);
        assert_eq!(sensor(Shape::Constant { value: -3.5 }).read(u64::MAX), -3.5);
    }

    #[test]
    fn devices_beside_each_other_do_not_measure_the_same() {
        let shape = Shape::Sine { mean: 0.0, swing: 1.0, every_ms: 60_000 };
        let spread = Waveform { shape, noise: 0.0, spread: true };
        let mut one = Sensor::new(&spread, 1, "t", 0);
        let mut other = Sensor::new(&spread, 1, "t", 1);
        assert!((one.read(0) - other.read(0)).abs() > 1e-6);
    }

    fn shapes() -> impl Strategy<Value = Shape> {
        let walk = (-50.0..50.0_f64, 0.0..5.0_f64, 200_u64..5_000);
        prop_oneof![
            walk.prop_map(|(start, step, every_ms)| Shape::Walk {
                start,
                step,
                low: -50.0,
                high: 50.0,
                every_ms
            }),
            (-40.0..125.0_f64, 0.0..20.0_f64, 1_u64..100_000)
                .prop_map(|(mean, swing, every_ms)| Shape::Sine { mean, swing, every_ms }),
            (prop::collection::vec(-1e6..1e6_f64, 1..50), 0.01..1e6_f64)
                .prop_map(|(values, every_ms)| Shape::Replay { values: values.into(), every_ms }),
        ]
    }

    proptest! {
        #[test]
        fn a_value_depends_on_seed_and_time_alone(
            shape in shapes(), noise in 0.0..3.0_f64, seed: u64,
            mut times in prop::collection::vec(0_u64..10_000_000, 1..20),
        ) {
            times.sort_unstable();
            let waveform = Waveform { shape, noise, spread: true };
            let mut often = Sensor::new(&waveform, seed, "t", 3);
            let values: Vec<f64> = times.iter().map(|at| often.read(*at)).collect();
            let last = *times.last().unwrap();
            let mut once = Sensor::new(&waveform, seed, "t", 3);
            prop_assert_eq!(once.read(last), *values.last().unwrap());
            prop_assert!(values.iter().all(|value| value.is_finite()));
        }

        #[test]
        fn a_walk_stays_within_its_bounds(seed: u64, start in 0.0..10.0_f64, step in 0.0..30.0_f64) {
            let shape = Shape::Walk { start, step, low: 0.0, high: 10.0, every_ms: 10 };
            let mut walk = Sensor::new(&Waveform { shape, noise: 0.0, spread: false }, seed, "t", 0);
            for at_ms in (0..5_000).step_by(70) {
                prop_assert!((0.0..=10.0).contains(&walk.read(at_ms)));
            }
        }
    }
}
