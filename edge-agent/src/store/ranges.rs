//! A set of key ranges: what a range delete covers.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::shared::Key;

/// Disjoint ranges `start..end` of keys; an empty `end` is no end. Ranges that touch are one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RangeSet(BTreeMap<Key, Key>);

/// Whether `a` ends before `b` does, or with it.
fn ends_by(a: &[u8], b: &[u8]) -> bool {
    b.is_empty() || (!a.is_empty() && a <= b)
}

/// Whether a range that ends at `end` reaches `key`, so that a range from `key` on touches it.
fn reaches(end: &[u8], key: &[u8]) -> bool {
    end.is_empty() || end >= key
}

impl RangeSet {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds `start..end`.
    pub(super) fn insert(&mut self, mut start: Box<[u8]>, mut end: Box<[u8]>) {
        if !end.is_empty() && start >= end {
            return;
        }
        let before = self.0.range::<[u8], _>((Bound::Unbounded, Bound::Included(&*start)));
        if let Some((at, until)) = before.last().filter(|(_, until)| reaches(until, &start)) {
            if ends_by(&end, until) {
                return;
            }
            start = at.clone();
        }
        loop {
            let next = self.0.range::<[u8], _>((Bound::Included(&*start), Bound::Unbounded)).next();
            let Some((at, until)) = next.filter(|(at, _)| reaches(&end, at)) else { break };
            if !ends_by(until, &end) {
                end = until.clone();
            }
            let at = at.clone();
            self.0.remove(&at);
        }
        self.0.insert(start, end);
    }

    /// Takes `start..end` out of the one range that holds it.
    pub(super) fn carve(&mut self, start: &[u8], end: &[u8]) {
        let at = self.0.range::<[u8], _>((Bound::Unbounded, Bound::Included(start))).next_back();
        let Some((at, until)) = at.map(|(at, until)| (at.clone(), until.clone())) else { return };
        self.0.remove(&at);
        self.insert(at, start.into());
        self.insert(end.into(), until);
    }

    /// The end of the range that holds `key` (empty: no end).
    pub(super) fn end_of(&self, key: &[u8]) -> Option<&[u8]> {
        let (_, end) =
            self.0.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back()?;
        (end.is_empty() || key < &**end).then_some(end)
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        self.end_of(key).is_some()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(start, end)| (&**start, &**end))
    }

    /// Takes the first range out.
    pub(super) fn pop(&mut self) -> Option<(Key, Key)> {
        self.0.pop_first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn holds_what_was_put_in(ranges: Vec<(u8, u8)>) {
            let mut set = RangeSet::default();
            let mut model = [false; 256];
            for (start, end) in ranges {
                let end_key: Box<[u8]> = if end == 0 { Box::new([]) } else { Box::new([end]) };
                set.insert(Box::new([start]), end_key);
                let end = if end == 0 { 256 } else { usize::from(end) };
                if usize::from(start) < end {
                    model[usize::from(start)..end].fill(true);
                }
            }
            for (n, held) in (0..=u8::MAX).zip(model) {
                prop_assert_eq!(set.contains(&[n]), held, "{}", n);
            }
            let ranges: Vec<_> = set.iter().collect();
            let apart = ranges.windows(2).all(|w| !w[0].1.is_empty() && w[0].1 < w[1].0);
            prop_assert!(apart, "ranges touch: {:?}", ranges);
        }
    }
}
