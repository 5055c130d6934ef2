//! Triggers that give a function several events at once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Source, Trigger};
use crate::limits::{BATCH_BYTES_DEFAULT, BATCH_SIZE_DEFAULT};

/// When the events of a trigger are given to its function together.
///
/// A batch starts when it has `size_max` events or `bytes_max` bytes, or when its oldest event was
/// admitted `window_ms` ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Batch {
    /// Events of one batch, at most.
    pub size_max: u16,
    /// How long the oldest event waits for others, in milliseconds of gateway time; 0: not at all.
    pub window_ms: u32,
    /// Bytes of its events, at most; a single event may be longer.
    pub bytes_max: u32,
    /// Whether a batch that faults is halved until the event at fault stands alone.
    pub bisect: bool,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            size_max: BATCH_SIZE_DEFAULT,
            window_ms: 0,
            bytes_max: BATCH_BYTES_DEFAULT,
            bisect: true,
        }
    }
}

impl Trigger {
    /// How its events are given to the function, if several at once.
    #[must_use]
    pub fn batch(&self) -> Option<&Batch> {
        match &self.source {
            Source::Mqtt(source) => source.batch.as_ref(),
            Source::Schedule(_) => None,
        }
    }
}

/// How a function is woken, which is what it must export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Woken {
    /// With one event: by a trigger without `batch`, or as a destination.
    pub by_event: bool,
    /// With a batch.
    pub by_batch: bool,
}

/// How `function` is woken by these triggers of its app.
#[must_use]
pub fn woken(triggers: &BTreeMap<String, Trigger>, function: &str) -> Woken {
    let mut woken = Woken::default();
    for trigger in triggers.values() {
        if trigger.function == function {
            woken.by_batch |= trigger.batch().is_some();
            woken.by_event |= trigger.batch().is_none();
        }
        let mut told = [&trigger.on_success, &trigger.on_failure].into_iter().flatten();
        woken.by_event |= told.any(|told| told.function.as_deref() == Some(function));
    }
    woken
}
