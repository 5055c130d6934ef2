//! MQTT 3.1.1 and 5 on the wire: bytes to packets and back, for the server's side and, for tests
//! and simulated clients, for the client's.
//!
//! # Invariants
//! - No panic and no partial packet on any input; the first error ends the stream.
//! - A packet over the size bound is refused as soon as its length is known, before its body is
//!   buffered. A wrong first byte is refused at once.
//! - Payloads and passwords are slices of the buffer they were read into, not copies.
//! - Each rule that is checked names its clause of the specification (MQTT 5 unless it says
//!   v3.1.1); a clause in brackets is a normative statement.
//!
//! Not offered and therefore refused here: AUTH.

mod ack;
mod alias;
mod connack;
mod connect;
mod disconnect;
mod error;
mod frame;
mod packet;
mod property;
mod publish;
mod read;
mod reason;
mod subscribe;
mod write;

#[cfg(test)]
mod tests;

pub use ack::{encode_explained_ack, explained_ack_bytes};
pub(crate) use alias::Given as GivenAliases;
pub use alias::{TOPIC_ALIAS_BYTES_MAX, TOPIC_ALIAS_MAX, TopicForm};
pub use error::DecodeError;
pub use frame::{Decoder, Side};
pub use packet::{
    Ack, AckList, ConnAck, ConnAckProperties, Connect, Disconnect, Packet, PacketId, Publish,
    RetainHandling, Subscribe, SubscribeOptions, SubscriptionId, Unsubscribe, Version, Will,
};
pub use publish::{PublishHead, encode_publish, is_encodable, publish_packet_bytes};
pub use reason::ReasonCode;
pub use write::encode;

/// Most user properties of a packet; more are refused with quota exceeded.
pub const USER_PROPERTIES_MAX: usize = 64;

/// Most filters of a SUBSCRIBE or UNSUBSCRIBE; more are refused with quota exceeded.
pub const FILTERS_MAX: usize = 1_000;
