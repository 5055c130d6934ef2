//! Which messages no function had to work on: those that came while none was deployed.

use std::collections::{BTreeMap, BTreeSet};

use edge_core::event::CoreEvent;

use crate::app::APP;
use crate::payload::MessageNo;
use crate::seen::{Promise, Seen};

/// Follows what is deployed. Topics of messages are unique, so a topic names its message.
#[derive(Debug, Default)]
pub(super) struct Routing {
    topics: BTreeMap<MessageNo, String>,
    unrouted: BTreeSet<String>,
    is_deployed: bool,
}

impl Routing {
    pub(super) fn see(&mut self, seen: &Seen<'_>) {
        match seen {
            Seen::Published(sent) if sent.promise != Promise::None => {
                self.topics.insert(sent.no, sent.topic.clone());
            }
            Seen::Core(CoreEvent::Activated { app, .. }) if app == APP => self.is_deployed = true,
            Seen::Core(CoreEvent::Deactivated { app }) if app == APP => self.is_deployed = false,
            Seen::Died => self.is_deployed = false,
            Seen::Core(CoreEvent::Unrouted { topic }) if !self.is_deployed => {
                self.unrouted.insert(topic.as_str().to_owned());
            }
            _ => {}
        }
    }

    /// Whether nobody was there for the message.
    pub(super) fn is_unrouted(&self, no: MessageNo) -> bool {
        self.topics.get(&no).is_some_and(|topic| self.unrouted.contains(topic))
    }
}
