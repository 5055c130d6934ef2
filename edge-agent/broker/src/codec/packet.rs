//! The control packets, as both versions of the protocol mean them.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use edge_core::message::{Properties, QoS};
use edge_core::topic::{Topic, TopicFilter};
use serde::{Deserialize, Serialize};

use super::ReasonCode;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V311,
    /// MQTT 5.0, protocol level 5.
    V5,
}

/// A packet identifier; zero is none [MQTT-2.2.1-3].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PacketId(pub NonZeroU16);

impl PacketId {
    /// The identifier with this number; `None` for zero.
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        NonZeroU16::new(number).map(Self)
    }

    /// The number on the wire.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Debug for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// A subscription identifier: 1 to 268,435,455 (3.8.2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubscriptionId(NonZeroU32);

impl SubscriptionId {
    /// The identifier with this number; `None` for zero and what no variable byte integer holds.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        const MAX: u32 = 268_435_455;
        NonZeroU32::new(number).filter(|number| number.get() <= MAX).map(Self)
    }

    /// The number on the wire.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

/// A control packet (3.1 to 3.14). AUTH is missing: no authentication method is offered, so
/// receiving one is a protocol error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// 3.1
    Connect(Box<Connect>),
    /// 3.2
    ConnAck(Box<ConnAck>),
    /// 3.3
    Publish(Publish),
    /// 3.4
    PubAck(Ack),
    /// 3.5
    PubRec(Ack),
    /// 3.6
    PubRel(Ack),
    /// 3.7
    PubComp(Ack),
    /// 3.8
    Subscribe(Subscribe),
    /// 3.9
    SubAck(AckList),
    /// 3.10
    Unsubscribe(Unsubscribe),
    /// 3.11; the list is empty in 3.1.1
    UnsubAck(AckList),
    /// 3.12
    PingReq,
    /// 3.13
    PingResp,
    /// 3.14
    Disconnect(Disconnect),
}

/// CONNECT (3.1).
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// Version of everything that follows on the connection.
    pub version: Version,
    /// Clean start (5), clean session (3.1.1).
    pub clean_start: bool,
    /// Keep alive in seconds; 0 turns it off.
    pub keep_alive_s: u16,
    /// Client identifier; empty asks the server for one.
    pub client_id: String,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Bytes>,
    /// Will message.
    pub will: Option<Will>,
    /// Session expiry interval in seconds; `u32::MAX` never expires. 3.1.1 sessions that are not
    /// clean read as `u32::MAX`.
    pub session_expiry_s: u32,
    /// Receive maximum of the client.
    pub receive_max: u16,
    /// Largest packet the client accepts, in bytes.
    pub packet_bytes_max: Option<u32>,
    /// Topic aliases the client accepts; zero for none.
    pub topic_alias_max: u16,
    /// Whether acks may carry reason strings and user properties.
    pub request_problem_info: bool,
    /// Authentication method, where the client wants an enhanced authentication.
    pub auth_method: Option<String>,
}

impl fmt::Debug for Connect {
    /// Without the password: this may end in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("username", &self.username)
            .field("clean_start", &self.clean_start)
            .finish_non_exhaustive()
    }
}

impl Connect {
    /// A CONNECT with a clean start and the protocol's defaults.
    #[must_use]
    pub fn new(version: Version, client_id: &str) -> Self {
        Self {
            version,
            clean_start: true,
            keep_alive_s: 0,
            client_id: client_id.to_owned(),
            username: None,
            password: None,
            will: None,
            session_expiry_s: 0,
            receive_max: u16::MAX,
            packet_bytes_max: None,
            topic_alias_max: 0,
            request_problem_info: true,
            auth_method: None,
        }
    }
}

/// The will of a CONNECT (3.1.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Where it is published.
    pub topic: Topic,
    /// What is published.
    pub payload: Bytes,
    /// With which quality of service.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// Will delay interval in seconds.
    pub delay_s: u32,
    /// Message expiry interval, counted from its publication.
    pub expiry_s: Option<u32>,
    /// Passed-on properties.
    pub properties: Properties,
}

impl Will {
    /// Bytes it takes in a packet.
    #[must_use]
    pub fn packet_bytes(&self) -> usize {
        let properties = super::property::message_bytes(&self.properties, self.expiry_s);
        self.topic.as_str().len() + self.payload.len() + properties
    }
}

/// CONNACK (3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck {
    /// Session present.
    pub session_present: bool,
    /// Connect reason code.
    pub reason: ReasonCode,
    /// What the server grants and asks for; of no meaning in 3.1.1.
    pub properties: ConnAckProperties,
}

/// CONNACK properties (3.2.2.3). `None` leaves a property out, which means the protocol's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnAckProperties {
    /// Session expiry interval, where it differs from what was asked for.
    pub session_expiry_s: Option<u32>,
    /// How many unacknowledged QoS 1 and 2 publishes the server accepts.
    pub receive_max: Option<u16>,
    /// Largest packet the server accepts, in bytes.
    pub packet_bytes_max: Option<u32>,
    /// Client identifier, where the server made it.
    pub assigned_client_id: Option<String>,
    /// Topic alias maximum.
    pub topic_alias_max: Option<u16>,
    /// Retained messages available.
    pub retain_available: Option<bool>,
    /// Subscription identifiers available.
    pub subscription_ids_available: Option<bool>,
    /// Shared subscriptions available.
    pub shared_available: Option<bool>,
    /// Keep alive the client must use.
    pub keep_alive_s: Option<u16>,
    /// Words for people.
    pub reason_string: Option<String>,
}

/// PUBLISH (3.3). A topic alias is resolved by the [`Decoder`](super::Decoder).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Re-delivery flag.
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
    /// Topic name.
    pub topic: Topic,
    /// Packet identifier; exactly for QoS 1 and 2.
    pub packet_id: Option<PacketId>,
    /// Message expiry interval in seconds.
    pub expiry_s: Option<u32>,
    /// Identifiers of the subscriptions it is sent for; empty in what a client sends.
    pub subscription_ids: Vec<SubscriptionId>,
    /// Passed-on properties.
    pub properties: Properties,
    /// The payload: a slice of the buffer it was read into.
    pub payload: Bytes,
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP (3.4 to 3.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The publish it speaks of.
    pub packet_id: PacketId,
    /// Its outcome; always success in 3.1.1.
    pub reason: ReasonCode,
}

impl Ack {
    /// A successful one.
    #[must_use]
    pub fn ok(packet_id: PacketId) -> Self {
        Self { packet_id, reason: ReasonCode::Success }
    }
}

/// SUBSCRIBE (3.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Packet identifier.
    pub packet_id: PacketId,
    /// Subscription identifier of all its filters.
    pub subscription_id: Option<SubscriptionId>,
    /// What is asked for, in order; at least one.
    pub filters: Vec<(TopicFilter, SubscribeOptions)>,
}

/// Options of a subscription (3.8.3.1).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct SubscribeOptions {
    /// Highest quality of service to deliver with.
    pub qos: QoS,
    /// Whether the client's own publishes are left out.
    pub no_local: bool,
    /// Whether the RETAIN flag is passed on as published.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

/// When retained messages are sent for a subscription (3.8.3.1).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum RetainHandling {
    /// At each SUBSCRIBE.
    #[default]
    Send,
    /// Only if the subscription is new.
    SendIfNew,
    /// Never.
    Never,
}

/// UNSUBSCRIBE (3.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Packet identifier.
    pub packet_id: PacketId,
    /// The filters, in order; at least one.
    pub filters: Vec<TopicFilter>,
}

/// SUBACK and UNSUBACK (3.9, 3.11): one reason per filter, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AckList {
    /// The request it answers.
    pub packet_id: PacketId,
    /// One per filter.
    pub reasons: Vec<ReasonCode>,
}

/// DISCONNECT (3.14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// Why; always normal (success) in 3.1.1.
    pub reason: ReasonCode,
    /// New session expiry interval, from a client.
    pub session_expiry_s: Option<u32>,
    /// Words for people.
    pub reason_string: Option<String>,
}

impl Disconnect {
    /// One with only a reason.
    #[must_use]
    pub fn new(reason: ReasonCode) -> Self {
        Self { reason, session_expiry_s: None, reason_string: None }
    }
}
