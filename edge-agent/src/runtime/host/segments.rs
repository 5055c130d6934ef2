//! The outputs of a batch, divided by the events they were made for.
//!
//! # Invariants
//! - Limits count over the whole attempt; a segment has none of its own.
//! - Only segments that hold something are kept, so that their number is bounded by these limits: each
//!   holds a publish, a record or a write of state, which counts for what it takes beside its bytes.
//! - What takes effect is within `state_bytes`, also where what made room for it does not.

use std::mem;

use edge_core::outcome::{BatchOutputs, Fault, FaultKind, Outputs, Segment};

use super::AttemptHost;
use super::batching::holm::function::batch;

/// What was collected until now.
#[derive(Debug, Default)]
pub(super) struct Segments {
    /// Events of the batch; `None`: there is only one event.
    events: Option<usize>,
    /// For whom is being collected.
    of: Option<u16>,
    ended: Vec<Segment>,
}

impl Segments {
    /// The event for which is being collected.
    pub(super) fn of(&self) -> Option<u16> {
        self.of
    }
}

impl AttemptHost {
    /// The attempt is one at a batch of so many events.
    pub(in super::super) fn begin_batch(&mut self, events: usize) {
        self.segments.events = Some(events);
    }

    /// All segments, in the order of the calls.
    pub(in super::super) fn take_segments(&mut self) -> Vec<Segment> {
        self.begin_segment(None);
        mem::take(&mut self.segments.ended)
    }

    /// Holds what takes effect to `state_bytes`.
    pub(in super::super) fn check_kept(
        &mut self,
        outputs: &BatchOutputs,
        in_order: bool,
    ) -> Result<(), Fault> {
        let Some(state) = &self.state else { return Ok(()) };
        let events = self.segments.events.and_then(|events| u16::try_from(events).ok());
        let done = outputs.done(events.unwrap_or_default(), in_order);
        let mut kept: Vec<&Segment> = outputs.segments.iter().collect();
        kept.retain(|segment| segment.takes_effect(&done));
        if kept.len() == outputs.segments.len() {
            return Ok(()); // Each write was checked when it was made.
        }
        let changes = kept.iter().flat_map(|segment| &segment.outputs.state);
        let checked = state.check_kept(changes, &self.profile.limits);
        checked.map_err(|refusal| self.fault_of(refusal))
    }

    fn begin_segment(&mut self, of: Option<u16>) {
        let outputs = self.take_outputs();
        let Outputs { publishes, state, records } = &outputs;
        if !(publishes.is_empty() && state.is_empty() && records.is_empty()) {
            self.segments.ended.push(Segment { of: self.segments.of, outputs });
        }
        self.segments.of = of;
    }

    fn not_in_a_batch(&mut self, call: &str) -> wasmtime::Error {
        self.refuse(Fault {
            kind: FaultKind::Denied,
            message: format!("`{call}` must only be called in `handle-batch`"),
        })
    }
}

impl batch::Host for AttemptHost {
    fn for_event(&mut self, index: u32) -> wasmtime::Result<()> {
        let Some(events) = self.segments.events else {
            return Err(self.not_in_a_batch("for-event"));
        };
        let known = usize::try_from(index).ok().filter(|index| *index < events);
        let Some(Ok(of)) = known.map(u16::try_from) else {
            let message = format!(
                "`for-event` names the event at {index}, but the batch has {events}: the first is \
                 at 0"
            );
            return Err(self.refuse(Fault { kind: FaultKind::Outputs, message }));
        };
        self.begin_segment(Some(of));
        Ok(())
    }

    fn for_whole(&mut self) -> wasmtime::Result<()> {
        if self.segments.events.is_none() {
            return Err(self.not_in_a_batch("for-whole"));
        }
        self.begin_segment(None);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
