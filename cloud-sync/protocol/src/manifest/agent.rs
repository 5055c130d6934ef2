//! Agent programs of a manifest: an update of the gateways themselves, by target.

use std::collections::BTreeMap;

use edge_core::boot::Version;
use serde::{Deserialize, Serialize};

use crate::id::Digest;

/// A version of the agent, built for some targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Version that each of the programs calls itself: three numbers.
    pub version: String,
    /// Once a gateway has confirmed it, lower versions are refused. Left out where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<String>,
    /// It is tried again where it was taken back before. Left out where it is not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force: bool,
    /// Programs by target triple, such as `aarch64-unknown-linux-musl`.
    pub programs: BTreeMap<String, Program>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// SHA-256 of its file.
    pub artifact: Digest,
    /// Its length in bytes.
    pub size: u64,
}

impl Agent {
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
