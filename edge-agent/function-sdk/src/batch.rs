//! Several events at once, of a trigger with `batch`.

use std::collections::BTreeMap;

use crate::event::Event;
use crate::failure::{Failure, Result};
use crate::host;

/// The events of one batch, as many as `batch` of the trigger allows.
///
/// An event is named by its index in the batch as it was given, whatever the function leaves out or
/// sorts: so the events come with their indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// At least one, oldest first.
    events: Vec<Event>,
    /// Whether they are the events of one lane, such as of one device, and must be done in this
    /// order: behind one that is not done, none is.
    pub in_order: bool,
}

/// The events of a batch that are not done, by index. The others are.
///
/// In order, only the lowest index counts: the events behind it come again as if they had not been
/// tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures(BTreeMap<usize, Failure>);

impl Batch {
    pub(crate) fn new(events: Vec<Event>, in_order: bool) -> Self {
        Self { events, in_order }
    }

    /// Number of events, at least 1.
    #[must_use]
    pub fn size(&self) -> usize {
        self.events.len()
    }

    /// Indexes and events, oldest first.
    pub fn events(&self) -> impl Iterator<Item = (usize, &Event)> {
        self.events.iter().enumerate()
    }

    /// Indexes and events, oldest first, for a function that goes over them in its own way: it says
    /// [`for_event`] before what it does for one, and names those that failed in [`Failures`].
    pub fn into_events(self) -> impl Iterator<Item = (usize, Event)> {
        self.events.into_iter().enumerate()
    }

    /// Works on each event for itself: what `handle` publishes, stores and records for an event
    /// takes effect if it returned ok for that event. In order, it stops at the first that failed.
    ///
    /// What is published, stored and recorded afterwards belongs to the whole batch.
    ///
    /// ```
    /// # use function_sdk::prelude::*;
    /// fn store(batch: Batch) -> Result<Failures> {
    ///     let mut stored = 0;
    ///     let failures = batch.each(|event| {
    ///         let celsius: f64 = event.json()?;
    ///         record("celsius").json(&celsius)?;
    ///         stored += 1;
    ///         Ok(())
    ///     });
    ///     publish("stored").json(&stored)?;
    ///     Ok(failures)
    /// }
    /// # let events = vec![Event::new("a").with_payload("4.5"), Event::new("a").with_payload("?")];
    /// # let done = function_sdk::fake::Gateway::new().run_batch(store, events).unwrap();
    /// # assert_eq!(done.whole.publishes[0].payload, b"1");
    /// # assert!(matches!(done.events[1], function_sdk::fake::End::Failed(Failure::Reject(_))));
    /// ```
    pub fn each(self, mut handle: impl FnMut(Event) -> Result) -> Failures {
        let mut failures = Failures::default();
        let in_order = self.in_order;
        for (index, event) in self.into_events() {
            for_event(index);
            if let Err(failure) = handle(event) {
                failures.add(index, failure);
                if in_order {
                    break;
                }
            }
        }
        for_whole();
        failures
    }
}

impl Failures {
    /// The event at `index` is not done. The first word about an event counts.
    pub fn add(&mut self, index: usize, failure: Failure) {
        self.0.entry(index).or_insert(failure);
    }

    /// Whether all events are done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Indexes and failures, in order of the indexes.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Failure)> {
        self.0.iter().map(|(index, failure)| (*index, failure))
    }
}

/// What follows is done for the event at `index` of the batch: it takes effect if that event is
/// done. [`Batch::each`] says so itself. An index that the batch does not have ends the attempt,
/// and so does this call outside of a batch.
pub fn for_event(index: usize) {
    host::for_event(index);
}

/// What follows is done for the batch as a whole, as at its beginning: it takes effect if at least
/// one event is done.
///
/// State that is read then shows the writes for all events, also of those that failed.
pub fn for_whole() {
    host::for_whole();
}
