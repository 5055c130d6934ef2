//! Which positions of the outbox hold a record that stood at another one before: the control plane
//! has somebody else's there. It tells of no more work than it did.

use std::collections::BTreeSet;

use edge_core::event::CoreEvent;
use edge_core::id::{RecordSeq, StreamId};
use edge_core::op::OutboxRecord;

use crate::seen::Seen;

#[derive(Debug, Default)]
pub(super) struct Moved(BTreeSet<(StreamId, RecordSeq)>);

impl Moved {
    pub(super) fn see(&mut self, seen: &Seen<'_>) {
        match seen {
            Seen::Core(CoreEvent::Renumbered { stream, to, .. }) => {
                self.0.insert((*stream, *to));
            }
            // What was not durable by then is undone, and its positions are used again.
            Seen::Opened { .. } => self.0.clear(),
            _ => {}
        }
    }

    pub(super) fn has(&self, record: &OutboxRecord) -> bool {
        self.0.contains(&(record.stream, record.seq))
    }
}
