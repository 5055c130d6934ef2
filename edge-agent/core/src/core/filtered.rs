//! Events that match a trigger's topics, but none of its patterns.
//!
//! # Rules
//! - Such an event is acked and counted; it has no job, no place in the queue and no dead letter:
//!   who wrote the filter does not want it.
//! - It is counted once, when its message is taken: not while the message is held, and not for a
//!   repeat.

use std::collections::BTreeMap;

use crate::event::CoreEvent;
use crate::id::TriggerId;
use crate::message::Message;
use crate::routes::{Filtered, Routed, Routes};
use crate::status::TriggerStatus;
use crate::turn::Turn;

use super::Core;

/// Counts since the start of the process, by trigger.
#[derive(Clone, Debug, Default)]
pub(super) struct FilteredCounts(BTreeMap<TriggerId, Counts>);

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    filtered: u64,
    not_json: u64,
}

impl FilteredCounts {
    fn count(&mut self, filtered: &Filtered) {
        let counts = self.0.entry(filtered.trigger.clone()).or_default();
        *(if filtered.not_json { &mut counts.not_json } else { &mut counts.filtered }) += 1;
    }

    /// Forgets triggers that filter no more.
    pub(super) fn keep(&mut self, routes: &Routes) {
        let mut kept = BTreeMap::new();
        for trigger in routes.filtering() {
            kept.extend(self.0.remove_entry(trigger));
        }
        self.0 = kept;
    }

    pub(super) fn status(&self, routes: &Routes) -> Vec<TriggerStatus> {
        let one = |trigger: &TriggerId| {
            let counts = self.0.get(trigger).copied().unwrap_or_default();
            TriggerStatus {
                trigger: trigger.clone(),
                filtered: counts.filtered,
                filtered_not_json: counts.not_json,
            }
        };
        routes.filtering().map(one).collect()
    }
}

impl Core {
    /// Counts and tells whom a message that was taken does not wake.
    pub(super) fn tell_unwanted(
        &mut self,
        message: &Message,
        routed: &Routed,
        turn: &mut Turn<'_>,
    ) {
        for filtered in &routed.filtered {
            self.filtered.count(filtered);
            let Filtered { trigger, not_json } = filtered.clone();
            turn.event(CoreEvent::Filtered { trigger, not_json });
        }
        if routed.targets.is_empty() && routed.filtered.is_empty() {
            turn.event(CoreEvent::Unrouted { topic: message.topic.clone() });
        }
    }
}
