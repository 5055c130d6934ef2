//! Gateways over MQTT: the embedded broker, who may connect, and what is done with messages.
//!
//! Invariants:
//! - A gateway publishes to its own `up` and `presence` and subscribes to its own `down`; one that
//!   enrols has its two enrolment topics and nothing else. The broker enforces it.
//! - Nothing that a gateway publishes is routed to another gateway.
//! - What goes into the store is acked after it is durable; so unacked bytes, bounded by the
//!   broker, are all that waits.
//! - No session outlives its connection: everything is stated again after `Hello`.

mod admission;
mod chunks;
mod event;
mod hub;
mod inbox;
mod live;
mod socket;

pub(crate) use event::HubHandle;
#[cfg(test)]
pub(crate) use event::test_hub_handle;
pub(crate) use hub::{Hub, HubParts};
pub(crate) use live::{Commands, Live, LogFeeds, Online};
pub(crate) use socket::MqttSocket;
