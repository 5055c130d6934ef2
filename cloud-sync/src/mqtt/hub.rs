//! The loop that owns the broker: packets in, statements out.
//!
//! It never waits for the store, a file or a gateway. What takes time is handed to a thread and
//! comes back as an event; the queue of events is bounded, and whoever fills it waits.

mod deliver;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use edge_broker::broker::{DisconnectCause, Turn};
use edge_broker::codec::ReasonCode;
use edge_broker::transport::{Listener, Port, Transport};
use edge_broker::{AckToken, AuthRequest, Broker, BrokerEvent, ConnId, Effect, Input};
use edge_core::id::BatchSeq;
use edge_core::time::{Millis, Now, WallTime};
use sync_protocol::InstanceId;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::admission::admit;
use super::chunks::{self, Ask};
use super::event::{EVENTS_MAX, Event, HubHandle};
use super::live::{Commands, Live, LogFeeds};
use super::socket::MqttSocket;
use crate::blobs::Blobs;
use crate::clock::Clock;
use crate::enrolment::Office;
use crate::identity::series_of;
use crate::ingest::{Inbound, Worker};
use crate::limits::{ENROLMENTS_AT_ONCE_MAX, SHUTDOWN_MS_MAX};
use crate::store::Store;

/// Inputs taken in one turn.
const INPUTS_PER_TURN: usize = 64;

/// What the hub works with.
#[derive(Clone)]
pub(crate) struct HubParts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) office: Arc<Office>,
    pub(crate) live: Arc<Live>,
    pub(crate) commands: Arc<Commands>,
    pub(crate) logs: Arc<LogFeeds>,
    pub(crate) clock: Clock,
}

/// The loop and what belongs to it.
pub(crate) struct Hub {
    parts: HubParts,
    broker: Broker,
    port: Port,
    transport: Transport,
    listener: Listener,
    worker: Worker<AckToken>,
    inbound: mpsc::Sender<Inbound<AckToken>>,
    asks: mpsc::Sender<Ask>,
    events: mpsc::Receiver<Event>,
    handle: HubHandle,
    enrolling: Arc<Semaphore>,
    open: BatchSeq,
}

impl Hub {
    /// Starts the threads. The loop itself is [`Hub::run`].
    pub(crate) fn start(parts: HubParts, socket: MqttSocket, seed: u64) -> std::io::Result<Self> {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let handle = HubHandle(sender);
        let instance = parts.office.instance;
        let answers = handle.0.clone();
        let outbound = move |batch| drop(answers.blocking_send(Event::Answers(batch)));
        let worker = Worker::start(Arc::clone(&parts.store), instance, parts.clock, outbound)?;
        let asks = start_chunks(&parts, instance, handle.0.clone())?;
        let MqttSocket { limits, port, transport, listener } = socket;
        Ok(Self {
            broker: Broker::new(limits, seed),
            inbound: worker.inbound(),
            enrolling: Arc::new(Semaphore::new(ENROLMENTS_AT_ONCE_MAX)),
            open: BatchSeq(1),
            parts,
            port,
            transport,
            listener,
            worker,
            asks,
            events,
            handle,
        })
    }

    /// To tell gateways something.
    pub(crate) fn handle(&self) -> HubHandle {
        self.handle.clone()
    }

    /// Counts transactions that failed.
    pub(crate) fn failures(&self) -> Arc<AtomicU64> {
        self.worker.failures()
    }

    /// Runs until `stop` comes; then everything taken is made durable and connections end.
    pub(crate) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        loop {
            let deadline = self.sleep();
            tokio::select! {
                _ = &mut stop => break,
                event = self.events.recv() => {
                    if let Some(event) = event {
                        self.turn(|hub, now| hub.take_event(event, now));
                    }
                }
                input = self.port.recv() => {
                    let Some(input) = input else { break };
                    self.turn(|hub, now| hub.take_inputs(input, now));
                }
                () = deadline => self.turn(|hub, now| hub.broker_handle(Input::Tick, now)),
            }
        }
        self.stop().await;
    }

    fn sleep(&self) -> tokio::time::Sleep {
        let now_ms = self.parts.clock.monotonic_ms();
        let wait_ms = match self.broker.next_deadline() {
            Some(deadline) => deadline.0.saturating_sub(now_ms),
            None => 3_600_000,
        };
        tokio::time::sleep(Duration::from_millis(wait_ms))
    }

    fn now(&self) -> Now {
        let wall = WallTime { unix_ms: self.parts.clock.now_ms(), ..WallTime::default() };
        Now { at: Millis(self.parts.clock.monotonic_ms()), wall }
    }

    /// One turn: `work`, then everything that stood on it is let go, and sent at once. Nothing
    /// here is a store of messages, so every batch is durable as soon as it is open.
    fn turn(&mut self, work: impl FnOnce(&mut Self, Now)) {
        let now = self.now();
        work(self, now);
        let open = self.open;
        self.with_broker(now, |broker, turn| broker.durable(open, turn));
        self.open = open.next();
        let mut effects = Vec::new();
        self.broker.flush(&mut effects);
        self.carry_out(effects, now);
    }

    fn with_broker<T>(
        &mut self,
        now: Now,
        work: impl FnOnce(&mut Broker, &mut Turn<'_>) -> T,
    ) -> T {
        let mut effects = Vec::new();
        let result =
            work(&mut self.broker, &mut Turn { now, open: self.open, effects: &mut effects });
        self.carry_out(effects, now);
        result
    }

    fn broker_handle(&mut self, input: Input, now: Now) {
        self.with_broker(now, |broker, turn| broker.handle(input, turn));
    }

    fn take_inputs(&mut self, first: Input, now: Now) {
        self.broker_handle(first, now);
        for _ in 1..INPUTS_PER_TURN {
            let Some(input) = self.port.try_recv() else { break };
            self.broker_handle(input, now);
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>, now: Now) {
        for effect in effects {
            match self.port.apply(effect) {
                Some(Effect::Authenticate { conn, request }) => self.authenticate(conn, request),
                Some(Effect::Deliver(delivery)) => self.deliver(delivery, now),
                // Wills are presence; the end of the connection says the same.
                Some(Effect::WillFired { .. } | Effect::Persist(_)) => {}
                Some(Effect::Event(event)) => self.note(&event),
                Some(
                    Effect::Send { .. }
                    | Effect::PauseRead { .. }
                    | Effect::ResumeRead { .. }
                    | Effect::Close { .. },
                )
                | None => {}
            }
        }
    }

    fn authenticate(&self, conn: ConnId, request: Box<AuthRequest>) {
        let (store, clock) = (Arc::clone(&self.parts.store), self.parts.clock);
        let (events, live) = (self.handle.0.clone(), Arc::clone(&self.parts.live));
        let ends = live.ends();
        tokio::task::spawn_blocking(move || {
            let outcome = admit(&*store, &request, clock.now_ms());
            if let (Ok(_), Some(shown)) = (&outcome, &request.peer.certificate) {
                let series = series_of(&shown.serial);
                live.showed(&shown.common_name, shown.not_after_unix_s, series);
            }
            drop(events.blocking_send(Event::Authenticated { conn, request, ends, outcome }));
        });
    }

    fn note(&self, event: &BrokerEvent) {
        let (now_ms, mono_ms) = (self.parts.clock.now_ms(), self.parts.clock.monotonic_ms());
        match event {
            BrokerEvent::Connected { conn, identity, .. } => {
                tracing::info!(gateway = identity.as_str(), "connected");
                self.parts.live.connected(identity.as_str(), *conn, now_ms, mono_ms);
            }
            BrokerEvent::Disconnected { conn, identity, cause, .. } => {
                tracing::info!(gateway = identity.as_str(), ?cause, "disconnected");
                let taken_over = *cause == DisconnectCause::Broker(ReasonCode::SessionTakenOver);
                self.parts.live.disconnected(identity.as_str(), *conn, taken_over, mono_ms);
            }
            BrokerEvent::Refused { reason, .. } => {
                tracing::warn!(reason = reason.as_str(), "a connection was refused");
            }
            BrokerEvent::Violation { reason, rule, .. } => {
                tracing::warn!(reason = reason.as_str(), rule, "a connection broke a rule");
            }
            BrokerEvent::Dropped { reason, messages } => {
                tracing::warn!(?reason, messages, "messages were dropped");
            }
            BrokerEvent::SessionExpired { .. } => {}
        }
    }

    async fn stop(mut self) {
        let now = self.now();
        self.with_broker(now, Broker::shutdown);
        let mut effects = Vec::new();
        self.broker.flush(&mut effects);
        self.carry_out(effects, now);
        self.listener.stop();
        let patience = Duration::from_millis(SHUTDOWN_MS_MAX);
        if !self.transport.drained(patience).await {
            tracing::warn!("some connections did not end in time");
        }
        // What was taken and not yet stored is stored; nobody waits for its answers any more.
        drop((self.inbound, self.events));
        let worker = self.worker;
        if tokio::task::spawn_blocking(move || worker.finish()).await.is_err() {
            tracing::error!("the store thread did not end well");
        }
    }
}

fn start_chunks(
    parts: &HubParts,
    instance: InstanceId,
    events: mpsc::Sender<Event>,
) -> std::io::Result<mpsc::Sender<Ask>> {
    let (store, blobs) = (Arc::clone(&parts.store), Arc::clone(&parts.blobs));
    chunks::start(store, blobs, instance, move |gateway, down| {
        drop(events.blocking_send(Event::Tell { gateway, down: Box::new(down) }));
    })
}
