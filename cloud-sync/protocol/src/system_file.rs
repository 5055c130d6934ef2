//! A whole system as one file (`.system`): what goes into a slot of a card image.
//!
//! Layout, integers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `HOLMSYST` |
//! | 1 | format, now 1 |
//! | 4 | length n of the header, at most 4 KiB |
//! | n | the header, JSON: board, version, and size and SHA-256 of each part |
//! | | the root, the kernel, the initramfs, one after the other |
//!
//! Nothing follows the last part. The file as a whole is signed by the manifest that names its digest;
//! the digests of the parts are for what is read back from the card.

use edge_core::boot::Version;
use serde::{Deserialize, Serialize};

use crate::id::Digest;
use crate::limits::SYSTEM_BYTES_MAX;
use crate::manifest::update::is_board;

const MAGIC: &[u8; 8] = b"HOLMSYST";
const FORMAT: u8 = 1;
const FIXED_BYTES: usize = 13;
const HEADER_BYTES_MAX: usize = 4 << 10;

/// No more than this of a file is needed to read its header.
pub const HEAD_BYTES_MAX: usize = FIXED_BYTES + HEADER_BYTES_MAX;

/// Why bytes are not a system.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SystemFileError {
    /// Something else altogether.
    #[error("this is not a system: `cargo xtask image` writes one beside each image")]
    NotASystem,
    /// A later format.
    #[error("the system file has format {0}, this version reads {FORMAT}")]
    Format(u8),
    /// Its header makes no sense.
    #[error("the header of the system file: {0}")]
    Header(String),
    /// Its parts have another length than the file.
    #[error("the system file has {actual} bytes, its header says {said}")]
    Length {
        /// Of the file.
        actual: u64,
        /// By the header.
        said: u64,
    },
}

/// A part of a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its length in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Digest,
}

impl Part {
    /// That of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { size: bytes.len() as u64, sha256: Digest::of(bytes) }
    }
}

/// What a system is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The board that it is made for.
    pub board: String,
    /// What it calls itself: three numbers.
    pub version: String,
    /// The file system of the root.
    pub root: Part,
    /// The kernel, packed.
    pub kernel: Part,
    /// The initramfs, packed.
    pub initramfs: Part,
}

impl Header {
    /// The parts, in their order.
    #[must_use]
    pub const fn parts(&self) -> [Part; 3] {
        [self.root, self.kernel, self.initramfs]
    }

    /// The beginning of the file: all that is before the first part.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let header = serde_json::to_vec(self).expect("invariant: plain fields always serialise");
        let length = u32::try_from(header.len()).expect("invariant: a header is short");
        [MAGIC.as_slice(), &[FORMAT], &length.to_le_bytes(), &header].concat()
    }

    /// Reads the beginning of a file of `file_bytes` bytes, of which [`HEAD_BYTES_MAX`] are enough. Returns
    /// the header, and where the first part begins.
    ///
    /// # Errors
    /// [`SystemFileError`] for whatever is not the beginning of exactly one system.
    pub fn parse(begin: &[u8], file_bytes: u64) -> Result<(Self, u64), SystemFileError> {
        let wrong = |why: &str| SystemFileError::Header(why.to_owned());
        let Some((fixed, rest)) = begin.split_first_chunk::<FIXED_BYTES>() else {
            return Err(SystemFileError::NotASystem);
        };
        let [m0, m1, m2, m3, m4, m5, m6, m7, format, n0, n1, n2, n3] = *fixed;
        if [m0, m1, m2, m3, m4, m5, m6, m7] != *MAGIC {
            return Err(SystemFileError::NotASystem);
        }
        if format != FORMAT {
            return Err(SystemFileError::Format(format));
        }
        let length = usize::try_from(u32::from_le_bytes([n0, n1, n2, n3]));
        let length = length.ok().filter(|length| *length <= HEADER_BYTES_MAX);
        let length = length.ok_or_else(|| wrong("it is too long"))?;
        let bytes = rest.get(..length).ok_or_else(|| wrong("the file ends within it"))?;
        let header: Self = serde_json::from_slice(bytes)
            .map_err(|error| SystemFileError::Header(error.to_string()))?;
        if !is_board(&header.board) {
            return Err(wrong("`board` is no name of a board"));
        }
        if header.version().is_none() {
            return Err(wrong("`version` must be three numbers below 65536"));
        }
        let sizes = header.parts().map(|part| part.size);
        if sizes.iter().any(|size| !(1..=SYSTEM_BYTES_MAX).contains(size)) {
            return Err(wrong("a part is empty or too long"));
        }
        let from = (FIXED_BYTES + length) as u64;
        let said = from + sizes.iter().sum::<u64>();
        if said != file_bytes {
            return Err(SystemFileError::Length { actual: file_bytes, said });
        }
        Ok((header, from))
    }

    /// Its version; `None` where the text is none.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        let version: Version = self.version.parse().ok()?;
        (version.to_string() == self.version).then_some(version)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file() -> Vec<u8> {
        let (root, kernel, initramfs) = (vec![1; 5_000], vec![2; 300], vec![3; 20]);
        let header = Header {
            board: "virt".to_owned(),
            version: "0.2.0".to_owned(),
            root: Part::of(&root),
            kernel: Part::of(&kernel),
            initramfs: Part::of(&initramfs),
        };
        [header.to_bytes(), root, kernel, initramfs].concat()
    }

    fn parse(file: &[u8]) -> Result<(Header, u64), SystemFileError> {
        Header::parse(&file[..file.len().min(HEAD_BYTES_MAX)], file.len() as u64)
    }

    #[test]
    fn what_is_written_is_read() {
        let file = file();
        let (header, from) = parse(&file).unwrap();
        assert_eq!(header.version(), Some(Version(0, 2, 0)));
        let from = usize::try_from(from).unwrap();
        assert_eq!(Part::of(&file[from..from + 5_000]), header.root);
        assert_eq!(Part::of(&file[file.len() - 20..]), header.initramfs);
    }

    #[test]
    fn what_is_none_says_why() {
        let good = file();
        assert_eq!(parse(b"#!/bin/sh\n"), Err(SystemFileError::NotASystem));
        let mut later = good.clone();
        later[8] = 2;
        assert_eq!(parse(&later), Err(SystemFileError::Format(2)));
        let short = parse(&good[..good.len() - 1]);
        assert!(matches!(short, Err(SystemFileError::Length { .. })), "{short:?}");
        let long = parse(&[good.as_slice(), b"x"].concat());
        assert!(matches!(long, Err(SystemFileError::Length { .. })), "{long:?}");
        let text = String::from_utf8_lossy(&good).replace("\"virt\"", "\"../x\"");
        assert!(matches!(parse(text.as_bytes()), Err(SystemFileError::Header(_))));
    }

    proptest! {
        #[test]
        fn damaged_files_never_panic(at in 0_usize..400, to in any::<u8>(), keep in 0_usize..5_600) {
            let mut file = file();
            file[at] = to;
            file.truncate(keep);
            let _ = parse(&file);
        }
    }
}
