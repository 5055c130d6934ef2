//! Retained messages (3.3.1.3), by topic.
//!
//! # Invariants
//! - At most the configured messages and bytes. A message that does not fit is not retained, and
//!   neither is what it would have replaced: an old value is never passed off as the present one.
//! - A look-up by filter visits a bounded number of topics at a time and can be continued.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use edge_core::id::BatchSeq;
use edge_core::message::Message;
use edge_core::time::Millis;
use edge_core::topic::{Topic, TopicFilter};

use super::deliver::expires_at;
use super::{Limits, RetainedChange};

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) message: Arc<Message>,
    /// It is not to be shown before this batch is durable.
    pub(super) batch: BatchSeq,
}

#[derive(Debug, Default)]
pub(super) struct Retained {
    entries: BTreeMap<Topic, Entry>,
    bytes: usize,
    expiring: BTreeSet<(Millis, Topic)>,
}

/// One step of a look-up by filter.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    /// The next match, if one was found within the budget.
    pub(super) found: Option<&'a Entry>,
    /// Where to continue; `None` at the end.
    pub(super) after: Option<Topic>,
    /// Topics visited.
    pub(super) visited: usize,
}

impl Retained {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Messages for topics that begin with `prefix`, by topic.
    pub(super) fn beginning<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Message>> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let there = self.entries.range::<str, _>(from);
        let there = there.take_while(move |(topic, _)| topic.as_str().starts_with(prefix));
        there.map(|(_, entry)| &entry.message)
    }

    /// Applies a publish with the RETAIN flag [MQTT-3.3.1-5] [MQTT-3.3.1-6]; tells also whether
    /// something was retained for the topic before.
    pub(super) fn publish(
        &mut self,
        message: &Arc<Message>,
        batch: BatchSeq,
        limits: &Limits,
    ) -> (RetainedChange, bool) {
        let had = self.remove(&message.topic);
        if message.payload.is_empty() {
            let change = if had { RetainedChange::Deleted } else { RetainedChange::Unchanged };
            return (change, had);
        }
        let bytes = message.cost_bytes();
        if self.entries.len() >= limits.retained_messages_max
            || self.bytes + bytes > limits.retained_bytes_max
        {
            return (RetainedChange::Refused, had);
        }
        self.insert(message, batch);
        (RetainedChange::Stored, had)
    }

    /// Puts a message in its place, without looking at bounds.
    pub(super) fn insert(&mut self, message: &Arc<Message>, batch: BatchSeq) {
        self.remove(&message.topic);
        self.bytes += message.cost_bytes();
        if let Some(at) = expires_at(message) {
            self.expiring.insert((at, message.topic.clone()));
        }
        self.entries.insert(message.topic.clone(), Entry { message: Arc::clone(message), batch });
    }

    pub(super) fn remove(&mut self, topic: &Topic) -> bool {
        let Some(entry) = self.entries.remove(topic) else { return false };
        self.bytes -= entry.message.cost_bytes();
        if let Some(at) = expires_at(&entry.message) {
            self.expiring.remove(&(at, topic.clone()));
        }
        true
    }

    /// When the first of them expires.
    pub(super) fn first_expiry(&self) -> Option<Millis> {
        self.expiring.first().map(|(at, _)| *at)
    }

    /// Removes one that has expired (3.3.2.3.3).
    pub(super) fn pop_expired(&mut self, now: Millis) -> Option<Topic> {
        let (at, topic) = self.expiring.first()?;
        if *at > now {
            return None;
        }
        let topic = topic.clone();
        self.remove(&topic);
        Some(topic)
    }

    /// Looks for the next topic after `after` that `filter` matches, over at most `budget` topics.
    pub(super) fn scan(
        &self,
        filter: &TopicFilter,
        after: Option<&Topic>,
        budget: usize,
    ) -> Scan<'_> {
        let prefix = literal_prefix(filter.as_str());
        if prefix.len() == filter.as_str().len() {
            return self.exact(filter, after);
        }
        let mut visited = 0;
        let mut last = after;
        let start = after.map_or(Bound::Included(prefix), |topic| Bound::Excluded(topic.as_str()));
        for (topic, entry) in self.entries.range::<str, _>((start, Bound::Unbounded)) {
            if !topic.as_str().starts_with(prefix) {
                break;
            }
            if visited == budget {
                return Scan { found: None, after: last.cloned(), visited };
            }
            visited += 1;
            last = Some(topic);
            if filter.matches(topic) {
                return Scan { found: Some(entry), after: last.cloned(), visited };
            }
        }
        Scan { found: None, after: None, visited }
    }

    /// A filter without wildcards names one topic.
    fn exact(&self, filter: &TopicFilter, after: Option<&Topic>) -> Scan<'_> {
        let entry = self.entries.get_key_value(filter.as_str()).filter(|_| after.is_none());
        let (after, found) = entry.unzip();
        Scan { found, after: after.cloned(), visited: 1 }
    }
}

/// What all topics that `filter` matches begin with: its text before the first wildcard. For
/// `a/#`, which matches `a` as well [MQTT-4.7.1-2], that is `a`.
fn literal_prefix(filter: &str) -> &str {
    let Some(at) = filter.find(['+', '#']) else { return filter };
    let prefix = &filter[..at];
    if filter[at..].starts_with('#') { prefix.strip_suffix('/').unwrap_or(prefix) } else { prefix }
}
