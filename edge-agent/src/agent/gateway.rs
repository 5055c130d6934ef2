//! The loop: owns the broker and the core, turns inputs into effects, closes batches.
//!
//! # Invariants
//! - Nothing here blocks but the wait for the next input.
//! - Effects are carried out in the order they were made, all of one input before the next one; so
//!   all that an input causes stands in one batch.
//! - A turn takes what has come, for at most [`TURN_MAX`], then writes are flushed and the batch
//!   judged: under load batches grow, at rest nothing waits. The network and everybody else take
//!   turns, so that neither keeps the other waiting.
//! - Without room in the open batch no outcome is taken either: it waits, and its worker with it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edge_broker::broker::{self, Broker, Turn};
use edge_core::core::Core;
use edge_core::effect::{Attempt, Effect as CoreEffect, Pace};
use edge_core::id::{BatchSeq, Epoch, RecordSeq, StreamId};
use edge_core::input::Input as CoreInput;
use edge_core::time::{Millis, Now};
use tokio::sync::mpsc;

use super::access::Access;
use super::answers::Answers;
use super::clock::Clock;
use super::commit::Commit;
use super::deliveries::Deliveries;
use super::deploy::Deployments;
use super::functions::Functions;
use super::inbox::Inbound;
use super::link::LinkState;
use super::lives::Lives;
use super::plant::{Moment, Plant};
use super::room::Room;
use super::seams::{Crumbs, Link, Network};
use super::state::State;
use super::system::SystemUpdate;
use super::telemetry::Telemetry;
use super::timeline::Timeline;
use super::turns::Turns;
use super::update::Update;
use super::wear::Wear;
use crate::bridge::Board;
use crate::desk::Desk;
use crate::firmware::Firmware;
use crate::last_errors::LastErrors;
use crate::runtime;
use crate::store::{self, Reader};
use crate::supervisor::Supervisor;
use crate::tls::TimeFloor;
use crate::uplink::Say;

/// How long a turn takes inputs. The last one, a read of a connection, may take as long again.
const TURN_MAX: Duration = Duration::from_millis(2);

/// Batches with nothing to write that a turn closes.
const EMPTY_BATCHES_MAX: usize = 256;

/// How long a stop waits for attempts in work. What has not ended then stays in the store.
const STOP_ATTEMPTS_MAX: Millis = Millis(10_000);

/// Why the loop ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Somebody asked; everything is on disk.
    Stopped,
    /// The store takes nothing more: everything is rebuilt from it.
    StoreFailed {
        /// Why.
        error: store::StoreError,
        /// First attempt number of the next life.
        next_attempt: u64,
        /// A stop was asked for: there is no next life.
        stopping: bool,
    },
}

/// What a turn begins with.
#[derive(Debug)]
pub(super) enum Taken {
    /// From the inbox.
    Inbound(Inbound),
    /// From a client.
    Network(broker::Input),
    /// Nobody said anything until something was due.
    Time,
}

/// Something to do, made by broker or core.
#[derive(Debug)]
pub(super) enum Work {
    Broker(broker::Effect),
    Core(CoreEffect),
}

/// All that is rebuilt together after a failed commit.
pub(super) struct Gateway {
    pub(super) name: String,
    pub(super) epoch: Epoch,
    pub(super) listeners: Vec<String>,
    /// From the start of the process until clients could come, in milliseconds.
    pub(super) start_ms: Option<u64>,
    /// Warnings and errors of the log.
    pub(super) errors: LastErrors,
    pub(super) buses: Board,
    pub(super) link: LinkState,
    pub(super) clock: Clock,
    pub(super) now: Now,
    pub(super) broker: Broker,
    pub(super) core: Core,
    pub(super) network: Box<dyn Network>,
    pub(super) commit: Commit,
    pub(super) reader: Reader,
    pub(super) state: Arc<State>,
    pub(super) deliveries: Deliveries,
    pub(super) room: Room,
    pub(super) functions: Functions,
    pub(super) deployments: Deployments,
    pub(super) access: Access,
    pub(super) uplink: Option<Box<dyn Link>>,
    pub(super) time_floor: Arc<TimeFloor>,
    pub(super) timeline: Timeline,
    pub(super) telemetry: Telemetry,
    pub(super) desk: Desk,
    pub(super) firmware: Firmware,
    pub(super) update: Update,
    pub(super) system: SystemUpdate,
    pub(super) wear: Wear,
    pub(super) work: VecDeque<Work>,
    /// Positions of the outbox that become readable with a ticket.
    pub(super) grown: VecDeque<(BatchSeq, u8, u64)>,
    pub(super) plant: Plant,
    pub(super) turns: Turns,
    /// Outcomes that came while the open batch had no room; at most one for each worker.
    pub(super) finished: VecDeque<runtime::Completion>,
    /// Attempts that begin once these tickets are durable, in order: a crash in one of them must
    /// find what was decided before. There are never more than workers.
    pub(super) after_durable: VecDeque<(BatchSeq, Box<Attempt>)>,
    pub(super) crumbs: Box<dyn Crumbs>,
    /// The batch that counts the crashes of the last process; no attempt begins before it is
    /// durable.
    pub(super) counting: Option<BatchSeq>,
    pub(super) lives: Arc<Mutex<Lives>>,
    /// Once a stop was asked for: when it waits for attempts no longer.
    pub(super) stop_by: Option<Millis>,
    pub(super) answers: Answers,
    pub(super) idle: bool,
    pub(super) failed: Option<store::StoreError>,
}

impl Gateway {
    /// Runs until told to stop or until the store fails. Each turn is a beat: a supervisor hears of
    /// a loop that hangs by its silence.
    pub(super) async fn run(
        mut self,
        inbox: &mut mpsc::UnboundedReceiver<Inbound>,
        supervisor: &mut Supervisor,
    ) -> Ended {
        supervisor.ready();
        loop {
            supervisor.beat(std::time::Instant::now());
            let wait = self.wait().min(supervisor.longest_wait());
            let taken = tokio::select! {
                biased;
                Some(inbound) = inbox.recv() => Taken::Inbound(inbound),
                Some(input) = poll_fn(|context| self.network.poll_recv(context)),
                    if self.commit.has_room() => Taken::Network(input),
                () = tokio::time::sleep(wait) => Taken::Time,
            };
            let ended = self.take_turn(taken, inbox);
            if self.stop_by.is_some() {
                supervisor.stopping();
            }
            if let Some(ended) = ended {
                self.tear_down();
                return ended;
            }
        }
    }

    /// One turn that begins with `taken`, and its end. `Some` at the end of this life; whoever
    /// turns then tears down.
    pub(super) fn take_turn(
        &mut self,
        taken: Taken,
        inbox: &mut mpsc::UnboundedReceiver<Inbound>,
    ) -> Option<Ended> {
        let begun = self.clock.mono();
        self.turn(taken, begun, inbox);
        self.finish_turn();
        self.turns.took(self.clock.mono().saturating_sub(begun));
        if let Some(error) = self.failed.take() {
            let next_attempt = self.core.next_attempt();
            let stopping = self.stop_by.is_some();
            return Some(Ended::StoreFailed { error, next_attempt, stopping });
        }
        (self.is_ending() && self.commit.is_idle()).then_some(Ended::Stopped)
    }

    /// Whether a stop was asked for, and nothing is in work or waited for any more.
    fn is_ending(&self) -> bool {
        self.stop_by.is_some_and(|by| self.idle || by <= self.now.at)
    }

    pub(super) fn tear_down(self) {
        self.functions.stop();
        if let Some(uplink) = self.uplink {
            uplink.stop();
        }
        self.commit.stop();
    }

    /// How long nothing is due.
    pub(super) fn wait(&mut self) -> Duration {
        const LONGEST: Millis = Millis(60_000);
        self.now = self.clock.now();
        let due = [
            self.broker.next_deadline(),
            self.core.next_deadline(),
            self.telemetry.next_deadline(),
            self.commit.deadline(),
            self.room.next_deadline(self.now.at),
            self.stop_by.filter(|by| self.now.at < *by),
            self.plant.next_deadline(),
            self.firmware.next_deadline(),
            self.desk.next_deadline(),
            self.life().well_at(),
            self.update.next_deadline().filter(|_| self.stop_by.is_none()),
            self.system.next_deadline().filter(|_| self.stop_by.is_none()),
        ];
        let at = due.into_iter().flatten().min().unwrap_or(self.now.at + LONGEST);
        self.clock.until(at.min(self.now.at + LONGEST))
    }

    fn turn(
        &mut self,
        first: Taken,
        begun: Duration,
        inbox: &mut mpsc::UnboundedReceiver<Inbound>,
    ) {
        self.now = self.clock.now();
        self.look_for_room();
        // Whatever else there is to do: under load nobody would wait until time is up.
        self.tick();
        self.carry_out();
        let mut next = Some(first);
        let mut network_first = false;
        while let Some(taken) = next {
            match taken {
                Taken::Inbound(inbound) => self.inbound(inbound),
                Taken::Network(input) => {
                    self.with_broker(|broker, turn| broker.handle(input, turn));
                }
                Taken::Time => {}
            }
            self.carry_out();
            let taken_for = self.clock.mono().saturating_sub(begun);
            if !self.commit.has_room() || taken_for >= TURN_MAX {
                break;
            }
            network_first = !network_first;
            next = self.next(network_first, inbox);
        }
    }

    /// What a turn begins with, where nobody waits for it.
    pub(super) fn first(&mut self, inbox: &mut mpsc::UnboundedReceiver<Inbound>) -> Taken {
        if let Ok(inbound) = inbox.try_recv() {
            return Taken::Inbound(inbound);
        }
        let network = if self.commit.has_room() { self.network.try_recv() } else { None };
        network.map_or(Taken::Time, Taken::Network)
    }

    fn next(
        &mut self,
        network_first: bool,
        inbox: &mut mpsc::UnboundedReceiver<Inbound>,
    ) -> Option<Taken> {
        let mut inbound = || inbox.try_recv().ok().map(Taken::Inbound);
        let mut network = || self.network.try_recv().map(Taken::Network);
        if network_first { network().or_else(inbound) } else { inbound().or_else(network) }
    }

    /// What is due.
    fn tick(&mut self) {
        if self.broker.next_deadline().is_some_and(|at| at <= self.now.at) {
            self.with_broker(|broker, turn| broker.handle(broker::Input::Tick, turn));
        }
        if let Some(moved) = self.clock.look_again() {
            self.clock_moved(moved);
        }
        self.keep_floor();
        if self.core.next_deadline().is_some_and(|at| at <= self.now.at) {
            self.with_core(CoreInput::Tick);
        }
        self.tick_firmware();
        self.telemetry.tell_drops(self.now.at);
        self.look_at_life();
        self.tick_update();
        self.tick_system();
        self.report_health();
    }

    /// Writes are flushed, the batch is closed where that is due.
    fn finish_turn(&mut self) {
        while self.commit.has_room()
            && let Some(done) = self.finished.pop_front()
        {
            self.function_done(done);
            self.carry_out();
        }
        for op in self.plant.take_late(self.commit.open()) {
            self.commit.push(store::Op::Core(op), Pace::Lazy, self.now.at);
        }
        // A batch with nothing to write is durable at once; what that releases may fill the next.
        for _ in 0..EMPTY_BATCHES_MAX {
            if let Some(waiting) = self.broker.waits_for()
                && waiting >= self.commit.open()
            {
                self.commit.awaited(Pace::Prompt, self.now.at);
            }
            if self.plant.holds_commit(self.now.at) {
                break;
            }
            if self.wear.is_due(self.now.at) && self.commit.will_write() {
                let op = self.wear.save(&self.reader.stats(), self.now.at);
                self.commit.push(op, Pace::Lazy, self.now.at);
            }
            let sealed = if self.is_ending() {
                self.commit.seal_for_stop(self.now.at)
            } else {
                let waiting = self.core.jobs() + self.broker.sessions_waiting();
                self.commit.seal_if_due(waiting, self.now.at)
            };
            let Some(ticket) = sealed else { break };
            self.durable(ticket);
        }
        let mut effects = Vec::new();
        self.broker.flush(&mut effects);
        let acks = self.plant.has_acks(self.broker.counters().acked);
        if acks {
            self.plant.reach(Moment::BeforeAck);
        }
        self.work.extend(effects.into_iter().map(Work::Broker));
        self.carry_out();
        if acks {
            self.plant.reach(Moment::AfterAck);
        }
    }

    pub(super) fn inbound(&mut self, inbound: Inbound) {
        match inbound {
            Inbound::Store(store::Completion::Committed(_)) => {
                let ticket = self.commit.committed();
                self.durable(ticket);
            }
            Inbound::Store(store::Completion::Failed { error, .. }) => self.failed = Some(error),
            Inbound::Function(done) if self.finished.is_empty() && self.commit.has_room() => {
                self.function_done(done);
            }
            Inbound::Function(done) => self.finished.push_back(done),
            Inbound::Password { name, proof, holds } => {
                let (waiting, outcome) = self.access.judged(&name, proof, holds);
                for conn in waiting {
                    let input = broker::Input::AuthDone { conn, outcome: outcome.clone() };
                    self.with_broker(|broker, turn| broker.handle(input, turn));
                }
            }
            Inbound::Uplink(heard) => self.heard(heard),
            Inbound::Asked(asked) => self.asked(asked),
            Inbound::Prepared(done) => self.app_prepared(*done),
            Inbound::Beat(beat) => {
                self.plant.beats();
                // Whoever left wants to know nothing.
                let _ = beat.send(());
            }
            Inbound::Stop => {
                tracing::info!("stopping: finishing what is in work");
                self.note_usual();
                self.stop_by.get_or_insert(self.now.at + STOP_ATTEMPTS_MAX);
                self.with_broker(Broker::shutdown);
                self.with_core(CoreInput::Stop);
                self.refuse_waiting();
            }
        }
    }

    fn durable(&mut self, ticket: BatchSeq) {
        self.with_broker(|broker, turn| broker.durable(ticket, turn));
        if self.counting.take_if(|at| *at <= ticket).is_some() {
            self.start_functions();
        }
        while let Some((_, attempt)) = self.after_durable.pop_front_if(|(at, _)| *at <= ticket) {
            self.start(*attempt);
        }
        while let Some((at, stream, seq)) = self.grown.front().copied()
            && at <= ticket
        {
            self.grown.pop_front();
            self.say(Say::Durable { stream, seq });
            if self.plant.deletes_early() {
                let (stream, seq) = (StreamId(stream), RecordSeq(seq));
                self.with_core(CoreInput::Receipt { stream, seq });
            }
        }
        self.give_answers(ticket);
        self.update_durable(ticket);
        self.carry_out();
    }

    pub(super) fn say(&self, say: Say) {
        if let Some(uplink) = &self.uplink {
            uplink.say(say);
        }
    }

    pub(super) fn with_broker(&mut self, act: impl FnOnce(&mut Broker, &mut Turn<'_>)) {
        let mut effects = Vec::new();
        let open = self.commit.open();
        act(&mut self.broker, &mut Turn { now: self.now, open, effects: &mut effects });
        self.work.extend(effects.into_iter().map(Work::Broker));
    }

    pub(super) fn with_core(&mut self, input: CoreInput) {
        let mut effects = Vec::new();
        self.core.handle(input, self.now, &mut effects);
        self.work.extend(effects.into_iter().map(Work::Core));
    }
}
