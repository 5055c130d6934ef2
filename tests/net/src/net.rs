//! The simulated network: connections as TCP gives them, over links that a scenario breaks.
//!
//! A connection is bytes in order, each way, with latency, a bandwidth and a window of bytes under
//! way. What goes wrong is what a peer of TCP can see: nothing comes any more (a link that is down,
//! a host that vanished), a reset, an end, a refused connect. Bytes are never lost within a
//! connection that lives: TCP sends them again.
//!
//! # Invariants and limits
//! - Time is tokio's, in steps of a millisecond: [`Net::tick`] wakes whoever has something to take.
//! - At most [`WINDOW_BYTES`] are under way each way; a writer waits at that bound.
//! - Not modelled: TCP giving a silent peer up by itself, congestion, lost packets as such.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use simulator::rng::Rng;
use tokio::time::Instant;

mod flow;
mod incoming;
mod stream;

pub use incoming::SimIncoming;
pub use stream::SimStream;

use flow::Flow;

/// Bytes under way in one direction of a connection.
pub const WINDOW_BYTES: usize = 64 << 10;
/// Connections that may wait to be accepted.
const BACKLOG: usize = 4_096;

/// A link between a client and whom it talks to: all its connections fare alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkId {
    /// Of a device to the gateway.
    Device(usize),
    /// Of strangers to the gateway.
    Crowd,
    /// Of the gateway to its control plane.
    Uplink,
}

/// How a link is.
#[derive(Clone, Copy, Debug)]
struct Conditions {
    latency: Duration,
    /// `None`: as fast as it can.
    bytes_per_s: Option<u64>,
    is_down: bool,
}

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

#[derive(Debug)]
struct Conn {
    link: LinkId,
    to: SocketAddr,
    from: SocketAddr,
    /// What the client sends, and what the server sends.
    flows: [Flow; 2],
    /// Nothing comes through any more, and nobody is told.
    is_vanished: bool,
    is_reset: bool,
    is_accepted: bool,
    /// Ends that nobody holds any more.
    gone: [bool; 2],
}

#[derive(Debug, Default)]
struct Listening {
    backlog: VecDeque<u64>,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct State {
    links: BTreeMap<LinkId, Conditions>,
    conns: BTreeMap<u64, Conn>,
    listening: BTreeMap<SocketAddr, Listening>,
    /// Connects on their way: when they arrive, and whose.
    dialled: VecDeque<(Instant, u64)>,
    next: u64,
    rng: Rng,
}

/// The network; clones are the same one.
#[derive(Clone, Debug)]
pub struct Net(Arc<Mutex<State>>);

impl Net {
    /// A network on which all is well. Needs a tokio runtime with time.
    #[must_use]
    pub fn new(rng: Rng) -> Self {
        Self(Arc::new(Mutex::new(State {
            links: BTreeMap::new(),
            conns: BTreeMap::new(),
            listening: BTreeMap::new(),
            dialled: VecDeque::new(),
            next: 0,
            rng,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic ends the simulation anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens on an address; who listened there before does so no more.
    #[must_use]
    pub fn listen(&self, address: SocketAddr) -> SimIncoming {
        self.state().listening.insert(address, Listening::default());
        SimIncoming::new(self.clone(), address)
    }

    /// Nobody listens on an address any more; connects there are refused.
    pub fn close(&self, address: SocketAddr) {
        self.state().listening.remove(&address);
    }

    /// Connects over a link. The client may write at once; it learns by a reset that it is refused.
    #[must_use]
    pub fn dial(&self, link: LinkId, to: SocketAddr) -> SimStream {
        let mut state = self.state();
        let arrives = Instant::now() + state.latency(link);
        state.next += 1;
        let id = state.next;
        // One host for each connection: ports would run out before addresses do.
        let [_, a, b, c] = u32::try_from(id).unwrap_or(u32::MAX).to_be_bytes();
        let from = SocketAddr::from(([10, a, b, c], 40_000));
        let flows = [Flow::new(arrives), Flow::new(arrives)];
        let (is_vanished, is_reset, is_accepted, gone) = (false, false, false, [false; 2]);
        let conn = Conn { link, to, from, flows, is_vanished, is_reset, is_accepted, gone };
        state.conns.insert(id, conn);
        state.dialled.push_back((arrives, id));
        drop(state);
        SimStream::new(self.clone(), id, Side::Client)
    }

    /// Sets how long a link takes and how much it carries.
    pub fn set_speed(&self, link: LinkId, latency: Duration, bytes_per_s: Option<u64>) {
        let mut state = self.state();
        let conditions = state.link(link);
        (conditions.latency, conditions.bytes_per_s) = (latency, bytes_per_s);
    }

    /// Takes a link down or up again. While it is down nothing comes through; afterwards what is
    /// under way goes on.
    pub fn set_down(&self, link: LinkId, is_down: bool) {
        self.state().link(link).is_down = is_down;
    }

    /// Resets the connections of a link. Returns how many.
    pub fn cut(&self, link: LinkId) -> usize {
        self.reset(|conn| conn.link == link)
    }

    /// Resets the connections to an address, as the end of its process does. Returns how many.
    pub fn end_host(&self, address: SocketAddr) -> usize {
        self.close(address);
        self.reset(|conn| conn.to == address)
    }

    fn reset(&self, which: impl Fn(&Conn) -> bool) -> usize {
        let mut state = self.state();
        let mut count = 0;
        for conn in state.conns.values_mut().filter(|conn| which(conn) && !conn.is_reset) {
            conn.is_reset = true;
            conn.wake();
            count += 1;
        }
        count
    }

    /// Resets the next connection of a link that carries so many more bytes, right behind them:
    /// in the middle of a packet, where it falls so.
    pub fn cut_after(&self, link: LinkId, bytes: u64) -> bool {
        let mut state = self.state();
        let by_server = state.rng.chance(500_000);
        let conn = state.conns.values_mut().rev().find(|conn| conn.link == link && conn.lives());
        let Some(conn) = conn else { return false };
        conn.flows[usize::from(by_server)].cut_after(bytes);
        true
    }

    /// The connections of a link go silent for good: no end, no reset, half open at both ends.
    /// Returns how many.
    pub fn vanish(&self, link: LinkId) -> usize {
        self.silence(|conn| conn.link == link)
    }

    /// The connections to an address go silent for good, as when the power of its host goes.
    /// Returns how many.
    pub fn vanish_host(&self, address: SocketAddr) -> usize {
        self.close(address);
        self.silence(|conn| conn.to == address)
    }

    fn silence(&self, which: impl Fn(&Conn) -> bool) -> usize {
        let mut state = self.state();
        let conns = state.conns.values_mut().filter(|conn| which(conn) && conn.lives());
        conns.map(|conn| conn.is_vanished = true).count()
    }

    /// Wakes whoever has something to take by now.
    pub fn tick(&self) {
        let now = Instant::now();
        let mut state = self.state();
        state.arrive(now);
        let State { conns, links, .. } = &mut *state;
        for conn in conns.values_mut() {
            let is_down = links.get(&conn.link).is_some_and(|link| link.is_down);
            if is_down || conn.is_vanished {
                continue;
            }
            if conn.is_reset {
                conn.wake();
            }
            conn.flows.iter_mut().for_each(|flow| flow.wake_reader(now));
        }
        conns.retain(|_, conn| !conn.gone[0] || (conn.is_accepted && !conn.gone[1]));
    }
}

impl State {
    fn link(&mut self, link: LinkId) -> &mut Conditions {
        let latency = Duration::from_millis(2);
        self.links.entry(link).or_insert(Conditions { latency, bytes_per_s: None, is_down: false })
    }

    /// How long bytes take now: up to twice what the link says.
    fn latency(&mut self, link: LinkId) -> Duration {
        let least = self.link(link).latency;
        let more = self.rng.below(u64::try_from(least.as_micros()).unwrap_or(0) + 1);
        least + Duration::from_micros(more)
    }

    /// Connects arrive; those over a link that is down try again later, in the same order.
    fn arrive(&mut self, now: Instant) {
        for _ in 0..self.dialled.len() {
            let Some((at, id)) = self.dialled.pop_front() else { break };
            let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.lives()) else { continue };
            let is_down = self.links.get(&conn.link).is_some_and(|link| link.is_down);
            if at > now || is_down {
                self.dialled.push_back((at, id));
                continue;
            }
            match self.listening.get_mut(&conn.to) {
                Some(listening) if listening.backlog.len() < BACKLOG => {
                    listening.backlog.push_back(id);
                    listening.waker.take().into_iter().for_each(Waker::wake);
                }
                _ => {
                    conn.is_reset = true;
                    conn.wake();
                }
            }
        }
    }
}

impl Conn {
    fn lives(&self) -> bool {
        !self.is_reset && !self.is_vanished && self.gone == [false; 2]
    }

    fn wake(&mut self) {
        self.flows.iter_mut().for_each(Flow::wake);
    }

    fn flow(&mut self, from: Side) -> &mut Flow {
        match from {
            Side::Client => &mut self.flows[0],
            Side::Server => &mut self.flows[1],
        }
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

#[cfg(test)]
mod tests;
