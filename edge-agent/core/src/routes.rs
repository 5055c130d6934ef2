//! Which triggers a message wakes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::id::{DeviceId, TriggerId};
use crate::message::Message;
use crate::pattern::{Subject, Verdict};
use crate::release::{Release, TriggerSource, TriggerSpec};
use crate::topic::FilterTrie;

/// The triggers of all live revisions.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
    index: FilterTrie<TriggerId>,
    triggers: BTreeMap<TriggerId, Arc<TriggerSpec>>,
}

impl Routes {
    pub(crate) fn new() -> Self {
        Self { index: FilterTrie::new(), triggers: BTreeMap::new() }
    }

    pub(crate) fn insert(&mut self, release: &Release) {
        for trigger in &release.triggers {
            if let TriggerSource::Mqtt { filters } = &trigger.source {
                for filter in filters {
                    self.index.insert(filter, trigger.id.clone());
                }
            }
            self.triggers.insert(trigger.id.clone(), Arc::new(trigger.clone()));
        }
    }

    pub(crate) fn remove(&mut self, release: &Release) {
        for trigger in &release.triggers {
            if let TriggerSource::Mqtt { filters } = &trigger.source {
                for filter in filters {
                    self.index.remove(filter, &trigger.id);
                }
            }
            self.triggers.remove(&trigger.id);
        }
    }

    pub(crate) fn get(&self, trigger: &TriggerId) -> Option<Arc<TriggerSpec>> {
        self.triggers.get(trigger).cloned()
    }

    /// Triggers that filter, by their names.
    pub(crate) fn filtering(&self) -> impl Iterator<Item = &TriggerId> {
        self.triggers.iter().filter(|(_, trigger)| trigger.filter.is_some()).map(|(id, _)| id)
    }

    /// Whom a message wakes: by its topic, then by what it says.
    pub(crate) fn route(&self, message: &Message) -> Routed {
        let mut ids: Vec<&TriggerId> = Vec::new();
        self.index.for_each_match(&message.topic, |id| ids.push(id));
        ids.sort_unstable();
        ids.dedup();
        let mut routed = Routed { targets: Vec::with_capacity(ids.len()), filtered: Vec::new() };
        for trigger in ids.into_iter().filter_map(|id| self.triggers.get(id)) {
            match trigger.filter.as_ref().map(|filter| filter.judge(&subject(message))) {
                None | Some(Verdict::Wanted) => routed.targets.push(trigger.clone()),
                Some(verdict) => {
                    let not_json = verdict == Verdict::NotJson;
                    routed.filtered.push(Filtered { trigger: trigger.id.clone(), not_json });
                }
            }
        }
        routed
    }
}

/// The triggers that a message's topic matches.
#[derive(Clone, Debug)]
pub(crate) struct Routed {
    /// Those it wakes, in order of their names; each once, however many of its topic filters
    /// match.
    pub(crate) targets: Vec<Arc<TriggerSpec>>,
    /// Those that do not want it.
    pub(crate) filtered: Vec<Filtered>,
}

/// A trigger that does not want a message.
#[derive(Clone, Debug)]
pub(crate) struct Filtered {
    pub(crate) trigger: TriggerId,
    /// It might have, but the payload is not JSON.
    pub(crate) not_json: bool,
}

fn subject(message: &Message) -> Subject<'_> {
    Subject {
        topic: message.topic.as_str(),
        device: message.device.as_ref().map(DeviceId::as_str),
        content_type: message.properties.content_type.as_deref(),
        properties: &message.properties.user,
        payload: &message.payload,
    }
}
