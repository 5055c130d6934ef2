//! Pauses of functions: what their health means for the queue.

use crate::id::{Digest, FunctionId, JobId};
use crate::op::PauseRow;
use crate::time::Millis;

use super::health::Health;
use super::{Pause, Queue};

impl Queue {
    /// A function's attempt faulted. Returns its revision and the pause, if one begins now.
    pub(crate) fn fault(
        &mut self,
        function: &FunctionId,
        job: JobId,
        now: Millis,
    ) -> Option<(Digest, Pause)> {
        let entry = self.functions.get_mut(function)?;
        let live = entry.live.as_ref()?;
        let pause = entry.health.fault(job, now, &live.spec.pause)?;
        let revision = live.revision;
        self.pauses.set(function.clone(), pause.until);
        // Who waits for room here need not wait any longer: what has none is now shed.
        self.freed.insert(function.clone());
        self.unpress(function);
        self.refresh(function);
        Some((revision, pause))
    }

    /// A function's attempt ended as it meant it. Returns whether that ends a pause.
    pub(crate) fn answered(&mut self, function: &FunctionId, job: JobId) -> bool {
        let resumed = self.functions.get_mut(function).is_some_and(|f| f.health.answered(job));
        if resumed {
            self.pauses.clear(function);
            self.refresh(function);
        }
        resumed
    }

    /// A function is to go on. Returns whether it was paused.
    pub(crate) fn resume(&mut self, function: &FunctionId) -> bool {
        let resumed = self.functions.get_mut(function).is_some_and(|f| f.health.resume());
        self.pauses.clear(function);
        self.refresh(function);
        resumed
    }

    /// The pause of an installed function goes on after a restart.
    pub(crate) fn restore_pause(&mut self, row: &PauseRow) {
        if let Some(function) = self.functions.get_mut(&row.function) {
            function.health = Health::restored(row);
            self.pauses.set(row.function.clone(), row.until);
            self.refresh(&row.function);
        }
    }
}
