//! Whole MQTT sessions: several clients send any bytes, connections break, the owner refuses or
//! takes its time, the process dies and starts again.
//!
//! What must hold: no panic; every byte the broker sends is a packet of the client's version; no
//! ack leaves before the batch of its delivery is durable; sums stay within their bounds; and a
//! broker that is restored from the durable rows goes on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use edge_broker::broker::{
    AuthRequest, Broker, BrokerOp, BrokerTable, ConnId, Delivery, Effect, Input, Limits, Peer,
    Principal, Settlement, Turn,
};
use edge_broker::codec::{Decoder, Packet, ReasonCode, Version};
use edge_core::id::{BatchSeq, DeviceId};
use edge_core::message::QoS;
use edge_core::time::{Millis, Now, WallTime};
use edge_core::topic::TopicFilter;

use crate::bytes_reader::BytesReader;

/// Connections at once.
const CONNECTIONS: usize = 4;
/// CONNECT packets that work, so that random bytes behind them reach the session: 3.1.1 clean and
/// kept, 5 clean and kept for an hour, 5 with a will and a receive maximum of 2.
const CONNECTS: [&[u8]; 5] = [
    b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x0a\x00\x01a",
    b"\x10\x0d\x00\x04MQTT\x04\x00\x00\x0a\x00\x01a",
    b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x01b",
    b"\x10\x13\x00\x04MQTT\x05\x00\x00\x0a\x05\x11\x00\x00\x0e\x10\x00\x01b",
    b"\x10\x1c\x00\x04MQTT\x05\x0c\x00\x0a\x08\x11\x00\x00\x00\x10\x21\x00\x02\x00\x01c\x00\x00\x01t\x00\x01w",
];

pub(super) fn run(bytes: &[u8]) {
    let mut reader = BytesReader::new(bytes);
    let mut world = World::new();
    while !reader.is_empty() {
        world.step(&mut reader);
        world.check();
    }
}

/// The client's end of a connection.
struct Wire {
    from_client: Decoder,
    unread: BytesMut,
    from_broker: Decoder,
    got: BytesMut,
    version: Option<Version>,
    paused: bool,
    unwritten: usize,
    reads: bool,
}

struct World {
    broker: Broker,
    now: Now,
    open: BatchSeq,
    durable: BatchSeq,
    wires: BTreeMap<ConnId, Wire>,
    next_conn: u64,
    held: VecDeque<Delivery>,
    batch: Vec<BrokerOp>,
    sealed: VecDeque<(BatchSeq, Vec<BrokerOp>)>,
    rows: BTreeMap<(BrokerTable, Vec<u8>), BrokerOp>,
    /// Accepted deliveries of QoS 1 by batch, those of durable batches, and their acks seen since
    /// the last start.
    settled: BTreeMap<BatchSeq, u64>,
    may_ack: u64,
    acks: u64,
    work: VecDeque<Effect>,
}

fn limits() -> Limits {
    Limits {
        connections_max: CONNECTIONS,
        offline_messages_max: 8,
        online_messages_max: 16,
        retained_messages_max: 4,
        queued_total_bytes_max: 8 << 10,
        message_bytes_max: 512,
        receive_max: 4,
        taken_ids_max: 4,
        subscriptions_max: 4,
        ..Limits::default()
    }
}

impl World {
    fn new() -> Self {
        Self {
            broker: Broker::new(limits(), 7),
            now: Now { at: Millis(1_000), wall: WallTime::default() },
            open: BatchSeq(1),
            durable: BatchSeq(0),
            wires: BTreeMap::new(),
            next_conn: 1,
            held: VecDeque::new(),
            batch: Vec::new(),
            sealed: VecDeque::new(),
            rows: BTreeMap::new(),
            settled: BTreeMap::new(),
            may_ack: 0,
            acks: 0,
            work: VecDeque::new(),
        }
    }

    fn step(&mut self, reader: &mut BytesReader<'_>) {
        let what = reader.byte();
        let nth = usize::from(what >> 4) % CONNECTIONS;
        let conn = self.wires.keys().nth(nth).copied();
        match (what % 12, conn) {
            (0 | 1, _) => self.dial(reader),
            (2..=5, Some(conn)) => {
                let len = usize::from(reader.byte());
                self.send(conn, reader.take(len));
            }
            (6, Some(conn)) => {
                self.wires.remove(&conn);
                self.act(|broker, turn| broker.handle(Input::Closed { conn }, turn));
            }
            (7, Some(conn)) => self.toggle_reading(conn),
            (8, _) => self.settle(reader.byte()),
            (9, _) => self.seal_or_sync(reader.byte()),
            (10, _) => self.advance(u64::from(reader.u16()) * 16),
            (11, _) if reader.byte() == 0xFF => self.restart(),
            _ => self.seal_or_sync(0),
        }
    }

    /// Opens a connection; most of them say something that works.
    fn dial(&mut self, reader: &mut BytesReader<'_>) {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let packet_bytes_max = self.broker.limits().packet_bytes_max();
        let wire = Wire {
            from_client: Decoder::server(packet_bytes_max),
            unread: BytesMut::new(),
            from_broker: Decoder::client(Version::V5, usize::MAX),
            got: BytesMut::new(),
            version: None,
            paused: false,
            unwritten: 0,
            reads: true,
        };
        self.wires.insert(conn, wire);
        let address = ([192, 0, 2, 1], 1_000).into();
        let peer = Arc::new(Peer { address, tls: false, certificate: None, vouched: None });
        self.act(|broker, turn| broker.handle(Input::Opened { conn, peer }, turn));
        if let Some(connect) = CONNECTS.get(usize::from(reader.byte() % 6)) {
            self.send(conn, connect);
        }
    }

    /// The client's bytes, as the transport would hand them over.
    fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(wire) = self.wires.get_mut(&conn) else { return };
        wire.unread.extend_from_slice(bytes);
        loop {
            let Some(wire) = self.wires.get_mut(&conn).filter(|wire| !wire.paused) else { return };
            match wire.from_client.decode(&mut wire.unread) {
                Ok(None) => return,
                Ok(Some(packet)) => {
                    if let Packet::Connect(connect) = &packet {
                        wire.version = Some(connect.version);
                        wire.from_broker = Decoder::client(connect.version, usize::MAX);
                    }
                    let packets = vec![packet];
                    self.act(|broker, turn| broker.handle(Input::Packets { conn, packets }, turn));
                }
                Err(error) => {
                    if wire.version.is_none() {
                        // Whoever speaks no known version is answered in that of 3.1.1.
                        let version = error.version.unwrap_or(Version::V311);
                        wire.from_broker = Decoder::client(version, usize::MAX);
                    }
                    let input = Input::Malformed { conn, error };
                    return self.act(|broker, turn| broker.handle(input, turn));
                }
            }
        }
    }

    fn toggle_reading(&mut self, conn: ConnId) {
        let Some(wire) = self.wires.get_mut(&conn) else { return };
        wire.reads = !wire.reads;
        let bytes = if wire.reads { std::mem::take(&mut wire.unwritten) } else { 0 };
        if bytes > 0 {
            self.act(|broker, turn| broker.handle(Input::Written { conn, bytes }, turn));
        }
    }

    fn settle(&mut self, how: u8) {
        let Some(Delivery { token, message, .. }) = self.held.pop_front() else { return };
        if how.is_multiple_of(8) {
            let refused = Settlement::Refused(ReasonCode::QuotaExceeded);
            return self.act(|broker, turn| broker.settle(token, refused, turn));
        }
        if message.qos == QoS::AtLeastOnce {
            *self.settled.entry(self.open).or_default() += 1;
        }
        self.act(|broker, turn| {
            broker.route(&message, turn);
            broker.settle(token, Settlement::Accepted, turn);
        });
    }

    fn seal_or_sync(&mut self, how: u8) {
        if how.is_multiple_of(2) {
            self.sealed.push_back((self.open, std::mem::take(&mut self.batch)));
            self.open = self.open.next();
        }
        let Some((batch, ops)) = self.sealed.pop_front() else { return };
        for op in ops {
            let key = (op.table(), op.key());
            if op.is_delete() {
                self.rows.remove(&key);
            } else {
                self.rows.insert(key, op);
            }
        }
        self.durable = batch;
        self.may_ack += self.settled.remove(&batch).unwrap_or_default();
        self.act(|broker, turn| broker.durable(batch, turn));
    }

    fn advance(&mut self, ms: u64) {
        self.now.at = self.now.at + Millis(ms);
        // What is due may make more due, but not for ever.
        for _ in 0..64 {
            if self.broker.next_deadline().is_none_or(|at| at > self.now.at) {
                return;
            }
            self.act(|broker, turn| broker.handle(Input::Tick, turn));
        }
    }

    /// The process dies: only durable rows are left, through their encoding.
    fn restart(&mut self) {
        let again = |op: &BrokerOp| {
            let bytes = postcard::to_stdvec(op).expect("rows are encodable");
            postcard::from_bytes::<BrokerOp>(&bytes).expect("and readable")
        };
        let rows: Vec<BrokerOp> = self.rows.values().map(again).collect();
        (self.may_ack, self.acks) = (0, 0);
        self.settled.clear();
        self.wires.clear();
        self.held.clear();
        self.batch.clear();
        self.sealed.clear();
        self.open = self.open.next();
        let mut effects = Vec::new();
        let mut turn = Turn { now: self.now, open: self.open, effects: &mut effects };
        self.broker = Broker::restore(limits(), 8, rows, &mut turn);
        self.work = effects.into();
        self.act(|_, _| {});
    }

    /// One turn of the owner: everything that the call causes is carried out.
    fn act(&mut self, act: impl FnOnce(&mut Broker, &mut Turn<'_>)) {
        self.tell(act);
        loop {
            while let Some(effect) = self.work.pop_front() {
                self.carry_out(effect);
            }
            let mut effects = Vec::new();
            self.broker.flush(&mut effects);
            if effects.is_empty() {
                return;
            }
            self.work.extend(effects);
        }
    }

    fn tell(&mut self, act: impl FnOnce(&mut Broker, &mut Turn<'_>)) {
        let mut effects = Vec::new();
        let mut turn = Turn { now: self.now, open: self.open, effects: &mut effects };
        act(&mut self.broker, &mut turn);
        self.work.extend(effects);
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Authenticate { conn, request } => {
                let input = Input::AuthDone { conn, outcome: principal(&request) };
                self.tell(|broker, turn| broker.handle(input, turn));
            }
            Effect::Deliver(delivery) => self.held.push_back(delivery),
            Effect::WillFired { message } => self.tell(|broker, turn| {
                broker.route(&message, turn);
            }),
            Effect::Persist(op) => self.batch.push(op),
            Effect::Send { conn, chunks } => self.got(conn, &chunks),
            Effect::PauseRead { conn } => {
                self.wires.entry(conn).and_modify(|wire| wire.paused = true);
            }
            Effect::ResumeRead { conn } => {
                self.wires.entry(conn).and_modify(|wire| wire.paused = false);
            }
            Effect::Close { conn } => {
                self.wires.remove(&conn);
            }
            Effect::Event(_) => {}
        }
    }

    /// What the broker sends is made of packets of the client's version.
    fn got(&mut self, conn: ConnId, chunks: &[Bytes]) {
        let Some(wire) = self.wires.get_mut(&conn) else { return };
        chunks.iter().for_each(|chunk| wire.got.extend_from_slice(chunk));
        let bytes: usize = chunks.iter().map(Bytes::len).sum();
        assert!(bytes > 0, "a send is never empty");
        while let Some(packet) = wire.from_broker.decode(&mut wire.got).expect("a packet") {
            if matches!(&packet, Packet::PubAck(ack) if !ack.reason.is_error()) {
                self.acks += 1;
            }
        }
        assert!(wire.got.is_empty(), "a send ends with a packet");
        if wire.reads {
            self.tell(|broker, turn| broker.handle(Input::Written { conn, bytes }, turn));
        } else {
            wire.unwritten += bytes;
        }
    }

    fn check(&self) {
        assert!(self.acks <= self.may_ack, "an ack left before its batch was durable");
        let (status, limits) = (self.broker.status(), self.broker.limits());
        assert!(status.connections <= limits.connections_max, "{status:?}");
        assert!(status.retained_messages <= limits.retained_messages_max, "{status:?}");
        assert!(status.queued_bytes <= limits.queued_total_bytes_max, "{status:?}");
        assert!(
            status.subscriptions <= limits.subscriptions_max * status.sessions.max(1),
            "{status:?}"
        );
    }
}

fn principal(request: &AuthRequest) -> Result<Arc<Principal>, ReasonCode> {
    if request.client_id.starts_with('x') {
        return Err(ReasonCode::NotAuthorized);
    }
    let all = || vec![TopicFilter::new("#").expect("a filter")];
    let identity = DeviceId::new("anyone");
    Ok(Arc::new(Principal { identity, publish: all(), subscribe: all() }))
}
