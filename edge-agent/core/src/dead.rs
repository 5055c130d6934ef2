//! Which dead letters the store holds. Their contents are in the store only.
//!
//! # Invariants
//! - At most `dead_letters_max`; a newer one pushes out the oldest, and that is told.

use std::collections::BTreeMap;

use crate::core::DeadLetterKey;
use crate::id::{EventId, FunctionId};

type Key = (FunctionId, EventId);

#[derive(Clone, Debug)]
pub(crate) struct DeadLetters {
    max: usize,
    /// Order of arrival by key, and back.
    order: BTreeMap<Key, u64>,
    keys: BTreeMap<u64, Key>,
    next: u64,
}

impl DeadLetters {
    pub(crate) fn restore(max: u32, mut rows: Vec<DeadLetterKey>) -> Self {
        let max = max.max(1) as usize;
        let mut letters = Self { max, order: BTreeMap::new(), keys: BTreeMap::new(), next: 0 };
        rows.sort_unstable();
        for row in rows {
            letters.append((row.function, row.event));
        }
        letters
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    pub(crate) fn contains(&self, function: &FunctionId, event: EventId) -> bool {
        self.order.contains_key(&(function.clone(), event))
    }

    /// Returns those that make room for it, oldest first.
    pub(crate) fn add(&mut self, function: &FunctionId, event: EventId) -> Vec<Key> {
        self.append((function.clone(), event));
        let mut out = Vec::new();
        while self.order.len() > self.max {
            let (_, key) = self.keys.pop_first().expect("invariant: keys mirrors order");
            self.order.remove(&key);
            out.push(key);
        }
        out
    }

    /// Returns whether it was there.
    pub(crate) fn remove(&mut self, function: &FunctionId, event: EventId) -> bool {
        let Some(n) = self.order.remove(&(function.clone(), event)) else { return false };
        self.keys.remove(&n);
        true
    }

    fn append(&mut self, key: Key) {
        if let Some(n) = self.order.insert(key.clone(), self.next) {
            self.keys.remove(&n);
        }
        self.keys.insert(self.next, key);
        self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Epoch;
    use crate::time::Millis;

    fn event(n: u64) -> EventId {
        EventId { epoch: Epoch(0), n }
    }

    #[test]
    fn the_oldest_is_pushed_out_also_after_a_restart() {
        let f = FunctionId::new("a/f");
        let row = |at, n| DeadLetterKey { at: Millis(at), function: f.clone(), event: event(n) };
        let mut letters = DeadLetters::restore(2, vec![row(20, 1), row(10, 2)]);
        assert_eq!(letters.add(&f, event(3)), [(f.clone(), event(2))]);
        assert_eq!(letters.add(&f, event(1)), [], "the same letter again is the newest");
        assert_eq!(letters.add(&f, event(4)), [(f.clone(), event(3))]);
        assert!(letters.remove(&f, event(1)) && !letters.remove(&f, event(1)));
        assert_eq!(letters.len(), 1);
    }
}
