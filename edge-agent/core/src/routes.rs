//! Which triggers a message wakes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::id::TriggerId;
use crate::release::{Release, TriggerSource, TriggerSpec};
use crate::topic::{FilterTrie, Topic};

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

    /// In order of their names; each once, however many of its filters match.
    pub(crate) fn targets(&self, topic: &Topic) -> Vec<Arc<TriggerSpec>> {
        let mut ids: Vec<&TriggerId> = Vec::new();
        self.index.for_each_match(topic, |id| ids.push(id));
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().filter_map(|id| self.triggers.get(id).cloned()).collect()
    }
}
