//! A trivial owner: everybody with the right password is let in, everything is accepted and
//! durable at once (or after a delay, to have acks under way).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use edge_broker::broker::Turn;
use edge_broker::codec::ReasonCode;
use edge_broker::transport::{ListenConfig, Listener, Port, Transport, TransportLimits};
use edge_broker::{
    AuthRequest, Broker, BrokerOp, Effect, Input, Limits, Principal, Settlement, Status,
};
use edge_core::id::{BatchSeq, DeviceId};
use edge_core::time::{Millis, Now, WallTime};
use edge_core::topic::TopicFilter;
use tokio::sync::oneshot;

/// The password of every test client.
pub(crate) const PASSWORD: &str = "secret";

/// What a test may look at while the owner runs.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connected: AtomicUsize,
    pub(crate) delivered: AtomicUsize,
}

/// A running broker.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    pub(crate) transport: Transport,
    stop: oneshot::Sender<()>,
    owner: tokio::task::JoinHandle<(Broker, Vec<BrokerOp>)>,
    listener: Listener,
}

/// How a server is to be run.
pub(crate) struct Setup {
    pub(crate) limits: Limits,
    pub(crate) transport: TransportLimits,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    /// From the end of a turn to its batch being durable.
    pub(crate) commit_delay: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            transport: TransportLimits::default(),
            tls: None,
            commit_delay: Duration::ZERO,
        }
    }
}

impl Server {
    /// A plain one with default limits.
    pub(crate) fn plain() -> Self {
        Self::start(Setup::default())
    }

    pub(crate) fn start(setup: Setup) -> Self {
        let (transport, port) = Transport::new(setup.transport);
        let address = "127.0.0.1:0".parse().unwrap();
        let listener = transport.listen(ListenConfig { address, tls: setup.tls }).unwrap();
        let (stop, stopped) = oneshot::channel();
        let seen = Arc::new(Seen::default());
        let owner = Owner {
            broker: Broker::new(setup.limits, 1),
            port,
            open: BatchSeq(1),
            start: Instant::now(),
            seen: Arc::clone(&seen),
            commit_delay: setup.commit_delay,
            sealed: VecDeque::new(),
            ops: Vec::new(),
        };
        Self {
            address: listener.local_addr(),
            seen,
            transport,
            stop,
            owner: tokio::spawn(owner.run(stopped)),
            listener,
        }
    }

    /// Stops gracefully; what the broker was at the end, and all it persisted.
    pub(crate) async fn stop(self) -> (Status, Vec<BrokerOp>) {
        let _ = self.stop.send(());
        let (broker, ops) = self.owner.await.unwrap();
        drop(self.listener);
        assert!(self.transport.drained(Duration::from_secs(10)).await, "sockets stay open");
        (broker.status(), ops)
    }
}

struct Owner {
    broker: Broker,
    port: Port,
    open: BatchSeq,
    start: Instant,
    seen: Arc<Seen>,
    commit_delay: Duration,
    /// Batches that are not durable yet, and when they will be.
    sealed: VecDeque<(Instant, BatchSeq)>,
    ops: Vec<BrokerOp>,
}

impl Owner {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) -> (Broker, Vec<BrokerOp>) {
        const INPUTS_PER_TURN: usize = 64;
        loop {
            let patience = self.until_deadline();
            let due = self.sealed.front().map(|(due, _)| *due);
            let input = tokio::select! {
                input = self.port.recv() => input.unwrap(),
                () = tokio::time::sleep(patience) => Input::Tick,
                () = tokio::time::sleep_until(due.unwrap_or(self.start).into()), if due.is_some() => {
                    self.synced();
                    continue;
                }
                _ = &mut stopped => break,
            };
            let mut effects = Vec::new();
            self.handle(input, &mut effects);
            for _ in 1..INPUTS_PER_TURN {
                let Some(input) = self.port.try_recv() else { break };
                self.handle(input, &mut effects);
            }
            self.carry_out(effects);
            self.sealed.push_back((Instant::now() + self.commit_delay, self.open));
            self.open = self.open.next();
            if self.commit_delay.is_zero() {
                self.synced();
            }
        }
        let mut effects = Vec::new();
        let mut turn = Turn { now: self.now(), open: self.open, effects: &mut effects };
        self.broker.shutdown(&mut turn);
        self.carry_out(effects);
        (self.broker, self.ops)
    }

    /// The oldest sealed batch is durable.
    fn synced(&mut self) {
        let Some((_, sealed)) = self.sealed.pop_front() else { return };
        let mut effects = Vec::new();
        let mut turn = Turn { now: self.now(), open: self.open, effects: &mut effects };
        self.broker.durable(sealed, &mut turn);
        self.carry_out(effects);
    }

    fn now(&self) -> Now {
        let at = Millis(u64::try_from(self.start.elapsed().as_millis()).unwrap());
        Now { at, wall: WallTime::default() }
    }

    fn until_deadline(&self) -> Duration {
        let at = self.broker.next_deadline().map_or(60_000, |at| at.since(self.now().at).0);
        Duration::from_millis(at)
    }

    fn handle(&mut self, input: Input, effects: &mut Vec<Effect>) {
        let mut turn = Turn { now: self.now(), open: self.open, effects };
        self.broker.handle(input, &mut turn);
    }

    fn carry_out(&mut self, mut effects: Vec<Effect>) {
        while !effects.is_empty() {
            let mut more = Vec::new();
            for effect in effects {
                self.one(effect, &mut more);
            }
            effects = more;
        }
        self.broker.flush(&mut effects);
        for effect in effects {
            self.port.apply(effect);
        }
    }

    fn one(&mut self, effect: Effect, more: &mut Vec<Effect>) {
        let now = self.now();
        let Some(effect) = self.port.apply(effect) else { return };
        let mut turn = Turn { now, open: self.open, effects: more };
        match effect {
            Effect::Authenticate { conn, request } => {
                let outcome = authenticate(&request);
                self.broker.handle(Input::AuthDone { conn, outcome }, &mut turn);
            }
            Effect::Deliver(delivery) => {
                self.seen.delivered.fetch_add(1, Ordering::Relaxed);
                self.broker.route(&delivery.message, &mut turn);
                self.broker.settle(delivery.token, Settlement::Accepted, &mut turn);
            }
            Effect::WillFired { message } => {
                self.broker.route(&message, &mut turn);
            }
            Effect::Persist(op) => self.ops.push(op),
            Effect::Event(edge_broker::BrokerEvent::Connected { .. }) => {
                self.seen.connected.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

/// A certificate names its owner; without one the password counts.
fn authenticate(request: &AuthRequest) -> Result<Arc<Principal>, ReasonCode> {
    let identity = match (&request.peer.certificate, &request.password) {
        (Some(certificate), _) => certificate.common_name.clone(),
        (None, Some(password)) if *password == PASSWORD.as_bytes() => {
            request.username.clone().unwrap_or_default()
        }
        _ => return Err(ReasonCode::BadUserNameOrPassword),
    };
    let all = || vec![TopicFilter::new("#").unwrap()];
    Ok(Arc::new(Principal { identity: DeviceId::new(&identity), publish: all(), subscribe: all() }))
}

/// Waits until `it` is true, at most some seconds.
pub(crate) async fn eventually(what: &str, mut it: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if it() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}
