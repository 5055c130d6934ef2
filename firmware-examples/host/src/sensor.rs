//! What the devices measure.

use std::rc::Rc;

use anyhow::{Context, Result, ensure};

/// Gives a temperature at each step, in thousandths of a degree Celsius.
#[derive(Clone, Debug)]
pub struct Sensor {
    /// Recorded values; none: a sine.
    recorded: Option<Rc<[i32]>>,
    step: u64,
}

/// Steps of a whole wave.
const WAVE_STEPS: u64 = 60;

impl Sensor {
    /// 20 degrees, up and down by 5, once in 60 steps.
    pub fn sine() -> Self {
        Self { recorded: None, step: 0 }
    }

    /// Values of a file: the last column of each line, in degrees; empty lines and a first line of words are passed over.
    pub fn replay(text: &str) -> Result<Self> {
        let mut values = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let cell = line.rsplit([',', ';', '\t']).next().unwrap_or("").trim();
            match cell.parse::<f64>() {
                Ok(celsius) => {
                    ensure!(celsius.abs() < 2e6, "line {}: {celsius} is no temperature", index + 1);
                    #[allow(clippy::cast_possible_truncation, reason = "below 2e9, as just seen")]
                    values.push((celsius * 1_000.0).round() as i32);
                }
                Err(_) if cell.is_empty() || index == 0 => {}
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!("line {}: '{cell}' is no number of degrees", index + 1)
                    });
                }
            }
        }
        ensure!(!values.is_empty(), "there is no reading: one number a line is needed");
        Ok(Self { recorded: Some(values.into()), step: 0 })
    }

    /// The same, so many steps later: devices beside each other do not measure the same.
    pub fn shifted(mut self, steps: u64) -> Self {
        self.step += steps;
        self
    }

    /// The next value.
    pub fn read(&mut self) -> i32 {
        let step = self.step;
        self.step += 1;
        match &self.recorded {
            Some(values) => {
                let index = step % values.len() as u64;
                values[usize::try_from(index).unwrap_or(0)]
            }
            None => {
                let turn = (step % WAVE_STEPS) as f64 / WAVE_STEPS as f64 * std::f64::consts::TAU;
                #[allow(clippy::cast_possible_truncation, reason = "between 15,000 and 25,000")]
                let value = (20_000.0 + 5_000.0 * turn.sin()).round() as i32;
                value
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_replayed_from_the_start_again() {
        let mut sensor = Sensor::replay("time,celsius\n1,20.5\n\n2,-3\n").unwrap();
        let values: Vec<i32> = (0..4).map(|_| sensor.read()).collect();
        assert_eq!(values, [20_500, -3_000, 20_500, -3_000]);
    }

    #[test]
    fn a_file_without_numbers_is_refused_with_the_line() {
        assert!(Sensor::replay("").is_err());
        let error = format!("{:#}", Sensor::replay("1\nwarm\n").unwrap_err());
        assert!(error.contains("line 2") && error.contains("warm"), "{error}");
    }

    #[test]
    fn a_sine_stays_within_its_bounds() {
        let mut sensor = Sensor::sine().shifted(13);
        assert!((0..200).all(|_| (15_000..=25_000).contains(&sensor.read())));
    }
}
