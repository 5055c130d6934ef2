//! Numbers of a seed (splitmix64): the same seed, the same numbers.

/// A source of numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A source that gives the numbers of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    pub fn fraction(&mut self) -> f64 {
        f64::from(u32::try_from(self.bits() >> 32).unwrap_or_default())
            / (f64::from(u32::MAX) + 1.0)
    }

    /// From 0 to below `end`; 0 where that is empty.
    pub fn below(&mut self, end: usize) -> usize {
        // The modulo favours small numbers by less than one in 2^32 for what is chosen from here.
        usize::try_from(self.bits() % end.max(1) as u64).unwrap_or_default()
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_its_numbers_and_they_lie_in_their_range() {
        let (mut one, mut same) = (Random::new(7), Random::new(7));
        let mut seen = [false; 5];
        for _ in 0..200 {
            assert_eq!(one.bits(), same.bits());
            let fraction = one.fraction();
            assert!((0.0..1.0).contains(&fraction), "{fraction}");
            same.fraction();
            let n = one.below(5);
            assert_eq!(n, same.below(5));
            seen[n] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(one.below(0), 0);
    }
}
