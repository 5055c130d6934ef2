//! The gateway's calls, made by a function on the fake gateway.

use std::ops::Bound;

use super::{Recorded, with};
use crate::log::Level;
use crate::publish::Publication;
use crate::state::Page;

pub(crate) fn publish(message: Publication) {
    let topic = &message.topic;
    let wildcard = topic.is_empty() || topic.contains(['+', '#', '\0']);
    assert!(!wildcard, "`{topic}` is no topic that can be published to");
    with(|attempt| attempt.segment().done.publishes.push(message));
}

pub(crate) fn for_event(index: usize) {
    with(|attempt| attempt.begin(Some(index)));
}

pub(crate) fn for_whole() {
    with(|attempt| attempt.begin(None));
}

pub(crate) fn state_get(key: &str) -> Option<Vec<u8>> {
    check_key(key);
    with(|attempt| {
        let key = attempt.key(key);
        attempt.state().get(&key).cloned()
    })
}

pub(crate) fn state_put(key: &str, value: &[u8]) {
    check_key(key);
    with(|attempt| attempt.change(key, Some(value.to_vec())));
}

pub(crate) fn state_delete(key: &str) {
    check_key(key);
    with(|attempt| attempt.change(key, None));
}

pub(crate) fn state_scan(prefix: &str, after: Option<&str>, limit: u32) -> Page {
    with(|attempt| {
        let device = attempt.device.clone();
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded((device.clone(), after.into())),
            _ => Bound::Included((device.clone(), prefix.into())),
        };
        let mut entries = attempt
            .state()
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
        attempt.segment().done.records.push(Recorded {
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
