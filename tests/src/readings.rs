//! Real machine-temperature readings (Numenta Anomaly Benchmark; licence beside the file).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// One reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Degrees Fahrenheit, as recorded.
    pub value: f64,
}

/// The excerpt that lives in the project.
#[must_use]
pub fn excerpt() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/machine_temperature_excerpt.csv")
}

/// Reads a `timestamp,value` file with a header line.
///
/// # Errors
/// The file cannot be read, or a line has no number; the message names the line.
pub fn read(path: &Path) -> Result<Vec<Reading>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let rows = text.lines().enumerate().skip(1).filter(|(_, line)| !line.is_empty());
    rows.map(|(n, line)| {
        let value = line.rsplit(',').next().and_then(|field| field.parse().ok());
        let value = value.with_context(|| format!("{}:{}: no value", path.display(), n + 1))?;
        Ok(Reading { value })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_excerpt_is_real_and_holds_an_anomaly() {
        let readings = read(&excerpt()).expect("the excerpt is part of the project");
        assert!(readings.len() >= 2_000);
        let low = readings.iter().map(|r| r.value).fold(f64::MAX, f64::min);
        let high = readings.iter().map(|r| r.value).fold(f64::MIN, f64::max);
        assert!(low < 30.0 && high > 90.0, "{low} to {high}");
    }
}
