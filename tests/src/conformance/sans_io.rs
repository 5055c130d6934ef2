//! The broker of Holm without sockets, disk or clock: owner, store and transport in one, over
//! virtual time. Every step is committed before the next.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use edge_broker::broker::{
    AuthRequest, Broker, BrokerOp, BrokerTable, ConnId, Effect, Input, Limits, Peer as Address,
    Principal, Settlement, Turn,
};
use edge_broker::codec::{Decoder, ReasonCode};
use edge_core::id::{BatchSeq, DeviceId};
use edge_core::time::{Millis, Now, WallTime};
use edge_core::topic::TopicFilter;

use super::peer::{Peer, Received};

/// Largest CONNECT.
const CONNECT_BYTES_MAX: usize = 16 * 1_024;

/// The broker's end of a connection.
#[derive(Debug)]
struct Wire {
    decoder: Decoder,
    buf: BytesMut,
    /// What the client has not taken yet.
    sent: VecDeque<Bytes>,
    closed: bool,
}

/// The broker, with everything around it played.
#[derive(Debug)]
pub struct SansIo {
    broker: Broker,
    now: Now,
    open: BatchSeq,
    rows: BTreeMap<(BrokerTable, Vec<u8>), BrokerOp>,
    wires: BTreeMap<ConnId, Wire>,
    /// The connection of each client, open or closed.
    clients: BTreeMap<String, ConnId>,
    next_conn: u64,
}

impl Default for SansIo {
    fn default() -> Self {
        Self {
            broker: Broker::new(Limits::default(), 1),
            now: Now { at: Millis(1_000), wall: WallTime::default() },
            open: BatchSeq(1),
            rows: BTreeMap::new(),
            wires: BTreeMap::new(),
            clients: BTreeMap::new(),
            next_conn: 1,
        }
    }
}

impl SansIo {
    /// One turn of the owner's loop, and the commit of all it stores.
    fn step(&mut self, act: impl FnOnce(&mut Broker, &mut Turn<'_>)) -> Result<()> {
        let mut batch = Vec::new();
        self.turn(act, &mut batch)?;
        loop {
            for op in batch {
                let key = (op.table(), op.key());
                if op.is_delete() {
                    self.rows.remove(&key);
                } else {
                    self.rows.insert(key, op);
                }
            }
            let durable = self.open;
            self.open = self.open.next();
            batch = Vec::new();
            self.turn(|broker, turn| broker.durable(durable, turn), &mut batch)?;
            if batch.is_empty() {
                return Ok(());
            }
        }
    }

    fn turn(
        &mut self,
        act: impl FnOnce(&mut Broker, &mut Turn<'_>),
        batch: &mut Vec<BrokerOp>,
    ) -> Result<()> {
        let mut effects = Vec::new();
        let mut turn = Turn { now: self.now, open: self.open, effects: &mut effects };
        act(&mut self.broker, &mut turn);
        let mut work = VecDeque::from(effects);
        loop {
            let Some(effect) = work.pop_front() else {
                let mut last = Vec::new();
                self.broker.flush(&mut last);
                if last.is_empty() {
                    return Ok(());
                }
                work.extend(last);
                continue;
            };
            let mut effects = Vec::new();
            self.carry_out(effect, batch, &mut effects)?;
            work.extend(effects);
        }
    }

    fn carry_out(
        &mut self,
        effect: Effect,
        batch: &mut Vec<BrokerOp>,
        effects: &mut Vec<Effect>,
    ) -> Result<()> {
        let mut turn = Turn { now: self.now, open: self.open, effects };
        match effect {
            Effect::Authenticate { conn, request } => {
                let outcome = judge(&request)?;
                self.broker.handle(Input::AuthDone { conn, outcome }, &mut turn);
            }
            Effect::Deliver(delivery) => {
                self.broker.route(&delivery.message, &mut turn);
                self.broker.settle(delivery.token, Settlement::Accepted, &mut turn);
            }
            Effect::WillFired { message } => {
                self.broker.route(&message, &mut turn);
            }
            Effect::Persist(op) => batch.push(op),
            Effect::Send { conn, chunks } => {
                let bytes = chunks.iter().map(Bytes::len).sum();
                if let Some(wire) = self.wires.get_mut(&conn) {
                    wire.sent.extend(chunks);
                }
                self.broker.handle(Input::Written { conn, bytes }, &mut turn);
            }
            Effect::Close { conn } => {
                if let Some(wire) = self.wires.get_mut(&conn) {
                    wire.closed = true;
                }
            }
            // One step at a time is read and all of it is written.
            Effect::PauseRead { .. } | Effect::ResumeRead { .. } | Effect::Event(_) => {}
        }
        Ok(())
    }

    fn wire(&mut self, client: &str) -> Result<(ConnId, &mut Wire)> {
        let conn = *self.clients.get(client).with_context(|| format!("no client {client}"))?;
        let wire = self.wires.get_mut(&conn).with_context(|| format!("no wire of {client}"))?;
        Ok((conn, wire))
    }

    /// Decodes the next packet a client has sent, as the transport does.
    fn decode(&mut self, client: &str) -> Result<Option<Input>> {
        let limits = self.broker.limits().clone();
        let (conn, wire) = self.wire(client)?;
        if wire.closed {
            return Ok(None);
        }
        let first = wire.decoder.version().is_none();
        Ok(match wire.decoder.decode(&mut wire.buf) {
            Ok(None) => None,
            Ok(Some(packet)) => {
                if first {
                    wire.decoder.set_packet_bytes_max(limits.packet_bytes_max());
                    let (aliases, bytes) = (limits.topic_alias_max, limits.topic_alias_bytes_max);
                    wire.decoder.accept_topic_aliases(aliases, bytes);
                }
                Some(Input::Packets { conn, packets: vec![packet] })
            }
            Err(error) => {
                wire.buf.clear();
                Some(Input::Malformed { conn, error })
            }
        })
    }
}

/// Everybody is anonymous, but for who shows a wrong password.
fn judge(request: &AuthRequest) -> Result<Result<Arc<Principal>, ReasonCode>> {
    if request.password.is_some() {
        return Ok(Err(ReasonCode::BadUserNameOrPassword));
    }
    let all: Vec<TopicFilter> = vec!["#".parse()?];
    let identity = DeviceId::new("anonymous");
    Ok(Ok(Arc::new(Principal { identity, publish: all.clone(), subscribe: all })))
}

impl Peer for SansIo {
    fn open(&mut self, client: &str) -> Result<()> {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let wire = Wire {
            decoder: Decoder::server(CONNECT_BYTES_MAX),
            buf: BytesMut::new(),
            sent: VecDeque::new(),
            closed: false,
        };
        self.wires.insert(conn, wire);
        self.clients.insert(client.to_owned(), conn);
        let address = Address {
            address: "127.0.0.1:1".parse()?,
            tls: false,
            certificate: None,
            vouched: None,
        };
        let peer = Arc::new(address);
        self.step(|broker, turn| broker.handle(Input::Opened { conn, peer }, turn))
    }

    fn send(&mut self, client: &str, bytes: &[u8]) -> Result<()> {
        self.wire(client)?.1.buf.extend_from_slice(bytes);
        while let Some(input) = self.decode(client)? {
            self.step(|broker, turn| broker.handle(input, turn))?;
        }
        Ok(())
    }

    fn receive(&mut self, client: &str) -> Result<Received> {
        let (_, wire) = self.wire(client)?;
        Ok(match wire.sent.pop_front() {
            Some(bytes) => Received::Bytes(bytes.to_vec()),
            None if wire.closed => Received::Closed,
            None => Received::Nothing,
        })
    }

    fn close(&mut self, client: &str) -> Result<()> {
        let (conn, wire) = self.wire(client)?;
        wire.closed = true;
        self.clients.remove(client);
        self.step(|broker, turn| broker.handle(Input::Closed { conn }, turn))
    }

    fn wait(&mut self, ms: u64) -> Result<()> {
        let until = self.now.at + Millis(ms);
        while let Some(at) = self.broker.next_deadline().filter(|at| *at <= until) {
            self.now.at = self.now.at.max(at);
            self.step(|broker, turn| broker.handle(Input::Tick, turn))?;
        }
        self.now.at = until;
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.wires.values_mut().for_each(|wire| wire.closed = true);
        let rows: Vec<BrokerOp> = self.rows.values().cloned().collect();
        let mut effects = Vec::new();
        let mut turn = Turn { now: self.now, open: self.open, effects: &mut effects };
        let limits = self.broker.limits().clone();
        self.broker = Broker::restore(limits, 2, rows, &mut turn);
        self.step(|_, turn| turn.effects.append(&mut effects))
    }
}
