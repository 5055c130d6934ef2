//! Numbers of a seed (splitmix64): the same seed, the same numbers. For spreading, not for secrets.

/// A source of numbers.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// The numbers of this seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The numbers of one of many that share a seed: of a device, or of one of its sensors.
    pub(super) fn of(seed: u64, kind: &str, index: u64) -> Self {
        let mut mixed = Self(seed ^ index.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        for byte in kind.bytes() {
            mixed = Self(mixed.bits() ^ u64::from(byte));
        }
        Self(mixed.bits())
    }

    /// 64 bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    pub(super) fn fraction(&mut self) -> f64 {
        f64::from(u32::try_from(self.bits() >> 32).unwrap_or_default())
            / (f64::from(u32::MAX) + 1.0)
    }

    /// From 0 to below `end`; 0 where that is empty.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.bits() % end.max(1) as u64).unwrap_or_default()
    }

    /// About `mean`, between half of it and one and a half.
    pub(super) fn about(&mut self, mean: u64) -> u64 {
        mean / 2 + self.bits() % mean.saturating_add(1).max(1)
    }

    /// About normally distributed: mean 0, standard deviation 1, never beyond 6 (Irwin-Hall, 12 terms).
    pub(super) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.fraction()).sum::<f64>() - 6.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_its_numbers_and_they_lie_in_their_range() {
        let (mut one, mut same) = (Random::of(7, "a", 3), Random::of(7, "a", 3));
        for _ in 0..500 {
            assert_eq!(one.bits(), same.bits());
            assert!((0.0..1.0).contains(&one.fraction()) && (0.0..1.0).contains(&same.fraction()));
            assert!(one.below(5) < 5 && same.below(5) < 5);
            assert!((50..=150).contains(&one.about(100)) && same.about(100) <= 150);
        }
        assert_eq!(one.below(0), 0);
        assert_ne!(Random::of(7, "a", 3).bits(), Random::of(7, "b", 3).bits());
        assert_ne!(Random::of(7, "a", 3).bits(), Random::of(7, "a", 4).bits());
        assert_ne!(Random::of(7, "a", 3).bits(), Random::of(8, "a", 3).bits());
    }

    #[test]
    fn normal_numbers_have_the_mean_and_the_deviation_of_their_name() {
        let mut random = Random::new(1);
        let drawn: Vec<f64> = (0..4_000).map(|_| random.normal()).collect();
        let mean = drawn.iter().sum::<f64>() / 4_000.0;
        let square = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 4_000.0;
        assert!(mean.abs() < 0.1 && (0.9..1.1).contains(&square), "{mean} {square}");
    }
}
