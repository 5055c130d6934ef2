//! From a message to the queues of the sessions that subscribed to it (3.3.4, 4.7).

use std::sync::Arc;

use edge_core::id::BatchSeq;
use edge_core::message::{Message, Origin, QoS};
use edge_core::time::Millis;

use super::queue::{Live, MessageCopy};
use super::session::{Session, Subscription};
use super::timers::Timer;
use super::{Broker, BrokerOp, DropReason, RetainedChange, RouteReport, SessionId, Turn};
use crate::codec::is_encodable;

/// When a message expires, in gateway time (3.3.2.3.3).
pub(super) fn expires_at(message: &Message) -> Option<Millis> {
    message.expiry_s.map(|expiry_s| message.at + Millis::from_secs(expiry_s.into()))
}

impl Broker {
    /// Gives a message to the sessions that subscribed to its topic and changes what is retained.
    /// Nothing of it leaves before the open batch is durable.
    pub fn route(&mut self, message: &Arc<Message>, turn: &mut Turn<'_>) -> RouteReport {
        if !is_encodable(message, self.limits.packet_bytes_max()) {
            self.dropped(DropReason::NotEncodable, turn.now);
            return RouteReport::default();
        }
        let retained =
            if message.retain { self.retain(message, turn) } else { RetainedChange::Unchanged };
        let mut copies = self.copies(message);
        copies.append(&mut self.shared_copies(message));
        let report = RouteReport { copies: copies.len(), retained };
        for (session, copy) in copies {
            self.hand_over(session, copy, turn);
        }
        report
    }

    /// Puts a copy into a session's queue, in the open batch, and sends it if that is durable.
    pub(super) fn hand_over(&mut self, id: SessionId, copy: MessageCopy, turn: &mut Turn<'_>) {
        self.put(id, copy, turn.open, turn);
        if self.durable < turn.open {
            self.waiting.insert((turn.open, id));
        } else {
            self.pump(id, turn);
        }
    }

    /// 3.3.4: one copy for each session, with the highest quality of service of its matching
    /// subscriptions [MQTT-3.3.4-2] and all their identifiers [MQTT-3.3.4-4], but none for the
    /// publisher where it said no local [MQTT-3.8.3-3].
    fn copies(&self, message: &Arc<Message>) -> Vec<(SessionId, MessageCopy)> {
        let mut matches: Vec<(SessionId, Subscription)> = Vec::new();
        self.index.for_each_match(&message.topic, |found| matches.push(*found));
        matches.sort_unstable();
        let mut copies: Vec<(SessionId, MessageCopy)> = Vec::with_capacity(matches.len());
        for (session, subscription) in matches {
            if subscription.options.no_local && self.is_from(session, message) {
                continue;
            }
            let copy = subscription.copy_of(message);
            match copies.last_mut() {
                Some((last, first)) if *last == session => {
                    first.qos = first.qos.max(copy.qos);
                    first.retain |= copy.retain;
                    first.subscription_ids.extend(copy.subscription_ids);
                }
                _ => copies.push((session, copy)),
            }
        }
        copies
    }

    fn is_from(&self, session: SessionId, message: &Message) -> bool {
        self.sessions.get(&session).is_some_and(|session| session.published(message))
    }

    fn retain(&mut self, message: &Arc<Message>, turn: &mut Turn<'_>) -> RetainedChange {
        let (change, had) = self.retained.publish(message, turn.open, &self.limits);
        match change {
            RetainedChange::Stored => {
                turn.persist(BrokerOp::PutRetained { message: Arc::clone(message) });
            }
            RetainedChange::Deleted | RetainedChange::Refused if had => {
                turn.persist(BrokerOp::DeleteRetained { topic: message.topic.clone() });
            }
            RetainedChange::Deleted | RetainedChange::Refused | RetainedChange::Unchanged => {}
        }
        if change == RetainedChange::Refused {
            self.dropped(DropReason::RetainedFull, turn.now);
        }
        self.watch_retained();
        change
    }

    /// Sets the timer for the first retained message to expire.
    pub(super) fn watch_retained(&mut self) {
        match self.retained.first_expiry() {
            Some(at) => self.timers.set(Timer::Retained, at),
            None => self.timers.clear(Timer::Retained),
        }
    }

    /// Puts a message into a session's queue, where it waits for `batch`.
    pub(super) fn put(
        &mut self,
        id: SessionId,
        copy: MessageCopy,
        batch: BatchSeq,
        turn: &mut Turn<'_>,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let bytes = copy.cost_bytes();
        if copy.qos == QoS::AtMostOnce {
            // 3.1.2.4: QoS 0 is not kept for a client that is away.
            if session.conn.is_none() {
                return;
            }
            if self.totals.queued.bytes >= self.limits.queued_total_bytes_max {
                return self.dropped(DropReason::QueueTotalFull, turn.now);
            }
            if !session.queue.push_live(Live { copy, batch }, self.limits.egress_bytes_max) {
                return self.dropped(DropReason::SlowConsumer, turn.now);
            }
            self.totals.queued.add(bytes);
        } else {
            let row = session.persistent.then(|| copy.clone());
            let n = session.queue.push(copy, batch);
            self.totals.queued.add(bytes);
            if let Some(MessageCopy { message, qos, retain, subscription_ids, share }) = row {
                turn.persist(BrokerOp::AppendMessage {
                    session: id,
                    n,
                    qos,
                    retain,
                    subscription_ids,
                    share,
                    message,
                });
            }
            self.enforce_queue_bounds(id, turn);
        }
    }

    fn enforce_queue_bounds(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get(&id) else { return };
        let limits = &self.limits;
        let (messages_max, bytes_max) = if session.conn.is_some() {
            (limits.online_messages_max, limits.online_bytes_max)
        } else {
            (limits.offline_messages_max, limits.offline_bytes_max)
        };
        while let Some(session) = self.sessions.get(&id) {
            let unsent = session.queue.unsent();
            // One message always fits, however large.
            let over = unsent.messages > messages_max || unsent.bytes > bytes_max;
            if !over || unsent.messages <= 1 {
                break;
            }
            self.drop_oldest(id, DropReason::QueueFull, turn);
        }
        if self.totals.queued.bytes > self.limits.queued_total_bytes_max {
            self.make_room(turn);
        }
    }

    /// Over the bound of all queues: takes the oldest from the longest queue, until there is a
    /// little room, so that the search for the longest is rare.
    fn make_room(&mut self, turn: &mut Turn<'_>) {
        let max = self.limits.queued_total_bytes_max;
        let room = max / 64;
        while self.totals.queued.bytes > max - room {
            let longest = self
                .sessions
                .values()
                .max_by_key(|session| session.queue.unsent().bytes)
                .filter(|session| session.queue.unsent().messages > 0)
                .map(|session| session.id);
            let Some(longest) = longest else { return };
            let enough = self.totals.queued.bytes - room.min(self.totals.queued.bytes);
            while self.totals.queued.bytes > enough.max(max - room) {
                if !self.drop_oldest(longest, DropReason::QueueTotalFull, turn) {
                    break;
                }
            }
        }
    }

    fn drop_oldest(&mut self, id: SessionId, reason: DropReason, turn: &mut Turn<'_>) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let before = session.queue.size();
        let Some(n) = session.queue.drop_oldest() else { return false };
        self.account_removed(id, before);
        self.delete_message(id, n, turn);
        self.dropped(reason, turn.now);
        true
    }

    /// Deletes the row of a message that is done, if it has one.
    pub(super) fn delete_message(&mut self, id: SessionId, n: u64, turn: &mut Turn<'_>) {
        if self.sessions.get(&id).is_some_and(|session| session.persistent) {
            turn.persist(BrokerOp::DeleteMessage { session: id, n });
        }
    }

    /// Subtracts what has left a queue since it had the size `before`.
    pub(super) fn account_removed(&mut self, id: SessionId, before: super::Size) {
        let Some(session) = self.sessions.get(&id) else { return };
        let after = session.queue.size();
        self.totals.queued.messages -= before.messages - after.messages;
        self.totals.queued.bytes -= before.bytes - after.bytes;
    }
}

impl Session {
    /// Whether this client published the message.
    pub(super) fn published(&self, message: &Message) -> bool {
        match &message.origin {
            Origin::Client { identity, client_id } => {
                *identity == self.identity && **client_id == *self.client_id
            }
            Origin::Function { .. } | Origin::Gateway => false,
        }
    }
}
