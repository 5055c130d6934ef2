//! A gateway for tests: runs a function as it is, keeps its state, shows what it did.
//!
//! What holds on a gateway holds here: each device has state of its own, and publishes, records
//! and state changes of a failed attempt, or for a failed event of a batch, never happened. Grants and limits are the gateway's
//! business; only what no manifest allows (a wildcard in a topic, an empty key) panics here too.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::event::Event;
use crate::failure::{Failure, Result};
use crate::log::Level;
use crate::publish::Publication;

mod batch;
pub(crate) mod calls;

pub use batch::{BatchDone, End};

/// Device, then key.
type Key = (String, String);
/// The state of all devices.
type State = BTreeMap<Key, Vec<u8>>;

/// A gateway with one function.
#[derive(Clone, Debug, Default)]
pub struct Gateway {
    config: BTreeMap<String, String>,
    state: State,
    logs: Vec<(Level, String)>,
    shared: bool,
    stateless: bool,
}

/// What an attempt that returned ok did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Messages, in order.
    pub publishes: Vec<Publication>,
    /// Telemetry records, in order.
    pub records: Vec<Recorded>,
}

/// A telemetry record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The series.
    pub name: String,
    /// The record.
    pub payload: Vec<u8>,
    /// Its media type.
    pub content_type: String,
}

impl Recorded {
    /// The record, read as JSON.
    ///
    /// # Panics
    /// When it is something else.
    #[must_use]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.payload).expect("a record in the JSON expected")
    }
}

impl Publication {
    /// The payload, read as JSON; for tests.
    ///
    /// # Panics
    /// When it is something else.
    #[must_use]
    pub fn payload_json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.payload).expect("a payload in the JSON expected")
    }
}

impl Gateway {
    /// A gateway without state or configuration.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With a value of `config`.
    #[must_use]
    pub fn with_config(mut self, key: &str, value: &str) -> Self {
        self.config.insert(key.to_owned(), value.to_owned());
        self
    }

    /// With `state = "function"`: all events share their keys.
    #[must_use]
    pub fn with_shared_state(mut self) -> Self {
        self.shared = true;
        self
    }

    /// With `state = "none"`: no state, and no order of the events of a batch.
    #[must_use]
    pub fn without_state(mut self) -> Self {
        self.stateless = true;
        self
    }

    /// Runs one attempt.
    ///
    /// # Errors
    /// The function's own; state is then as it was.
    ///
    /// # Panics
    /// When the function does, and when a fake gateway already runs on this thread.
    pub fn run(
        &mut self,
        handle: impl FnOnce(Event) -> Result,
        event: Event,
    ) -> std::result::Result<Done, Failure> {
        let (result, segments) = self.attempt(event.device.clone(), None, || handle(event));
        result?;
        let mut done = Done::default();
        for segment in segments {
            done.publishes.extend(segment.done.publishes);
            done.records.extend(segment.done.records);
            self.apply(segment.changes);
        }
        Ok(done)
    }

    /// Calls the function and keeps what it logged; what it did is returned, in order.
    fn attempt<T>(
        &mut self,
        device: Option<String>,
        batch: Option<usize>,
        call: impl FnOnce() -> T,
    ) -> (T, Vec<Segment>) {
        let device = if self.shared { None } else { device };
        let running = Running::begin(Attempt {
            device: device.unwrap_or_default(),
            config: self.config.clone(),
            state: (!self.stateless).then(|| self.state.clone()),
            logs: Vec::new(),
            segments: vec![Segment::default()],
            batch,
        });
        let result = call();
        let attempt = running.end();
        self.logs.extend(attempt.logs);
        (result, attempt.segments)
    }

    fn apply(&mut self, changes: Vec<Change>) {
        for (key, value) in changes {
            match value {
                Some(value) => self.state.insert(key, value),
                None => self.state.remove(&key),
            };
        }
    }

    fn in_order(&self) -> bool {
        !self.stateless
    }

    /// The state of a device as JSON under `key`; the empty device for shared state.
    ///
    /// # Panics
    /// When it is something else.
    #[must_use]
    pub fn state_json<T: DeserializeOwned>(&self, device: &str, key: &str) -> Option<T> {
        let bytes = self.state.get(&(device.to_owned(), key.to_owned()))?;
        Some(serde_json::from_slice(bytes).expect("state in the JSON expected"))
    }

    /// Lines of all attempts so far, in order.
    #[must_use]
    pub fn logs(&self) -> &[(Level, String)] {
        &self.logs
    }
}

/// A change of a key; `None` removes it.
type Change = (Key, Option<Vec<u8>>);

struct Attempt {
    device: String,
    config: BTreeMap<String, String>,
    /// As this attempt sees it; `None` without state.
    state: Option<State>,
    logs: Vec<(Level, String)>,
    /// What was done, in order; never empty.
    segments: Vec<Segment>,
    /// Events of the batch, where it is one.
    batch: Option<usize>,
}

/// What was done for one event of a batch, or for the whole.
#[derive(Default)]
struct Segment {
    of: Option<usize>,
    done: Done,
    changes: Vec<Change>,
}

impl Attempt {
    fn segment(&mut self) -> &mut Segment {
        self.segments.last_mut().expect("invariant: never empty")
    }

    fn begin(&mut self, of: Option<usize>) {
        let count = self.batch.expect("`for_event` and `for_whole` are called in a batch only");
        let there = of.is_none_or(|index| index < count);
        assert!(there, "`for_event`: a batch of {count} has no event {}", of.unwrap_or_default());
        self.segments.push(Segment { of, ..Segment::default() });
    }

    fn state(&mut self) -> &mut State {
        self.state.as_mut().expect("a function with `state = \"none\"` has no state")
    }

    fn key(&self, key: &str) -> Key {
        (self.device.clone(), key.to_owned())
    }

    fn change(&mut self, key: &str, value: Option<Vec<u8>>) {
        let key = self.key(key);
        match &value {
            Some(value) => self.state().insert(key.clone(), value.clone()),
            None => self.state().remove(&key),
        };
        self.segment().changes.push((key, value));
    }
}

thread_local! {
    static ATTEMPT: RefCell<Option<Attempt>> = const { RefCell::new(None) };
}

/// An attempt on this thread; it is gone when dropped, also by a panic of the function.
struct Running;

impl Running {
    fn begin(attempt: Attempt) -> Self {
        let before = ATTEMPT.replace(Some(attempt));
        assert!(before.is_none(), "a fake gateway runs one function at a time");
        Self
    }

    fn end(self) -> Attempt {
        ATTEMPT.take().expect("invariant: put there by `begin`")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        ATTEMPT.take();
    }
}

fn with<T>(call: impl FnOnce(&mut Attempt) -> T) -> T {
    ATTEMPT.with_borrow_mut(|attempt| {
        call(attempt.as_mut().expect(
            "a function's calls work on a gateway, or in a test inside `fake::Gateway::run`",
        ))
    })
}

#[cfg(test)]
mod tests;
