//! From a session's queue to its connection: flow control and the outgoing halves of QoS 1 and 2
//! (4.3, 4.4, 4.9).
//!
//! A message leaves when its batch is durable, the send window of the client has room, and the
//! connection has taken most of what it was given before.

use std::sync::Arc;

use edge_core::id::BatchSeq;
use edge_core::message::{Message, QoS};
use edge_core::time::Millis;

use super::conn::{Link, Pause, Stage};
use super::deliver::expires_at;
use super::queue::{Body, MessageCopy, packet_id};
use super::timers::Timer;
use super::{Broker, BrokerOp, ConnId, DropReason, SessionId, Turn};
use crate::codec::{
    Ack, Packet, PacketId, PublishHead, ReasonCode, TopicForm, Version, encode, encode_publish,
    publish_packet_bytes,
};

/// Retained messages are taken into a queue only while it is shorter than this.
const REPLAY_QUEUE_MAX: usize = 32;

/// Topics looked at for one session before others get their turn.
const REPLAY_TOPICS_PER_TURN: usize = 256;

/// A connection with less than this on its way counts as one that reads: the transport need not
/// tell of so little.
const EGRESS_FREE_BYTES: usize = 8 * 1_024;

/// What became of a message that was to be sent.
enum Sent {
    Yes,
    /// It expired, or is too large for the client: it counts as delivered [MQTT-3.1.2-25].
    Skipped(DropReason),
}

impl Broker {
    /// Appends a packet to what the connection is given at the end of the turn.
    pub(super) fn send(&mut self, id: ConnId, packet: &Packet, turn: &mut Turn<'_>) {
        self.send_as(id, turn, |version, out| encode(packet, version, out));
    }

    /// Sends what `encode` writes.
    pub(super) fn send_as(
        &mut self,
        id: ConnId,
        turn: &mut Turn<'_>,
        encode: impl FnOnce(Version, &mut Vec<u8>),
    ) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Some(&Link { version, packet_bytes_max, .. }) = conn.link() else { return };
        let bytes = conn.out.write(|out| encode(version, out));
        if bytes > packet_bytes_max {
            conn.out.cut(bytes);
            let rule = "[MQTT-3.1.2-24] an answer is over the maximum packet size of the client";
            return self.close(id, ReasonCode::PacketTooLarge, Some(rule), turn);
        }
        self.account_written(id, bytes, turn);
    }

    fn account_written(&mut self, id: ConnId, bytes: usize, turn: &mut Turn<'_>) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.unwritten_bytes += bytes;
        self.totals.egress_bytes += bytes;
        self.dirty.insert(id);
        let unwritten = conn.unwritten_bytes;
        if unwritten >= self.limits.egress_bytes_max && !self.timers.is_set(Timer::Stall(id)) {
            let due = turn.now.at + Millis(self.limits.egress_stall_ms_max);
            self.timers.set(Timer::Stall(id), due);
        }
        // It goes on sending what has to be answered, but does not read the answers.
        if unwritten >= self.limits.egress_bytes_max.saturating_mul(2) {
            self.pause(id, Pause::Egress, true, turn);
        }
    }

    /// The socket has taken some bytes.
    pub(super) fn written(&mut self, id: ConnId, bytes: usize, turn: &mut Turn<'_>) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let bytes = bytes.min(conn.unwritten_bytes);
        conn.unwritten_bytes -= bytes;
        self.totals.egress_bytes -= bytes;
        let unwritten = conn.unwritten_bytes;
        let session = conn.link().map(|link| link.session);
        if unwritten < self.limits.egress_bytes_max {
            self.timers.clear(Timer::Stall(id));
        } else if bytes > 0 {
            let due = turn.now.at + Millis(self.limits.egress_stall_ms_max);
            self.timers.set(Timer::Stall(id), due);
        }
        if unwritten <= self.limits.egress_bytes_max {
            self.pause(id, Pause::Egress, false, turn);
        }
        if let Some(session) = session {
            self.pump(session, turn);
        }
    }

    /// Keeps an answer until `batch` is durable and the answers before it have left.
    pub(super) fn park(
        &mut self,
        conn: ConnId,
        session: SessionId,
        batch: BatchSeq,
        packet: Packet,
        turn: &mut Turn<'_>,
    ) {
        let Some(link) = self.conns.get_mut(&conn).and_then(|conn| conn.link_mut()) else { return };
        link.parked.push_back((batch, packet));
        let full = link.parked.len() >= self.limits.parked_max;
        if batch > self.durable {
            self.waiting.insert((batch, session));
        }
        if full {
            self.pause(conn, Pause::Parked, true, turn);
        }
    }

    /// Lets out everything of a session that may leave now.
    pub(super) fn release(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let Some(conn) = self.sessions.get(&id).and_then(|session| session.conn) else { return };
        self.release_parked(conn, turn);
        let established = |broker: &Self| {
            broker.conns.get(&conn).and_then(|c| c.link()).is_some_and(|link| link.established)
        };
        if established(self) {
            self.release_acks(id, turn);
            self.pump(id, turn);
        }
    }

    pub(super) fn release_parked(&mut self, conn: ConnId, turn: &mut Turn<'_>) {
        loop {
            let Some(link) = self.conns.get_mut(&conn).and_then(|c| c.link_mut()) else { return };
            let durable = self.durable;
            let Some((_, packet)) = link.parked.pop_front_if(|(batch, _)| *batch <= durable) else {
                return;
            };
            if link.parked.len() <= self.limits.parked_max / 2 {
                self.pause(conn, Pause::Parked, false, turn);
            }
            self.send(conn, &packet, turn);
            if let Packet::ConnAck(connack) = packet {
                self.establish(conn, connack.session_present, turn);
            }
        }
    }

    /// Sends from a session's queue what may leave now.
    pub(super) fn pump(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let Some(conn) = self.sessions.get(&id).and_then(|session| session.conn) else { return };
        if !self.conns.get(&conn).and_then(|c| c.link()).is_some_and(|link| link.established) {
            return;
        }
        self.replaying.remove(&id);
        let mut budget = REPLAY_TOPICS_PER_TURN;
        loop {
            self.pump_live(id, conn, turn);
            while self.send_next(id, conn, turn) {}
            if !self.replay_next(id, conn, &mut budget, turn) {
                return;
            }
        }
    }

    /// QoS 0: what the connection has no room for is dropped.
    fn pump_live(&mut self, id: SessionId, conn: ConnId, turn: &mut Turn<'_>) {
        while let Some(session) = self.sessions.get_mut(&id) {
            let Some(batch) = session.queue.live_batch() else { return };
            if batch > self.durable {
                self.waiting.insert((batch, id));
                return;
            }
            let before = session.queue.size();
            let Some(live) = session.queue.pop_live() else { return };
            self.account_removed(id, before);
            if !self.has_room(conn) {
                self.dropped(DropReason::SlowConsumer, turn.now);
            } else if let Sent::Skipped(reason) =
                self.send_publish(conn, &live.copy, None, false, turn)
            {
                self.dropped(reason, turn.now);
            }
        }
    }

    /// Whether the connection has taken enough of what it was given to be given more.
    fn has_room(&self, conn: ConnId) -> bool {
        let unwritten = self.conns.get(&conn).map_or(0, |conn| conn.unwritten_bytes);
        unwritten < EGRESS_FREE_BYTES
            || (unwritten < self.limits.egress_bytes_max
                && self.totals.egress_bytes < self.limits.egress_total_bytes_max)
    }

    /// QoS 1 and 2: sends the next message, or PUBREL, in order. False if it has to wait.
    fn send_next(&mut self, id: SessionId, conn: ConnId, turn: &mut Turn<'_>) -> bool {
        let Some(session) = self.sessions.get(&id) else { return false };
        let Some((n, item)) = session.queue.next() else { return false };
        if item.batch > self.durable {
            self.waiting.insert((item.batch, id));
            return false;
        }
        let window =
            self.conns.get(&conn).and_then(|c| c.link()).map_or(0, |link| link.send_window);
        let under_way = session.queue.under_way();
        if under_way.messages >= window
            || under_way.bytes >= self.limits.send_window_bytes_max
            || !self.has_room(conn)
        {
            return false;
        }
        let packet_id = packet_id(n);
        let Body::Publish(copy) = &item.body else {
            // [MQTT-4.4.0-1]: after PUBREC only PUBREL is sent again.
            self.sent(id, n);
            self.send(conn, &Packet::PubRel(Ack::ok(packet_id)), turn);
            return true;
        };
        let (copy, dup) = (copy.clone(), item.sent);
        match self.send_publish(conn, &copy, Some(packet_id), dup, turn) {
            Sent::Yes => self.sent(id, n),
            Sent::Skipped(reason) => {
                self.done(id, n, turn);
                self.dropped(reason, turn.now);
            }
        }
        true
    }

    fn sent(&mut self, id: SessionId, n: u64) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.queue.sent(n);
        }
    }

    /// A message leaves the queue for good.
    fn done(&mut self, id: SessionId, n: u64, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let before = session.queue.size();
        session.queue.remove(n);
        self.account_removed(id, before);
        self.delete_message(id, n, turn);
    }

    fn send_publish(
        &mut self,
        id: ConnId,
        copy: &MessageCopy,
        packet_id: Option<PacketId>,
        dup: bool,
        turn: &mut Turn<'_>,
    ) -> Sent {
        let message = &*copy.message;
        // [MQTT-3.3.2-5], [MQTT-3.3.2-6]: what is left of the interval.
        let expiry_s = match expires_at(message) {
            // What was sent before is under way, and its id may be taken: it is not given up.
            Some(at) if at <= turn.now.at && !dup => return Sent::Skipped(DropReason::Expired),
            Some(at) => u32::try_from(at.since(turn.now.at).0.div_ceil(1_000)).ok(),
            None => None,
        };
        let Some(conn) = self.conns.get_mut(&id) else { return Sent::Yes };
        let Stage::Linked(link) = &mut conn.stage else { return Sent::Yes };
        let named = PublishHead {
            dup,
            qos: copy.qos,
            retain: copy.retain,
            packet_id,
            expiry_s,
            topic_form: TopicForm::Name,
            subscription_ids: &copy.subscription_ids,
        };
        let Some(head) = link.fitting(named, message) else {
            return Sent::Skipped(DropReason::TooLargeForClient);
        };
        link.aliases.sent(&message.topic, head.topic_form);
        let version = link.version;
        let head_bytes = conn.out.write(|out| encode_publish(head, version, message, out));
        conn.out.push(message.payload.clone());
        let bytes = head_bytes + message.payload.len();
        self.counters.sent += 1;
        self.account_written(id, bytes, turn);
        Sent::Yes
    }

    /// PUBACK (3.4): the message is done.
    pub(super) fn puback(&mut self, conn: ConnId, ack: Ack, turn: &mut Turn<'_>) {
        let Some(id) = self.conns.get(&conn).and_then(|c| c.link()).map(|link| link.session) else {
            return;
        };
        self.acked(id, ack.packet_id, QoS::AtLeastOnce, turn);
        self.pump(id, turn);
    }

    fn acked(&mut self, id: SessionId, packet_id: PacketId, qos: QoS, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let before = session.queue.size();
        if let Some(n) = session.queue.acked(packet_id, qos) {
            self.account_removed(id, before);
            self.delete_message(id, n, turn);
        }
    }

    /// PUBREC (3.5): PUBREL follows when that is stored; or the client refuses the message.
    pub(super) fn pubrec(&mut self, conn: ConnId, ack: Ack, turn: &mut Turn<'_>) {
        let Some(link) = self.conns.get(&conn).and_then(|c| c.link()) else { return };
        let (id, version) = (link.session, link.version);
        if ack.reason.is_error() {
            self.acked(id, ack.packet_id, QoS::ExactlyOnce, turn);
            return self.pump(id, turn);
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let batch = if session.persistent { turn.open } else { BatchSeq::default() };
        let before = session.queue.size();
        let Some((n, news)) = session.queue.received(ack.packet_id, batch) else {
            // 4.3.3: nothing is known of it any more.
            let reason = match version {
                Version::V5 => ReasonCode::PacketIdentifierNotFound,
                Version::V311 => ReasonCode::Success,
            };
            let packet_id = ack.packet_id;
            return self.send(conn, &Packet::PubRel(Ack { packet_id, reason }), turn);
        };
        let batch = session.queue.batch_of(n).unwrap_or(batch);
        if news && session.persistent {
            turn.persist(BrokerOp::PutRelease { session: id, n });
            turn.persist(BrokerOp::DeleteMessage { session: id, n });
        }
        self.account_removed(id, before);
        self.park(conn, id, batch, Packet::PubRel(Ack::ok(ack.packet_id)), turn);
        self.release_parked(conn, turn);
    }

    /// PUBCOMP (3.7): the message is done.
    pub(super) fn pubcomp(&mut self, conn: ConnId, ack: Ack, turn: &mut Turn<'_>) {
        let Some(id) = self.conns.get(&conn).and_then(|c| c.link()).map(|link| link.session) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let Some(n) = session.queue.completed(ack.packet_id)
            && session.persistent
        {
            turn.persist(BrokerOp::DeleteRelease { session: id, n });
        }
        self.pump(id, turn);
    }

    /// Takes the next retained message for a new subscription into the queue (3.8.4). False if
    /// there is none, or it has to wait.
    fn replay_next(
        &mut self,
        id: SessionId,
        conn: ConnId,
        budget: &mut usize,
        turn: &mut Turn<'_>,
    ) -> bool {
        let room = self.has_room(conn);
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let Some(replay) = session.replays.front_mut() else { return false };
        let queue = &session.queue;
        if !room || queue.unsent().messages >= REPLAY_QUEUE_MAX || queue.live_batch().is_some() {
            // It goes on when the queue is shorter, or its batch durable.
            return false;
        }
        if *budget == 0 {
            // It goes on when others have had their turn.
            self.replaying.insert(id);
            return false;
        }
        let scan = self.retained.scan(&replay.filter, replay.after.as_ref(), *budget);
        *budget = budget.saturating_sub(scan.visited.max(1));
        let found = scan.found.map(|entry| (Arc::clone(&entry.message), entry.batch));
        let subscription = replay.subscription;
        replay.after = scan.after;
        if replay.after.is_none() {
            session.replays.pop_front();
        }
        let Some((message, batch)) = found else { return true };
        if subscription.options.no_local && session.published(&message) {
            return true;
        }
        // [MQTT-3.3.1-8]: with the RETAIN flag, as it is sent because of the subscription.
        let copy = MessageCopy { retain: true, ..subscription.copy_of(&message) };
        // Its row, if it gets one, stands in the open batch.
        let stored = copy.qos > QoS::AtMostOnce && session.persistent;
        let batch = if stored { turn.open } else { batch };
        self.put(id, copy, batch, turn);
        true
    }
}

impl Link {
    /// The form in which the client accepts a PUBLISH: by alias where that is allowed. `None` if
    /// it is over the maximum packet size in any form.
    fn fitting<'a>(&self, named: PublishHead<'a>, message: &Message) -> Option<PublishHead<'a>> {
        let aliased = PublishHead { topic_form: self.aliases.form(&message.topic), ..named };
        let fits = |head: &PublishHead<'_>| {
            self.packet_bytes_max == usize::MAX
                || publish_packet_bytes(*head, self.version, message) <= self.packet_bytes_max
        };
        [aliased, named].into_iter().find(fits)
    }
}
