//! Owner, store, transport and clients in one, over a virtual clock.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use edge_core::message::{Message, Origin, QoS};
use edge_core::time::WallTime;
use edge_core::topic::{Topic, TopicFilter};

use super::super::*;
use crate::codec::{
    Ack, AckList, ConnAck, Connect, Decoder, Packet, PacketId, Publish, Subscribe,
    SubscribeOptions, Version, encode,
};

/// The client's end of a connection.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) version: Version,
    decoder: Decoder,
    buf: BytesMut,
    pub(super) inbox: Vec<Packet>,
    pub(super) closed: bool,
    pub(super) paused: bool,
    /// Whether what is sent is reported as written at once.
    pub(super) reads: bool,
    pub(super) unwritten: usize,
    /// Sends seen, to hold against "one a turn".
    pub(super) sends: usize,
}

/// What the owner does with deliveries and batches by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Habits {
    /// Route and accept each delivery and will at once.
    pub(super) accept: bool,
    /// Commit the open batch after each step.
    pub(super) commit: bool,
    /// Authenticate everybody.
    pub(super) admit: bool,
}

pub(super) struct Rig {
    pub(super) broker: Broker,
    pub(super) now: Now,
    pub(super) open: BatchSeq,
    pub(super) habits: Habits,
    pub(super) wires: BTreeMap<ConnId, Wire>,
    /// Deliveries the owner has not settled.
    pub(super) held: Vec<Delivery>,
    /// Everything delivered, in order.
    pub(super) delivered: Vec<Arc<Message>>,
    pub(super) wills: Vec<Arc<Message>>,
    pub(super) events: Vec<BrokerEvent>,
    /// Operations of the open batch, and the rows of those committed.
    pub(super) batch: Vec<BrokerOp>,
    pub(super) rows: BTreeMap<(BrokerTable, Vec<u8>), BrokerOp>,
    next_conn: u64,
}

pub(super) const HABITS: Habits = Habits { accept: true, commit: true, admit: true };

pub(super) fn topic(name: &str) -> Topic {
    Topic::new(name).unwrap()
}

pub(super) fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

pub(super) fn id(n: u16) -> PacketId {
    PacketId::new(n).unwrap()
}

pub(super) fn publish(name: &str, payload: &str, qos: QoS, n: u16) -> Publish {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: topic(name),
        packet_id: PacketId::new(n).filter(|_| qos > QoS::AtMostOnce),
        expiry_s: None,
        subscription_ids: Vec::new(),
        properties: Default::default(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
    }
}

pub(super) fn message(name: &str, payload: &str, qos: QoS) -> Message {
    Message {
        topic: topic(name),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        qos,
        retain: false,
        properties: Default::default(),
        expiry_s: None,
        origin: Origin::Gateway,
        device: None,
        hops: 0,
        at: Millis::default(),
        wall: WallTime::default(),
    }
}

/// A CONNECT that keeps its session.
pub(super) fn keep(version: Version, client_id: &str) -> Connect {
    Connect { clean_start: false, session_expiry_s: 3_600, ..Connect::new(version, client_id) }
}

impl Rig {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            broker: Broker::new(limits, 7),
            now: Now { at: Millis(1_000), wall: WallTime::default() },
            open: BatchSeq(1),
            habits: HABITS,
            wires: BTreeMap::new(),
            held: Vec::new(),
            delivered: Vec::new(),
            wills: Vec::new(),
            events: Vec::new(),
            batch: Vec::new(),
            rows: BTreeMap::new(),
            next_conn: 1,
        }
    }

    pub(super) fn default() -> Self {
        Self::new(Limits::default())
    }

    /// One turn of the owner's loop.
    pub(super) fn step(&mut self, act: impl FnOnce(&mut Broker, &mut Turn<'_>)) {
        let mut effects = Vec::new();
        let mut turn = Turn { now: self.now, open: self.open, effects: &mut effects };
        act(&mut self.broker, &mut turn);
        self.carry_out(effects);
        if self.habits.commit {
            self.commit();
        }
    }

    fn carry_out(&mut self, mut effects: Vec<Effect>) {
        let mut at = 0;
        loop {
            if at == effects.len() {
                let before = effects.len();
                self.broker.flush(&mut effects);
                if effects.len() == before {
                    return;
                }
                continue;
            }
            let placeholder = Effect::PauseRead { conn: ConnId(0) };
            let effect = std::mem::replace(&mut effects[at], placeholder);
            at += 1;
            let mut turn = Turn { now: self.now, open: self.open, effects: &mut effects };
            match effect {
                Effect::Authenticate { conn, request } if self.habits.admit => {
                    let outcome = Ok(Self::principal(&request));
                    self.broker.handle(Input::AuthDone { conn, outcome }, &mut turn);
                }
                Effect::Authenticate { .. } => {}
                Effect::Deliver(delivery) => {
                    self.delivered.push(Arc::clone(&delivery.message));
                    if self.habits.accept {
                        self.broker.route(&delivery.message, &mut turn);
                        self.broker.settle(delivery.token, Settlement::Accepted, &mut turn);
                    } else {
                        self.held.push(delivery);
                    }
                }
                Effect::WillFired { message } => {
                    self.wills.push(Arc::clone(&message));
                    self.broker.route(&message, &mut turn);
                }
                Effect::Persist(op) => self.batch.push(op),
                Effect::Send { conn, chunks } => {
                    let bytes: usize = chunks.iter().map(Bytes::len).sum();
                    assert!(bytes > 0, "an empty send");
                    let Some(wire) = self.wires.get_mut(&conn) else { continue };
                    assert!(!wire.closed, "sent after close");
                    wire.sends += 1;
                    wire.unwritten += bytes;
                    chunks.iter().for_each(|chunk| wire.buf.extend_from_slice(chunk));
                    while let Some(packet) = wire.decoder.decode(&mut wire.buf).unwrap() {
                        wire.inbox.push(packet);
                    }
                    if wire.reads {
                        let bytes = std::mem::take(&mut wire.unwritten);
                        self.broker.handle(Input::Written { conn, bytes }, &mut turn);
                    }
                }
                Effect::PauseRead { conn } => {
                    self.wires.entry(conn).and_modify(|wire| wire.paused = true);
                }
                Effect::ResumeRead { conn } => {
                    self.wires.entry(conn).and_modify(|wire| wire.paused = false);
                }
                Effect::Close { conn } => {
                    self.wires.entry(conn).and_modify(|wire| wire.closed = true);
                }
                Effect::Event(event) => self.events.push(event),
            }
        }
    }

    /// The identity of a test client is its user name, or its client id; user names that begin
    /// with `limited` may use only `own/#`.
    fn principal(request: &AuthRequest) -> Arc<Principal> {
        let name = request.username.as_deref().unwrap_or("anyone");
        let grants = if name.starts_with("limited") {
            vec![filter("own/#")]
        } else {
            vec![filter("#"), filter("$holm/#")]
        };
        Arc::new(Principal {
            identity: DeviceId::new(name),
            publish: grants.clone(),
            subscribe: grants,
        })
    }

    /// The store: the open batch becomes durable.
    pub(super) fn commit(&mut self) {
        let batch = self.seal();
        self.synced(batch);
    }

    /// Ends the open batch without making it durable.
    pub(super) fn seal(&mut self) -> (BatchSeq, Vec<BrokerOp>) {
        let sealed = (self.open, std::mem::take(&mut self.batch));
        self.open = self.open.next();
        sealed
    }

    /// A sealed batch is durable.
    pub(super) fn synced(&mut self, (batch, ops): (BatchSeq, Vec<BrokerOp>)) {
        for op in ops {
            let key = (op.table(), op.key());
            if op.is_delete() {
                self.rows.remove(&key);
            } else {
                self.rows.insert(key, op);
            }
        }
        let mut effects = Vec::new();
        let mut turn = Turn { now: self.now, open: self.open, effects: &mut effects };
        self.broker.durable(batch, &mut turn);
        self.carry_out(effects);
    }

    /// The process dies and starts again: only the rows are left, through their encoding.
    pub(super) fn restart(&mut self) {
        let rows: Vec<BrokerOp> = self
            .rows
            .values()
            .map(|op| postcard::from_bytes(&postcard::to_stdvec(op).unwrap()).unwrap())
            .collect();
        self.batch.clear();
        self.held.clear();
        for wire in self.wires.values_mut() {
            wire.closed = true;
        }
        let mut effects = Vec::new();
        let mut turn = Turn { now: self.now, open: self.open, effects: &mut effects };
        let limits = self.broker.limits().clone();
        self.broker = Broker::restore(limits, 8, rows, &mut turn);
        self.carry_out(effects);
        if self.habits.commit {
            self.commit();
        }
    }

    pub(super) fn advance(&mut self, ms: u64) {
        let until = self.now.at + Millis(ms);
        while let Some(at) = self.broker.next_deadline().filter(|at| *at <= until) {
            self.now.at = self.now.at.max(at);
            self.step(|broker, turn| broker.handle(Input::Tick, turn));
        }
        self.now.at = until;
    }

    /// Opens a connection and sends a CONNECT.
    pub(super) fn dial(&mut self, connect: Connect) -> ConnId {
        let conn = self.open_wire(connect.version);
        let wire = self.wires.get_mut(&conn).unwrap();
        wire.decoder.accept_topic_aliases(connect.topic_alias_max, usize::MAX);
        self.send(conn, Packet::Connect(Box::new(connect)));
        conn
    }

    pub(super) fn open_wire(&mut self, version: Version) -> ConnId {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        self.wires.insert(
            conn,
            Wire {
                version,
                decoder: Decoder::client(version, usize::MAX),
                buf: BytesMut::new(),
                inbox: Vec::new(),
                closed: false,
                paused: false,
                reads: true,
                unwritten: 0,
                sends: 0,
            },
        );
        let address = "192.0.2.1:1000".parse().unwrap();
        let peer = Arc::new(Peer { address, tls: false, certificate: None, vouched: None });
        self.step(|broker, turn| broker.handle(Input::Opened { conn, peer }, turn));
        conn
    }

    /// Connects and expects to be welcome; tells whether there was a session.
    pub(super) fn connect(&mut self, connect: Connect) -> (ConnId, bool) {
        let conn = self.dial(connect);
        let connack = self.connack(conn);
        assert_eq!(connack.reason, ReasonCode::Success);
        (conn, connack.session_present)
    }

    /// Connects where batches are committed by hand.
    pub(super) fn connect_after_commit(&mut self, connect: Connect) -> (ConnId, bool) {
        let conn = self.dial(connect);
        self.commit();
        (conn, self.connack(conn).session_present)
    }

    /// Connects with a clean start.
    pub(super) fn join(&mut self, version: Version, client_id: &str) -> ConnId {
        self.connect(Connect::new(version, client_id)).0
    }

    pub(super) fn connack(&mut self, conn: ConnId) -> ConnAck {
        let wire = self.wires.get_mut(&conn).unwrap();
        assert!(!wire.inbox.is_empty(), "no CONNACK: {wire:?}");
        match wire.inbox.remove(0) {
            Packet::ConnAck(connack) => *connack,
            other => panic!("not a CONNACK: {other:?}"),
        }
    }

    /// Sends packets in one read.
    pub(super) fn send_all(&mut self, conn: ConnId, packets: Vec<Packet>) {
        // Through the wire, so that everything tested is also encodable.
        let version = self.wires[&conn].version;
        let mut bytes = Vec::new();
        packets.iter().for_each(|packet| encode(packet, version, &mut bytes));
        self.step(|broker, turn| broker.handle(Input::Packets { conn, packets }, turn));
    }

    pub(super) fn send(&mut self, conn: ConnId, packet: Packet) {
        self.send_all(conn, vec![packet]);
    }

    pub(super) fn publish(&mut self, conn: ConnId, publish: Publish) {
        self.send(conn, Packet::Publish(publish));
    }

    /// Subscribes and returns the reasons of the SUBACK.
    pub(super) fn subscribe(&mut self, conn: ConnId, text: &str, qos: QoS) -> Vec<ReasonCode> {
        let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
        self.subscribe_with(conn, text, options)
    }

    pub(super) fn subscribe_with(
        &mut self,
        conn: ConnId,
        text: &str,
        options: SubscribeOptions,
    ) -> Vec<ReasonCode> {
        self.send(
            conn,
            Packet::Subscribe(Subscribe {
                packet_id: id(9),
                subscription_id: None,
                filters: vec![(filter(text), options)],
            }),
        );
        let inbox = &mut self.wires.get_mut(&conn).unwrap().inbox;
        let at = inbox.iter().position(|packet| matches!(packet, Packet::SubAck(_))).unwrap();
        let Packet::SubAck(AckList { reasons, .. }) = inbox.remove(at) else { unreachable!() };
        reasons
    }

    /// Takes what the client has received.
    pub(super) fn take(&mut self, conn: ConnId) -> Vec<Packet> {
        std::mem::take(&mut self.wires.get_mut(&conn).unwrap().inbox)
    }

    /// Takes the publishes the client has received.
    pub(super) fn publishes(&mut self, conn: ConnId) -> Vec<Publish> {
        let publish = |packet| match packet {
            Packet::Publish(publish) => Some(publish),
            _ => None,
        };
        self.take(conn).into_iter().filter_map(publish).collect()
    }

    /// Payloads of the publishes the client has received; acks those of QoS 1.
    pub(super) fn payloads(&mut self, conn: ConnId) -> Vec<String> {
        let mut payloads = Vec::new();
        loop {
            let publishes = self.publishes(conn);
            if publishes.is_empty() {
                return payloads;
            }
            for publish in publishes {
                payloads.push(String::from_utf8(publish.payload.to_vec()).unwrap());
                if publish.qos == QoS::AtLeastOnce {
                    self.send(conn, Packet::PubAck(Ack::ok(publish.packet_id.unwrap())));
                }
            }
        }
    }

    /// Lets the owner publish a message of its own.
    pub(super) fn route(&mut self, message: Message) {
        self.step(|broker, turn| {
            broker.route(&Arc::new(message), turn);
        });
    }

    /// The owner settles the oldest delivery it holds.
    pub(super) fn settle(&mut self, at: usize, settlement: Settlement) {
        let Delivery { token, message, .. } = self.held.remove(at);
        self.step(|broker, turn| {
            if settlement == Settlement::Accepted {
                broker.route(&message, turn);
            }
            broker.settle(token, settlement, turn);
        });
    }

    /// The network connection breaks.
    pub(super) fn drop_conn(&mut self, conn: ConnId) {
        self.wires.get_mut(&conn).unwrap().closed = true;
        self.step(|broker, turn| broker.handle(Input::Closed { conn }, turn));
    }

    pub(super) fn is_closed(&self, conn: ConnId) -> bool {
        self.wires[&conn].closed
    }

    pub(super) fn is_paused(&self, conn: ConnId) -> bool {
        self.wires[&conn].paused
    }

    /// Reason of the DISCONNECT that was the last packet before the connection was closed.
    pub(super) fn farewell(&mut self, conn: ConnId) -> ReasonCode {
        assert!(self.is_closed(conn));
        match self.take(conn).pop() {
            Some(Packet::Disconnect(disconnect)) => disconnect.reason,
            other => panic!("no DISCONNECT but {other:?}"),
        }
    }

    pub(super) fn dropped(&self, reason: DropReason) -> u64 {
        self.broker.counters().dropped.get(&reason).copied().unwrap_or_default()
    }

    /// Messages of QoS 1 and 2 that wait to be sent.
    pub(super) fn unsent_by_session(&self) -> Vec<(SessionId, usize)> {
        let sessions = self.broker.sessions.values();
        sessions.map(|session| (session.id, session.queue.unsent().messages)).collect()
    }

    pub(super) fn rows_of(&self, table: BrokerTable) -> usize {
        self.rows.keys().filter(|(of, _)| *of == table).count()
    }
}
