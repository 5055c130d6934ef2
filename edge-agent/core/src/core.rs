//! The state machine: inputs and the time in, effects and the next deadline out.
//!
//! # Invariants (DESIGN, sections 4, 7 and 8)
//! - **Admission.** All that a delivery causes enters the open batch; its ack follows the batch.
//!   Refusal happens only here: an outcome always commits.
//! - **Once.** A message id within its window is worked on once; other repeats run.
//! - **Order.** One attempt of a lane at a time, in arrival order; a failing event holds its lane
//!   until it is done or dead.
//! - **A4.** An outcome applies only if its (job, attempt) is live; else nothing of it does.
//! - **The outcome.** Job done, state, outbox entries and the jobs that its publishes cause stand
//!   in one batch. A job that needs no batch of its own (no outputs) is finished lazily.
//! - **Ends.** Every admitted event ends done, dead-lettered or shed by its function's policy.
//! - **Probation.** While a revision is on probation its faults do not count as attempts: the
//!   event stays first in its lane and runs on the restored revision after take-back.
//! - **Determinism.** The same inputs give the same effects.
//!
//! The parts: [`mod@admit`] (deliveries and what finds a place), [`mod@holding`] (deliveries that
//! wait for room), [`mod@finish`] (outcomes),
//! [`mod@fates`] (what they mean for each event), [`mod@outputs`] (what finished events leave),
//! [`mod@crashes`] (attempts during which the process died),
//! [`mod@activate`] (revisions), [`mod@letters`] (events given up), [`mod@filtered`] (events
//! nobody wants), [`mod@destinations`] (where ends are told), [`mod@backoff`] (waits and ages),
//! [`mod@clock`] (what time brings), [`mod@pauses`] (functions that fault), [`mod@safe`] (after a
//! crash loop).

mod activate;
mod admit;
mod apps;
mod backoff;
mod clock;
mod crashes;
mod destinations;
mod fates;
mod filtered;
mod finish;
mod holding;
mod letters;
mod outputs;
mod pauses;
mod room;
mod safe;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::dead::DeadLetters;
use crate::dedupe::Dedupe;
use crate::effect::{Effect, Pace, RefusedReason, Verdict, Work};
use crate::event::CoreEvent;
use crate::holds::Holds;
use crate::id::{Epoch, EventId, FunctionId, RecordSeq, StreamId, TriggerId};
use crate::input::Input;
use crate::limits::Limits;
use crate::message::Message;
use crate::op::{DedupeRow, Job, OutboxChunk, PauseRow, ProbationMark};
use crate::outbox::{Outbox, RecordSummary};
use crate::queue::Queue;
use crate::release::TriggerSpec;
use crate::routes::Routes;
use crate::slots::Slots;
use crate::status::{Counters, Status};
use crate::time::{Millis, Now};
use crate::turn::Turn;

use apps::Apps;
use filtered::FilteredCounts;
use pauses::Pauses;

/// What a core is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bounds.
    pub limits: Limits,
    /// Drawn anew for each `Core`: at start, and when it is rebuilt after a failed commit.
    pub epoch: Epoch,
    /// Attempts in work at once, at most.
    pub worker_slots: u16,
    /// First attempt id to use; on a rebuild within one process the former core's
    /// [`Core::next_attempt`], so that no outcome of an old attempt is taken for a new one's.
    pub first_attempt: u64,
    /// After a crash loop: take and keep messages, but start nothing.
    pub safe_mode: bool,
}

/// The core's rows as the store holds them.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Waiting jobs, in any order.
    pub jobs: Vec<Job>,
    /// Dedupe windows, in any order.
    pub dedupe: Vec<DedupeRow>,
    /// Keys of the dead letters.
    pub dead_letters: Vec<DeadLetterKey>,
    /// The outbox, by stream.
    pub outbox: Vec<OutboxRows>,
    /// Last used slots (Unix seconds).
    pub schedule_marks: Vec<(TriggerId, u64)>,
    /// Revisions on probation.
    pub probations: Vec<ProbationMark>,
    /// Functions that are paused.
    pub pauses: Vec<PauseRow>,
}

/// Key of a dead letter, and its age.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadLetterKey {
    /// When it was given up.
    pub at: Millis,
    /// Its function.
    pub function: FunctionId,
    /// Its event.
    pub event: EventId,
}

/// What must be known of a stream: no scan over all its records.
#[derive(Clone, Debug)]
pub struct OutboxRows {
    /// Which.
    pub stream: StreamId,
    /// Value of the last `AckOutboxTo`; 0 if there was none.
    pub stored_to: RecordSeq,
    /// Rows of `PutOutboxChunk`.
    pub chunks: Vec<OutboxChunk>,
    /// Each row above the last chunk (at most a few hundred; of last values all that there are).
    pub tail: Vec<RecordSummary>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Revisions and breadcrumbs are being told.
    Starting,
    Running,
    Stopping,
}

/// The decision core.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    phase: Phase,
    /// Events named under this epoch so far.
    events: u64,
    queue: Queue,
    routes: Routes,
    apps: Apps,
    pauses: Pauses,
    holds: Holds,
    dedupe: Dedupe,
    outbox: Outbox,
    letters: DeadLetters,
    slots: Slots,
    counters: Counters,
    /// Functions and events during which the former process died before the event was durable:
    /// its sender sends it again. At most one for each worker.
    strays: BTreeSet<(FunctionId, u64)>,
    filtered: FilteredCounts,
    /// Whether the wall clock was synced at the last input.
    synced: bool,
    /// The store has no room: nothing new is to be made.
    full: bool,
}

impl Core {
    /// A core without history.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::restore(settings, Rows::default())
    }

    /// A core from the rows of its store. The next inputs are `Activate` for each live app,
    /// `Crashed` for each breadcrumb, then `Started`.
    #[must_use]
    pub fn restore(settings: Settings, rows: Rows) -> Self {
        let limits = &settings.limits;
        let mut queue = Queue::new(limits, settings.worker_slots, settings.first_attempt);
        let mut jobs = rows.jobs;
        jobs.sort_unstable_by_key(|job| job.id);
        jobs.dedup_by_key(|job| job.id);
        jobs.into_iter().for_each(|job| queue.restore(job));
        let mut dedupe = Dedupe::new(limits.devices_max);
        rows.dedupe.into_iter().for_each(|row| dedupe.restore(row));
        Self {
            phase: Phase::Starting,
            events: 0,
            queue,
            routes: Routes::new(),
            apps: Apps::new(rows.probations),
            pauses: Pauses::new(rows.pauses),
            holds: Holds::new(limits.held_max),
            dedupe,
            outbox: Outbox::restore(settings.epoch, limits.outbox_bytes_max, rows.outbox),
            letters: DeadLetters::restore(limits.dead_letters_max, rows.dead_letters),
            slots: Slots::new(rows.schedule_marks),
            counters: Counters::default(),
            strays: BTreeSet::new(),
            filtered: FilteredCounts::default(),
            synced: false,
            full: false,
            settings,
        }
    }

    /// Takes one input and appends what is to be done. `now.at` never goes back.
    pub fn handle(&mut self, input: Input, now: Now, out: &mut Vec<Effect>) {
        let mut turn = Turn::new(now, self.counters, out);
        self.note_clock(&mut turn);
        self.run_due(&mut turn);
        self.take(input, &mut turn);
        // What the input made due, and room that it made.
        self.run_due(&mut turn);
        self.start_attempts(&mut turn);
        self.outbox.announce(&mut turn);
        self.counters = turn.counters;
    }

    /// When to call `handle` with [`Input::Tick`] at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        let slots = self.slots.next_deadline().filter(|_| self.fires());
        let acting = !self.settings.safe_mode;
        let times = [
            self.queue.next_deadline(),
            self.holds.next_deadline().filter(|_| acting),
            self.apps.next_deadline().filter(|_| acting),
            self.outbox.next_deadline(),
            slots,
        ];
        times.into_iter().flatten().min()
    }

    /// First id for the attempts of a core that replaces this one.
    #[must_use]
    pub fn next_attempt(&self) -> u64 {
        self.queue.next_attempt()
    }

    /// By what the events of a live function are ordered; `None`: not at all, or it is not live.
    #[must_use]
    pub fn lanes_by(&self, function: &FunctionId) -> Option<&crate::order::Ordered> {
        self.queue.lanes_by(function)
    }

    /// Whether a message would wake a function.
    #[must_use]
    pub fn wakes(&self, message: &Message) -> bool {
        !self.routes.route(message).targets.is_empty()
    }

    /// Jobs that wait or are in work.
    #[must_use]
    pub fn jobs(&self) -> u64 {
        u64::from(self.queue.total().0)
    }

    /// A snapshot.
    #[must_use]
    pub fn status(&self, now: Now) -> Status {
        let (jobs, bytes) = self.queue.total();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Status {
            jobs,
            bytes,
            running: self.queue.running(),
            held: count(self.holds.len()),
            functions: self.queue.status(now.at),
            apps: self.apps.status(),
            outbox: self.outbox.status(),
            dead_letters: count(self.letters.len()),
            devices: count(self.dedupe.devices()),
            devices_max: self.settings.limits.devices_max,
            counters: self.counters,
            safe_mode: self.settings.safe_mode,
            triggers: self.filtered.status(&self.routes),
            outbox_drops: self.outbox.drops(),
        }
    }

    fn take(&mut self, input: Input, turn: &mut Turn<'_>) {
        match input {
            Input::Delivered { delivery, message, patience } => {
                self.deliver(delivery, message, patience, turn);
            }
            Input::WillFired { message } => self.admit_will(&message, turn),
            Input::Finished { job, attempt, outcome, ran_us } => {
                self.queue.took(job, attempt, ran_us);
                self.finished(job, attempt, outcome, turn);
            }
            Input::Crashed(crumb) => self.crashed(&crumb, turn),
            Input::Started => self.started(turn),
            Input::Activate { release, probation } => self.activate(&release, probation, turn),
            Input::EndProbation { app, revision } => self.end_probation(&app, revision, turn),
            Input::Deactivate { app } => self.deactivate(&app, turn),
            Input::Quiesce { app } => self.quiesce(&app, turn),
            Input::Resume { app } => self.resume(&app),
            Input::ResumeFunction { function } => self.resume_function(&function, turn),
            Input::LeaveSafeMode => self.leave_safe_mode(turn),
            Input::Receipt { stream, seq } => self.outbox.receipt(stream, seq, turn),
            Input::GoOnAfter { stream, seq } => self.outbox.go_on_after(stream, seq, turn),
            Input::RunRead { stream, first, rows } => {
                self.outbox.run_read(stream, first, &rows, turn);
            }
            Input::Renumber { records } => {
                records.into_iter().for_each(|record| self.outbox.renumber(record, turn));
            }
            Input::Report { stream, body } => self.outbox.append_report(stream, body, turn),
            Input::Redrive { letter } => self.redrive(&letter, turn),
            Input::PurgeDeadLetter { function, event } => self.purge(function, event, turn),
            Input::Room { full } => self.full = full,
            Input::Stop => self.stop(turn),
            Input::Tick => {}
        }
    }

    /// Whether schedules make events. What comes due without room is missed like a slot without
    /// power: forgotten, or made up for once.
    fn fires(&self) -> bool {
        self.phase == Phase::Running && !self.full
    }

    fn started(&mut self, turn: &mut Turn<'_>) {
        if self.phase != Phase::Starting {
            return;
        }
        self.phase = Phase::Running;
        for function in self.queue.sleeping() {
            self.abandon(&function, turn);
        }
        self.forget_lost_pauses(turn);
    }

    fn stop(&mut self, turn: &mut Turn<'_>) {
        self.phase = Phase::Stopping;
        for (_, held) in self.holds.take_all() {
            let verdict = Verdict::Refused { reason: RefusedReason::Stopping };
            turn.settle(held.delivery, verdict.clone(), Pace::Prompt);
            for copy in held.copies {
                turn.settle(copy, verdict.clone(), Pace::Prompt);
            }
        }
        self.tell_idle(turn);
    }

    /// Tells that nothing is running, where somebody waits for that.
    fn tell_idle(&mut self, turn: &mut Turn<'_>) {
        if self.phase == Phase::Stopping && self.queue.running() == 0 {
            turn.effect(Effect::Idle);
        }
    }

    fn start_attempts(&mut self, turn: &mut Turn<'_>) {
        if self.phase != Phase::Running || self.settings.safe_mode {
            return;
        }
        while let Some(attempt) = self.queue.start(turn.at()) {
            if let Work::Batch(members) = &attempt.work {
                turn.event(CoreEvent::BatchStarted {
                    job: attempt.job(),
                    attempt: attempt.attempt,
                    function: attempt.function.clone(),
                    size: u16::try_from(members.len()).unwrap_or(u16::MAX),
                });
            }
            for member in attempt.work.members() {
                turn.event(CoreEvent::Started {
                    job: member.job,
                    attempt: attempt.attempt,
                    function: attempt.function.clone(),
                    revision: attempt.revision,
                });
            }
            turn.effect(Effect::Start(Box::new(attempt)));
        }
    }

    fn next_event_id(&mut self) -> EventId {
        self.events += 1;
        EventId { epoch: self.settings.epoch, n: self.events }
    }

    fn trigger(&self, trigger: &TriggerId) -> Option<Arc<TriggerSpec>> {
        self.routes.get(trigger)
    }
}

#[cfg(test)]
mod tests;
