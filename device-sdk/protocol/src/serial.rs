//! Devices without IP: a reliable link over a UART or an RS-485 bus. `SERIAL.md` beside this crate says the same for C.
//!
//! Bytes become frames ([`frame`]: COBS, CRC-32C), frames become a link that loses and repeats nothing while it lives
//! ([`Link`]), and the link carries messages ([`FromDevice`], [`FromGateway`]). [`Device`] is the end in the device,
//! [`Station`] the gateway's end of one address.
//!
//! # Invariants
//! - No heap, no clock, no I/O: bytes and `now_ms` in, bytes and the next deadline out. Time must not go back.
//! - A message is delivered once and in order within one life of a link. What was under way when a life ends is sent
//!   again by whoever sent it: an ack of the link says "received", only [`FromGateway::Durable`] says "on disk".
//! - A receiver acks the last fragment of a message when its user has taken the message, not before.
//! - Both ends hold at most their buffers `TX` and `RX`; a full receiver gives no credit, a full sender refuses.
//! - On a shared bus a device speaks only when it is given the turn, and gives it back with its last frame.
//! - Whatever bytes come in: a frame, or a count of what was wrong; never a panic.

pub mod frame;

mod cobs;
mod crc;
mod device;
mod incoming;
mod link;
mod message;
mod outgoing;
mod station;
mod timing;

pub use device::{Device, DeviceConfig, State};
pub use frame::{Deframer, Direction, FrameError, Header, Kind};
pub use link::{Counters, Link, LinkConfig, SendError};
pub use message::{FromDevice, FromGateway, Hello, Refusal, Welcome};
pub use station::{Heard, Station, StationConfig};
pub use timing::Timing;

use crate::limits::{BODY_MAX, ENVELOPE_OVERHEAD_MAX, TOPIC_MAX};

/// Bytes of a message in one frame, at most; longer messages go in fragments.
pub const FRAGMENT_MAX: usize = 256;
/// A frame on the wire with both delimiters, in bytes at most.
pub const WIRE_MAX: usize = frame::ENCODED_MAX + 2;
/// Frames that may be under way without an ack.
pub const WINDOW: u8 = 4;
/// The address of the only device of a point-to-point line.
pub const ADDRESS_POINT_TO_POINT: u8 = 0;
/// The highest address on a shared bus; the lowest is 1.
pub const ADDRESS_MAX: u8 = 247;
/// A credential in a [`Hello`], in bytes.
pub const CREDENTIAL_MAX: usize = 128;
/// The longest message: a publish of the largest envelope on the longest topic.
pub const MESSAGE_MAX: usize = 1 + 1 + 5 + 2 + TOPIC_MAX + 3 + ENVELOPE_OVERHEAD_MAX + BODY_MAX;
/// Bytes of [`Link`]'s `TX` that a message of so many bytes takes.
#[must_use]
pub const fn buffered_bytes(message_bytes: usize) -> usize {
    let fragments = message_bytes.div_ceil(FRAGMENT_MAX);
    message_bytes + 2 * if fragments == 0 { 1 } else { fragments }
}
