//! Whether a curve is flat.
//!
//! The slope is that of Theil and Sen: the median of the slopes between all pairs of points. Up to a
//! quarter of the points may be wild (a deployment compiles, a checkpoint runs) and do not move it,
//! where a line by least squares would follow them. What is judged is the growth over the window:
//! the slope times its length, against an allowance of a part of the median or an absolute amount,
//! whichever is more.

/// Points that the slope is computed from, at most; more are thinned evenly.
const POINTS_MAX: usize = 600;

/// What a curve may grow by within its window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Allowance {
    /// Part of the curve's median.
    pub(super) part: f64,
    /// In the unit of the curve.
    pub(super) amount: f64,
}

/// How a curve went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Trend {
    /// Its median.
    pub(super) median: f64,
    /// Growth over the window by the slope; negative where it falls.
    pub(super) growth: f64,
    /// What it may grow by.
    pub(super) allowed: f64,
}

impl Trend {
    /// Whether it grows by no more than it may.
    pub(super) fn is_flat(&self) -> bool {
        self.growth <= self.allowed
    }
}

/// The trend of points of seconds and values; `None` of fewer than three.
pub(super) fn trend(points: &[(f64, f64)], allowance: Allowance) -> Option<Trend> {
    if points.len() < 3 {
        return None;
    }
    let step = points.len().div_ceil(POINTS_MAX);
    let points: Vec<(f64, f64)> = points.iter().copied().step_by(step).collect();
    let median_value = median(points.iter().map(|(_, value)| *value).collect())?;
    let pairs = points.iter().enumerate().flat_map(|(n, (at, value))| {
        points[n + 1..].iter().map(move |(later, other)| (other - value) / (later - at))
    });
    let slope = median(pairs.filter(|slope| slope.is_finite()).collect())?;
    let length = points.last()?.0 - points.first()?.0;
    let allowed = allowance.amount.max(allowance.part * median_value);
    Some(Trend { median: median_value, growth: slope * length, allowed })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    let middle = values.len() / 2;
    if values.is_empty() {
        return None;
    }
    Some(*values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENTH: Allowance = Allowance { part: 0.1, amount: 1.0 };

    fn curve(value: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        (0..1_000).map(|n| (f64::from(n), value(f64::from(n)))).collect()
    }

    #[test]
    fn noise_and_single_peaks_are_flat_and_a_leak_is_not() {
        let noisy = |at: f64| 100.0 + (at * 12.9898).sin() * 5.0;
        assert!(trend(&curve(noisy), TENTH).unwrap().is_flat());
        let peaks = |at: f64| noisy(at) + if at % 50.0 < 8.0 { 400.0 } else { 0.0 };
        assert!(trend(&curve(peaks), TENTH).unwrap().is_flat());
        let leak = |at: f64| noisy(at) + at * 0.05;
        let trend = trend(&curve(leak), TENTH).unwrap();
        assert!(!trend.is_flat() && (45.0..55.0).contains(&trend.growth), "{trend:?}");
    }

    #[test]
    fn it_may_fall_and_too_little_is_no_trend() {
        assert!(trend(&curve(|at| 1_000.0 - at), TENTH).unwrap().is_flat());
        assert_eq!(trend(&[(0.0, 1.0), (1.0, 9.0)], TENTH), None);
        let same_moment = [(1.0, 1.0); 5];
        assert_eq!(trend(&same_moment, TENTH), None);
    }
}
