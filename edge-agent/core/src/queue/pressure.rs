//! What outcomes may add to a full queue.
//!
//! An outcome always commits, so the events that its publishes cause cannot be refused. Without
//! more, a fast function that feeds a slow one would fill the memory. So where an event finds no
//! room at a function with `when_full = "hold"`:
//! - it is admitted nevertheless, and those that feed that function start nothing more until it
//!   has room again: their own queues fill, and their deliveries are held. The excess is at most
//!   what the attempts already running publish.
//! - After the time that a delivery is held at most, or if the function is paused, the feeders go
//!   on, and what finds no room is shed to the dead letters like a delivery.
//!
//! Functions with another policy apply it to such events as to any.

use crate::id::FunctionId;
use crate::time::Millis;

use super::{Queue, Room, function_of};

impl Queue {
    /// Whether an event caused by an outcome may enter beyond the function's room.
    pub(crate) fn may_exceed(&self, key: &FunctionId, now: Millis) -> bool {
        self.functions.get(key).is_some_and(|function| {
            let recent = |since| now < since + self.limits.hold_ms_max;
            !function.health.is_paused() && function.over_since.is_none_or(recent)
        })
    }

    /// Notes that an outcome of `from` sent an event to `to`, and whether that was beyond its
    /// room. Returns whether `from` now has to wait.
    pub(crate) fn fed(
        &mut self,
        from: &FunctionId,
        to: &FunctionId,
        beyond: bool,
        now: Millis,
    ) -> bool {
        if from == to {
            return false; // It would wait for itself.
        }
        let function = function_of(&mut self.functions, to);
        if !function.fed_by.contains(from) {
            function.fed_by.insert(from.clone());
        }
        if !beyond {
            return false;
        }
        if function.over_since.is_none() {
            function.over_since = Some(now);
            self.presses.set(to.clone(), now + self.limits.hold_ms_max);
        }
        let feeders: Vec<FunctionId> = function.fed_by.iter().cloned().collect();
        let mut newly = false;
        for feeder in feeders {
            if let Some(function) = self.functions.get_mut(&feeder) {
                newly |= function.choked_by.insert(to.clone()) && feeder == *from;
                self.refresh(&feeder);
            }
        }
        newly
    }

    /// A job left a function: if it has room again, its feeders go on.
    pub(super) fn relieve(&mut self, key: &FunctionId) {
        let over = self.functions.get(key).is_some_and(|f| f.over_since.is_some());
        if over && self.room(key, 1, 0) == Room::Enough {
            self.unpress(key);
        }
    }

    /// Its feeders go on, and a next excess is a new one.
    pub(super) fn unpress(&mut self, key: &FunctionId) {
        if let Some(function) = self.functions.get_mut(key)
            && function.over_since.take().is_some()
        {
            self.presses.clear(key);
            self.unchoke_feeders(key);
        }
    }

    pub(super) fn unchoke_feeders(&mut self, key: &FunctionId) {
        let feeders = self.functions.get(key).map(|function| function.fed_by.clone());
        for feeder in feeders.unwrap_or_default() {
            if let Some(function) = self.functions.get_mut(&feeder) {
                function.choked_by.remove(key);
                self.refresh(&feeder);
            }
        }
    }
}
