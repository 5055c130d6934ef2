//! A2: every acked message ends done, dead-lettered or shed, what came of it arrives, and no record
//! is deleted before the control plane has it.

use std::collections::{BTreeMap, BTreeSet};

use edge_agent::store::{Batch, Op};
use edge_core::op::{CoreOp, OutboxRecord, RecordBody};

use super::routing::Routing;
use super::{Oracle, hold};
use crate::payload::{self, MessageNo};
use crate::seen::{Seen, Sent};

/// Function (its short name) and message.
type Part = (String, MessageNo);

#[derive(Default)]
pub(super) struct A2 {
    routing: Routing,
    sent: BTreeMap<MessageNo, Sent>,
    acked: BTreeSet<MessageNo>,
    done: BTreeSet<Part>,
    /// Dead-lettered; a shed event is a dead letter too.
    dead: BTreeSet<Part>,
    echoed: BTreeSet<MessageNo>,
    /// Records that have yet to reach the control plane: stream and position, in durable batches.
    owed: BTreeSet<(u8, u64)>,
    /// Positions that the control plane has stored once.
    stored: BTreeSet<(u8, u64)>,
    receipted: BTreeMap<u8, u64>,
}

impl Oracle for A2 {
    fn name(&self) -> &'static str {
        "a2"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        self.routing.see(seen);
        match seen {
            Seen::Published(sent) => {
                self.sent.insert(sent.no, (*sent).clone());
            }
            Seen::Acked { no, .. } => {
                self.acked.insert(*no);
            }
            Seen::Echo { no } => {
                self.echoed.insert(*no);
            }
            Seen::Durable(batch) => return self.batch(batch),
            Seen::Receipted { stream, seq } => {
                let highest = self.receipted.entry(*stream).or_default();
                *highest = (*highest).max(*seq);
            }
            Seen::Stored { stream, first, seq, .. } => self.has_stored(*stream, *first, *seq),
            // Positions that are taken: what stood there here goes again at others, which are owed.
            Seen::Cloned { stream, first, seq } => {
                self.has_stored(*stream, *first, *seq);
                self.receipted.insert(*stream, *seq);
            }
            Seen::Rest(_) => return self.rest(),
            _ => {}
        }
        Ok(())
    }
}

impl A2 {
    fn batch(&mut self, batch: &Batch) -> Result<(), String> {
        for op in &batch.ops {
            let Op::Core(op) = op else { continue };
            match op {
                CoreOp::AppendOutbox(record) => self.record(record),
                CoreOp::PutDeadLetter(letter) => {
                    if let Some(no) = payload::number(&letter.event.payload) {
                        self.dead.insert((short(letter.function.as_str()), no));
                    }
                }
                CoreOp::AckOutboxTo { stream, seq } => {
                    let receipted = self.receipted.get(&stream.0).copied().unwrap_or_default();
                    hold(seq.0 <= receipted, || {
                        format!(
                            "records of stream {} are deleted up to {}, stored are {receipted}",
                            stream.0, seq.0
                        )
                    })?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn has_stored(&mut self, stream: u8, first: u64, seq: u64) {
        for at in first..=seq {
            self.owed.remove(&(stream, at));
            self.stored.insert((stream, at));
        }
    }

    fn record(&mut self, record: &OutboxRecord) {
        // A tombstone may stand where the control plane has the record already: its receipt was
        // lost, and nothing is owed.
        let position = (record.stream.0, record.seq.0);
        if !self.stored.contains(&position) {
            self.owed.insert(position);
        }
        if let RecordBody::Telemetry { function, payload, .. } = &record.body
            && let Some(no) = payload::number(payload)
        {
            self.done.insert((short(function.as_str()), no));
        }
    }

    fn has_ended(&self, function: &str, no: MessageNo) -> bool {
        let part = (function.to_owned(), no);
        self.done.contains(&part) || self.dead.contains(&part)
    }

    fn rest(&self) -> Result<(), String> {
        for no in &self.acked {
            let Some(sent) = self.sent.get(no) else { continue };
            let is_note = sent.topic.starts_with("note/");
            let functions: &[&str] = if is_note { &["note"] } else { &["count", "tally"] };
            for function in functions {
                let ended = self.has_ended(function, *no) || self.routing.is_unrouted(*no);
                hold(ended, || {
                    format!("message {no} was acked and never ended at {function}: {sent:?}")
                })?;
            }
            let is_counted = self.done.contains(&("count".to_owned(), *no));
            hold(!is_counted || self.has_ended("relay", *no), || {
                format!("message {no} was worked on, and what came of it never ended")
            })?;
            hold(!is_counted || !sent.wants_echo || self.echoed.contains(no), || {
                format!("message {no} was worked on, and its device never heard of it: {sent:?}")
            })?;
        }
        hold(self.owed.is_empty(), || {
            let first = self.owed.first();
            format!("{} records never reached the cloud, the first is {first:?}", self.owed.len())
        })
    }
}

fn short(function: &str) -> String {
    function.rsplit('/').next().unwrap_or_default().to_owned()
}
