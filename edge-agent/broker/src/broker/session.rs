//! One session: what outlives a connection.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use edge_core::id::DeviceId;
use edge_core::message::Message;
use edge_core::time::Millis;
use edge_core::topic::{Topic, TopicFilter};

use super::inbound::Inbound;
use super::queue::{MessageCopy, Queue};
use super::{ConnId, SessionId, SessionRow};
use crate::codec::{SubscribeOptions, SubscriptionId};

#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) identity: DeviceId,
    pub(super) client_id: Arc<str>,
    pub(super) conn: Option<ConnId>,
    /// It has rows: it survives its connection and a restart.
    pub(super) persistent: bool,
    /// Seconds from the end of its connection to its own; 0 is at once.
    pub(super) expiry_s: u32,
    pub(super) subscriptions: BTreeMap<TopicFilter, Subscription>,
    pub(super) queue: Queue,
    pub(super) inbound: Inbound,
    /// Retained messages still to be sent for subscriptions.
    pub(super) replays: VecDeque<Replay>,
    pub(super) will: Option<StoredWill>,
}

/// A subscription, but for its filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Subscription {
    pub(super) options: SubscribeOptions,
    pub(super) id: Option<SubscriptionId>,
}

impl Subscription {
    /// What a session gets of `message` for it: with the lower quality of service
    /// [MQTT-3.8.4-8], and the RETAIN flag only where that is asked for [MQTT-3.3.1-12].
    pub(super) fn copy_of(&self, message: &Arc<Message>) -> MessageCopy {
        MessageCopy {
            message: Arc::clone(message),
            qos: self.options.qos.min(message.qos),
            retain: message.retain && self.options.retain_as_published,
            subscription_ids: self.id.into_iter().collect(),
            share: None,
        }
    }
}

/// Retained messages being sent for one SUBSCRIBE.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) filter: TopicFilter,
    pub(super) subscription: Subscription,
    /// Where it stands.
    pub(super) after: Option<Topic>,
}

/// A will that may still be published.
#[derive(Debug)]
pub(super) struct StoredWill {
    pub(super) message: Arc<Message>,
    pub(super) delay_s: u32,
    /// It is from before a restart: void as soon as its client connects.
    pub(super) restored: bool,
}

impl Session {
    pub(super) fn new(
        id: SessionId,
        identity: DeviceId,
        client_id: Arc<str>,
        expected_max: usize,
    ) -> Self {
        Self {
            id,
            identity,
            client_id,
            conn: None,
            persistent: false,
            expiry_s: 0,
            subscriptions: BTreeMap::new(),
            queue: Queue::default(),
            inbound: Inbound::new(expected_max),
            replays: VecDeque::new(),
            will: None,
        }
    }

    /// Its row, connected or since when not.
    pub(super) fn row(&self, disconnected_at: Option<Millis>) -> SessionRow {
        SessionRow {
            session: self.id,
            identity: self.identity.clone(),
            client_id: self.client_id.to_string(),
            expiry_s: self.expiry_s,
            disconnected_at,
            sent_to: self.queue.sent_to(),
        }
    }
}
