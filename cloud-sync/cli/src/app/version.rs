//! Versions of an app: `major.minor.patch`.
//!
//! The signed sequence of a revision follows from its version, so that building the same sources
//! twice gives the same revision, and a higher version is a later one on every gateway.

use std::fmt;
use std::str::FromStr;

/// A version. Each part is below 65,536.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Changes that others must know of.
    pub major: u16,
    /// Additions.
    pub minor: u16,
    /// Repairs.
    pub patch: u16,
}

impl Version {
    /// Position among the revisions of an app: higher versions have higher numbers.
    #[must_use]
    pub fn sequence(self) -> u64 {
        u64::from(self.major) << 32 | u64::from(self.minor) << 16 | u64::from(self.patch)
    }
}

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('.').map(part);
        let mut next = || parts.next().flatten().ok_or(());
        let version = Self { major: next()?, minor: next()?, patch: next()? };
        if parts.next().is_some() { Err(()) } else { Ok(version) }
    }
}

/// A decimal number without sign or leading zero: `01.0.0` and `1.0.0` would be one sequence.
fn part(text: &str) -> Option<u16> {
    let plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_as_their_sequences() {
        let all = ["0.0.1", "0.1.0", "0.65535.65535", "1.0.0", "1.0.1", "65535.65535.65535"];
        let parsed: Vec<Version> = all.iter().map(|text| text.parse().expect("valid")).collect();
        assert!(parsed.windows(2).all(|pair| pair[0].sequence() < pair[1].sequence()));
        let texts: Vec<_> = parsed.iter().map(ToString::to_string).collect();
        assert_eq!(texts, all);
    }

    #[test]
    fn what_is_not_three_numbers_is_refused() {
        for bad in ["", "1", "1.0", "1.0.0.0", "1.0.x", "1.0.-1", "1.0.+1", "01.0.0", "1.0.65536"] {
            assert_eq!(bad.parse::<Version>(), Err(()), "{bad}");
        }
    }
}
