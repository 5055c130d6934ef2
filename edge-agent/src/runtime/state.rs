//! Where attempts read state: the seam to the store, and a store in memory.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use edge_core::id::{FunctionId, LaneKey};
use edge_core::op::StateKey;
use edge_core::outcome::StateChange;

/// One set of keys: what an attempt may see and change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDomain {
    /// Owner.
    pub function: FunctionId,
    /// Version of the state's shape.
    pub state_version: u32,
    /// Lane of the attempt.
    pub lane: LaneKey,
}

impl StateDomain {
    /// The full key of the function's own `key`.
    #[must_use]
    pub fn key(&self, key: &str) -> StateKey {
        StateKey {
            function: self.function.clone(),
            state_version: self.state_version,
            lane: self.lane.clone(),
            key: key.to_owned(),
        }
    }
}

/// The applied state: every outcome sequenced before the attempt, durable or not.
///
/// Called on worker threads, for keys of the lane that the attempt holds, so that nothing it reads
/// changes under it. An error ends the attempt with a host fault.
pub trait StateView: Send + Sync {
    /// Value of a key.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn get(&self, key: &StateKey) -> io::Result<Option<Bytes>>;

    /// Entries of `domain` whose keys begin with `prefix` and come after `after`, in ascending
    /// order of the keys' bytes, at most `limit`. Fewer than `limit` says that there are no more.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn scan(
        &self,
        domain: &StateDomain,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> io::Result<Vec<(String, Bytes)>>;

    /// Keys and values that the function keeps in all its lanes, in bytes.
    fn used_bytes(&self, function: &FunctionId, state_version: u32) -> u64;
}

/// State in memory: for `holm invoke` and tests.
#[derive(Debug, Default)]
pub struct MemoryState(Mutex<BTreeMap<StateKey, Bytes>>);

impl MemoryState {
    /// Applies an attempt's changes.
    pub fn apply(&self, domain: &StateDomain, changes: &[StateChange]) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            let key = domain.key(&change.key);
            match &change.value {
                Some(value) => map.insert(key, value.clone()),
                None => map.remove(&key),
            };
        }
    }

    /// All entries of a domain, in order.
    #[must_use]
    pub fn entries(&self, domain: &StateDomain) -> Vec<(String, Bytes)> {
        self.page(domain, "", None, usize::MAX)
    }

    fn page(
        &self,
        domain: &StateDomain,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<(String, Bytes)> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(domain.key(after)),
            _ => Bound::Included(domain.key(prefix)),
        };
        map.range((from, Bound::Unbounded))
            .take_while(|(key, _)| {
                key.function == domain.function
                    && key.state_version == domain.state_version
                    && key.lane == domain.lane
                    && key.key.starts_with(prefix)
            })
            .take(limit)
            .map(|(key, value)| (key.key.clone(), value.clone()))
            .collect()
    }
}

impl StateView for MemoryState {
    fn get(&self, key: &StateKey) -> io::Result<Option<Bytes>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    fn scan(
        &self,
        domain: &StateDomain,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> io::Result<Vec<(String, Bytes)>> {
        Ok(self.page(domain, prefix, after, limit))
    }

    fn used_bytes(&self, function: &FunctionId, state_version: u32) -> u64 {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.iter()
            .filter(|(key, _)| key.function == *function && key.state_version == state_version)
            .map(|(key, value)| (key.key.len() + value.len()) as u64)
            .sum()
    }
}
