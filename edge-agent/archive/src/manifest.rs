//! What a backup says that it holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::parts;

/// Its name within the archive: the last entry.
pub const NAME: &str = "manifest.json";
/// Version of the archive.
pub const FORMAT: u32 = 1;
/// Bytes of a manifest.
pub const BYTES_MAX: u64 = 8 << 20;
/// Files of a backup: a store has a few, a library one for each artifact.
pub const FILES_MAX: usize = 20_000;
/// Bytes of one file: the highest ceiling of a store.
pub const FILE_BYTES_MAX: u64 = 1 << 40;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the archive.
    pub format: u32,
    /// Version of the agent that made it.
    pub agent: String,
    /// Name of the gateway.
    pub gateway: String,
    /// When it was made by the system's clock, in seconds since 1970.
    pub made_unix_s: u64,
    /// Every file, by its path.
    pub files: BTreeMap<String, Saved>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// Size.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.values().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    /// Reads one and compares it with what was found in the archive before it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn judge(text: &[u8], found: &BTreeMap<String, Saved>) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let version: Version = serde_json::from_slice(text).map_err(|err| err.to_string())?;
        if version.format != FORMAT {
            let known = format!("this program knows {FORMAT}: restore with the agent that made it");
            return Err(format!("its format is {}, {known}", version.format));
        }
        let manifest: Self = serde_json::from_slice(text).map_err(|err| err.to_string())?;
        if let Some(path) = manifest.files.keys().find(|path| parts::of_path(path).is_none()) {
            return Err(format!("{path:?} belongs to no backup"));
        }
        if manifest.files != *found {
            return Err("what it holds is not what its manifest says".to_owned());
        }
        Ok(manifest)
    }
}
