//! Slots that functions reserved, and those for all.

use crate::id::{AttemptId, JobId};
use crate::limits::reservable_slots;

use super::Queue;

impl Queue {
    /// Divides the slots anew. A deployment that reserves more than there is was refused; a gateway
    /// that has fewer workers since then gives what it has, in order of the functions' names.
    pub(super) fn divide_slots(&mut self) {
        let mut left = reservable_slots(self.slots);
        (self.reserved, self.common_running) = (0, 0);
        for function in self.functions.values_mut() {
            if let Some(live) = &mut function.live {
                live.reserved = live.spec.reserved.min(live.cap).min(left);
                left -= live.reserved;
                self.reserved += live.reserved;
            }
            self.common_running += function.running.saturating_sub(function.reserved());
        }
        let all: Vec<_> = self.functions.keys().cloned().collect();
        all.iter().for_each(|function| self.refresh(function));
    }

    /// Whether a slot of all is free.
    pub(super) fn has_common_slot(&self) -> bool {
        self.common_running < self.slots - self.reserved
    }

    /// An attempt took so long. It may have ended otherwise since: then it is no longer charged.
    pub(crate) fn took(&mut self, job: JobId, attempt: AttemptId, ran_us: u64) {
        let running = self.attempts.get_mut(&attempt);
        let Some(running) = running.filter(|running| running.jobs[0] == job) else { return };
        if let Some(charge) = running.charge.take() {
            self.fair.end(&running.function, charge, ran_us);
        }
        if let Some(function) = self.functions.get_mut(&running.function) {
            function.worker_us = function.worker_us.saturating_add(ran_us);
        }
    }
}
