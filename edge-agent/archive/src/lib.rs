//! The file that `edge-agent backup` makes: a gzipped tar with a trailer behind it ([`seal`]). In it
//! are the files, and last a manifest with path, size and SHA-256 of each ([`manifest`]).
//! `tar tzf` lists it.
//!
//! # Invariants
//! - What an archive may hold is a closed list ([`parts`]); a path, a kind or a size that a backup
//!   does not make is refused, whoever wrote the archive.
//! - Reading takes a bounded amount of memory, whatever stands in it: contents pass in pieces, and
//!   the number of files and the length of the manifest are bounded.

pub mod manifest;
pub mod parts;
pub mod seal;

mod walk;

pub use manifest::{Manifest, Saved};
pub use walk::{Trouble, walk};

/// Bytes in hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
