//! The contract between a device and a Holm gateway: what they say to each other, over MQTT and over serial links.
//!
//! `SPEC.md` beside this crate states the same in prose, precise enough to implement it in C.
//!
//! # Invariants
//! - No heap, no clock, no I/O: bytes in, values out, and back.
//! - Whatever bytes come in: a value or an [`Error`], never a panic. Trailing bytes are an error.
//! - Every text and list has a bound ([`limits`]); what is longer is refused on both sides.
//! - The first byte of everything is the version of the format ([`VERSION`]). A reader refuses another one and says so.
#![no_std]
#![forbid(unsafe_code)]

mod codec;
pub mod envelope;
pub mod limits;
pub mod name;
pub mod provision;
pub mod schema;
pub mod serial;
pub mod system;
pub mod time;
pub mod topic;
pub mod update;

pub use codec::Error;
pub use envelope::Envelope;
pub use name::DeviceName;
pub use postcard_schema::Schema;
pub use schema::{Message, SchemaId};
pub use system::{Down, Up};
pub use time::{Quality, Timestamp};
pub use topic::Topic;

#[doc(hidden)]
pub use postcard_schema as __schema;

/// Version of the format: the first byte of every envelope and of every system message.
pub const VERSION: u8 = 1;

/// MQTT content type of an [`Envelope`]. A gateway takes a payload for an envelope only where the publish says so.
pub const CONTENT_TYPE: &str = "application/vnd.holm.envelope";
