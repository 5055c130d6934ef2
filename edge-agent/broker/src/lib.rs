//! An MQTT 3.1.1 and 5 broker that acknowledges when its owner says so.
//!
//! [`codec`] turns bytes into packets, [`Broker`] is a state machine without I/O, clock or
//! randomness, and [`transport`] drives sockets with both. The owner of the broker keeps an *open
//! batch* of storage operations; whatever must not leave before that batch is durable is parked
//! in the broker under the batch's number.
//!
//! # Invariants
//! - No PUBACK, PUBREC, PUBCOMP, CONNACK, SUBACK or publish leaves before the batch it stands on
//!   is durable; acks of publishes leave in the order of arrival.
//! - Everything is bounded by [`Limits`]; at a bound one connection is not read, or something is
//!   dropped and counted. One client never makes another wait.
//! - Bytes from the network are hostile: they can close their own connection and nothing else.
#![forbid(unsafe_code)]

pub mod broker;
pub mod codec;
pub mod transport;

pub use broker::{
    AckToken, AuthRequest, Broker, BrokerEvent, BrokerOp, ConnId, Counters, Delivery, DropReason,
    Effect, Input, Limits, Peer, PeerCertificate, Principal, RouteReport, SessionId, SessionRow,
    Settlement, Status, WillRow,
};
