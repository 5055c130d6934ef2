//! A gateway for tests: runs a function as it is, keeps its state, shows what it did.
//!
//! What holds on a gateway holds here: each device has state of its own, and publishes, records
//! and state changes of a failed attempt never happened. Grants and limits are the gateway's
//! business; only what no manifest allows (a wildcard in a topic, an empty key) panics here too.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::event::Event;
use crate::failure::{Failure, Result};
use crate::log::Level;
use crate::publish::Publication;

/// Device, then key.
type Key = (String, String);

/// A gateway with one function.
#[derive(Clone, Debug, Default)]
pub struct Gateway {
    config: BTreeMap<String, String>,
    state: BTreeMap<Key, Vec<u8>>,
    logs: Vec<(Level, String)>,
    shared: bool,
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
        let device = if self.shared { None } else { event.device.clone() };
        let attempt = Attempt {
            device: device.unwrap_or_default(),
            config: self.config.clone(),
            state: self.state.clone(),
            logs: Vec::new(),
            done: Done::default(),
        };
        let running = Running::begin(attempt);
        let result = handle(event);
        let attempt = running.end();
        self.logs.extend(attempt.logs);
        result?;
        self.state = attempt.state;
        Ok(attempt.done)
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

struct Attempt {
    device: String,
    config: BTreeMap<String, String>,
    state: BTreeMap<Key, Vec<u8>>,
    logs: Vec<(Level, String)>,
    done: Done,
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

pub(crate) mod calls {
    use std::ops::Bound;

    use super::{Recorded, with};
    use crate::log::Level;
    use crate::publish::Publication;
    use crate::state::Page;

    pub(crate) fn publish(message: Publication) {
        let topic = &message.topic;
        let wildcard = topic.is_empty() || topic.contains(['+', '#', '\0']);
        assert!(!wildcard, "`{topic}` is no topic that can be published to");
        with(|attempt| attempt.done.publishes.push(message));
    }

    pub(crate) fn state_get(key: &str) -> Option<Vec<u8>> {
        check_key(key);
        with(|attempt| attempt.state.get(&(attempt.device.clone(), key.to_owned())).cloned())
    }

    pub(crate) fn state_put(key: &str, value: &[u8]) {
        check_key(key);
        with(|attempt| {
            attempt.state.insert((attempt.device.clone(), key.to_owned()), value.to_vec());
        });
    }

    pub(crate) fn state_delete(key: &str) {
        check_key(key);
        with(|attempt| {
            attempt.state.remove(&(attempt.device.clone(), key.to_owned()));
        });
    }

    pub(crate) fn state_scan(prefix: &str, after: Option<&str>, limit: u32) -> Page {
        with(|attempt| {
            let device = attempt.device.clone();
            let from = match after {
                Some(after) if after >= prefix => Bound::Excluded((device.clone(), after.into())),
                _ => Bound::Included((device.clone(), prefix.into())),
            };
            let mut entries = attempt
                .state
                .range((from, Bound::Unbounded))
                .take_while(|((owner, key), _)| *owner == device && key.starts_with(prefix))
                .map(|((_, key), value)| (key.clone(), value.clone()));
            let page = entries.by_ref().take((limit as usize).min(1_000)).collect();
            Page { entries: page, more: entries.next().is_some() }
        })
    }

    pub(crate) fn config_get(key: &str) -> Option<String> {
        with(|attempt| attempt.config.get(key).cloned())
    }

    pub(crate) fn record(name: &str, payload: &[u8], content_type: &str) {
        with(|attempt| {
            attempt.done.records.push(Recorded {
                name: name.to_owned(),
                payload: payload.to_vec(),
                content_type: content_type.to_owned(),
            });
        });
    }

    pub(crate) fn log(level: Level, text: &str) {
        with(|attempt| attempt.logs.push((level, text.to_owned())));
    }

    fn check_key(key: &str) {
        assert!((1..=256).contains(&key.len()), "a state key has 1 to 256 bytes: `{key}`");
    }
}

#[cfg(test)]
mod tests;
