//! Batches on the fake gateway: which events are done, and what of the outputs takes effect.

use super::{Done, Gateway, Segment};
use crate::batch::{Batch, Failures};
use crate::event::Event;
use crate::failure::{Failure, Result};

/// What a batch that returned ok did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchDone {
    /// What it did for the batch as a whole; nothing where no event is done.
    pub whole: Done,
    /// What became of each event, in order.
    pub events: Vec<End>,
}

/// What became of one event of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It is done, and this was done for it.
    Done(Done),
    /// It is tried again later or becomes a dead letter, as the function said.
    Failed(Failure),
    /// It stands behind one that failed, in order: it comes again as if it had not been tried.
    Again,
}

impl Gateway {
    /// Runs one attempt at a batch. It is in order unless the function has no state
    /// ([`Gateway::without_state`]).
    ///
    /// # Errors
    /// The function's own, said of all events; state is then as it was.
    ///
    /// # Panics
    /// When the function does; when it names an event that the batch does not have; when there is
    /// no event; when state is per device and the events are not of one device.
    pub fn run_batch(
        &mut self,
        handle: impl FnOnce(Batch) -> Result<Failures>,
        events: Vec<Event>,
    ) -> std::result::Result<BatchDone, Failure> {
        let count = events.len();
        let first = events.first().expect("a batch has at least one event");
        let one_device = events.iter().all(|event| event.device == first.device);
        let mixed = self.in_order() && !self.shared && !one_device;
        assert!(!mixed, "state is per device: a batch has the events of one device");
        let device = first.device.clone();
        let batch = Batch::new(events, self.in_order());
        let (result, segments) = self.attempt(device, Some(count), || handle(batch));
        let failures = result?;
        let mut ends: Vec<End> = (0..count).map(|_| End::Done(Done::default())).collect();
        for (index, failure) in failures.iter() {
            assert!(index < count, "the function names event {index} of a batch of {count}");
            ends[index] = End::Failed(failure.clone());
        }
        let first_failed = failures.iter().next().map(|(index, _)| index);
        if let (true, Some(index)) = (self.in_order(), first_failed) {
            ends[index + 1..].fill(End::Again);
        }
        Ok(self.take_effect(segments, ends))
    }

    fn take_effect(&mut self, segments: Vec<Segment>, events: Vec<End>) -> BatchDone {
        let any = events.iter().any(|end| matches!(end, End::Done(_)));
        let mut done = BatchDone { whole: Done::default(), events };
        for segment in segments {
            let into = match segment.of {
                None if any => Some(&mut done.whole),
                None => None,
                Some(index) => match &mut done.events[index] {
                    End::Done(done) => Some(done),
                    End::Failed(_) | End::Again => None,
                },
            };
            if let Some(into) = into {
                into.publishes.extend(segment.done.publishes);
                into.records.extend(segment.done.records);
                self.apply(segment.changes);
            }
        }
        done
    }
}
