//! Sets of deadlines: the earliest is found, and any is moved, in logarithmic time.

use std::collections::{BTreeMap, BTreeSet};

use crate::time::Millis;

/// One deadline for each key.
#[derive(Clone, Debug)]
pub(crate) struct Deadlines<K> {
    by_time: BTreeSet<(Millis, K)>,
    by_key: BTreeMap<K, Millis>,
}

impl<K: Ord + Clone> Deadlines<K> {
    pub(crate) fn new() -> Self {
        Self { by_time: BTreeSet::new(), by_key: BTreeMap::new() }
    }

    /// Sets or moves the deadline of `key`.
    pub(crate) fn set(&mut self, key: K, at: Millis) {
        self.clear(&key);
        self.by_key.insert(key.clone(), at);
        self.by_time.insert((at, key));
    }

    pub(crate) fn clear(&mut self, key: &K) {
        if let Some((key, at)) = self.by_key.remove_entry(key) {
            self.by_time.remove(&(at, key));
        }
    }

    pub(crate) fn first(&self) -> Option<Millis> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out one key whose deadline has come.
    pub(crate) fn pop_due(&mut self, now: Millis) -> Option<K> {
        if self.first()? > now {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_a_moved_one_only_once() {
        let mut deadlines = Deadlines::new();
        deadlines.set("a", Millis(5));
        deadlines.set("b", Millis(3));
        deadlines.set("b", Millis(7));
        assert_eq!(deadlines.first(), Some(Millis(5)));
        assert_eq!(deadlines.pop_due(Millis(4)), None);
        assert_eq!(deadlines.pop_due(Millis(7)), Some("a"));
        assert_eq!(deadlines.pop_due(Millis(7)), Some("b"));
        assert_eq!(deadlines.pop_due(Millis(7)), None);
        deadlines.set("a", Millis(1));
        deadlines.clear(&"a");
        assert_eq!(deadlines.first(), None);
    }
}
