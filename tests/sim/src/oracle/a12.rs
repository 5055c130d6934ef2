//! A12: wrong clocks do no harm. The simulation knows what time it is: labels that claim to be synced
//! are near it, all labels of a run that are not are wrong by the same amount, and what the gateway
//! says later of that run is right. No retry comes early, nothing is too old, and cron fires once a
//! slot, whatever the system's clock shows.

use std::collections::BTreeMap;

use edge_agent::store::{Batch, Op};
use edge_core::event::CoreEvent;
use edge_core::id::{JobId, TriggerId};
use edge_core::op::{CoreOp, DeadReason, RecordBody};
use edge_core::time::{ClockQuality, Millis};
use edge_core::wall::JUMP_MS_MAX;
use sync_protocol::record::Report;

use super::{Oracle, hold};
use crate::app::CRON;
use crate::seen::{Clock, Seen};

/// How far a synced label may be off: a jump that is followed, and a message that was under way.
const ERROR_MS_MAX: u64 = JUMP_MS_MAX + 5_000;
/// How far two unsynced labels of a run may be off differently: the length of a turn.
const DRIFT_MS_MAX: u64 = 1_000;
/// Between two slots of the app's cron.
const SLOT_MS: u64 = 60_000;

#[derive(Default)]
pub(super) struct A12 {
    clock: Clock,
    /// By process run: what its unsynced labels lack.
    off_ms: BTreeMap<u64, i64>,
    /// Jobs that wait for their next attempt.
    not_before: BTreeMap<JobId, Millis>,
    /// The last durable slot of each cron, in seconds since 1970.
    slots: BTreeMap<TriggerId, u64>,
    /// True time at which the store was opened, and slots fired since.
    fired: Option<(u64, u64)>,
}

impl Oracle for A12 {
    fn name(&self) -> &'static str {
        "a12"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Clock(clock) => self.clock(*clock),
            Seen::Durable(batch) => self.batch(batch),
            Seen::Died => {
                self.fired = None;
                Ok(())
            }
            Seen::Run { jobs, .. } => jobs.iter().try_for_each(|job| {
                let (at, not_before) = (self.clock.now.at, self.not_before.get(job));
                hold(not_before.is_none_or(|not_before| *not_before <= at), || {
                    format!("{job:?} is tried again at {at:?}, and not before {not_before:?}")
                })
            }),
            Seen::Core(CoreEvent::SlotFired { trigger, .. }) if trigger.as_str() == CRON => {
                self.fire()
            }
            Seen::Core(CoreEvent::ClockBehindMark { trigger, mark_s, now_s }) => {
                Err(format!("{trigger:?}: slot {mark_s} was used, and it is {now_s}"))
            }
            Seen::Core(CoreEvent::DeadLettered { event, reason: DeadReason::TooOld, .. }) => {
                Err(format!("{event:?} is too old, and nothing lives for hours here"))
            }
            _ => Ok(()),
        }
    }
}

impl A12 {
    fn clock(&mut self, clock: Clock) -> Result<(), String> {
        self.clock = clock;
        let label = clock.now.wall;
        let off_ms = clock.true_ms.cast_signed().wrapping_sub(label.unix_ms.cast_signed());
        if label.quality == ClockQuality::Synced {
            return hold(off_ms.unsigned_abs() <= ERROR_MS_MAX, || {
                format!("a synced label is off by {off_ms} ms")
            });
        }
        let first = *self.off_ms.entry(clock.epoch).or_insert(off_ms);
        hold(off_ms.abs_diff(first) <= DRIFT_MS_MAX, || {
            format!("an unsynced label lacks {off_ms} ms, one before it in the run {first} ms")
        })
    }

    fn fire(&mut self) -> Result<(), String> {
        let true_ms = self.clock.true_ms;
        let (since_ms, fired) = self.fired.get_or_insert((true_ms, 0));
        *fired += 1;
        // One may come just after the start, and the clock may be off by most of one.
        let most = true_ms.saturating_sub(*since_ms) / SLOT_MS + 2;
        hold(*fired <= most, || format!("cron fired {fired} times in {most} minutes"))
    }

    fn batch(&mut self, batch: &Batch) -> Result<(), String> {
        for op in &batch.ops {
            match op {
                Op::Core(CoreOp::UpdateJob { job, progress }) => {
                    self.not_before.insert(*job, progress.not_before);
                }
                Op::Core(CoreOp::FinishJob { job }) => {
                    self.not_before.remove(job);
                }
                Op::Core(CoreOp::PutScheduleMark { trigger, slot_s })
                    if trigger.as_str() == CRON =>
                {
                    let before = self.slots.insert(trigger.clone(), *slot_s);
                    hold(before.is_none_or(|before| before < *slot_s), || {
                        format!("slot {slot_s} after slot {before:?}")
                    })?;
                    let latest_s = (self.clock.true_ms + ERROR_MS_MAX) / 1_000;
                    hold(*slot_s <= latest_s, || format!("slot {slot_s} at {latest_s}"))?;
                }
                Op::Core(CoreOp::AppendOutbox(record)) => {
                    let RecordBody::Report(report) = &record.body else { continue };
                    if let Ok(Report::Clock { epoch, shown_ms, true_ms }) =
                        Report::from_bytes(report)
                    {
                        self.found_out(epoch, shown_ms, true_ms)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What the gateway says of a run must be what was seen of it.
    fn found_out(&self, epoch: u64, shown_ms: u64, true_ms: u64) -> Result<(), String> {
        let Some(seen) = self.off_ms.get(&epoch) else { return Ok(()) };
        let said = true_ms.cast_signed().wrapping_sub(shown_ms.cast_signed());
        hold(said.abs_diff(*seen) <= ERROR_MS_MAX, || {
            format!("labels of run {epoch:016x} lack {seen} ms, the gateway says {said} ms")
        })
    }
}

#[cfg(test)]
mod tests;
