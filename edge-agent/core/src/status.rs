//! A snapshot of the core for `edge-agent status`.

use std::sync::Arc;

use serde::Serialize;

use crate::id::{FunctionId, RecordSeq, StreamId, TriggerId};
use crate::op::DropReason;
use crate::time::Millis;

/// The core at one moment. Durations in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Jobs in the queue, running ones included.
    pub jobs: u32,
    /// Bytes of their events.
    pub bytes: u64,
    /// Attempts in work.
    pub running: u16,
    /// Deliveries whose ack waits for room.
    pub held: u32,
    /// By function, those that have jobs or are deployed.
    pub functions: Vec<FunctionStatus>,
    /// By app, those deployed.
    pub apps: Vec<AppStatus>,
    /// By stream, most urgent first.
    pub outbox: Vec<StreamStatus>,
    /// Dead letters kept.
    pub dead_letters: u32,
    /// Devices whose message ids are remembered.
    pub devices: u32,
    /// Most of them.
    pub devices_max: u32,
    /// What was counted since the start of the process.
    pub counters: Counters,
    /// Outbox records dropped since the start of the process, by reason and label.
    pub outbox_drops: Vec<DropStatus>,
    /// The process kept dying: no attempt starts.
    pub safe_mode: bool,
    /// By trigger, those that filter.
    pub triggers: Vec<TriggerStatus>,
}

/// What a trigger's filter kept from its function, since the start of the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TriggerStatus {
    /// Which.
    pub trigger: TriggerId,
    /// Events that no pattern wanted.
    pub filtered: u64,
    /// Events that a pattern might have wanted, but the payload could not be read as JSON.
    pub filtered_not_json: u64,
}

/// One function's part of the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FunctionStatus {
    /// Which.
    pub function: FunctionId,
    /// Jobs, running ones included.
    pub jobs: u32,
    /// Bytes of their events.
    pub bytes: u64,
    /// Attempts in work.
    pub running: u16,
    /// Age of the oldest job.
    pub oldest_ms: Option<Millis>,
    /// Events that faulted with none going well in between, and failed tries since.
    pub faults_in_row: u32,
    /// Paused for this long yet.
    pub paused_ms: Option<Millis>,
    /// Not deployed: its jobs wait for a revision.
    pub dormant: bool,
    /// The pause is over; one attempt tells whether it goes on.
    pub probing: bool,
    /// Attempts at once, at most.
    pub concurrency: u16,
    /// Of these, slots of its own.
    pub reserved: u16,
    /// Worker time of its attempts since the start of the process, in microseconds.
    pub worker_us: u64,
    /// Batches that it was given since the start of the process.
    pub batches: u64,
    /// Of these, batches that faulted and were halved.
    pub bisected: u64,
}

/// One app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AppStatus {
    /// Which.
    pub app: String,
    /// Live revision, in hexadecimal.
    pub revision: String,
    /// Whether it has yet to prove itself.
    pub on_probation: bool,
    /// Whether it starts nothing for now, and why.
    pub stopped: Option<&'static str>,
}

/// One stream of the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamStatus {
    /// Which.
    pub stream: StreamId,
    /// Everything up to here is stored by the control plane.
    pub stored_to: RecordSeq,
    /// Newest position, or the last one used if the stream is empty.
    pub newest: RecordSeq,
    /// Live records; a run of which all is dropped counts as one.
    pub records: u64,
    /// Live bytes.
    pub bytes: u64,
}

/// Records of the outbox that were given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DropStatus {
    /// Why.
    pub reason: DropReason,
    /// What they were ([`crate::outbox::RecordSummary::label`]).
    pub label: Arc<str>,
    /// How many.
    pub records: u64,
}

/// Counts since the start of the process. What they count is in the store too (dead letters,
/// tombstones), as far as it is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Messages taken from clients.
    pub accepted: u64,
    /// Repeats recognised by message id.
    pub repeats: u64,
    /// Message ids below the window.
    pub below_window: u64,
    /// Devices whose message ids were forgotten for those of others.
    pub devices_forgotten: u64,
    /// Messages no trigger wanted.
    pub unrouted: u64,
    /// Deliveries that waited for room.
    pub held: u64,
    /// Deliveries refused.
    pub refused: u64,
    /// Messages of clients that claimed what is not so; of them, deliveries are `refused` too.
    pub false_claims: u64,
    /// Jobs done.
    pub done: u64,
    /// Batches given to functions.
    pub batches: u64,
    /// Batches that faulted and were halved.
    pub bisected: u64,
    /// Attempts that failed and are tried again.
    pub retries: u64,
    /// Events given up, sheds included.
    pub dead_lettered: u64,
    /// Events shed because they came last.
    pub shed_newest: u64,
    /// Events shed because they had waited longest.
    pub shed_oldest: u64,
    /// Events replaced by newer ones of their lane.
    pub shed_replaced: u64,
    /// Events shed because their delivery was held too long.
    pub shed_held: u64,
    /// Dead letters pushed out by newer ones.
    pub dead_letters_pushed_out: u64,
    /// Outbox records dropped to make room.
    pub outbox_dropped: u64,
    /// Outbox positions passed over because the control plane holds them from another life of
    /// this store.
    pub outbox_skipped: u64,
    /// Receipts for what was never written.
    pub receipts_refused: u64,
    /// Outcomes of attempts that were not running.
    pub stale_outcomes: u64,
    /// Schedule slots missed (runs of slots).
    pub slots_missed: u64,
    /// Events without a key for the order that their function asks for.
    pub keyless: u64,
    /// Events that no pattern of their trigger wanted.
    pub filtered: u64,
    /// Events whose payload could not be read as JSON, which a pattern of their trigger asks for.
    pub filtered_not_json: u64,
    /// Outbox records that outlived their time to live.
    pub outbox_expired: u64,
    /// Records that came last and found no room in the outbox.
    pub outbox_newest: u64,
    /// Outbox records replaced by a newer value.
    pub outbox_replaced: u64,
    /// Outbox records that went again at a position of their own.
    pub outbox_renumbered: u64,
}
