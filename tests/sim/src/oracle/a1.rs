//! A1: nothing leaves before it is durable. Acks are judged by the bytes that the disk was made to
//! keep, records by the batches that are durable.

use std::collections::BTreeSet;

use edge_agent::store::Op;
use edge_core::op::CoreOp;

use super::routing::Routing;
use super::{Oracle, hold};
use crate::seen::Seen;

#[derive(Default)]
pub(super) struct A1 {
    routing: Routing,
    /// Stream, position and process run of records in durable batches.
    records: BTreeSet<(u8, u64, u64)>,
}

impl Oracle for A1 {
    fn name(&self) -> &'static str {
        "a1"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        self.routing.see(seen);
        match seen {
            Seen::Durable(batch) => {
                for op in &batch.ops {
                    if let Op::Core(CoreOp::AppendOutbox(record)) = op {
                        self.records.insert((record.stream.0, record.seq.0, record.epoch.0));
                    }
                }
                Ok(())
            }
            Seen::Acked { no, is_durable } => {
                hold(*is_durable || self.routing.is_unrouted(*no), || {
                    format!("message {no} was acked, and no synced byte knows of it")
                })
            }
            Seen::Stored { stream, seq, epoch, is_tombstone: false, .. } => {
                hold(self.records.contains(&(*stream, *seq, *epoch)), || {
                    format!("record {seq} of stream {stream} left before it was durable")
                })
            }
            _ => Ok(()),
        }
    }
}
