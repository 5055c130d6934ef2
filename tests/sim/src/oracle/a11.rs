//! A11: the state of a lane is that of a serial run over the messages it worked on.
//!
//! Several outcomes of a lane may stand in one batch, of which only the last state is written: it
//! must be what the former one becomes by the batch's records, in their order. Where the batch
//! also holds a swap to a revision with another `state_version`, each copy takes a part of them,
//! the one behind the other; a copy begins with that of another version.

use std::collections::BTreeMap;

use edge_agent::store::{Batch, Op};
use edge_core::id::{DeviceId, FunctionId, LaneKey};
use edge_core::op::{CoreOp, RecordBody, StateKey};

use super::moved::Moved;
use super::rows::Rows;
use super::{Oracle, hold};
use crate::function::{CHAIN, Chain};
use crate::payload::{self, MessageNo};
use crate::seen::Seen;

type Lane = (FunctionId, LaneKey);

#[derive(Default)]
pub(super) struct A11 {
    rows: Rows,
    moved: Moved,
}

impl Oracle for A11 {
    fn name(&self) -> &'static str {
        "a11"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        self.moved.see(seen);
        let Seen::Durable(batch) = seen else { return Ok(()) };
        self.batch(batch)
    }
}

impl A11 {
    fn batch(&mut self, batch: &Batch) -> Result<(), String> {
        let mut worked = worked_on(batch, &self.moved);
        for op in &batch.ops {
            let Op::Core(op) = op else { continue };
            if let CoreOp::PutState { key, value } = op
                && key.key == CHAIN
            {
                let lane = (key.function.clone(), key.lane.clone());
                let numbers = worked.entry(lane.clone()).or_default();
                let found = Chain::of(value);
                let done = self.copies(key).find_map(|copy| steps(copy, numbers, found?));
                let done = done.ok_or_else(|| {
                    let before: Vec<_> = self.copies(key).collect();
                    format!("{lane:?}: {before:?} and {numbers:?} do not make {found:?}")
                })?;
                numbers.drain(..done);
            }
            self.rows.op(op);
        }
        worked.iter().try_for_each(|(lane, numbers)| {
            hold(numbers.is_empty(), || {
                format!("{lane:?}: done with {numbers:?}, and not in the state of the same batch")
            })
        })
    }

    /// What a copy of the state may begin with: itself, another version's, or nothing.
    fn copies(&self, key: &StateKey) -> impl Iterator<Item = Chain> {
        let of_lane = |other: &&StateKey| {
            other.function == key.function && other.lane == key.lane && other.key == key.key
        };
        let mut versions: Vec<_> =
            self.rows.state.keys().filter(of_lane).map(|other| other.state_version).collect();
        versions.sort_by_key(|version| *version != key.state_version);
        let rows = versions.into_iter().filter_map(|state_version| {
            self.rows.state.get(&StateKey { state_version, ..key.clone() })
        });
        rows.filter_map(|row| Chain::of(row)).chain([Chain::default()])
    }
}

/// How many of the first numbers, in order, turn `from` into `to`.
fn steps(from: Chain, numbers: &[MessageNo], to: Chain) -> Option<usize> {
    let mut chain = from;
    let mut done = 0;
    while chain != to {
        chain = chain.and(*numbers.get(done)?);
        done += 1;
    }
    Some(done)
}

/// Messages that each lane with state worked on, in order.
fn worked_on(batch: &Batch, moved: &Moved) -> BTreeMap<Lane, Vec<MessageNo>> {
    let mut worked: BTreeMap<Lane, Vec<MessageNo>> = BTreeMap::new();
    for op in &batch.ops {
        let Op::Core(CoreOp::AppendOutbox(record)) = op else { continue };
        if moved.has(record) {
            continue;
        }
        let RecordBody::Telemetry { function, device, payload, .. } = &record.body else {
            continue;
        };
        let lane = match function.as_str().rsplit('/').next() {
            Some("count" | "tally") => LaneKey::Device(device.clone().unwrap_or(DeviceId::new(""))),
            Some("relay") => LaneKey::Function,
            _ => continue,
        };
        if let Some(no) = payload::number(payload) {
            worked.entry((function.clone(), lane)).or_default().push(no);
        }
    }
    worked
}
