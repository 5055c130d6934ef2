//! The broker as a state machine: inputs and the time go in, effects come out.
//!
//! # Invariants
//! - It reads no clock, does no I/O, draws no random number and iterates in a fixed order: the
//!   same inputs give the same effects.
//! - [`BatchSeq`] 0 is durable by definition; the first open batch is 1. What stands on batch *b*
//!   leaves only after `durable` was called with *b* or a later one.
//! - Every bound of [`Limits`] holds after every call, with the stated excess of what one read of
//!   a connection can bring.
//! - A connection that is closed is forgotten at once; what the transport says of it afterwards
//!   is ignored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use edge_core::id::{BatchSeq, DeviceId};
use edge_core::message::Message;
use edge_core::time::{Millis, Now};
use edge_core::topic::FilterTrie;

use crate::codec::ReasonCode;

mod close;
mod conn;
mod connect;
mod deliver;
mod effect;
mod inbound;
mod input;
mod limits;
pub mod op;
mod publish;
mod pump;
mod queue;
mod restore;
mod retained;
mod session;
mod share;
mod subscribe;
mod tick;
mod timers;

#[cfg(test)]
mod tests;

pub use effect::{
    BrokerEvent, Counters, Delivery, DisconnectCause, DropReason, Effect, RetainedChange,
    RouteReport, Status,
};
pub use input::{
    AckToken, AuthRequest, ConnId, Input, Peer, PeerCertificate, Principal, Settlement,
};
pub use limits::Limits;
pub use op::{BrokerOp, BrokerTable, SessionId, SessionRow, WillRow};

use conn::{Conn, Pause, Stage};
use queue::Size;
use retained::Retained;
use session::{Session, Subscription};
use share::Shares;
use timers::{Timer, Timers};

/// One call into the broker.
#[derive(Debug)]
pub struct Turn<'a> {
    /// What time it is.
    pub now: Now,
    /// The owner's open batch: everything the call persists belongs to it.
    pub open: BatchSeq,
    /// Where effects go, in order.
    pub effects: &'a mut Vec<Effect>,
}

impl Turn<'_> {
    fn persist(&mut self, op: BrokerOp) {
        self.effects.push(Effect::Persist(op));
    }

    fn event(&mut self, event: BrokerEvent) {
        self.effects.push(Effect::Event(event));
    }
}

/// The broker.
#[derive(Debug)]
pub struct Broker {
    limits: Limits,
    /// Makes assigned client ids differ between process starts.
    seed: u64,
    conns: BTreeMap<ConnId, Conn>,
    sessions: BTreeMap<SessionId, Session>,
    by_client: BTreeMap<(DeviceId, Arc<str>), SessionId>,
    /// Subscriptions but for shared ones.
    index: FilterTrie<(SessionId, Subscription)>,
    shares: Shares,
    retained: Retained,
    timers: Timers,
    durable: BatchSeq,
    /// Sessions with something parked, by the batch it waits for.
    waiting: BTreeSet<(BatchSeq, SessionId)>,
    /// Connections with bytes to hand over at the end of the turn.
    dirty: BTreeSet<ConnId>,
    /// Sessions with retained messages still to look through.
    replaying: BTreeSet<SessionId>,
    /// Connections paused because of the budget of all, in the order of pausing.
    starved: std::collections::VecDeque<ConnId>,
    totals: Totals,
    counters: Counters,
    /// Drops not yet told as an event.
    untold_drops: BTreeMap<DropReason, u64>,
    next_session: u64,
    next_serial: u64,
}

/// Sums over all sessions and connections.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    ingress_bytes: usize,
    egress_bytes: usize,
    queued: Size,
    persistent: usize,
    subscription_bytes: usize,
}

impl Broker {
    /// An empty broker. `seed` should differ between process starts.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            seed,
            conns: BTreeMap::new(),
            sessions: BTreeMap::new(),
            by_client: BTreeMap::new(),
            index: FilterTrie::new(),
            shares: Shares::default(),
            retained: Retained::default(),
            timers: Timers::default(),
            durable: BatchSeq::default(),
            waiting: BTreeSet::new(),
            dirty: BTreeSet::new(),
            replaying: BTreeSet::new(),
            starved: std::collections::VecDeque::new(),
            totals: Totals::default(),
            counters: Counters::default(),
            untold_drops: BTreeMap::new(),
            next_session: 1,
            next_serial: 1,
        }
    }

    /// Takes in what happened outside.
    pub fn handle(&mut self, input: Input, turn: &mut Turn<'_>) {
        match input {
            Input::Opened { conn, peer } => self.opened(conn, peer, turn),
            Input::Packets { conn, packets } => self.packets(conn, packets, turn),
            Input::Malformed { conn, error } => self.malformed(conn, error, turn),
            Input::Written { conn, bytes } => self.written(conn, bytes, turn),
            Input::Closed { conn } => self.lost(conn, turn),
            Input::AuthDone { conn, outcome } => self.auth_done(conn, outcome, turn),
            Input::Tick => self.tick(turn),
        }
    }

    /// Everything up to batch `up_to` is durable: releases what waited for it, in order.
    pub fn durable(&mut self, up_to: BatchSeq, turn: &mut Turn<'_>) {
        self.durable = self.durable.max(up_to);
        while let Some((batch, session)) = self.waiting.first().copied()
            && batch <= self.durable
        {
            self.waiting.pop_first();
            self.release(session, turn);
        }
    }

    /// Hands over what is to be sent: to be called once at the end of each turn, so that a
    /// connection gets one [`Effect::Send`] for all its packets.
    pub fn flush(&mut self, effects: &mut Vec<Effect>) {
        while let Some(conn) = self.dirty.pop_first() {
            if let Some(state) = self.conns.get_mut(&conn)
                && !state.out.is_empty()
            {
                effects.push(Effect::Send { conn, chunks: state.out.take() });
            }
        }
        while let Some((reason, messages)) = self.untold_drops.pop_first() {
            effects.push(Effect::Event(BrokerEvent::Dropped { reason, messages }));
        }
    }

    /// When [`Input::Tick`] is wanted. A moment that has passed means: as soon as there is time.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        if self.replaying.is_empty() { self.timers.first() } else { Some(Millis::default()) }
    }

    /// The latest batch that something is parked on. If it is the open one, it has to be sealed
    /// even if it is empty.
    #[must_use]
    pub fn waits_for(&self) -> Option<BatchSeq> {
        self.waiting.last().map(|(batch, _)| *batch)
    }

    /// How many sessions wait for batches, each for each of them.
    #[must_use]
    pub fn sessions_waiting(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// Tells every client that the server goes, and closes every connection. Sessions and wills
    /// stay stored; wills fire after the restart unless their client is back by then.
    pub fn shutdown(&mut self, turn: &mut Turn<'_>) {
        while let Some(conn) = self.conns.first_key_value().map(|(conn, _)| *conn) {
            self.close_for_shutdown(conn, turn);
        }
    }

    /// Disconnects the clients of an identity, for instance because its grants have changed.
    /// Returns how many there were.
    pub fn disconnect(
        &mut self,
        identity: &DeviceId,
        reason: ReasonCode,
        turn: &mut Turn<'_>,
    ) -> usize {
        let theirs = |conn: &Conn| conn.link().is_some_and(|l| l.principal.identity == *identity);
        let conns: Vec<ConnId> =
            self.conns.iter().filter(|(_, conn)| theirs(conn)).map(|(id, _)| *id).collect();
        for conn in &conns {
            self.close(*conn, reason, None, turn);
        }
        conns.len()
    }

    /// How full it is.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            connections: self.conns.len(),
            connected: self.conns.values().filter(|conn| conn.is_established()).count(),
            sessions: self.sessions.len(),
            persistent_sessions: self.totals.persistent,
            subscriptions: self.index.len() + self.shares.len(),
            queued_messages: self.totals.queued.messages,
            queued_bytes: self.totals.queued.bytes,
            retained_messages: self.retained.len(),
            retained_bytes: self.retained.bytes(),
            ingress_bytes: self.totals.ingress_bytes,
            egress_bytes: self.totals.egress_bytes,
        }
    }

    /// Sums since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What is retained for topics that begin with `prefix`, by topic.
    pub fn retained<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Arc<Message>> {
        self.retained.beginning(prefix)
    }

    /// The bounds it was made with.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    fn opened(&mut self, conn: ConnId, peer: Arc<Peer>, turn: &mut Turn<'_>) {
        if self.conns.len() >= self.limits.connections_max {
            turn.effects.push(Effect::Close { conn });
            let reason = ReasonCode::ServerBusy;
            return turn.event(BrokerEvent::Refused { conn, reason });
        }
        self.conns.entry(conn).or_insert_with(|| Conn::new(peer));
    }

    /// Counts a dropped message; the event follows at the end of the turn.
    fn dropped(&mut self, reason: DropReason, now: Now) {
        *self.counters.dropped.entry(reason).or_default() += 1;
        *self.untold_drops.entry(reason).or_default() += 1;
        self.counters.dropped_at = Some(now.at);
    }

    fn serial(&mut self) -> u64 {
        let serial = self.next_serial;
        self.next_serial += 1;
        serial
    }

    /// Stops or resumes reading a connection for one of the reasons.
    fn pause(&mut self, id: ConnId, pause: Pause, on: bool, turn: &mut Turn<'_>) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.pause.has(pause) == on {
            return;
        }
        let was = conn.pause.any();
        conn.pause.set(pause, on);
        match (was, conn.pause.any()) {
            (false, true) => turn.effects.push(Effect::PauseRead { conn: id }),
            (true, false) => {
                turn.effects.push(Effect::ResumeRead { conn: id });
                // The keep alive stood still: what was sent meanwhile has not been read.
                if let Stage::Linked(link) = &mut conn.stage {
                    link.heard_at = turn.now.at;
                    if link.keep_alive.0 > 0 {
                        let due = turn.now.at + link.keep_alive;
                        self.timers.set(Timer::KeepAlive(id), due);
                    }
                }
            }
            _ => {}
        }
    }
}
