//! The function's state, and how one attempt sees it: under its own writes.
//!
//! # Invariants
//! - Reads of an attempt see its writes; the state itself changes only when they are applied.
//! - State and writes are bounded by the limits of the image, a page of a scan by 1,000 entries
//!   and 256 KiB as on the gateway. Heap is what is scarce here: an entry that is kept counts
//!   64 bytes more than its key and value, so that many small ones do not fill it.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::effects::StateChange;
use crate::image::Limits;

/// Longest key.
const KEY_BYTES_MAX: usize = 256;
/// What a write costs beside its key and value, in `state_write_bytes`.
const KEPT_BYTES: usize = 128;
/// What an entry costs beside its key and value, in `state_bytes`.
const ENTRY_BYTES: usize = 64;
/// Most entries of one page.
const PAGE_ENTRIES_MAX: usize = 1_000;
/// Most bytes of one page; a single larger entry is still returned.
const PAGE_BYTES_MAX: usize = 256 << 10;

/// Byte strings under text keys, in memory: what a function keeps between events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    entries: BTreeMap<String, Vec<u8>>,
}

impl State {
    /// Applies the changes of an attempt that returned ok. For state that was read back after a
    /// start: what [`Function::process`](crate::Function::process) is given, it changes itself.
    pub fn apply(&mut self, changes: &[StateChange]) {
        for change in changes {
            match &change.value {
                Some(value) => self.entries.insert(change.key.clone(), value.clone()),
                None => self.entries.remove(&change.key),
            };
        }
    }

    /// Entries in ascending order of their keys' bytes.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value.as_slice()))
    }

    /// Heap that the entries take, in bytes: those of keys and values, and 64 for each.
    pub(crate) fn bytes(&self) -> usize {
        self.entries().map(|(key, value)| entry_bytes(key, value)).sum()
    }
}

/// Why a state call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A key that is empty or too long.
    Key,
    /// Over `state_write_bytes`.
    Written,
    /// Over `state_bytes`.
    Kept,
}

impl Refusal {
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Key => "a state key has 1 to 256 bytes",
            Self::Written => "limit of state written per attempt reached",
            Self::Kept => "limit of state kept reached",
        }
    }
}

/// A page of a scan, copied: it is handed over while the attempt goes on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) entries: Vec<(String, Vec<u8>)>,
    pub(crate) more: bool,
}

/// The state of one attempt.
#[derive(Debug)]
pub(crate) struct Session {
    base: State,
    writes: BTreeMap<String, Option<Vec<u8>>>,
    written_bytes: usize,
    kept_bytes: usize,
}

impl Session {
    pub(crate) fn new(base: State) -> Self {
        let kept_bytes = base.bytes();
        Self { base, writes: BTreeMap::new(), written_bytes: 0, kept_bytes }
    }

    /// The state as it was, and what is to change of it.
    pub(crate) fn into_parts(self) -> (State, Vec<StateChange>) {
        let changes = self.writes.into_iter().map(|(key, value)| StateChange { key, value });
        (self.base, changes.collect())
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<&[u8]>, Refusal> {
        check_key(key)?;
        Ok(self.look_up(key))
    }

    /// Sets or, without a value, removes a key.
    pub(crate) fn set(
        &mut self,
        key: &str,
        value: Option<&[u8]>,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        check_key(key)?;
        let bytes = key.len() + value.map_or(0, <[u8]>::len);
        let kept = if self.writes.contains_key(key) { 0 } else { KEPT_BYTES };
        self.written_bytes = self.written_bytes.saturating_add(bytes + kept);
        if self.written_bytes > limits.state_write_bytes as usize {
            return Err(Refusal::Written);
        }
        let before = self.look_up(key).map_or(0, |old| entry_bytes(key, old));
        let after = value.map_or(0, |value| entry_bytes(key, value));
        self.kept_bytes = self.kept_bytes - before + after;
        if value.is_some() && self.kept_bytes > limits.state_bytes as usize {
            return Err(Refusal::Kept);
        }
        self.writes.insert(key.to_owned(), value.map(ToOwned::to_owned));
        Ok(())
    }

    pub(crate) fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Page {
        let limit = PAGE_ENTRIES_MAX.min(limit as usize);
        let mut merged: BTreeMap<&str, Option<&[u8]>> =
            self.base.entries().map(|(key, value)| (key, Some(value))).collect();
        merged.extend(self.writes.iter().map(|(key, value)| (key.as_str(), value.as_deref())));
        let wanted = merged
            .into_iter()
            .filter(|(key, _)| key.starts_with(prefix) && after.is_none_or(|after| *key > after));
        let (mut page, mut bytes) = (Page::default(), 0);
        for (key, value) in wanted.filter_map(|(key, value)| Some((key, value?))) {
            bytes += key.len() + value.len();
            let over = bytes > PAGE_BYTES_MAX && !page.entries.is_empty();
            if page.entries.len() == limit || over {
                page.more = true;
                break;
            }
            page.entries.push((key.to_owned(), value.to_owned()));
        }
        page
    }

    fn look_up(&self, key: &str) -> Option<&[u8]> {
        match self.writes.get(key) {
            Some(own) => own.as_deref(),
            None => self.base.entries.get(key).map(Vec::as_slice),
        }
    }
}

pub(crate) fn entry_bytes(key: &str, value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_BYTES
}

fn check_key(key: &str) -> Result<(), Refusal> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) { Ok(()) } else { Err(Refusal::Key) }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn limits() -> Limits {
        Limits {
            memory: 0,
            memory_initial: 0,
            call_stack: 0,
            fuel: 0,
            publishes: 0,
            publish_bytes: 0,
            records: 0,
            record_bytes: 0,
            log_bytes: 0,
            state_write_bytes: 1_000,
            state_bytes: 400,
        }
    }

    fn session() -> Session {
        let mut base = State::default();
        let change = |key: &str| StateChange { key: key.to_owned(), value: Some(vec![1]) };
        base.apply(&["a", "b", "c"].map(change));
        Session::new(base)
    }

    #[test]
    fn reads_see_own_writes_and_the_base_stays() {
        let mut session = session();
        session.set("b", Some(b"new"), &limits()).unwrap();
        session.set("c", None, &limits()).unwrap();
        session.set("d", Some(b"own"), &limits()).unwrap();
        assert_eq!(session.get("b"), Ok(Some(b"new".as_slice())));
        assert_eq!(session.get("c"), Ok(None));
        let keys =
            |page: &Page| page.entries.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
        assert_eq!(keys(&session.scan("", None, 10)), ["a", "b", "d"]);
        let page = session.scan("", Some("a"), 1);
        assert_eq!((keys(&page), page.more), (vec!["b".to_owned()], true));
        assert!(!session.scan("", Some("b"), 1).more);
        assert_eq!(session.scan("", None, 0), Page { entries: vec![], more: true });
        let (mut state, changes) = session.into_parts();
        assert_eq!(state.entries().count(), 3);
        state.apply(&changes);
        let kept: Vec<_> = state.entries().map(|(key, _)| key).collect();
        assert_eq!(kept, ["a", "b", "d"]);
    }

    #[test]
    fn bounds_refuse() {
        let mut session = session();
        let limits = limits();
        assert_eq!(session.get(""), Err(Refusal::Key));
        assert_eq!(session.set(&"k".repeat(257), None, &limits), Err(Refusal::Key));
        // Three entries of 1 + 1 + 64 bytes are there.
        assert_eq!(session.set("e", Some(&[0; 138]), &limits), Err(Refusal::Kept));
        let mut session = super::tests::session();
        let mut set = || session.set("e", Some(&[0; 137]), &limits);
        // 128 + 138 bytes, then 138 each.
        assert_eq!((0..20).take_while(|_| set().is_ok()).count(), 6);
        assert_eq!(set(), Err(Refusal::Written));
    }
}
