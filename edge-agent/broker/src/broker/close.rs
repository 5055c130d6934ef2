//! The ends of connections, wills and sessions (3.1.2.5, 3.14, 4.1, 4.13).

use std::sync::Arc;

use edge_core::message::Message;
use edge_core::time::Millis;
use edge_core::topic::TopicFilter;

use super::conn::{Conn, Link, Pause, Stage};
use super::subscribe::index_bytes;
use super::timers::Timer;
use super::{Broker, BrokerEvent, BrokerOp, ConnId, DisconnectCause, Effect, SessionId, Turn};
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
            let answer = error.version.and_then(|version| connack(version, reason, Some(rule)));
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
        let version = match &conn.stage {
            Stage::Opened => None,
            Stage::Authenticating(connect, _) => Some(connect.version),
            Stage::Linked(link) => Some(link.version),
        };
        turn.event(BrokerEvent::Refused { conn: id, reason });
        let answer = version.and_then(|version| connack(version, reason, rule));
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
                let answer = connack(link.version, reason, rule);
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
        self.replaying.remove(&id);
        let Some(session) = self.sessions.remove(&id) else { return };
        self.by_client.remove(&(session.identity.clone(), Arc::clone(&session.client_id)));
        for (filter, options) in &session.subscriptions {
            self.index.remove(filter, &(id, *options));
            self.totals.subscription_bytes -= index_bytes(filter);
        }
        self.totals.ingress_bytes -= session.inbound.bytes();
        self.totals.queued.messages -= session.queue.size().messages;
        self.totals.queued.bytes -= session.queue.size().bytes;
        if !session.persistent {
            return;
        }
        self.totals.persistent -= 1;
        for filter in session.subscriptions.into_keys() {
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
        let Some(options) = session.subscriptions.remove(filter) else { return false };
        session.replays.retain(|replay| replay.filter != *filter);
        self.index.remove(filter, &(id, options));
        self.totals.subscription_bytes -= index_bytes(filter);
        if session.persistent {
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
    reason: ReasonCode,
    rule: Option<&'static str>,
) -> Option<(Packet, Version)> {
    if version == Version::V311 && reason.connack_v311().is_none() {
        return None;
    }
    let properties = ConnAckProperties {
        reason_string: rule.map(str::to_owned),
        ..ConnAckProperties::default()
    };
    // [MQTT-3.2.2-6]: a refusal never has a session.
    let connack = ConnAck { session_present: false, reason, properties };
    Some((Packet::ConnAck(Box::new(connack)), version))
}

/// The DISCONNECT that closes; 3.1.1 has none from the server.
fn goodbye(
    link: &Link,
    reason: ReasonCode,
    rule: Option<&'static str>,
) -> Option<(Packet, Version)> {
    /// With its longest rule, a DISCONNECT stays below this.
    const DISCONNECT_BYTES: usize = 256;
    if link.version == Version::V311 {
        return None;
    }
    // 3.14.2.2.3: no reason string that makes the packet larger than the client accepts.
    let fits = link.packet_bytes_max >= DISCONNECT_BYTES;
    let reason_string = rule.filter(|_| fits).map(str::to_owned);
    let disconnect = Disconnect { reason, session_expiry_s: None, reason_string };
    Some((Packet::Disconnect(disconnect), link.version))
}
