//! The contract between a Holm gateway and its control plane: topics, messages, records,
//! manifests, signatures, bundles and enrolment. Types and checks only: no I/O, no clock.
//!
//! Invariants:
//! - Every byte that is decoded here may come from an enemy: decoding returns an error value and
//!   allocates no more than a small multiple of its input.
//! - Every message, file and topic carries a version from the first day.
//! - A [`revision::VerifiedRevision`] exists only as the result of a successful verification.
//! - The numbers that bound the contract stand in [`limits`], and nowhere else.

pub mod bundle;
pub mod device_image;
pub mod enroll;
pub mod fetch;
pub mod filter;
pub mod id;
pub mod limits;
pub mod manifest;
pub mod record;
pub mod release;
pub mod revision;
pub mod system_file;
pub mod topics;
pub mod wire;

pub use bundle::{Bundle, BundleError};
pub use id::{Digest, EventId, InstanceId, KeyId};
pub use manifest::Manifest;
pub use record::{Record, RecordBody};
pub use revision::{AuthorKey, RevisionError, SignedManifest, SigningKey, VerifiedRevision};
pub use wire::{Down, Up, WireError};
