//! Publishes from clients, and their acks (3.3 to 3.7, 4.3, 4.4, 4.6).

use std::sync::Arc;

use bytes::Bytes;
use edge_core::id::BatchSeq;
use edge_core::message::{Message, Origin, QoS};
use edge_core::time::Millis;

use super::conn::Pause;
use super::inbound::{Arrival, Due, Head, Inbound, Verdict};
use super::session::Session;
use super::timers::Timer;
use super::{
    AckToken, Broker, BrokerOp, ConnId, Delivery, DropReason, Effect, SessionId, Settlement, Turn,
};
use crate::codec::{
    Ack, DecodeError, Packet, PacketId, Publish, ReasonCode, Version, encode, encode_explained_ack,
    explained_ack_bytes,
};

/// Bytes a refused publish counts for until its ack has left.
const REFUSED_COST_BYTES: usize = 128;

/// About what one read of a connection brings: how much of the budget of all is kept for each
/// connection that may read again.
const READ_BYTES: usize = 16 * 1_024;

/// How long connections paused by the budget of all wait for the next try.
const STARVED_TURN: Millis = Millis(100);

impl Broker {
    /// Any packet of an established connection.
    pub(super) fn packet(&mut self, id: ConnId, packet: Packet, turn: &mut Turn<'_>) {
        match packet {
            Packet::Publish(publish) => self.publish(id, publish, turn),
            Packet::PubAck(ack) => self.puback(id, ack, turn),
            Packet::PubRec(ack) => self.pubrec(id, ack, turn),
            Packet::PubRel(ack) => self.pubrel(id, ack.packet_id, turn),
            Packet::PubComp(ack) => self.pubcomp(id, ack, turn),
            Packet::Subscribe(subscribe) => self.subscribe(id, subscribe, turn),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(id, &unsubscribe, turn),
            // [MQTT-3.12.4-1]
            Packet::PingReq => self.send(id, &Packet::PingResp, turn),
            Packet::Disconnect(disconnect) => self.disconnected(id, &disconnect, turn),
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp => {
                let rule = "2.1.2 packet of the other direction, or a second CONNECT";
                self.malformed(id, DecodeError::protocol(rule), turn);
            }
        }
    }

    fn publish(&mut self, id: ConnId, publish: Publish, turn: &mut Turn<'_>) {
        self.counters.received += 1;
        if publish.payload.len() > self.limits.message_bytes_max {
            let rule = "payload over the message size of this server";
            let error = DecodeError::new(ReasonCode::PacketTooLarge, rule);
            return self.malformed(id, error, turn);
        }
        let Some(link) = self.conns.get_mut(&id).and_then(|conn| conn.link_mut()) else { return };
        let (session_id, version) = (link.session, link.version);
        if publish.retain && version == Version::V5 && !self.limits.keeps_retained() {
            let rule = "[MQTT-3.2.2-14] a retained publish, where CONNACK said there are none";
            let error = DecodeError::new(ReasonCode::RetainNotSupported, rule);
            return self.malformed(id, error, turn);
        }
        let verdict = link.principal.judge(&publish);
        let Some(packet_id) = publish.packet_id else {
            return self.publish_qos0(id, session_id, publish, verdict, turn);
        };
        if version == Version::V5 && link.receive_used >= self.limits.receive_max {
            // [MQTT-3.3.4-9] from the other side.
            let rule = "3.3.4 more unacked publishes than the receive maximum";
            let error = DecodeError::new(ReasonCode::ReceiveMaximumExceeded, rule);
            return self.malformed(id, error, turn);
        }
        link.receive_used = link.receive_used.saturating_add(1);
        let serial = self.serial();
        let Some(session) = self.sessions.get_mut(&session_id) else { return };
        let before = session.inbound.bytes();
        let Publish { qos, dup, .. } = publish;
        let inbound = &mut session.inbound;
        match inbound.arrive(serial, packet_id, qos, dup, &publish.topic, &publish.payload) {
            Arrival::Repeat => self.dropped(DropReason::Repeat, turn.now),
            Arrival::New => match verdict.and_then(|()| self.limits.check_taken(qos, inbound)) {
                Ok(()) => {
                    let message = Arc::new(message(publish, session, turn));
                    session.inbound.deliver(serial, Some(packet_id), qos, &message);
                    let token = AckToken { session: session_id, serial };
                    turn.effects.push(Effect::Deliver(Delivery { token, message, dup }));
                }
                Err(reason) => {
                    session.inbound.refuse(serial, packet_id, qos, reason, REFUSED_COST_BYTES);
                }
            },
        }
        self.account_ingress(session_id, before);
        self.hold_back(id, session_id, turn);
        self.release_acks(session_id, turn);
    }

    fn publish_qos0(
        &mut self,
        id: ConnId,
        session_id: SessionId,
        publish: Publish,
        verdict: Result<(), ReasonCode>,
        turn: &mut Turn<'_>,
    ) {
        if verdict.is_err() {
            // There is no ack to say so in.
            return self.dropped(DropReason::NotAuthorized, turn.now);
        }
        let serial = self.serial();
        let total_full = self.totals.ingress_bytes >= self.limits.ingress_total_bytes_max;
        let Some(session) = self.sessions.get_mut(&session_id) else { return };
        if total_full || session.inbound.bytes() >= self.limits.ingress_session_bytes_max {
            return self.dropped(DropReason::IngressBudget, turn.now);
        }
        let before = session.inbound.bytes();
        let dup = publish.dup;
        let message = Arc::new(message(publish, session, turn));
        session.inbound.deliver(serial, None, QoS::AtMostOnce, &message);
        let token = AckToken { session: session_id, serial };
        turn.effects.push(Effect::Deliver(Delivery { token, message, dup }));
        self.account_ingress(session_id, before);
        self.hold_back(id, session_id, turn);
    }

    /// Whether a delivery still waits for the owner's word. It does not if its session has ended:
    /// nobody can be acked, and the client sends it again.
    #[must_use]
    pub fn awaits(&self, token: &AckToken) -> bool {
        let AckToken { session, serial } = token;
        self.sessions.get(session).is_some_and(|session| session.inbound.awaits(*serial))
    }

    /// The owner's word on a delivery. With `Accepted`, everything the delivery causes is in the
    /// open batch by the end of the turn.
    #[expect(clippy::needless_pass_by_value, reason = "a token is used once")]
    pub fn settle(&mut self, token: AckToken, settlement: Settlement, turn: &mut Turn<'_>) {
        let AckToken { session: id, serial } = token;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let verdict = match settlement {
            Settlement::Accepted => Verdict::Accepted(turn.open),
            Settlement::Refused(reason) => Verdict::Refused(reason, ""),
            Settlement::Explained(reason, text) => Verdict::Refused(reason, text),
        };
        let before = session.inbound.bytes();
        if let Some(packet_id) = session.inbound.settle(serial, verdict)
            && session.persistent
        {
            turn.persist(BrokerOp::PutInbound { session: id, packet_id });
        }
        self.account_ingress(id, before);
        self.release_acks(id, turn);
        self.let_go(id, turn);
    }

    /// Sends the acks at the head of the order that may leave.
    pub(super) fn release_acks(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        loop {
            let Some(session) = self.sessions.get_mut(&id) else { return };
            let Some(conn) = session.conn else { return };
            let Some(link) = self.conns.get_mut(&conn).and_then(|c| c.link_mut()) else { return };
            match session.inbound.head(self.durable) {
                Head::Idle => return,
                Head::Parked(batch) => {
                    self.waiting.insert((batch, id));
                    return;
                }
                Head::Due(due) if due.reason.is_error() && link.version == Version::V311 => {
                    // v3.1.1 [MQTT-3.3.5-2]: an ack would say it was taken, so the connection is
                    // closed.
                    return self.close(conn, due.reason, None, turn);
                }
                Head::Due(due) => {
                    if due.qos == QoS::AtLeastOnce || due.reason.is_error() {
                        link.receive_used = link.receive_used.saturating_sub(1);
                    }
                    let before = session.inbound.bytes();
                    session.inbound.pop();
                    self.account_ingress(id, before);
                    self.counters.acked += 1;
                    self.send_ack(conn, due, turn);
                    self.let_go(id, turn);
                }
            }
        }
    }

    /// Sends PUBACK or PUBREC, with the reason in words where there are some and the client takes them.
    fn send_ack(&mut self, conn: ConnId, due: Due, turn: &mut Turn<'_>) {
        let ack = Ack { packet_id: due.packet_id, reason: due.reason };
        let is_rec = due.qos == QoS::ExactlyOnce;
        let packet = if is_rec { Packet::PubRec(ack) } else { Packet::PubAck(ack) };
        let Some(link) = self.conns.get(&conn).and_then(|c| c.link()) else { return };
        // 3.1.2.11.7 and [MQTT-3.4.2-2], [MQTT-3.5.2-2].
        let bytes = explained_ack_bytes(due.text);
        let explains = link.problem_info && !due.text.is_empty() && bytes <= link.packet_bytes_max;
        self.send_as(conn, turn, |version, out| match (version, explains) {
            (Version::V5, true) => encode_explained_ack(ack, is_rec, due.text, out),
            _ => encode(&packet, version, out),
        });
    }

    /// PUBREL from the client: its id is free again once PUBCOMP says so (4.3.3).
    fn pubrel(&mut self, conn: ConnId, packet_id: PacketId, turn: &mut Turn<'_>) {
        let Some(link) = self.conns.get_mut(&conn).and_then(|c| c.link_mut()) else { return };
        let id = link.session;
        link.receive_used = link.receive_used.saturating_sub(1);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let known = session.inbound.release(packet_id, turn.open);
        if known && session.persistent {
            turn.persist(BrokerOp::DeleteInbound { session: id, packet_id });
        }
        let reason = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        // An unknown id may be one whose deletion is not durable yet.
        let batch =
            if session.persistent { session.inbound.released_in() } else { BatchSeq::default() };
        self.park(conn, id, batch, Packet::PubComp(Ack { packet_id, reason }), turn);
        self.release_parked(conn, turn);
    }

    fn account_ingress(&mut self, id: SessionId, before: usize) {
        let Some(session) = self.sessions.get(&id) else { return };
        self.totals.ingress_bytes = self.totals.ingress_bytes + session.inbound.bytes() - before;
    }

    /// Stops reading a connection whose session, or all together, are over budget.
    fn hold_back(&mut self, conn: ConnId, id: SessionId, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get(&id) else { return };
        if session.inbound.bytes() >= self.limits.ingress_session_bytes_max {
            self.pause(conn, Pause::Session, true, turn);
        }
        let paused = |state: &super::conn::Conn| state.pause.has(Pause::Total);
        if self.totals.ingress_bytes >= self.limits.ingress_total_bytes_max
            && !self.conns.get(&conn).is_none_or(paused)
        {
            self.starved.push_back(conn);
            self.timers.set(Timer::Starved, turn.now.at + STARVED_TURN);
            self.pause(conn, Pause::Total, true, turn);
        }
    }

    /// Reads on where there is room again: half of a session's budget, three quarters of all.
    fn let_go(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        if let Some(session) = self.sessions.get(&id)
            && let Some(conn) = session.conn
            && session.inbound.bytes() <= self.limits.ingress_session_bytes_max / 2
        {
            self.pause(conn, Pause::Session, false, turn);
        }
        self.feed_starved(turn);
    }

    /// Lets as many connections read as there is room for, the one that waited longest first.
    /// The others get their turn soon, whether or not anything happens.
    pub(super) fn feed_starved(&mut self, turn: &mut Turn<'_>) {
        let max = self.limits.ingress_total_bytes_max;
        if self.starved.is_empty() || self.totals.ingress_bytes > max / 4 * 3 {
            return;
        }
        let room = (max - self.totals.ingress_bytes) / READ_BYTES;
        for conn in self.starved.drain(..room.clamp(1, self.starved.len())).collect::<Vec<_>>() {
            self.pause(conn, Pause::Total, false, turn);
        }
        if self.starved.is_empty() {
            self.timers.clear(Timer::Starved);
        } else {
            self.timers.set(Timer::Starved, turn.now.at + STARVED_TURN);
        }
    }
}

impl super::Limits {
    /// Whether a session may take another packet id.
    fn check_taken(&self, qos: QoS, inbound: &Inbound) -> Result<(), ReasonCode> {
        let full = qos == QoS::ExactlyOnce && inbound.taken_count() >= self.taken_ids_max;
        if full { Err(ReasonCode::QuotaExceeded) } else { Ok(()) }
    }
}

impl super::Principal {
    /// Whether this publish is granted and well formed.
    fn judge(&self, publish: &Publish) -> Result<(), ReasonCode> {
        if !self.may_publish(&publish.topic) {
            return Err(ReasonCode::NotAuthorized);
        }
        // 3.3.2.3.2: what is said to be UTF-8 is.
        if publish.properties.payload_is_utf8 && std::str::from_utf8(&publish.payload).is_err() {
            return Err(ReasonCode::PayloadFormatInvalid);
        }
        Ok(())
    }
}

fn message(publish: Publish, session: &Session, turn: &Turn<'_>) -> Message {
    Message {
        topic: publish.topic,
        payload: compact(publish.payload),
        qos: publish.qos,
        retain: publish.retain,
        properties: publish.properties,
        expiry_s: publish.expiry_s,
        origin: Origin::Client {
            identity: session.identity.clone(),
            client_id: session.client_id.to_string(),
        },
        device: Some(session.identity.clone()),
        hops: 0,
        at: turn.now.at,
        wall: turn.now.wall,
    }
}

/// A small payload gets its own memory: as a slice it would keep the whole read buffer alive for
/// as long as it is queued or retained.
fn compact(payload: Bytes) -> Bytes {
    const COPY_BELOW_BYTES: usize = 8 * 1_024;
    if payload.len() < COPY_BELOW_BYTES { Bytes::copy_from_slice(&payload) } else { payload }
}
