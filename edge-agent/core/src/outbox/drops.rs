//! Counts of dropped records, by reason and label.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::op::DropReason;
use crate::status::DropStatus;

/// Labels that are told apart; a function may be granted any name.
const LABELS_MAX: usize = 1_024;
/// The label of all others.
const OTHERS: &str = "others";

/// What was dropped since the start of the process.
#[derive(Debug, Default)]
pub(super) struct Drops {
    labels: BTreeSet<Arc<str>>,
    counts: BTreeMap<(DropReason, Arc<str>), u64>,
}

impl Drops {
    /// The one copy of a label.
    pub(super) fn label(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.labels.get(text) {
            return Arc::clone(known);
        }
        // One place is kept for the others.
        let text = if self.labels.len() + 1 < LABELS_MAX { text } else { OTHERS };
        let label: Arc<str> = text.into();
        self.labels.insert(Arc::clone(&label));
        label
    }

    pub(super) fn count(&mut self, reason: DropReason, label: &Arc<str>, records: u64) {
        *self.counts.entry((reason, Arc::clone(label))).or_default() += records;
    }

    pub(super) fn status(&self) -> Vec<DropStatus> {
        let row = |((reason, label), records): (&(DropReason, Arc<str>), &u64)| DropStatus {
            reason: *reason,
            label: Arc::clone(label),
            records: *records,
        };
        self.counts.iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_bounded_and_none_is_lost() {
        let mut drops = Drops::default();
        for n in 0..2 * LABELS_MAX {
            let label = drops.label(&n.to_string());
            drops.count(DropReason::Full, &label, 1);
        }
        assert_eq!(drops.labels.len(), LABELS_MAX);
        let rows = drops.status();
        assert_eq!(rows.len(), LABELS_MAX);
        assert_eq!(rows.iter().map(|row| row.records).sum::<u64>(), 2 * LABELS_MAX as u64);
        assert_eq!(&*drops.label("7"), "7", "known ones stay");
    }
}
