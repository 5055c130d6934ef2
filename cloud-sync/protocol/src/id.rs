//! Small typed identities of the contract. In JSON they are lower-case hexadecimal text, on the
//! wire they are bytes.

use std::fmt;
use std::str::FromStr;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::limits::NAME_BYTES_MAX;

/// Text that is not the identity it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct IdError {
    /// What it should look like.
    pub expected: &'static str,
    /// The beginning of what it is.
    pub found: String,
}

impl IdError {
    pub(crate) fn new(expected: &'static str, found: &str) -> Self {
        Self { expected, found: found.chars().take(80).collect() }
    }
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut bytes = [0; $bytes];
                let lower = text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
                match hex::decode_to_slice(text, &mut bytes) {
                    Ok(()) if lower => Ok(Self(bytes)),
                    _ => Err(IdError::new($expected, text)),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
                } else {
                    <[u8; $bytes]>::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

hex_id! {
    /// SHA-256 of a manifest (then it names a revision) or of an artifact.
    Digest, 32, "a SHA-256 digest of 64 hexadecimal digits"
}
hex_id! {
    /// A control plane's store: generations of different instances are not comparable.
    InstanceId, 16, "an instance id of 32 hexadecimal digits"
}
hex_id! {
    /// An author's public key: the first 16 bytes of its SHA-256.
    KeyId, 16, "a key id of 32 hexadecimal digits"
}

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(out)
    }
}

/// Name of an event for all its attempts: the gateway's process run and a position in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventId {
    /// 64 random bits of the process run that admitted the event.
    pub epoch: u64,
    /// Position within that run, from 1.
    pub n: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:x}", self.epoch, self.n)
    }
}

impl FromStr for EventId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = || IdError::new("an event id like 00112233aabbccdd-2f", text);
        let (epoch, n) = text.split_once('-').ok_or_else(error)?;
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| error())?;
        let n = u64::from_str_radix(n, 16).map_err(|_| error())?;
        Ok(Self { epoch, n })
    }
}

/// Whether `text` may name a gateway, app, function or trigger: 1 to 63 of `a-z 0-9 -`, with no
/// hyphen at either end. Such a name is safe in a topic, a file name and a certificate.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= NAME_BYTES_MAX
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

/// Checks a name and says what a good one looks like.
///
/// # Errors
/// [`IdError`] when it is not one.
pub fn check_name(text: &str) -> Result<(), IdError> {
    if is_name(text) {
        Ok(())
    } else {
        Err(IdError::new("a name of 1 to 63 characters a-z, 0-9 and inner hyphens", text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "cold-chain", "gw1", "9", &"x".repeat(63)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a/b", "a b", "ä", "+", "#", &"x".repeat(64)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn digest_text_round_trips_and_refuses_others() {
        let digest = Digest::of(b"abc");
        let text = digest.to_string();
        assert_eq!(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(text.parse::<Digest>(), Ok(digest));
        assert!(text.to_uppercase().parse::<Digest>().is_err());
        assert!(text[1..].parse::<Digest>().is_err());
        assert_eq!(serde_json::to_string(&digest).unwrap(), format!("\"{text}\""));
    }

    #[test]
    fn event_id_text_round_trips() {
        let id = EventId { epoch: 0xdead_beef, n: 47 };
        assert_eq!(id.to_string(), "00000000deadbeef-2f");
        assert_eq!("00000000deadbeef-2f".parse::<EventId>(), Ok(id));
        assert!("zz-1".parse::<EventId>().is_err());
        assert!("12".parse::<EventId>().is_err());
    }
}
