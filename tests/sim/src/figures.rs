//! What a run came to in figures, which scenarios hold against their bounds.
//!
//! # Invariants
//! - The names are a closed list ([`NAMES`]): a scenario that bounds another one is refused, since
//!   a figure that does not exist is always 0.
//! - Latencies are in virtual time and are those of the slowest one.

use std::collections::{BTreeMap, BTreeSet};

use edge_agent::store::{Batch, Op};
use edge_core::event::CoreEvent;
use edge_core::id::StreamId;
use edge_core::op::{CoreOp, DeadReason, DropReason, OutboxRecord, RecordBody};
use sync_protocol::record::{Phase, Report};

use crate::payload::{self, MessageNo};
use crate::seen::{DiskState, Seen};

/// All figures, with what they count.
pub const NAMES: [(&str, &str); 54] = [
    ("published", "messages of devices"),
    ("acked", "of which the gateway let an ack go"),
    ("done-count", "messages that `count` has done, durably"),
    ("done-note", "messages that `note` has done, durably"),
    ("count-ms-max", "from a publish until `count` has done it, durably"),
    ("arrived", "records of functions that the control plane stored"),
    ("arrived-urgent", "urgent ones among them"),
    (
        "arrives-ms-max",
        "from the commit of a record that is not urgent, or the link's return, to the control plane",
    ),
    ("urgent-arrives-ms-max", "the same of urgent ones"),
    ("overtook", "urgent records that arrived while older, less urgent ones still waited"),
    (
        "out-of-order",
        "records of `count` that arrived after a later one of their device and priority",
    ),
    ("gaps", "positions that the control plane was told nothing of, neither record nor tombstone"),
    ("never-arrived", "records of functions that neither arrived nor were dropped"),
    ("clone-spoke", "times that a second machine spoke as this gateway"),
    ("told-dropped", "positions that it was told are dropped"),
    ("backlog-max", "records in the outbox, at most"),
    ("outbox-bytes-max", "live bytes of the outbox, at most"),
    ("disk-bytes-max", "bytes of the store's files, at most"),
    ("dropped-full", "records given up because the outbox was full"),
    ("dropped-newest", "records that found no room"),
    ("dropped-expired", "records that outlived their time to live"),
    ("dropped-replaced", "records replaced by newer ones"),
    ("dropped-skipped", "positions passed over"),
    ("renumbered", "records that went again at another position"),
    ("letters-exhausted", "dead letters: all attempts failed"),
    ("letters-too-old", "dead letters: too old"),
    ("letters-rejected", "dead letters: refused by the function"),
    ("letters-crashed", "dead letters: the process died twice"),
    ("letters-shed", "dead letters: the queue was full"),
    ("letters-gone", "dead letters: the function is not deployed"),
    ("letters-loop", "dead letters: too many hops"),
    ("paused", "times that a function was paused"),
    ("held", "deliveries that waited for room"),
    ("deactivated", "times that the app was removed"),
    ("deployed-live", "revisions that proved themselves"),
    ("deployed-failed", "revisions that were refused"),
    ("deployed-taken-back", "revisions that were taken back"),
    ("cut-in-fetching", "cuts of the link just after this phase was told"),
    ("cut-in-verifying", "the same"),
    ("cut-in-preparing", "the same"),
    ("cut-in-probation", "the same"),
    ("cut-in-live", "the same"),
    ("cut-in-failed", "the same"),
    ("cut-in-taken-back", "the same"),
    ("link-cut", "times that the link broke"),
    ("power-cut", "times that the power went"),
    ("process-end", "times that the process ended otherwise"),
    ("cloud-restored", "times that the control plane went back to its backup"),
    ("disk-full", "operations that the full disk refused"),
    ("store-failed", "times that the store refused to go on"),
    ("committed-sealed", "batches that became durable on the read-only disk"),
    ("freed-full", "batches with receipts that became durable on the full disk"),
    ("recovers-ms-max", "from the disk's return to the next admitted message"),
    ("rests-ms", "from the end of all faults until nothing was left to do"),
];

/// A record that is durable and has not arrived.
#[derive(Clone, Debug)]
struct Made {
    at_us: u64,
    /// Message and device, where a function recorded it.
    of: Option<(MessageNo, String, bool)>,
}

/// The figures as they grow.
#[derive(Debug, Default)]
pub struct Figures {
    values: BTreeMap<&'static str, u64>,
    published: BTreeMap<MessageNo, u64>,
    made: BTreeMap<(u8, u64), Made>,
    /// By device and stream, the last message of which `count` wrote a record that arrived.
    last: BTreeMap<(String, u8), MessageNo>,
    arrived_to: BTreeMap<u8, u64>,
    /// Messages that `count` (true) or `note` has done: once more is not another message.
    done: BTreeSet<(bool, MessageNo)>,
    link_since: u64,
    disk: Option<DiskState>,
    good_since: Option<u64>,
}

impl Figures {
    /// Something happened.
    pub fn see(&mut self, at_us: u64, seen: &Seen<'_>) {
        match seen {
            Seen::Published(sent) => {
                self.add("published", 1);
                self.published.insert(sent.no, at_us);
            }
            Seen::Acked { .. } => self.add("acked", 1),
            Seen::Core(event) => self.core(event),
            Seen::Durable(batch) => self.batch(at_us, batch),
            Seen::Stored { stream, first, seq, is_tombstone, .. } => {
                self.stored(at_us, *stream, *first, *seq, *is_tombstone);
            }
            Seen::Cloned { stream, seq, .. } => {
                self.arrived_to.insert(*stream, *seq);
            }
            Seen::Link { is_up: true } => self.link_since = at_us,
            Seen::Disk(state) => {
                let was_bad = self.disk.is_some_and(|disk| disk != DiskState::Good);
                self.good_since = (was_bad && *state == DiskState::Good).then_some(at_us);
                self.disk = Some(*state);
            }
            Seen::Turned { core, .. } => {
                self.most("backlog-max", core.outbox.iter().map(|stream| stream.records).sum());
                self.most("outbox-bytes-max", core.outbox.iter().map(|stream| stream.bytes).sum());
            }
            _ => {}
        }
    }

    /// All of them, those that nothing was seen of as 0; `more` are counted elsewhere.
    #[must_use]
    pub fn all(&self, more: &BTreeMap<&'static str, u64>) -> BTreeMap<&'static str, u64> {
        let left = self.made.values().filter(|made| made.of.is_some()).count() as u64;
        let of = |name| match name {
            "never-arrived" => Some(left),
            name => more.get(name).or_else(|| self.values.get(name)).copied(),
        };
        NAMES.iter().map(|(name, _)| (*name, of(*name).unwrap_or(0))).collect()
    }

    fn add(&mut self, name: &'static str, more: u64) {
        *self.values.entry(name).or_default() += more;
    }

    fn most(&mut self, name: &'static str, value: u64) {
        let most = self.values.entry(name).or_default();
        *most = (*most).max(value);
    }

    fn core(&mut self, event: &CoreEvent) {
        match event {
            CoreEvent::DeadLettered { reason, .. } => self.add(letters(*reason), 1),
            CoreEvent::OutboxDropped { records, reason, .. } => {
                self.add(dropped(*reason), *records);
            }
            CoreEvent::Renumbered { .. } => self.add("renumbered", 1),
            CoreEvent::FunctionPaused { .. } => self.add("paused", 1),
            CoreEvent::Deactivated { .. } => self.add("deactivated", 1),
            _ => {}
        }
    }

    fn batch(&mut self, at_us: u64, batch: &Batch) {
        let (mut admits, mut frees) = (false, false);
        for op in &batch.ops {
            match op {
                Op::Core(CoreOp::AppendOutbox(record)) => self.record(at_us, record),
                Op::Core(CoreOp::AdmitJob(_)) => admits = true,
                Op::Core(CoreOp::AckOutboxTo { .. }) => frees = true,
                _ => {}
            }
        }
        match self.disk {
            Some(DiskState::ReadOnly) => self.add("committed-sealed", 1),
            Some(DiskState::Full) if frees => self.add("freed-full", 1),
            _ => {}
        }
        if admits && let Some(since) = self.good_since.take() {
            self.most("recovers-ms-max", (at_us - since) / 1_000);
        }
    }

    fn record(&mut self, at_us: u64, record: &OutboxRecord) {
        let (stream, seq) = (record.stream.0, record.seq.0);
        let of = match &record.body {
            RecordBody::Tombstone { from, to, .. } => {
                let gone = (stream, from.0)..=(stream, to.0);
                self.made.retain(|at, _| !gone.contains(at));
                return;
            }
            RecordBody::Telemetry { function, device, payload, .. } => {
                let is_count = function.as_str().ends_with("/count");
                let no = payload::number(payload);
                let is_note = function.as_str().ends_with("/note");
                if let Some(no) = no.filter(|_| is_count || is_note) {
                    self.done(at_us, no, is_count);
                }
                let device = device.as_ref().map_or("", |device| device.as_str());
                no.map(|no| (no, device.to_owned(), is_count))
            }
            RecordBody::Report(bytes) => {
                if let Ok(Report::Deployment { phase, .. }) = Report::from_bytes(bytes) {
                    self.deployed(phase);
                }
                None
            }
            RecordBody::DeadLetter(_) => None,
        };
        self.made.insert((stream, seq), Made { at_us, of });
    }

    fn done(&mut self, at_us: u64, no: MessageNo, is_count: bool) {
        if !self.done.insert((is_count, no)) {
            return;
        }
        self.add(if is_count { "done-count" } else { "done-note" }, 1);
        if let Some(published) = self.published.get(&no).filter(|_| is_count) {
            self.most("count-ms-max", (at_us - published) / 1_000);
        }
    }

    fn deployed(&mut self, phase: Phase) {
        match phase {
            Phase::Live => self.add("deployed-live", 1),
            Phase::Failed => self.add("deployed-failed", 1),
            Phase::TakenBack => self.add("deployed-taken-back", 1),
            Phase::Fetching | Phase::Verifying | Phase::Preparing | Phase::Probation => {}
        }
    }

    fn stored(&mut self, at_us: u64, stream: u8, first: u64, seq: u64, is_tombstone: bool) {
        let next = self.arrived_to.insert(stream, seq).unwrap_or(0) + 1;
        self.add("gaps", first.saturating_sub(next));
        if is_tombstone {
            self.add("told-dropped", seq + 1 - first);
        }
        let Some(made) = self.made.remove(&(stream, seq)) else { return };
        let Some((no, device, is_count)) = made.of else { return };
        let ms = at_us.saturating_sub(made.at_us.max(self.link_since)) / 1_000;
        self.add("arrived", 1);
        if stream == StreamId::URGENT.0 {
            self.add("arrived-urgent", 1);
            self.most("urgent-arrives-ms-max", ms);
            let is_older = |other: &Made| other.of.is_some() && other.at_us < made.at_us;
            let waits = |((of, _), other): (&(u8, u64), &Made)| *of != stream && is_older(other);
            let overtakes = self.made.iter().any(waits);
            self.add("overtook", u64::from(overtakes));
        } else {
            self.most("arrives-ms-max", ms);
        }
        if is_count {
            let last = self.last.insert((device, stream), no).unwrap_or(0);
            self.add("out-of-order", u64::from(last > no));
        }
    }
}

fn letters(reason: DeadReason) -> &'static str {
    match reason {
        DeadReason::AttemptsExhausted => "letters-exhausted",
        DeadReason::TooOld => "letters-too-old",
        DeadReason::Rejected => "letters-rejected",
        DeadReason::Crashed => "letters-crashed",
        DeadReason::Loop => "letters-loop",
        DeadReason::Shed => "letters-shed",
        DeadReason::FunctionGone => "letters-gone",
    }
}

fn dropped(reason: DropReason) -> &'static str {
    match reason {
        DropReason::Full => "dropped-full",
        DropReason::Expired => "dropped-expired",
        DropReason::Purged | DropReason::Skipped => "dropped-skipped",
        DropReason::Newest => "dropped-newest",
        DropReason::Replaced => "dropped-replaced",
    }
}
