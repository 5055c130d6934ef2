//! State as one attempt sees it: the applied state under the attempt's own writes.
//!
//! # Invariants
//! - Reads see the writes of this attempt; nobody else does until the outcome is applied.
//! - Writes are kept once per key, in a batch once per key and segment, and bounded by
//!   `state_write_bytes`, in which each that is kept counts [`KEPT_BYTES`] more than it holds; a page
//!   of a scan is bounded by 1,000 entries and 256 KiB.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::{io, mem};

use bytes::Bytes;
use edge_core::outcome::StateChange;

use super::limits::{Key, Limits};
use super::state::{StateDomain, StateView};

/// Longest key.
pub(super) const KEY_BYTES_MAX: usize = 256;
/// What a write that is kept costs beside its key and value, in `state_write_bytes`: its place in
/// the maps here, its change, and where it opens one, its segment.
const KEPT_BYTES: u64 = 128;
/// Most entries of one page.
const PAGE_ENTRIES_MAX: usize = 1_000;
/// Most bytes of one page; a single larger entry is still returned.
const PAGE_BYTES_MAX: usize = 256 << 10;
/// Entries fetched from the view at once.
const FETCH: usize = 64;

/// Why a state call was refused.
#[derive(Debug)]
pub(super) enum Refusal {
    /// A limit.
    Limit(Key),
    /// A key that is empty or too long.
    KeyLength(usize),
    /// The store failed.
    Store(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Store(error)
    }
}

/// One page of a scan.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) entries: Vec<(String, Bytes)>,
    pub(super) more: bool,
}

/// The state of one attempt.
pub(super) struct StateSession {
    view: Arc<dyn StateView>,
    domain: StateDomain,
    writes: BTreeMap<String, Option<Bytes>>,
    /// Keys written since changes were last taken.
    changed: BTreeSet<String>,
    written_bytes: u64,
    /// What was counted for writes that are kept, beside what they hold.
    kept_bytes: u64,
    /// Bytes kept by the function when this attempt first wrote.
    used_before: Option<u64>,
}

impl StateSession {
    pub(super) fn new(view: Arc<dyn StateView>, domain: StateDomain) -> Self {
        let (writes, changed) = (BTreeMap::new(), BTreeSet::new());
        Self { view, domain, writes, changed, written_bytes: 0, kept_bytes: 0, used_before: None }
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Bytes>, Refusal> {
        check_key(key)?;
        if let Some(own) = self.writes.get(key) {
            return Ok(own.clone());
        }
        Ok(self.view.get(&self.domain.key(key))?)
    }

    pub(super) fn put(
        &mut self,
        key: String,
        value: Bytes,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        check_key(&key)?;
        self.count_write(&key, entry_bytes(&key, &value), limits)?;
        let used_before = match self.used_before {
            Some(used) => used,
            None => self.view.used_bytes(&self.domain.function, self.domain.state_version),
        };
        self.used_before = Some(used_before);
        self.write(key, Some(value));
        // Sum of all writes is an upper bound of the growth; the exact figure costs reads.
        if used_before.saturating_add(self.written_bytes) > limits.state_bytes
            && self.used_after(used_before, self.writes())? > limits.state_bytes
        {
            return Err(Refusal::Limit(Key::StateBytes));
        }
        Ok(())
    }

    pub(super) fn delete(&mut self, key: String, limits: &Limits) -> Result<(), Refusal> {
        check_key(&key)?;
        self.count_write(&key, entry_bytes(&key, &[]), limits)?;
        self.write(key, None);
        Ok(())
    }

    fn write(&mut self, key: String, value: Option<Bytes>) {
        self.changed.insert(key.clone());
        self.writes.insert(key, value);
    }

    pub(super) fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, Refusal> {
        let limit = limit.min(PAGE_ENTRIES_MAX);
        let mut page = Page::default();
        let mut bytes = 0;
        let mut merge = Merge::new(self, prefix, after);
        while let Some((key, value)) = merge.next()? {
            let size = key.len() + value.len();
            let full = page.entries.len() == limit
                || (bytes + size > PAGE_BYTES_MAX && !page.entries.is_empty());
            if full {
                page.more = true;
                break;
            }
            bytes += size;
            page.entries.push((key, value));
        }
        Ok(page)
    }

    /// The changes since they were last taken, one per key. Reads go on seeing them.
    pub(super) fn take_changes(&mut self) -> Vec<StateChange> {
        let changed = mem::take(&mut self.changed);
        // Not collected: that would take room for four where there is one.
        let mut changes = Vec::with_capacity(changed.len());
        for key in changed {
            changes.push(StateChange { value: self.writes.get(&key).cloned().flatten(), key });
        }
        changes
    }

    /// Holds the changes that take effect to `state_bytes`, in the order of the calls, where others of
    /// this attempt do not: what those deleted stays.
    pub(super) fn check_kept<'c>(
        &self,
        kept: impl Iterator<Item = &'c StateChange>,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        let writes: BTreeMap<&str, Option<&[u8]>> =
            kept.map(|change| (change.key.as_str(), change.value.as_deref())).collect();
        let Some(used_before) = self.used_before else { return Ok(()) };
        let grows = writes.values().any(Option::is_some);
        if grows && self.used_after(used_before, writes)? > limits.state_bytes {
            return Err(Refusal::Limit(Key::StateBytes));
        }
        Ok(())
    }

    fn count_write(&mut self, key: &str, bytes: u64, limits: &Limits) -> Result<(), Refusal> {
        self.written_bytes = self.written_bytes.saturating_add(bytes);
        if !self.changed.contains(key) {
            self.kept_bytes = self.kept_bytes.saturating_add(KEPT_BYTES);
        }
        let counted = self.written_bytes.saturating_add(self.kept_bytes);
        if counted > u64::from(limits.state_write_bytes) {
            return Err(Refusal::Limit(Key::StateWriteBytes));
        }
        Ok(())
    }

    fn writes(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.writes.iter().map(|(key, value)| (key.as_str(), value.as_deref()))
    }

    /// What the function keeps once these writes, one per key, have taken effect.
    fn used_after<'w>(
        &self,
        used_before: u64,
        writes: impl IntoIterator<Item = (&'w str, Option<&'w [u8]>)>,
    ) -> io::Result<u64> {
        let mut used = used_before;
        for (key, value) in writes {
            if let Some(value) = value {
                used = used.saturating_add(entry_bytes(key, value));
            }
            if let Some(old) = self.view.get(&self.domain.key(key))? {
                used = used.saturating_sub(entry_bytes(key, &old));
            }
        }
        Ok(used)
    }
}

/// Merges the applied entries with the attempt's own, both ascending.
struct Merge<'a> {
    session: &'a StateSession,
    prefix: &'a str,
    /// Fetched from the view and not yet given out.
    fetched: VecDeque<(String, Bytes)>,
    /// Where the next fetch begins; `None` when the view has no more.
    fetch_after: Option<Option<String>>,
    own: std::collections::btree_map::Range<'a, String, Option<Bytes>>,
    own_next: Option<(&'a String, &'a Option<Bytes>)>,
}

impl<'a> Merge<'a> {
    fn new(session: &'a StateSession, prefix: &'a str, after: Option<&str>) -> Self {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut own = session.writes.range::<str, _>((from, Bound::Unbounded));
        let own_next = own.next();
        let fetch_after = Some(after.map(str::to_owned));
        Self { session, prefix, fetched: VecDeque::new(), fetch_after, own, own_next }
    }

    fn next(&mut self) -> io::Result<Option<(String, Bytes)>> {
        loop {
            self.fetch()?;
            let own_key = self.own_next.map(|(key, _)| key).filter(|k| k.starts_with(self.prefix));
            let applied_key = self.fetched.front().map(|(key, _)| key);
            match (own_key, applied_key) {
                (Some(own), Some(applied)) if own > applied => {
                    return Ok(self.fetched.pop_front());
                }
                (None, _) => return Ok(self.fetched.pop_front()),
                (Some(own), applied) => {
                    if applied == Some(own) {
                        self.fetched.pop_front();
                    }
                    let value = self.own_next.and_then(|(_, value)| value.clone());
                    self.own_next = self.own.next();
                    if let Some(value) = value {
                        return Ok(Some((own.clone(), value)));
                    }
                }
            }
        }
    }

    fn fetch(&mut self) -> io::Result<()> {
        if !self.fetched.is_empty() {
            return Ok(());
        }
        let Some(after) = self.fetch_after.take() else { return Ok(()) };
        let session = self.session;
        let entries = session.view.scan(&session.domain, self.prefix, after.as_deref(), FETCH)?;
        if entries.len() == FETCH {
            self.fetch_after = entries.last().map(|(key, _)| Some(key.clone()));
        }
        self.fetched.extend(entries);
        Ok(())
    }
}

fn check_key(key: &str) -> Result<(), Refusal> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(());
    }
    Err(Refusal::KeyLength(key.len()))
}

fn entry_bytes(key: &str, value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

#[cfg(test)]
mod tests;
