//! The closed list of operations, and the row changes each of them makes.
//!
//! Every change is absolute (put, delete, delete a range): rolling a batch forward twice gives the
//! same rows as once.

use std::collections::BTreeMap;

use bytes::Bytes;
use edge_broker::broker::op::BrokerOp;
use edge_core::id::{EventId, FunctionId, JobId, RecordSeq, StreamId};
use edge_core::op::{CoreOp, StateKey};
use serde::{Deserialize, Serialize};

use super::table::{KeyBuf, Table, successor};

/// Version of the ledger's rows. With those of the core and the broker it stands in every segment
/// and in the checkpoint.
pub const LEDGER_FORMAT: u16 = 1;

/// One operation of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// Of the decision core.
    Core(CoreOp),
    /// Of the MQTT broker.
    Broker(BrokerOp),
    /// Of the reconciler.
    Ledger(LedgerOp),
}

/// Rows of the reconciler (desired generation, last known good, pinned keys), opaque to the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LedgerOp {
    /// A row.
    Put {
        /// Its name.
        name: String,
        /// Its bytes.
        value: Bytes,
    },
    /// A row goes.
    Delete {
        /// Its name.
        name: String,
    },
}

/// A change of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Put {
        table: Table,
        key: Box<[u8]>,
        value: Bytes,
    },
    Delete {
        table: Table,
        key: Box<[u8]>,
    },
    /// `start..end`; an empty `end` is no end.
    DeleteRange {
        table: Table,
        start: Box<[u8]>,
        end: Box<[u8]>,
    },
    /// A row whose key was never used since the store was opened, nor is it in redb.
    PutNew {
        table: Table,
        key: Box<[u8]>,
        value: Bytes,
    },
    /// The job and its progress.
    FinishJob {
        key: Box<[u8]>,
    },
}

/// Positions of a stream of the outbox; they outlive its records, for none is used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRow {
    /// The last position ever written.
    pub last: RecordSeq,
    /// The control plane has stored everything up to here.
    pub acked: RecordSeq,
}

/// Positions of all streams, as applied.
pub(super) type Positions = BTreeMap<StreamId, StreamRow>;

/// Bytes of a row.
pub(super) fn encode<T: Serialize>(row: &T) -> Bytes {
    postcard::to_stdvec(row)
        .expect("invariant: row types have known lengths, which is all that postcard asks")
        .into()
}

pub(super) fn job_key(job: JobId) -> Box<[u8]> {
    KeyBuf::new().u64(job.0).key()
}

pub(super) fn state_lane(key: &StateKey) -> KeyBuf {
    KeyBuf::new().text(key.function.as_str()).u32(key.state_version).lane(&key.lane)
}

pub(super) fn state_key(key: &StateKey) -> Box<[u8]> {
    state_lane(key).tail(key.key.as_bytes()).key()
}

pub(super) fn outbox_key(stream: StreamId, seq: RecordSeq) -> Box<[u8]> {
    KeyBuf::new().u8(stream.0).u64(seq.0).key()
}

pub(super) fn dead_letter_key(function: &FunctionId, event: EventId) -> Box<[u8]> {
    KeyBuf::new().text(function.as_str()).u64(event.epoch.0).u64(event.n).key()
}

impl Op {
    /// The row changes, in order.
    pub(super) fn changes(&self, positions: &mut Positions, out: &mut Vec<Change>) {
        match self {
            Self::Core(op) => core_changes(op, positions, out),
            Self::Broker(op) => out.push(broker_change(op)),
            Self::Ledger(op) => out.push(ledger_change(op)),
        }
    }
}

/// The broker's tables, in the order of their numbers.
pub(super) const BROKER_TABLES: [Table; 7] = [
    Table::Session,
    Table::Subscription,
    Table::SessionMessage,
    Table::Release,
    Table::Inbound,
    Table::Retained,
    Table::Will,
];

/// The row of a broker's operation is the operation itself.
fn broker_change(op: &BrokerOp) -> Change {
    let table = BROKER_TABLES[op.table() as usize - 1];
    let key = op.key().into_boxed_slice();
    match op {
        _ if op.is_delete() => Change::Delete { table, key },
        // A place in a session's queue is used once.
        BrokerOp::AppendMessage { .. } => Change::PutNew { table, key, value: encode(op) },
        _ => Change::Put { table, key, value: encode(op) },
    }
}

fn ledger_change(op: &LedgerOp) -> Change {
    let key = |name: &str| KeyBuf::new().tail(name.as_bytes()).key();
    match op {
        LedgerOp::Put { name, value } => {
            Change::Put { table: Table::Ledger, key: key(name), value: value.clone() }
        }
        LedgerOp::Delete { name } => Change::Delete { table: Table::Ledger, key: key(name) },
    }
}

fn core_changes(op: &CoreOp, positions: &mut Positions, out: &mut Vec<Change>) {
    let text = |text: &str| KeyBuf::new().tail(text.as_bytes()).key();
    let put = |table, key, value| Change::Put { table, key, value };
    let delete = |table, key| Change::Delete { table, key };
    match op {
        CoreOp::AdmitJob(job) => {
            let (table, key) = (Table::Job, job_key(job.id));
            out.push(Change::PutNew { table, key, value: encode(job) });
        }
        CoreOp::UpdateJob { job, progress } => {
            out.push(put(Table::JobProgress, job_key(*job), encode(progress)));
        }
        CoreOp::FinishJob { job } => out.push(Change::FinishJob { key: job_key(*job) }),
        CoreOp::PutState { key, value } => {
            out.push(put(Table::State, state_key(key), value.clone()));
        }
        CoreOp::DeleteState { key } => out.push(delete(Table::State, state_key(key))),
        CoreOp::DropState { function, state_version } => {
            let (start, end) = KeyBuf::new().text(function.as_str()).u32(*state_version).prefix();
            out.push(Change::DeleteRange { table: Table::State, start, end });
        }
        CoreOp::AppendOutbox(_)
        | CoreOp::AckOutboxTo { .. }
        | CoreOp::DropOutbox { .. }
        | CoreOp::PutOutboxChunk { .. }
        | CoreOp::DeleteOutboxChunk { .. }
        | CoreOp::DeleteOutbox { .. } => outbox_changes(op, positions, out),
        CoreOp::PutDedupe(row) => {
            let key = KeyBuf::new().text(row.device.as_str()).u64(row.boot).u64(row.block);
            out.push(put(Table::Dedupe, key.key(), encode(row)));
        }
        CoreOp::DeleteDedupe { device, boot, blocks } => {
            out.extend(blocks.iter().map(|block| {
                let key = KeyBuf::new().text(device.as_str()).u64(*boot).u64(*block);
                delete(Table::Dedupe, key.key())
            }));
        }
        CoreOp::PutDeadLetter(letter) => {
            let key = dead_letter_key(&letter.function, letter.event.id);
            out.push(put(Table::DeadLetter, key, encode(letter)));
        }
        CoreOp::DeleteDeadLetter { function, event } => {
            out.push(delete(Table::DeadLetter, dead_letter_key(function, *event)));
        }
        CoreOp::PutProbation(mark) => {
            out.push(put(Table::Probation, text(&mark.app), encode(mark)));
        }
        CoreOp::DeleteProbation { app } => out.push(delete(Table::Probation, text(app))),
        CoreOp::PutScheduleMark { trigger, slot_s } => {
            out.push(put(Table::ScheduleMark, text(trigger.as_str()), encode(slot_s)));
        }
        CoreOp::PutPause(row) => {
            out.push(put(Table::Pause, text(row.function.as_str()), encode(row)));
        }
        CoreOp::DeletePause { function } => {
            out.push(delete(Table::Pause, text(function.as_str())));
        }
    }
}

fn outbox_changes(op: &CoreOp, positions: &mut Positions, out: &mut Vec<Change>) {
    match op {
        CoreOp::AppendOutbox(record) => {
            out.push(Change::Put {
                table: Table::Outbox,
                key: outbox_key(record.stream, record.seq),
                value: encode(record),
            });
            let row = positions.entry(record.stream).or_default();
            if record.seq > row.last {
                row.last = record.seq;
                out.push(stream_row(record.stream, *row));
            }
        }
        CoreOp::AckOutboxTo { stream, seq } => {
            out.push(Change::DeleteRange {
                table: Table::Outbox,
                start: outbox_key(*stream, RecordSeq(0)),
                end: successor(&outbox_key(*stream, *seq)),
            });
            let row = positions.entry(*stream).or_default();
            row.acked = row.acked.max(*seq);
            row.last = row.last.max(row.acked);
            out.push(stream_row(*stream, *row));
        }
        CoreOp::DropOutbox { stream, from, to, .. } => out.push(Change::DeleteRange {
            table: Table::Outbox,
            start: outbox_key(*stream, *from),
            end: successor(&outbox_key(*stream, *to)),
        }),
        CoreOp::PutOutboxChunk { stream, chunk } => out.push(Change::Put {
            table: Table::OutboxChunk,
            key: outbox_key(*stream, chunk.first),
            value: encode(chunk),
        }),
        CoreOp::DeleteOutboxChunk { stream, first } => {
            out.push(Change::Delete {
                table: Table::OutboxChunk,
                key: outbox_key(*stream, *first),
            });
        }
        CoreOp::DeleteOutbox { stream, seq } => {
            out.push(Change::Delete { table: Table::Outbox, key: outbox_key(*stream, *seq) });
        }
        _ => unreachable!("invariant: only called with the operations above"),
    }
}

fn stream_row(stream: StreamId, row: StreamRow) -> Change {
    Change::Put { table: Table::Stream, key: KeyBuf::new().u8(stream.0).key(), value: encode(&row) }
}
