//! One network connection.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use edge_core::id::BatchSeq;
use edge_core::time::Millis;

use super::{Peer, Principal, SessionId};
use crate::codec::{Connect, GivenAliases, Packet, Version};

/// Payloads from this size on are handed over as they are instead of being copied.
const SHARE_FROM_BYTES: usize = 2_048;

/// A connection as the broker sees it.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) peer: Arc<Peer>,
    pub(super) stage: Stage,
    pub(super) out: OutBuf,
    /// Bytes in `out` or handed over, and not yet taken by the socket.
    pub(super) unwritten_bytes: usize,
    /// Why it is not read; it is read while this is empty.
    pub(super) pause: Pauses,
}

/// How far a connection has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// No CONNECT yet.
    Opened,
    /// The owner is asked who this is.
    Authenticating(Box<Connect>, Early),
    /// It has a session. The CONNACK may still be parked.
    Linked(Box<Link>),
}

/// Packets that came before the CONNACK left.
#[derive(Debug, Default)]
pub(super) struct Early {
    pub(super) packets: Vec<Packet>,
    pub(super) bytes: usize,
}

/// A connection with its session.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) session: SessionId,
    pub(super) version: Version,
    pub(super) principal: Arc<Principal>,
    /// The CONNACK is in `out` or beyond: other packets may follow.
    pub(super) established: bool,
    pub(super) early: Early,
    /// 1.5 times the keep alive; zero for none.
    pub(super) keep_alive: Millis,
    pub(super) heard_at: Millis,
    /// QoS 1 and 2 publishes received and not yet acked, to hold against our receive maximum.
    pub(super) receive_used: u16,
    /// Unacked publishes the client takes at once.
    pub(super) send_window: usize,
    /// Largest packet the client takes.
    pub(super) packet_bytes_max: usize,
    /// Whether the client wants reasons in words.
    pub(super) problem_info: bool,
    /// Topic aliases given to the client on this connection.
    pub(super) aliases: GivenAliases,
    /// Whether its CONNECT asked for a session that ends with the connection: it may not change
    /// that in its DISCONNECT.
    pub(super) expiry_was_zero: bool,
    /// Answers that wait for their batch, in order.
    pub(super) parked: VecDeque<(BatchSeq, Packet)>,
}

impl Conn {
    pub(super) fn new(peer: Arc<Peer>) -> Self {
        Self {
            peer,
            stage: Stage::Opened,
            out: OutBuf::default(),
            unwritten_bytes: 0,
            pause: Pauses::default(),
        }
    }

    /// Whether its CONNACK left.
    pub(super) fn is_established(&self) -> bool {
        self.link().is_some_and(|link| link.established)
    }

    pub(super) fn link(&self) -> Option<&Link> {
        match &self.stage {
            Stage::Linked(link) => Some(link),
            Stage::Opened | Stage::Authenticating(..) => None,
        }
    }

    pub(super) fn link_mut(&mut self) -> Option<&mut Link> {
        match &mut self.stage {
            Stage::Linked(link) => Some(link),
            Stage::Opened | Stage::Authenticating(..) => None,
        }
    }
}

/// Reasons not to read a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pauses(u8);

/// A reason not to read a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Pause {
    /// Its CONNACK has not left.
    Connecting = 1,
    /// Its session is over its ingress budget.
    Session = 2,
    /// All sessions together are over theirs.
    Total = 4,
    /// It sends but does not read.
    Egress = 8,
    /// Too many answers to it wait for their batch.
    Parked = 16,
}

impl Pauses {
    pub(super) fn any(self) -> bool {
        self.0 != 0
    }

    pub(super) fn has(self, pause: Pause) -> bool {
        self.0 & pause as u8 != 0
    }

    pub(super) fn set(&mut self, pause: Pause, on: bool) {
        if on {
            self.0 |= pause as u8;
        } else {
            self.0 &= !(pause as u8);
        }
    }
}

/// Bytes to be handed to the transport at the end of the turn.
#[derive(Debug, Default)]
pub(super) struct OutBuf {
    chunks: Vec<Bytes>,
    tail: Vec<u8>,
}

impl OutBuf {
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.tail.is_empty()
    }

    /// Appends what `write` writes and returns how many bytes that was.
    pub(super) fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let before = self.tail.len();
        write(&mut self.tail);
        self.tail.len() - before
    }

    /// Takes back the last `bytes` that were written.
    pub(super) fn cut(&mut self, bytes: usize) {
        assert!(bytes <= self.tail.len(), "invariant: only what was just written is cut");
        self.tail.truncate(self.tail.len() - bytes);
    }

    /// Appends a payload, without a copy if it is large.
    pub(super) fn push(&mut self, payload: Bytes) {
        if payload.len() < SHARE_FROM_BYTES {
            self.tail.extend_from_slice(&payload);
        } else {
            self.seal();
            self.chunks.push(payload);
        }
    }

    pub(super) fn take(&mut self) -> Vec<Bytes> {
        self.seal();
        std::mem::take(&mut self.chunks)
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push(Bytes::from(std::mem::take(&mut self.tail)));
        }
    }
}
