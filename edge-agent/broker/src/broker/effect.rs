//! What comes out of the broker.

use std::sync::Arc;

use bytes::Bytes;
use edge_core::id::DeviceId;
use edge_core::message::Message;
use edge_core::time::Millis;

use super::{AckToken, AuthRequest, BrokerOp, ConnId};
use crate::codec::{ReasonCode, Version};

/// Something the owner has to do, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Find out who this is and answer with [`AuthDone`](super::Input::AuthDone).
    Authenticate {
        /// The connection.
        conn: ConnId,
        /// What it claims.
        request: Box<AuthRequest>,
    },
    /// A client published. Admit it, [`route`](super::Broker::route) it and
    /// [`settle`](super::Broker::settle) the token.
    Deliver(Delivery),
    /// A will is due: admit it and [`route`](super::Broker::route) it, like a delivery without a
    /// token. Its row is deleted in the same batch.
    WillFired {
        /// The will as a message published now.
        message: Arc<Message>,
    },
    /// Put this into the open batch.
    Persist(BrokerOp),
    /// Hand these bytes to the connection, in order.
    Send {
        /// The connection.
        conn: ConnId,
        /// The bytes; never empty.
        chunks: Vec<Bytes>,
    },
    /// Stop reading the connection's socket.
    PauseRead {
        /// The connection.
        conn: ConnId,
    },
    /// Read the connection's socket again.
    ResumeRead {
        /// The connection.
        conn: ConnId,
    },
    /// Write what was handed over before (within a bounded time) and close the connection. The
    /// broker has forgotten it.
    Close {
        /// The connection.
        conn: ConnId,
    },
    /// For logs, metrics and tests.
    Event(BrokerEvent),
}

/// A publish of a client, waiting for its settlement.
#[derive(Debug)]
pub struct Delivery {
    /// Settles it.
    pub token: AckToken,
    /// What was published; its origin names the client.
    pub message: Arc<Message>,
    /// The client's DUP flag: it has sent this packet before.
    pub dup: bool,
}

/// What `route` did with a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteReport {
    /// Copies handed to sessions: one for each session that subscribed, one for each share.
    pub copies: usize,
    /// How the retained message of the topic changed.
    pub retained: RetainedChange,
}

/// Change of a topic's retained message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetainedChange {
    /// None.
    #[default]
    Unchanged,
    /// This message is retained now.
    Stored,
    /// Nothing is retained any more.
    Deleted,
    /// It does not fit; nothing is retained for the topic.
    Refused,
}

/// Things worth telling, as a closed set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerEvent {
    /// A client is connected: its CONNACK is on its way.
    Connected {
        /// The connection.
        conn: ConnId,
        /// Authenticated identity.
        identity: DeviceId,
        /// Client id.
        client_id: Arc<str>,
        /// Protocol version.
        version: Version,
        /// Whether it found its session.
        session_present: bool,
    },
    /// A CONNECT was refused.
    Refused {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: ReasonCode,
    },
    /// A connected client is gone.
    Disconnected {
        /// The connection.
        conn: ConnId,
        /// Authenticated identity.
        identity: DeviceId,
        /// Client id.
        client_id: Arc<str>,
        /// Why.
        cause: DisconnectCause,
    },
    /// A session without a connection has ended.
    SessionExpired {
        /// Authenticated identity.
        identity: DeviceId,
        /// Client id.
        client_id: Arc<str>,
    },
    /// Messages or bytes were dropped by policy since the last such event of this reason.
    Dropped {
        /// Which policy.
        reason: DropReason,
        /// How many messages.
        messages: u64,
    },
    /// Bytes that are no packet, or a packet against the rules; the connection is closed.
    Violation {
        /// The connection.
        conn: ConnId,
        /// The reason code.
        reason: ReasonCode,
        /// The rule that was broken.
        rule: &'static str,
    },
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisconnectCause {
    /// The client said goodbye.
    Client(ReasonCode),
    /// The broker closed it.
    Broker(ReasonCode),
    /// The network connection broke.
    Lost,
}

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// QoS 0 from a client over its ingress budget.
    IngressBudget,
    /// QoS 0 from a client that may not publish there, or that the owner refused.
    NotAuthorized,
    /// The oldest of a session's queue, at the queue's bound.
    QueueFull,
    /// The oldest of the longest queue, at the bound of all queues.
    QueueTotalFull,
    /// QoS 0 for a client that does not read fast enough.
    SlowConsumer,
    /// Past its message expiry.
    Expired,
    /// Larger than the client's maximum packet size.
    TooLargeForClient,
    /// A message that cannot be put into a packet (a property too long or with a null character).
    NotEncodable,
    /// A retained message that does not fit.
    RetainedFull,
    /// A repeat of a publish whose ack was under way: not a loss.
    Repeat,
}

/// How full the broker is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Status {
    /// Connections, established or not.
    pub connections: usize,
    /// Connections whose CONNACK left.
    pub connected: usize,
    /// Sessions, connected or not.
    pub sessions: usize,
    /// Sessions that outlive their connection.
    pub persistent_sessions: usize,
    /// Subscriptions of all sessions.
    pub subscriptions: usize,
    /// Messages queued or under way to clients.
    pub queued_messages: usize,
    /// Their bytes.
    pub queued_bytes: usize,
    /// Retained messages.
    pub retained_messages: usize,
    /// Their bytes.
    pub retained_bytes: usize,
    /// Bytes of publishes not yet acked.
    pub ingress_bytes: usize,
    /// Bytes handed to connections and not yet written.
    pub egress_bytes: usize,
}

/// Sums since the broker was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Publishes received.
    pub received: u64,
    /// Publishes handed to connections.
    pub sent: u64,
    /// PUBACK and PUBREC handed to connections.
    pub acked: u64,
    /// Dropped messages by reason.
    pub dropped: std::collections::BTreeMap<DropReason, u64>,
    /// When anything was last dropped.
    pub dropped_at: Option<Millis>,
}
