//! The ends of connections, wills and sessions (3.1.2.5, 3.14, 4.1, 4.13).

use std::sync::Arc;

use edge_core::message::Message;
use edge_core::time::Millis;
use edge_core::topic::TopicFilter;

use super::conn::{Conn, Link, Pause, Stage};
use super::connect::packet_bytes_max;
use super::timers::Timer;
use super::{
    Broker, BrokerEvent, BrokerOp, ConnId, DisconnectCause, Effect, Session, SessionId, Turn,
};
use crate::codec::{
    ConnAck, ConnAckProperties, DecodeError, Disconnect, Packet, ReasonCode, Version, encode,
};

/// What becomes of the will when a connection ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Farewell {
    /// It is published, at once or after its delay.
    Will,
    /// The client took it back [MQTT-3.14.4-3].
    Void,
    /// It stays stored for the next start of the process.
    Stored,
}

impl Broker {
    /// A packet against the rules, or bytes that are none (4.13).
    pub(super) fn malformed(&mut self, id: ConnId, error: DecodeError, turn: &mut Turn<'_>) {
        let Some(conn) = self.conns.get(&id) else { return };
        let opened = matches!(conn.stage, Stage::Opened);
        let (reason, rule) = (error.reason, error.rule);
        turn.event(BrokerEvent::Violation { conn: id, reason, rule });
        if opened {
            // Only if the version is known is there a form for the answer.
            let answer =
                error.version.and_then(|version| connack(version, usize::MAX, reason, Some(rule)));
            self.finish(id, answer.as_ref(), turn);
        } else {
            self.close(id, reason, Some(rule), turn);
        }
    }

    /// Refuses a CONNECT.
    pub(super) fn refuse(
        &mut self,
        id: ConnId,
        reason: ReasonCode,
        rule: Option<&'static str>,
        turn: &mut Turn<'_>,
    ) {
        let Some(conn) = self.conns.get(&id) else { return };
        let client = match &conn.stage {
            Stage::Opened => None,
            Stage::Authenticating(connect, _) => Some((connect.version, packet_bytes_max(connect))),
            Stage::Linked(link) => Some((link.version, link.packet_bytes_max)),
        };
        turn.event(BrokerEvent::Refused { conn: id, reason });
        let answer = client.and_then(|(version, max)| connack(version, max, reason, rule));
        self.finish(id, answer.as_ref(), turn);
    }

    /// Closes a connection and says why, as far as its version and stage allow.
    pub(super) fn close(
        &mut self,
        id: ConnId,
        reason: ReasonCode,
        rule: Option<&'static str>,
        turn: &mut Turn<'_>,
    ) {
        let Some(conn) = self.conns.get(&id) else { return };
        match &conn.stage {
            Stage::Opened => self.finish(id, None, turn),
            Stage::Authenticating(..) => self.refuse(id, reason, rule, turn),
            Stage::Linked(link) if !link.established => {
                let answer = connack(link.version, link.packet_bytes_max, reason, rule);
                self.finish(id, answer.as_ref(), turn);
                self.detach(id, conn_cause(reason), Farewell::Will, turn);
            }
            Stage::Linked(link) => {
                let answer = goodbye(link, reason, rule);
                self.finish(id, answer.as_ref(), turn);
                self.detach(id, conn_cause(reason), Farewell::Will, turn);
            }
        }
    }

    pub(super) fn close_for_shutdown(&mut self, id: ConnId, turn: &mut Turn<'_>) {
        let reason = ReasonCode::ServerShuttingDown;
        let answer = self
            .conns
            .get(&id)
            .and_then(|conn| conn.link())
            .filter(|link| link.established)
            .and_then(|link| goodbye(link, reason, None));
        self.finish(id, answer.as_ref(), turn);
        self.detach(id, conn_cause(reason), Farewell::Stored, turn);
    }

    /// DISCONNECT from the client (3.14).
    pub(super) fn disconnected(&mut self, id: ConnId, packet: &Disconnect, turn: &mut Turn<'_>) {
        let Some(link) = self.conns.get(&id).and_then(|conn| conn.link()) else { return };
        let session = link.session;
        if let Some(expiry_s) = packet.session_expiry_s {
            if link.expiry_was_zero && expiry_s != 0 {
                let rule = "3.14.2.2.2 session expiry raised from zero";
                return self.malformed(id, DecodeError::protocol(rule), turn);
            }
            if let Some(session) = self.sessions.get_mut(&session) {
                session.expiry_s = expiry_s.min(self.limits.session_expiry_s_max);
            }
        }
        let farewell = match packet.reason {
            ReasonCode::Success => Farewell::Void,
            _ => Farewell::Will,
        };
        // [MQTT-3.14.4-1]: the client closes; where it does not, we do.
        self.finish(id, None, turn);
        self.detach(id, DisconnectCause::Client(packet.reason), farewell, turn);
    }

    /// The network connection broke.
    pub(super) fn lost(&mut self, id: ConnId, turn: &mut Turn<'_>) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        // There is nobody to send to, and nothing to close.
        conn.out.take();
        let mut nothing = Vec::new();
        self.forget(id, None, &mut nothing);
        self.detach(id, DisconnectCause::Lost, Farewell::Will, turn);
    }

    /// Sends what is left and an answer, and closes. The session follows with `detach`.
    fn finish(&mut self, id: ConnId, answer: Option<&(Packet, Version)>, turn: &mut Turn<'_>) {
        self.forget(id, answer, turn.effects);
        turn.effects.push(Effect::Close { conn: id });
    }

    fn forget(
        &mut self,
        id: ConnId,
        answer: Option<&(Packet, Version)>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if let Some((packet, version)) = answer {
            conn.out.write(|out| encode(packet, *version, out));
        }
        if !conn.out.is_empty() {
            effects.push(Effect::Send { conn: id, chunks: conn.out.take() });
        }
        self.totals.egress_bytes -= std::mem::take(&mut conn.unwritten_bytes);
        self.dirty.remove(&id);
        if conn.pause.has(Pause::Total) {
            self.starved.retain(|starved| *starved != id);
        }
        for timer in [Timer::Auth(id), Timer::KeepAlive(id), Timer::Stall(id)] {
            self.timers.clear(timer);
        }
        if !matches!(conn.stage, Stage::Linked(_)) {
            self.conns.remove(&id);
        }
    }

    /// Takes a finished connection off its session, if it had one.
    fn detach(
        &mut self,
        id: ConnId,
        cause: DisconnectCause,
        farewell: Farewell,
        turn: &mut Turn<'_>,
    ) {
        let Some(Conn { stage: Stage::Linked(link), .. }) = self.conns.remove(&id) else { return };
        let session_id = link.session;
        let Some(session) = self.sessions.get_mut(&session_id) else { return };
        if session.conn != Some(id) {
            return;
        }
        session.conn = None;
        let before = session.inbound.bytes();
        session.inbound.disconnected();
        self.totals.ingress_bytes -= before - session.inbound.bytes();
        let before = session.queue.size();
        session.queue.rewind();
        while session.queue.pop_live().is_some() {}
        self.totals.queued.messages -= before.messages - session.queue.size().messages;
        self.totals.queued.bytes -= before.bytes - session.queue.size().bytes;
        if link.established {
            turn.event(BrokerEvent::Disconnected {
                conn: id,
                identity: session.identity.clone(),
                client_id: Arc::clone(&session.client_id),
                cause,
            });
        }
        if farewell != Farewell::Stored {
            self.pass_on_unsent(session_id, turn);
        }
        self.say_farewell(session_id, farewell, turn);
        let Some(session) = self.sessions.get(&session_id) else { return };
        if farewell == Farewell::Stored {
            if session.persistent {
                turn.persist(BrokerOp::PutSession(session.row(Some(turn.now.at))));
            }
        } else if session.expiry_s == 0 {
            self.end_session(session_id, turn);
        } else {
            turn.persist(BrokerOp::PutSession(session.row(Some(turn.now.at))));
            let ends = turn.now.at + Millis::from_secs(session.expiry_s.into());
            self.timers.set(Timer::Expiry(session_id), ends);
        }
        self.feed_starved(turn);
    }

    fn say_farewell(&mut self, id: SessionId, farewell: Farewell, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get(&id) else { return };
        let Some(will) = &session.will else { return };
        match farewell {
            Farewell::Void => self.void_will(id, turn),
            Farewell::Stored => {}
            Farewell::Will if will.delay_s == 0 || session.expiry_s == 0 => {
                self.fire_will(id, turn);
            }
            Farewell::Will => {
                let due = turn.now.at + Millis::from_secs(will.delay_s.into());
                self.timers.set(Timer::Will(id), due);
            }
        }
    }

    /// Publishes the will of a session, if it has one.
    pub(super) fn fire_will(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        self.timers.clear(Timer::Will(id));
        let Some(will) = self.sessions.get_mut(&id).and_then(|session| session.will.take()) else {
            return;
        };
        let (at, wall) = (turn.now.at, turn.now.wall);
        let message = Arc::new(Message { at, wall, ..Message::clone(&will.message) });
        turn.effects.push(Effect::WillFired { message });
        turn.persist(BrokerOp::DeleteWill { session: id });
    }

    pub(super) fn void_will(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        self.timers.clear(Timer::Will(id));
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.will.take().is_some() {
            turn.persist(BrokerOp::DeleteWill { session: id });
        }
    }

    /// Ends a session without a connection and deletes its rows.
    pub(super) fn end_session(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        self.fire_will(id, turn);
        self.timers.clear(Timer::Expiry(id));
        self.timers.clear(Timer::PassOn(id));
        self.replaying.remove(&id);
        let Some(session) = self.sessions.remove(&id) else { return };
        self.by_client.remove(&(session.identity.clone(), Arc::clone(&session.client_id)));
        for (filter, subscription) in &session.subscriptions {
            self.unindex(id, filter, *subscription);
        }
        self.totals.ingress_bytes -= session.inbound.bytes();
        self.totals.queued.messages -= session.queue.size().messages;
        self.totals.queued.bytes -= session.queue.size().bytes;
        if session.persistent {
            self.delete_rows(&session, turn);
        }
        self.pass_on_rest(session.queue, turn);
    }

    /// Deletes the rows of a session that has ended.
    fn delete_rows(&mut self, session: &Session, turn: &mut Turn<'_>) {
        let id = session.id;
        self.totals.persistent -= 1;
        for filter in session.subscriptions.keys().cloned() {
            turn.persist(BrokerOp::DeleteSubscription { session: id, filter });
        }
        for (n, released) in session.queue.rows() {
            turn.persist(if released {
                BrokerOp::DeleteRelease { session: id, n }
            } else {
                BrokerOp::DeleteMessage { session: id, n }
            });
        }
        for packet_id in session.inbound.taken() {
            turn.persist(BrokerOp::DeleteInbound { session: id, packet_id });
        }
        turn.persist(BrokerOp::DeleteSession { session: id });
    }

    /// Takes one subscription away. False if there was none.
    pub(super) fn remove_subscription(
        &mut self,
        id: SessionId,
        filter: &TopicFilter,
        turn: &mut Turn<'_>,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let Some(subscription) = session.subscriptions.remove(filter) else { return false };
        session.replays.retain(|replay| replay.filter != *filter);
        let persistent = session.persistent;
        self.unindex(id, filter, subscription);
        if persistent {
            let filter = filter.clone();
            turn.persist(BrokerOp::DeleteSubscription { session: id, filter });
        }
        true
    }
}

fn conn_cause(reason: ReasonCode) -> DisconnectCause {
    DisconnectCause::Broker(reason)
}

/// The CONNACK that refuses, where the version has one for this reason.
fn connack(
    version: Version,
    packet_bytes_max: usize,
    reason: ReasonCode,
    rule: Option<&'static str>,
) -> Option<(Packet, Version)> {
    if version == Version::V311 && reason.connack_v311().is_none() {
        return None;
    }
    let form = |rule: Option<&str>| {
        let reason_string = rule.map(str::to_owned);
        let properties = ConnAckProperties { reason_string, ..ConnAckProperties::default() };
        // [MQTT-3.2.2-6]: a refusal never has a session.
        Packet::ConnAck(Box::new(ConnAck { session_present: false, reason, properties }))
    };
    fitting([form(rule), form(None)], version, packet_bytes_max)
}

/// The DISCONNECT that closes; 3.1.1 has none from the server.
fn goodbye(
    link: &Link,
    reason: ReasonCode,
    rule: Option<&'static str>,
) -> Option<(Packet, Version)> {
    if link.version == Version::V311 {
        return None;
    }
    let form = |rule: Option<&str>| {
        let reason_string = rule.map(str::to_owned);
        Packet::Disconnect(Disconnect { reason, session_expiry_s: None, reason_string })
    };
    fitting([form(rule), form(None)], link.version, link.packet_bytes_max)
}

/// The first of some forms of a packet that the client accepts [MQTT-3.1.2-24]: a reason string
/// must not make it too large [MQTT-3.2.2-19] [MQTT-3.14.2-3].
fn fitting(
    forms: [Packet; 2],
    version: Version,
    packet_bytes_max: usize,
) -> Option<(Packet, Version)> {
    let fits = |packet: &Packet| {
        let mut bytes = Vec::new();
        encode(packet, version, &mut bytes);
        bytes.len() <= packet_bytes_max
    };
    forms.into_iter().find(fits).map(|packet| (packet, version))
}
