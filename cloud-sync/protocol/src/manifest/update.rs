//! An update of the gateways themselves: their agent by target, or their whole system by board. One file of
//! several is for a gateway, goes on trial there, and is kept or taken back.

use std::collections::BTreeMap;

use edge_core::boot::Version;
use serde::{Deserialize, Serialize};

use crate::id::Digest;
use crate::limits::BOARD_BYTES_MAX;

/// A version of the agent, or of the system, built for some targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// Version that each of the files calls itself: three numbers.
    pub version: String,
    /// Once a gateway has confirmed it, lower versions are refused. Left out where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<String>,
    /// It is tried again where it was taken back before. Left out where it is not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force: bool,
    /// Files: programs by target triple, such as `aarch64-unknown-linux-musl`, or systems by board, such as
    /// `rpi4`.
    pub programs: BTreeMap<String, Program>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Its SHA-256.
    pub artifact: Digest,
    /// Its length in bytes.
    pub size: u64,
}

impl Update {
    /// Its version; `None` where the text is none, which [`super::Manifest::problems`] reports.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.version.parse().ok()
    }

    /// Its floor; without one everything is allowed.
    #[must_use]
    pub fn floor(&self) -> Option<Version> {
        self.floor.as_ref().map_or(Some(Version::default()), |text| text.parse().ok())
    }
}

/// Whether a text can be a target triple: words of small letters, digits and `_`, joined by `-`.
#[must_use]
pub fn is_target(text: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    (2..=5).contains(&text.split('-').count()) && text.split('-').all(is_word)
}

/// Whether a text can be the name of a board: small letters and digits.
#[must_use]
pub fn is_board(text: &str) -> bool {
    (1..=BOARD_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}
