//! CONNECT: from the packet to an established connection (3.1, 3.2).

use std::sync::Arc;

use edge_core::message::{Message, Origin};
use edge_core::time::Millis;

use super::conn::{Early, Link, Pause, Stage};
use super::session::{Session, StoredWill};
use super::timers::Timer;
use super::{
    AuthRequest, Broker, BrokerEvent, BrokerOp, ConnId, Effect, Principal, SessionId, Turn, WillRow,
};
use crate::codec::{
    ConnAck, ConnAckProperties, Connect, DecodeError, GivenAliases, Packet, ReasonCode, Version,
    Will,
};

/// Bytes of packets kept for a client that does not wait for its CONNACK.
const EARLY_BYTES_MAX: usize = 64 * 1_024;

impl Broker {
    /// The packets of one read.
    pub(super) fn packets(&mut self, id: ConnId, packets: Vec<Packet>, turn: &mut Turn<'_>) {
        if let Some(link) = self.conns.get_mut(&id).and_then(|conn| conn.link_mut()) {
            link.heard_at = turn.now.at;
        }
        for packet in packets {
            // A packet may have closed the connection.
            let Some(conn) = self.conns.get_mut(&id) else { return };
            match (&mut conn.stage, packet) {
                (Stage::Opened, Packet::Connect(connect)) => self.connect(id, *connect, turn),
                (Stage::Opened, _) => {
                    let rule = "[MQTT-3.1.0-1] the first packet is not a CONNECT";
                    self.malformed(id, DecodeError::protocol(rule), turn);
                }
                (Stage::Linked(link), packet) if link.established => {
                    self.packet(id, packet, turn);
                }
                (Stage::Linked(link), packet) => {
                    let full = !link.early.push(packet);
                    self.refuse_if(full, id, ReasonCode::QuotaExceeded, turn);
                }
                (Stage::Authenticating(_, early), packet) => {
                    let full = !early.push(packet);
                    self.refuse_if(full, id, ReasonCode::QuotaExceeded, turn);
                }
            }
        }
    }

    fn refuse_if(&mut self, it: bool, id: ConnId, reason: ReasonCode, turn: &mut Turn<'_>) {
        if it {
            self.refuse(id, reason, None, turn);
        }
    }

    fn connect(&mut self, id: ConnId, connect: Connect, turn: &mut Turn<'_>) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let request = AuthRequest {
            version: connect.version,
            client_id: connect.client_id.clone(),
            username: connect.username.clone(),
            password: connect.password.clone(),
            peer: Arc::clone(&conn.peer),
        };
        let verdict = self.limits.check_connect(&connect);
        conn.stage = Stage::Authenticating(Box::new(connect), Early::default());
        if let Err(reason) = verdict {
            return self.refuse(id, reason, None, turn);
        }
        // Until the CONNACK leaves, nothing more is read.
        self.pause(id, Pause::Connecting, true, turn);
        self.timers.set(Timer::Auth(id), turn.now.at + Millis(self.limits.auth_ms_max));
        turn.effects.push(Effect::Authenticate { conn: id, request: Box::new(request) });
    }

    /// The owner's answer.
    pub(super) fn auth_done(
        &mut self,
        id: ConnId,
        outcome: Result<Arc<Principal>, ReasonCode>,
        turn: &mut Turn<'_>,
    ) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Stage::Authenticating(connect, early) = &mut conn.stage else { return };
        let (connect, early) = (connect.clone(), std::mem::take(early));
        self.timers.clear(Timer::Auth(id));
        let admitted = outcome.and_then(|principal| {
            // 3.1.2.5: a will that may not be published refuses the connection.
            if connect.will.as_ref().is_none_or(|will| principal.may_publish(&will.topic)) {
                Ok(principal)
            } else {
                Err(ReasonCode::NotAuthorized)
            }
        });
        match admitted {
            Ok(principal) => self.admit(id, &connect, early, principal, turn),
            Err(reason) => self.refuse(id, reason, None, turn),
        }
    }

    /// Attaches the connection to its session and parks the CONNACK.
    fn admit(
        &mut self,
        id: ConnId,
        connect: &Connect,
        early: Early,
        principal: Arc<Principal>,
        turn: &mut Turn<'_>,
    ) {
        let effects_before = turn.effects.len();
        let (client_id, assigned) = self.client_id(connect);
        let expiry_s = connect.session_expiry_s.min(self.limits.session_expiry_s_max);
        let found = self.take_over(&principal, &client_id, connect.clean_start, turn);
        if found.is_none() && expiry_s > 0 && !self.has_place(&principal) {
            return self.refuse(id, ReasonCode::QuotaExceeded, None, turn);
        }
        let session_id = found.unwrap_or_else(|| self.add_session(&principal, &client_id));
        self.link(id, session_id, connect, early, principal, turn);
        self.start_session(id, session_id, expiry_s, connect.will.as_ref(), turn);
        self.withdraw_grants(id, session_id, turn);
        let connack = ConnAck {
            session_present: found.is_some(),
            reason: ReasonCode::Success,
            properties: ConnAckProperties {
                session_expiry_s: (expiry_s != connect.session_expiry_s).then_some(expiry_s),
                receive_max: Some(self.limits.receive_max),
                packet_bytes_max: u32::try_from(self.limits.packet_bytes_max()).ok(),
                assigned_client_id: assigned.then(|| client_id.to_string()),
                topic_alias_max: Some(self.limits.topic_alias_max),
                retain_available: (!self.limits.keeps_retained()).then_some(false),
                subscription_ids_available: Some(true),
                shared_available: Some(true),
                ..ConnAckProperties::default()
            },
        };
        // It stands on the batch only if there is something in it.
        let stored =
            |effect: &Effect| matches!(effect, Effect::Persist(_) | Effect::WillFired { .. });
        let persisted = turn.effects[effects_before..].iter().any(stored);
        let batch = if persisted { turn.open } else { self.durable };
        self.park(id, session_id, batch, Packet::ConnAck(Box::new(connack)), turn);
        self.release(session_id, turn);
    }

    /// 3.1.3.1: the client's identifier, or one made for it.
    fn client_id(&mut self, connect: &Connect) -> (Arc<str>, bool) {
        if connect.client_id.is_empty() {
            let (seed, n) = (self.seed, self.serial());
            (Arc::from(format!("holm-{seed:016x}-{n}")), true)
        } else {
            (Arc::from(connect.client_id.as_str()), false)
        }
    }

    /// Disconnects an older connection of the same client [MQTT-3.1.4-3] and finds its session,
    /// unless the client starts clean [MQTT-3.1.2-4].
    fn take_over(
        &mut self,
        principal: &Principal,
        client_id: &Arc<str>,
        clean_start: bool,
        turn: &mut Turn<'_>,
    ) -> Option<SessionId> {
        let key = (principal.identity.clone(), Arc::clone(client_id));
        let id = *self.by_client.get(&key)?;
        if let Some(old) = self.sessions.get(&id)?.conn {
            self.close(old, ReasonCode::SessionTakenOver, None, turn);
        }
        let session = self.sessions.get(&id)?;
        if session.will.as_ref().is_some_and(|will| will.restored) {
            // Left over from before a restart, and the client is back.
            self.void_will(id, turn);
        }
        if clean_start || !self.sessions.get(&id)?.persistent {
            // The session ends, and with it the delay of its will.
            self.end_session(id, turn);
            return None;
        }
        // [MQTT-3.1.3-9]: back before the delay is over.
        self.void_will(id, turn);
        self.timers.clear(Timer::Expiry(id));
        Some(id)
    }

    /// Whether there is room for another kept session of this client.
    fn has_place(&self, principal: &Principal) -> bool {
        let first = (principal.identity.clone(), Arc::from(""));
        let theirs = self
            .by_client
            .range(first..)
            .take_while(|((identity, _), _)| *identity == principal.identity)
            .filter(|(_, id)| self.sessions.get(id).is_some_and(|session| session.persistent));
        self.totals.persistent < self.limits.sessions_max
            && theirs.count() < self.limits.sessions_per_identity_max
    }

    fn add_session(&mut self, principal: &Principal, client_id: &Arc<str>) -> SessionId {
        let id = SessionId(self.next_session);
        self.next_session += 1;
        let key = (principal.identity.clone(), Arc::clone(client_id));
        self.by_client.insert(key, id);
        let (identity, client_id) = (principal.identity.clone(), Arc::clone(client_id));
        let expected = self.limits.repeats_expected_max;
        self.sessions.insert(id, Session::new(id, identity, client_id, expected));
        id
    }

    fn link(
        &mut self,
        id: ConnId,
        session: SessionId,
        connect: &Connect,
        early: Early,
        principal: Arc<Principal>,
        turn: &Turn<'_>,
    ) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.stage = Stage::Linked(Box::new(Link {
            session,
            version: connect.version,
            principal,
            established: false,
            early,
            // [MQTT-3.1.2-22]: one and a half times.
            keep_alive: Millis(u64::from(connect.keep_alive_s) * 1_500),
            heard_at: turn.now.at,
            receive_used: 0,
            problem_info: connect.request_problem_info,
            send_window: usize::from(connect.receive_max.min(self.limits.send_window_max)),
            packet_bytes_max: packet_bytes_max(connect),
            aliases: GivenAliases::new(
                connect.topic_alias_max.min(self.limits.topic_alias_max),
                self.limits.topic_alias_bytes_max,
            ),
            expiry_was_zero: connect.session_expiry_s == 0,
            parked: std::collections::VecDeque::new(),
        }));
    }

    /// Writes down what the CONNECT changes in the session.
    fn start_session(
        &mut self,
        conn: ConnId,
        id: SessionId,
        expiry_s: u32,
        will: Option<&Will>,
        turn: &mut Turn<'_>,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.conn = Some(conn);
        session.expiry_s = expiry_s;
        session.queue.rewind();
        if expiry_s > 0 && !session.persistent {
            session.persistent = true;
            self.totals.persistent += 1;
        }
        if session.persistent {
            turn.persist(BrokerOp::PutSession(session.row(None)));
        }
        if let Some(will) = will {
            let message = Arc::new(will_message(will, session, turn));
            let (delay_s, stored) = (will.delay_s, Arc::clone(&message));
            session.will = Some(StoredWill { message: stored, delay_s, restored: false });
            // Stored for every session, so that a restart can publish it.
            turn.persist(BrokerOp::PutWill(WillRow {
                session: id,
                identity: session.identity.clone(),
                client_id: session.client_id.to_string(),
                delay_s: will.delay_s,
                message,
            }));
        }
    }

    /// A session keeps no subscription that its client may no longer make.
    fn withdraw_grants(&mut self, conn: ConnId, id: SessionId, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(link) = self.conns.get(&conn).and_then(|conn| conn.link()) else { return };
        let lost: Vec<_> = session
            .subscriptions
            .keys()
            .filter(|filter| !link.principal.may_subscribe(filter))
            .cloned()
            .collect();
        for filter in lost {
            self.remove_subscription(id, &filter, turn);
        }
    }

    /// The CONNACK has left: the client may be heard.
    pub(super) fn establish(&mut self, id: ConnId, session_present: bool, turn: &mut Turn<'_>) {
        let Some(link) = self.conns.get_mut(&id).and_then(|conn| conn.link_mut()) else { return };
        link.established = true;
        link.heard_at = turn.now.at;
        let early = std::mem::take(&mut link.early);
        if link.keep_alive.0 > 0 {
            self.timers.set(Timer::KeepAlive(id), turn.now.at + link.keep_alive);
        }
        let (version, session) = (link.version, link.session);
        if let Some(session) = self.sessions.get(&session) {
            turn.event(BrokerEvent::Connected {
                conn: id,
                identity: session.identity.clone(),
                client_id: Arc::clone(&session.client_id),
                version,
                session_present,
            });
        }
        self.pause(id, Pause::Connecting, false, turn);
        if !early.packets.is_empty() {
            self.packets(id, early.packets, turn);
        }
    }
}

/// Largest packet the client takes.
pub(super) fn packet_bytes_max(connect: &Connect) -> usize {
    connect.packet_bytes_max.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX)
}

impl super::Limits {
    /// What can be said about a CONNECT without knowing who sent it.
    fn check_connect(&self, connect: &Connect) -> Result<(), ReasonCode> {
        if connect.auth_method.is_some() {
            // 4.12: none is supported.
            return Err(ReasonCode::BadAuthenticationMethod);
        }
        let nameless = connect.client_id.is_empty();
        if nameless && connect.version == Version::V311 && !connect.clean_start {
            // v3.1.1 [MQTT-3.1.3-8]
            return Err(ReasonCode::ClientIdentifierNotValid);
        }
        if connect.will.as_ref().is_some_and(|will| will.packet_bytes() > self.will_bytes_max) {
            return Err(ReasonCode::QuotaExceeded);
        }
        let retains = connect.will.as_ref().is_some_and(|will| will.retain);
        if retains && connect.version == Version::V5 && !self.keeps_retained() {
            // [MQTT-3.2.2-13]
            return Err(ReasonCode::RetainNotSupported);
        }
        if connect.client_id.len() > self.client_id_bytes_max {
            return Err(ReasonCode::ClientIdentifierNotValid);
        }
        Ok(())
    }
}

fn will_message(will: &Will, session: &Session, turn: &Turn<'_>) -> Message {
    Message {
        topic: will.topic.clone(),
        payload: will.payload.clone(),
        qos: will.qos,
        retain: will.retain,
        properties: will.properties.clone(),
        expiry_s: will.expiry_s,
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

impl Early {
    /// Keeps a packet; false if there is no room.
    fn push(&mut self, packet: Packet) -> bool {
        self.bytes += match &packet {
            Packet::Publish(publish) => publish.payload.len() + size_of::<Packet>(),
            _ => size_of::<Packet>(),
        };
        self.packets.push(packet);
        self.bytes <= EARLY_BYTES_MAX
    }
}
