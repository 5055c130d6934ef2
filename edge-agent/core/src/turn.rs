//! One call of the core: what time it is, and the effects it leaves behind.

use crate::effect::{Effect, Pace, Verdict};
use crate::event::{CoreEvent, ShedReason};
use crate::id::DeliveryId;
use crate::op::{CoreOp, DropReason};
use crate::status::Counters;
use crate::time::{Millis, Now};

/// Collects the effects of one call; whatever happens is counted here and nowhere else.
pub(crate) struct Turn<'a> {
    pub(crate) now: Now,
    pub(crate) counters: Counters,
    out: &'a mut Vec<Effect>,
}

impl<'a> Turn<'a> {
    pub(crate) fn new(now: Now, counters: Counters, out: &'a mut Vec<Effect>) -> Self {
        Self { now, counters, out }
    }

    pub(crate) fn at(&self) -> Millis {
        self.now.at
    }

    pub(crate) fn op(&mut self, op: CoreOp, pace: Pace) {
        self.out.push(Effect::Op(op, pace));
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.out.push(effect);
    }

    pub(crate) fn event(&mut self, event: CoreEvent) {
        self.counters.count(&event);
        self.out.push(Effect::Event(event));
    }

    pub(crate) fn settle(&mut self, delivery: DeliveryId, verdict: Verdict, pace: Pace) {
        match verdict {
            Verdict::Accepted { .. } | Verdict::Shed { .. } => self.counters.accepted += 1,
            Verdict::Refused { reason } => self.event(CoreEvent::Refused { delivery, reason }),
            Verdict::Duplicate => {}
        }
        self.out.push(Effect::Settle { delivery, verdict, pace });
    }
}

impl Counters {
    fn count(&mut self, event: &CoreEvent) {
        match event {
            CoreEvent::Repeat { .. } => self.repeats += 1,
            CoreEvent::BelowWindow { .. } => self.below_window += 1,
            CoreEvent::DeviceForgotten { .. } => self.devices_forgotten += 1,
            CoreEvent::Keyless { .. } => self.keyless += 1,
            CoreEvent::Unrouted { .. } => self.unrouted += 1,
            CoreEvent::Filtered { not_json: false, .. } => self.filtered += 1,
            CoreEvent::Filtered { not_json: true, .. } => self.filtered_not_json += 1,
            CoreEvent::Held { .. } => self.held += 1,
            CoreEvent::Refused { .. } => self.refused += 1,
            CoreEvent::FalseClaim { .. } => self.false_claims += 1,
            CoreEvent::Done { .. } => self.done += 1,
            CoreEvent::BatchStarted { .. } => self.batches += 1,
            CoreEvent::BatchHalved { .. } => self.bisected += 1,
            CoreEvent::Retrying { .. } => self.retries += 1,
            CoreEvent::DeadLettered { .. } => self.dead_lettered += 1,
            CoreEvent::DeadLetterPushedOut { .. } => self.dead_letters_pushed_out += 1,
            CoreEvent::Shed { reason, .. } => match reason {
                ShedReason::Newest => self.shed_newest += 1,
                ShedReason::Oldest => self.shed_oldest += 1,
                ShedReason::Replaced => self.shed_replaced += 1,
                ShedReason::HeldTooLong => self.shed_held += 1,
            },
            CoreEvent::OutboxDropped { from, to, records, reason, .. } => match reason {
                DropReason::Full | DropReason::Purged => self.outbox_dropped += records,
                DropReason::Expired => self.outbox_expired += records,
                DropReason::Newest => self.outbox_newest += records,
                DropReason::Replaced => self.outbox_replaced += records,
                DropReason::Skipped => {
                    self.outbox_skipped += to.0.saturating_sub(from.0) + 1;
                }
            },
            CoreEvent::Renumbered { .. } => self.outbox_renumbered += 1,
            CoreEvent::ReceiptRefused { .. } => self.receipts_refused += 1,
            CoreEvent::StaleOutcome { .. } => self.stale_outcomes += 1,
            CoreEvent::SlotsMissed { .. } => self.slots_missed += 1,
            _ => {}
        }
    }
}
