//! The simulated network: bytes of connections on their way, behind the transport's seam.
//!
//! What the real transport does with sockets is done here with queues: bytes become packets by the
//! broker's own codec, a connection that is paused is not read, and what was written is told when
//! the other side has taken it.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use edge_agent::agent::stepped::Network;
use edge_broker::broker::{ConnId, Effect, Input, Peer};
use edge_broker::codec::Decoder;
use edge_broker::transport::TransportLimits;

/// What leaves the gateway.
#[derive(Debug)]
pub enum Out {
    /// Bytes for a client.
    Bytes(ConnId, Vec<u8>),
    /// The connection is closed after them.
    Close(ConnId),
}

#[derive(Debug)]
struct Conn {
    decoder: Decoder,
    buffer: BytesMut,
    is_paused: bool,
    has_connected: bool,
    is_broken: bool,
}

#[derive(Debug, Default)]
struct State {
    limits: TransportLimits,
    conns: BTreeMap<ConnId, Conn>,
    arrivals: VecDeque<Input>,
    out: Vec<Out>,
    next: u64,
    calls: u32,
}

/// The network as the simulation moves it.
#[derive(Clone, Debug, Default)]
pub struct SimNetwork(Rc<RefCell<State>>);

impl SimNetwork {
    /// The gateway's end, for a process that begins: all connections are gone.
    pub fn begin(&self, limits: TransportLimits) -> Box<dyn Network> {
        let mut state = self.0.borrow_mut();
        state.limits = limits;
        state.conns.clear();
        state.arrivals.clear();
        state.out.clear();
        drop(state);
        Box::new(Port(self.clone()))
    }

    /// A client connects.
    pub fn open(&self) -> ConnId {
        let mut state = self.0.borrow_mut();
        state.next += 1;
        let id = ConnId(state.next);
        let decoder = Decoder::server(state.limits.connect_bytes_max);
        let buffer = BytesMut::new();
        let conn =
            Conn { decoder, buffer, is_paused: false, has_connected: false, is_broken: false };
        state.conns.insert(id, conn);
        let address = "127.0.0.1:1".parse().expect("invariant: an address");
        let peer = Arc::new(Peer { address, tls: false, certificate: None, vouched: None });
        state.arrivals.push_back(Input::Opened { conn: id, peer });
        id
    }

    /// Bytes of a client arrive.
    pub fn receive(&self, conn: ConnId, bytes: &[u8]) {
        let mut state = self.0.borrow_mut();
        if let Some(of) = state.conns.get_mut(&conn) {
            of.buffer.extend_from_slice(bytes);
        }
        state.decode(conn);
    }

    /// A client has taken bytes.
    pub fn written(&self, conn: ConnId, bytes: usize) {
        let mut state = self.0.borrow_mut();
        if state.conns.contains_key(&conn) {
            state.arrivals.push_back(Input::Written { conn, bytes });
        }
    }

    /// The connection breaks.
    pub fn cut(&self, conn: ConnId) {
        let mut state = self.0.borrow_mut();
        if state.conns.remove(&conn).is_some() {
            state.arrivals.push_back(Input::Closed { conn });
        }
    }

    /// What has left the gateway since the last call.
    #[must_use]
    pub fn take_out(&self) -> Vec<Out> {
        std::mem::take(&mut self.0.borrow_mut().out)
    }

    /// Whether the gateway has something to take.
    #[must_use]
    pub fn has_arrivals(&self) -> bool {
        !self.0.borrow().arrivals.is_empty()
    }

    /// Calls of the gateway since the last time.
    #[must_use]
    pub fn take_calls(&self) -> u32 {
        std::mem::take(&mut self.0.borrow_mut().calls)
    }
}

impl State {
    /// Hands over what is complete, unless the connection is paused.
    fn decode(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let mut packets = Vec::new();
        while !conn.is_paused && !conn.is_broken {
            match conn.decoder.decode(&mut conn.buffer) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => {
                    conn.is_broken = true;
                    if !packets.is_empty() {
                        let packets = std::mem::take(&mut packets);
                        self.arrivals.push_back(Input::Packets { conn: id, packets });
                    }
                    self.arrivals.push_back(Input::Malformed { conn: id, error });
                }
            }
            if !conn.has_connected && !packets.is_empty() {
                // Nothing more is read until the owner has answered.
                conn.has_connected = true;
                conn.is_paused = true;
                conn.decoder.set_packet_bytes_max(self.limits.packet_bytes_max);
            }
        }
        if !packets.is_empty() {
            self.arrivals.push_back(Input::Packets { conn: id, packets });
        }
    }
}

struct Port(SimNetwork);

impl Network for Port {
    fn poll_recv(&mut self, _context: &mut Context<'_>) -> Poll<Option<Input>> {
        self.try_recv().map_or(Poll::Pending, |input| Poll::Ready(Some(input)))
    }

    fn try_recv(&mut self) -> Option<Input> {
        let mut state = self.0.0.borrow_mut();
        state.calls += 1;
        state.arrivals.pop_front()
    }

    fn apply(&mut self, effect: Effect) -> Option<Effect> {
        let mut state = self.0.0.borrow_mut();
        state.calls += 1;
        match effect {
            Effect::Send { conn, chunks } => {
                if state.conns.contains_key(&conn) {
                    state.out.push(Out::Bytes(conn, chunks.concat()));
                }
            }
            Effect::PauseRead { conn } => {
                if let Some(conn) = state.conns.get_mut(&conn) {
                    conn.is_paused = true;
                }
            }
            Effect::ResumeRead { conn } => {
                if let Some(conn) = state.conns.get_mut(&conn) {
                    conn.is_paused = false;
                }
                state.decode(conn);
            }
            Effect::Close { conn } => {
                if state.conns.remove(&conn).is_some() {
                    state.out.push(Out::Close(conn));
                }
            }
            effect => return Some(effect),
        }
        None
    }
}
