//! Firmware of a manifest: images for devices, and which devices they are for. An image is the firmware itself or a
//! function that it runs.
//!
//! An image is signed on its own, over what the gateway offers to a device
//! ([`Offer::signed`]): a device trusts the author, not the gateway. The signature stands in the
//! manifest and is made by the key that signs the manifest.

use std::fmt;

use device_protocol::Down;
use device_protocol::update::Offer;
use serde::{Deserialize, Serialize};

use crate::id::Digest;
use crate::limits::DEVICE_NAME_BYTES_MAX;
use crate::revision::{AuthorKey, SigningKey};

/// Bytes of an Ed25519 signature.
const SIGNATURE_BYTES: usize = 64;

/// What an image is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum ImageKind {
    /// The firmware of the device, which its boot loader starts.
    #[default]
    Firmware,
    /// A function that the firmware runs: a device image ([`crate::device_image`]).
    Function,
}

impl ImageKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Firmware, Self::Function];

    /// The kind of offer, as it stands in its topic.
    #[must_use]
    pub const fn offer_kind(self) -> &'static str {
        match self {
            Self::Firmware => "offer",
            Self::Function => "function",
        }
    }

    /// Stable text, as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::Function => "function",
        }
    }

    /// The message that brings an offer of this kind.
    #[must_use]
    pub const fn down(self, offer: Offer<'_>) -> Down<'_> {
        match self {
            Self::Firmware => Down::Offer(offer),
            Self::Function => Down::Function(offer),
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_firmware(&self) -> bool {
        *self == Self::Firmware
    }
}

/// An image and the devices that should run it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    /// What it is. Left out of the bytes where it is firmware.
    #[serde(default, skip_serializing_if = "ImageKind::is_firmware")]
    pub kind: ImageKind,
    /// SHA-256 of the image.
    pub artifact: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Board that it is built for, or, of a function, what it is compiled for: a device of another one declines it.
    pub board: String,
    /// Version of the image: a device that runs it already takes nothing.
    pub version: u32,
    /// Versions below it are declined by a device that runs this image.
    pub floor: u32,
    /// Which devices: [`DevicePattern`]s.
    pub devices: Vec<String>,
    /// The author's Ed25519 signature over what is offered, in hexadecimal. Left out where nobody
    /// has signed the manifest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub signature: String,
}

impl Firmware {
    /// Whether it is for a device of this name.
    #[must_use]
    pub fn is_for(&self, device: &str) -> bool {
        self.devices
            .iter()
            .filter_map(|text| text.parse().ok())
            .any(|p: DevicePattern| p.matches(device))
    }

    /// What a device is offered, where the image was signed; `signature` is room for the signature.
    #[must_use]
    pub fn offer<'a>(&'a self, signature: &'a mut [u8; SIGNATURE_BYTES]) -> Option<Offer<'a>> {
        hex::decode_to_slice(&self.signature, signature).ok()?;
        Some(Offer { signature, ..self.unsigned()? })
    }

    /// Signs what is offered; an image that no device could take stays unsigned.
    pub(crate) fn sign(&mut self, key: &SigningKey) {
        let message = self.unsigned().and_then(|offer| offer.signed().ok());
        self.signature = message.map_or_else(String::new, |bytes| hex::encode(key.sign(&bytes)));
    }

    /// Whether `author` signed what is offered.
    pub(crate) fn is_signed_by(&self, author: &AuthorKey) -> bool {
        let mut signature = [0; SIGNATURE_BYTES];
        let Some(offer) = self.offer(&mut signature) else { return false };
        offer.signed().is_ok_and(|message| author.verify(&message, offer.signature))
    }

    fn unsigned(&self) -> Option<Offer<'_>> {
        Some(Offer {
            digest: self.artifact.0,
            length: u32::try_from(self.size).ok()?,
            board: &self.board,
            version: self.version,
            floor: self.floor,
            signature: &[],
        })
    }
}

/// A text is no pattern of device names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a pattern is the name of a device (1 to {DEVICE_NAME_BYTES_MAX} of a-z, A-Z, 0-9, '-', '_' and '.'), or the \
     beginning of names with `*` behind it"
)]
pub struct DevicePatternError;

/// Names of devices: one name, or all that begin alike (`press-*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePattern {
    stem: String,
    is_open: bool,
}

impl DevicePattern {
    /// Whether a device of this name is meant.
    #[must_use]
    pub fn matches(&self, device: &str) -> bool {
        if self.is_open { device.starts_with(&self.stem) } else { device == self.stem }
    }

    /// Whether a device can be meant by both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        (self.is_open && other.stem.starts_with(&self.stem))
            || (other.is_open && self.stem.starts_with(&other.stem))
            || self.stem == other.stem
    }
}

impl fmt::Display for DevicePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.stem, if self.is_open { "*" } else { "" })
    }
}

impl std::str::FromStr for DevicePattern {
    type Err = DevicePatternError;

    fn from_str(text: &str) -> Result<Self, DevicePatternError> {
        let (stem, is_open) = text.strip_suffix('*').map_or((text, false), |stem| (stem, true));
        let is_name = stem.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        let is_long = stem.len() > DEVICE_NAME_BYTES_MAX || (stem.is_empty() && !is_open);
        if !is_name || is_long {
            return Err(DevicePatternError);
        }
        Ok(Self { stem: stem.to_owned(), is_open })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> DevicePattern {
        text.parse().unwrap()
    }

    #[test]
    fn patterns_are_names_or_beginnings_of_names() {
        for good in ["press-7", "press-*", "*", "A_b.c"] {
            assert_eq!(pattern(good).to_string(), good);
        }
        for bad in ["", "a*b", "**", "a b", "a/b", "ä", &"a".repeat(65)] {
            assert_eq!(bad.parse::<DevicePattern>(), Err(DevicePatternError), "{bad}");
        }
        assert!(pattern("press-*").matches("press-7") && pattern("press-*").matches("press-"));
        assert!(!pattern("press-7").matches("press-70"));
    }

    #[test]
    fn patterns_overlap_where_a_name_matches_both() {
        for (a, b, meet) in [
            ("press-*", "press-7", true),
            ("press-*", "pr*", true),
            ("*", "a", true),
            ("press-7", "press-7", true),
            ("press-7", "press-70", false),
            ("press-1*", "press-2*", false),
        ] {
            assert_eq!(pattern(a).overlaps(&pattern(b)), meet, "{a} {b}");
            assert_eq!(pattern(b).overlaps(&pattern(a)), meet, "{b} {a}");
        }
    }
}
