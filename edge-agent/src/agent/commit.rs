//! The open batch on its way to the store.
//!
//! # Invariants
//! - One batch is at the store at a time; meanwhile the next one fills (group commit).
//! - A *ticket* ([`Commit::open`]) names the open batch for whatever must wait until it is durable.
//!   Tickets count every closed batch, also those with nothing to write; batches of the store are
//!   numbered apart, without gaps.
//! - Over [`OPEN_BYTES_MAX`] the loop takes no more inputs until the store is done, and the batch is
//!   closed as soon as it can be. One input may still make it longer than a journal segment; the
//!   store takes it, at the cost of a checkpoint.

use edge_broker::broker::{BrokerOp, WillRow};
use edge_core::batch::{BatchLimits, BatchOp, JobChange, OpenBatch, Place, Seal};
use edge_core::effect::Pace;
use edge_core::id::{BatchSeq, JobId};
use edge_core::op::CoreOp;
use edge_core::time::Millis;

use super::plant::{Moment, Plant};
use super::seams::Committer;
use crate::store::{Batch, NotTaken, Op, Overlay};

/// Bytes of the open batch over which the loop takes nothing more.
pub(super) const OPEN_BYTES_MAX: u64 = 1 << 20;

/// Bytes an operation is counted with beside its payload.
const OP_OVERHEAD_BYTES: u64 = 64;

/// Bytes of a subscription identifier in the journal, at most.
const SUBSCRIPTION_ID_BYTES: usize = 5;

impl BatchOp for Op {
    fn job(&self) -> Option<JobChange> {
        match self {
            Self::Core(op) => op.job(),
            Self::Broker(_) | Self::Ledger(_) => None,
        }
    }

    fn overwrites(&self) -> Option<Place> {
        match self {
            Self::Core(op) => op.overwrites(),
            // A message that is queued and dropped again in one batch is never written.
            Self::Broker(
                op @ (BrokerOp::AppendMessage { .. } | BrokerOp::DeleteMessage { .. }),
            ) => Some(Place::Row(op.key())),
            Self::Broker(_) | Self::Ledger(_) => None,
        }
    }
}

/// The open batch and who commits it.
pub(super) struct Commit {
    batch: OpenBatch<Op>,
    open_bytes: u64,
    open: BatchSeq,
    at_store: Option<BatchSeq>,
    next_store_seq: BatchSeq,
    ask_again_at: Option<Millis>,
    overlay: Overlay,
    committer: Box<dyn Committer>,
    plant: Plant,
}

impl Commit {
    /// Goes on after the store's last durable batch. Batches keep `interval_ms_min` from one to the next.
    #[must_use]
    pub(super) fn new(
        last: BatchSeq,
        overlay: Overlay,
        committer: Box<dyn Committer>,
        interval_ms_min: Millis,
        plant: Plant,
    ) -> Self {
        Self {
            batch: OpenBatch::new(BatchLimits { interval_ms_min, ..BatchLimits::default() }),
            open_bytes: 0,
            open: BatchSeq(1),
            at_store: None,
            next_store_seq: last.next(),
            ask_again_at: None,
            overlay,
            committer,
            plant,
        }
    }

    /// Ticket of the open batch.
    #[must_use]
    pub(super) fn open(&self) -> BatchSeq {
        self.open
    }

    /// Whether more inputs may be taken.
    #[must_use]
    pub(super) fn has_room(&self) -> bool {
        self.open_bytes < OPEN_BYTES_MAX
    }

    /// Whether nothing is open or at the store.
    #[must_use]
    pub(super) fn is_idle(&self) -> bool {
        self.at_store.is_none() && self.batch.is_empty()
    }

    /// Adds an operation; it can be read at once.
    pub(super) fn push(&mut self, op: Op, pace: Pace, now: Millis) {
        self.overlay.apply(self.next_store_seq, &op);
        self.open_bytes += cost_bytes(&op);
        self.batch.push(op, pace, now);
    }

    /// Something waits for the open batch.
    pub(super) fn awaited(&mut self, pace: Pace, now: Millis) {
        self.batch.awaited(pace, now);
    }

    /// Whether the open batch will be written soon anyway: an operation may ride along.
    #[must_use]
    pub(super) fn will_write(&self) -> bool {
        self.batch.will_write()
    }

    /// An attempt of a job starts.
    pub(super) fn job_started(&mut self, job: JobId) {
        self.batch.started(job);
    }

    /// An attempt of a job ended.
    pub(super) fn job_stopped(&mut self, job: JobId) {
        self.batch.stopped(job);
    }

    /// Closes the open batch where that is due; so many wait (see [`OpenBatch::seal_now`]). A
    /// ticket comes back if that batch had nothing to write: it is durable already.
    pub(super) fn seal_if_due(&mut self, waiting: u64, now: Millis) -> Option<BatchSeq> {
        let mut seal = self.batch.seal_now(self.at_store.is_none(), waiting, now);
        if matches!(seal, Seal::At(_)) && !self.has_room() {
            // Whoever could make it longer waits for it.
            seal = Seal::Now;
        }
        self.ask_again_at = if let Seal::At(at) = seal { Some(at) } else { None };
        if seal == Seal::Now { self.seal(now) } else { None }
    }

    /// When [`Commit::seal_if_due`] is to be asked again.
    #[must_use]
    pub(super) fn deadline(&self) -> Option<Millis> {
        self.ask_again_at
    }

    /// Closes the open batch whatever it waits for (at a stop).
    pub(super) fn seal_for_stop(&mut self, now: Millis) -> Option<BatchSeq> {
        // A time that was told before would be due for as long as the store is at work.
        self.ask_again_at = None;
        if self.at_store.is_some() { None } else { self.seal(now) }
    }

    fn seal(&mut self, now: Millis) -> Option<BatchSeq> {
        assert!(self.at_store.is_none(), "one batch is at the store at a time");
        let sealed = self.batch.seal(now);
        let ticket = self.open;
        self.open = ticket.next();
        self.open_bytes = 0;
        if sealed.ops.is_empty() {
            return Some(ticket);
        }
        self.plant.reach(Moment::BeforeSeal);
        let seq = self.next_store_seq;
        self.next_store_seq = seq.next();
        self.at_store = Some(ticket);
        // A committer that has ended has told of its failure, which is on its way to the loop.
        let taken = self.committer.submit(Batch { seq, gateway_time: now, ops: sealed.ops });
        assert!(!matches!(taken, Err(NotTaken::Busy(_))), "one batch is at the store at a time");
        self.plant.reach(Moment::AfterSeal);
        None
    }

    /// The store is done with a batch: its ticket, and all before it, are durable.
    pub(super) fn committed(&mut self) -> BatchSeq {
        self.at_store.take().expect("invariant: the store answers what it was asked")
    }
}

impl Commit {
    /// Closes the store; everything given to it is durable or has failed.
    pub(super) fn stop(self) {
        self.committer.stop();
    }
}

/// About how many bytes an operation takes in the journal; never less than its payload.
fn cost_bytes(op: &Op) -> u64 {
    let payload = match op {
        Op::Core(CoreOp::AdmitJob(job)) => job.event.cost_bytes() as u64,
        Op::Core(CoreOp::PutState { value, .. }) => value.len() as u64,
        Op::Core(CoreOp::AppendOutbox(record)) => record.cost_bytes(),
        Op::Core(CoreOp::UpdateJob { progress, .. }) => {
            progress.last_error.as_ref().map_or(0, String::len) as u64
        }
        Op::Core(CoreOp::PutDeadLetter(letter)) => {
            (letter.event.cost_bytes() + letter.error.len()) as u64
        }
        Op::Core(_) => 0,
        Op::Broker(BrokerOp::AppendMessage { message, subscription_ids, share, .. }) => {
            let share = share.as_ref().map_or(0, |share| share.as_str().len());
            (message.cost_bytes() + share + SUBSCRIPTION_ID_BYTES * subscription_ids.len()) as u64
        }
        Op::Broker(
            BrokerOp::PutRetained { message } | BrokerOp::PutWill(WillRow { message, .. }),
        ) => message.cost_bytes() as u64,
        Op::Broker(_) => 0,
        Op::Ledger(_) => 256,
    };
    payload + OP_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use edge_core::id::FunctionId;
    use edge_core::op::{DeadLetter, DeadReason, Progress};
    use edge_core::time::WallTime;

    use super::*;
    use crate::runtime::EventFile;
    use crate::store;

    /// Rows of a thousand failed events are counted with their errors, or a batch would be far longer
    /// than it may be.
    #[test]
    fn errors_count() {
        let error = "e".repeat(4_096);
        let progress = Progress { last_error: Some(error.clone()), ..Progress::default() };
        let update = Op::Core(CoreOp::UpdateJob { job: JobId(1), progress });
        assert_eq!(cost_bytes(&update), 4_096 + OP_OVERHEAD_BYTES);
        let event = EventFile::default().into_event().expect("an empty event");
        let event_bytes = event.cost_bytes() as u64;
        let letter = DeadLetter {
            function: FunctionId::new("a/f"),
            event: event.into(),
            reason: DeadReason::Rejected,
            error,
            attempts: 1,
            at: Millis(0),
            time: WallTime::default(),
        };
        let put = Op::Core(CoreOp::PutDeadLetter(Box::new(letter)));
        assert_eq!(cost_bytes(&put), event_bytes + 4_096 + OP_OVERHEAD_BYTES);
    }

    struct Slow;

    impl Committer for Slow {
        fn submit(&self, _batch: Batch) -> Result<(), NotTaken> {
            Ok(())
        }

        fn stop(self: Box<Self>) {}
    }

    /// What is closed at a stop has no time any more at which it would be due: the loop would turn
    /// until the store is done.
    #[test]
    fn a_stop_waits_for_the_store_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let opened = store::open(dir.path(), store::Settings::default()).expect("a store");
        let (committer, plant) = (Box::new(Slow), Plant::nothing());
        let mut commit = Commit::new(BatchSeq(0), opened.overlay, committer, Millis(0), plant);
        let finish = |job| Op::Core(CoreOp::FinishJob { job: JobId(job) });
        commit.push(finish(1), Pace::Thrifty, Millis(0));
        assert_eq!(commit.seal_if_due(1, Millis(0)), None);
        assert_eq!(commit.deadline(), Some(Millis(100)));
        assert_eq!(commit.seal_for_stop(Millis(5)), None, "it is at the store");
        commit.push(finish(2), Pace::Thrifty, Millis(6));
        assert_eq!(commit.seal_for_stop(Millis(200)), None, "the store is at work");
        assert_eq!(commit.deadline(), None);
    }
}
