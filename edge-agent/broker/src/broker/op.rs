//! The closed list of storage operations of the broker, and the rows they write.
//!
//! Rows of sessions that end with their connection are never written, except their wills.
//! A change of shape here is a change of the on-disk format and raises [`FORMAT`].
//!
//! `Broker::restore` takes the *put* operations of the rows that live: the row of an operation is
//! the operation itself.

use std::sync::Arc;

use edge_core::id::DeviceId;
use edge_core::message::{Message, QoS};
use edge_core::time::Millis;
use edge_core::topic::{Topic, TopicFilter};
use serde::{Deserialize, Serialize};

use crate::codec::{PacketId, SubscribeOptions, SubscriptionId};

/// Version of the rows below, stored beside them; a store of another version is refused.
pub const FORMAT: u16 = 2;

/// A session of an MQTT client; never reused.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct SessionId(pub u64);

/// A storage operation of the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BrokerOp {
    /// A session that outlives its connection.
    PutSession(SessionRow),
    /// The session has ended; its other rows are deleted one by one before this.
    DeleteSession {
        /// The session.
        session: SessionId,
    },
    /// A subscription; replaces one with the same filter.
    PutSubscription {
        /// The session.
        session: SessionId,
        /// The filter.
        filter: TopicFilter,
        /// Its options.
        options: SubscribeOptions,
        /// Its identifier, which goes with each message sent for it.
        subscription_id: Option<SubscriptionId>,
    },
    /// The subscription is gone.
    DeleteSubscription {
        /// The session.
        session: SessionId,
        /// The filter.
        filter: TopicFilter,
    },
    /// A message queued for the session, position `n` of its queue.
    AppendMessage {
        /// The session.
        session: SessionId,
        /// Its place in the session's order, from 1, never reused.
        n: u64,
        /// Quality of service to deliver with.
        qos: QoS,
        /// RETAIN flag to deliver with.
        retain: bool,
        /// Identifiers of the session's subscriptions that it matched.
        subscription_ids: Vec<SubscriptionId>,
        /// The shared subscription it was queued for.
        share: Option<TopicFilter>,
        /// The message.
        message: Arc<Message>,
    },
    /// The message is acked or dropped. Lazy.
    DeleteMessage {
        /// The session.
        session: SessionId,
        /// Its place.
        n: u64,
    },
    /// QoS 2 to the client: PUBREC received; its PUBREL leaves after this. The message's own row
    /// is deleted in the same batch.
    PutRelease {
        /// The session.
        session: SessionId,
        /// Its place.
        n: u64,
    },
    /// QoS 2 to the client: PUBCOMP received. Lazy.
    DeleteRelease {
        /// The session.
        session: SessionId,
        /// Its place.
        n: u64,
    },
    /// QoS 2 from the client: this packet id is taken; stands in the batch of admission.
    PutInbound {
        /// The session.
        session: SessionId,
        /// The packet id.
        packet_id: PacketId,
    },
    /// QoS 2 from the client: PUBREL received; its PUBCOMP leaves after this.
    DeleteInbound {
        /// The session.
        session: SessionId,
        /// The packet id.
        packet_id: PacketId,
    },
    /// The retained message of its topic.
    PutRetained {
        /// The message.
        message: Arc<Message>,
    },
    /// Nothing is retained for the topic.
    DeleteRetained {
        /// The topic.
        topic: Topic,
    },
    /// The will of a connected client.
    PutWill(WillRow),
    /// The will is fired or void.
    DeleteWill {
        /// The session.
        session: SessionId,
    },
}

/// A session that outlives its connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// The session.
    pub session: SessionId,
    /// Whose it is.
    pub identity: DeviceId,
    /// Client id.
    pub client_id: String,
    /// Session expiry interval in seconds, within the limit.
    pub expiry_s: u32,
    /// When its connection ended; `None` while connected.
    pub disconnected_at: Option<Millis>,
    /// Highest place of its queue that may have been sent, as of `disconnected_at`.
    pub sent_to: u64,
}

/// The will of a connected client, or of one whose will delay runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WillRow {
    /// The session.
    pub session: SessionId,
    /// Whose it is.
    pub identity: DeviceId,
    /// Client id.
    pub client_id: String,
    /// Will delay interval in seconds.
    pub delay_s: u32,
    /// What to publish; its times are those of the CONNECT.
    pub message: Arc<Message>,
}

/// Tables of the broker's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum BrokerTable {
    /// By session.
    Sessions = 1,
    /// By session and filter.
    Subscriptions = 2,
    /// By session and place.
    Messages = 3,
    /// By session and place.
    Releases = 4,
    /// By session and packet id.
    Inbound = 5,
    /// By topic.
    Retained = 6,
    /// By session.
    Wills = 7,
}

impl BrokerOp {
    /// The table of its row.
    #[must_use]
    pub fn table(&self) -> BrokerTable {
        match self {
            Self::PutSession(_) | Self::DeleteSession { .. } => BrokerTable::Sessions,
            Self::PutSubscription { .. } | Self::DeleteSubscription { .. } => {
                BrokerTable::Subscriptions
            }
            Self::AppendMessage { .. } | Self::DeleteMessage { .. } => BrokerTable::Messages,
            Self::PutRelease { .. } | Self::DeleteRelease { .. } => BrokerTable::Releases,
            Self::PutInbound { .. } | Self::DeleteInbound { .. } => BrokerTable::Inbound,
            Self::PutRetained { .. } | Self::DeleteRetained { .. } => BrokerTable::Retained,
            Self::PutWill(_) | Self::DeleteWill { .. } => BrokerTable::Wills,
        }
    }

    /// The key of its row within the table; sorts by session, then by place.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        let join = |session: &SessionId, rest: &[u8]| {
            let mut key = session.0.to_be_bytes().to_vec();
            key.extend_from_slice(rest);
            key
        };
        match self {
            Self::PutSession(SessionRow { session, .. })
            | Self::DeleteSession { session }
            | Self::PutWill(WillRow { session, .. })
            | Self::DeleteWill { session } => join(session, &[]),
            Self::PutSubscription { session, filter, .. }
            | Self::DeleteSubscription { session, filter } => {
                join(session, filter.as_str().as_bytes())
            }
            Self::AppendMessage { session, n, .. }
            | Self::DeleteMessage { session, n }
            | Self::PutRelease { session, n }
            | Self::DeleteRelease { session, n } => join(session, &n.to_be_bytes()),
            Self::PutInbound { session, packet_id }
            | Self::DeleteInbound { session, packet_id } => {
                join(session, &packet_id.get().to_be_bytes())
            }
            Self::PutRetained { message } => message.topic.as_str().as_bytes().to_vec(),
            Self::DeleteRetained { topic } => topic.as_str().as_bytes().to_vec(),
        }
    }

    /// Whether it deletes its row; otherwise the row becomes the operation itself.
    #[must_use]
    pub fn is_delete(&self) -> bool {
        matches!(
            self,
            Self::DeleteSession { .. }
                | Self::DeleteSubscription { .. }
                | Self::DeleteMessage { .. }
                | Self::DeleteRelease { .. }
                | Self::DeleteInbound { .. }
                | Self::DeleteRetained { .. }
                | Self::DeleteWill { .. }
        )
    }

    /// Whether nothing waits for it: it need not cause a commit of its own. Lost in a crash, it
    /// only means that something is sent once more.
    #[must_use]
    pub fn is_lazy(&self) -> bool {
        match self {
            Self::DeleteMessage { .. } | Self::DeleteRelease { .. } => true,
            Self::PutSession(row) => row.disconnected_at.is_some(),
            _ => false,
        }
    }
}
