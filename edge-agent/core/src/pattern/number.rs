//! Numbers of patterns and events, compared by value and without rounding.

use std::cmp::Ordering;

/// Whole numbers below this are kept as such, also where they were written as `300.0` or `3e2`.
const WHOLE_BELOW: f64 = (1_u128 << 100) as f64;

/// A number of JSON: whole ones of 64 bits are exact, all others are the nearest double.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Whole(i128),
    /// Not whole, or at least 2^100.
    Real(f64),
}

// JSON has no NaN, and the parser refuses what no double holds.
impl Eq for Number {}

impl Number {
    pub(super) fn real(value: f64) -> Self {
        if value.abs() < WHOLE_BELOW && value.fract() == 0.0 {
            Self::Whole(whole(value))
        } else {
            Self::Real(value)
        }
    }

    pub(super) fn of(number: &serde_json::Number) -> Option<Self> {
        let whole = number.as_i128().map(Self::Whole);
        whole.or_else(|| number.as_f64().map(Self::real))
    }

    pub(super) fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Whole(one), Self::Whole(two)) => one.cmp(&two),
            (Self::Real(one), Self::Real(two)) => one.total_cmp(&two),
            (Self::Whole(one), Self::Real(two)) => against(one, two),
            (Self::Real(one), Self::Whole(two)) => against(two, one).reverse(),
        }
    }
}

/// A whole number against one that is not whole, or so large that its sign decides.
fn against(one: i128, two: f64) -> Ordering {
    let above = if two.abs() < WHOLE_BELOW { one > whole(two.floor()) } else { two < 0.0 };
    if above { Ordering::Greater } else { Ordering::Less }
}

#[expect(clippy::cast_possible_truncation, reason = "below 2^100 and whole: the cast is exact")]
fn whole(value: f64) -> i128 {
    value as i128
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_by_value_without_rounding() {
        let number = |text: &str| Number::of(&serde_json::from_str(text).unwrap()).unwrap();
        for (one, two) in [("300", "300.0"), ("300", "3e2"), ("0", "-0.0"), ("1e2", "100")] {
            assert_eq!(number(one).compare(number(two)), Ordering::Equal, "{one} {two}");
            assert_eq!(number(one), number(two));
        }
        let rising = [
            "-1e300",
            "-18446744073709551615",
            "-9223372036854775808",
            "-1.5",
            "-1",
            "-0.5",
            "0",
            "1e-9",
            "0.5",
            "9007199254740992",
            "9007199254740993",
            "9007199254740994.0",
            "18446744073709551614",
            "18446744073709551615",
            "18446744073709551616",
            "1e29",
            "1e31",
            "1e300",
        ];
        for pair in rising.windows(2) {
            let (one, two) = (number(pair[0]), number(pair[1]));
            assert_eq!(one.compare(two), Ordering::Less, "{pair:?}");
            assert_eq!(two.compare(one), Ordering::Greater, "{pair:?}");
        }
    }
}
