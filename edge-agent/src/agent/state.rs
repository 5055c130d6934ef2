//! State as attempts read it: through the overlay, every outcome sequenced before included.
//!
//! How much state a function has is kept as an upper bound: an exact count, plus what was put
//! since. The count is made again when that grew by a sixteenth (at least 64 KiB), so that it
//! costs a fixed share of the writes.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use edge_core::id::{FunctionId, LaneKey};
use edge_core::op::{CoreOp, StateKey};

use crate::runtime::{StateDomain, StateView};
use crate::store::Reader;

/// Bytes of one scan.
const SCAN_BYTES_MAX: usize = 1 << 20;
/// Entries of one read while counting or carrying over.
const ROWS_MAX: usize = 1_000;
/// Bytes put after which a count is made again, at least.
const RECOUNT_BYTES: u64 = 64 << 10;

/// State of all functions.
#[derive(Debug)]
pub(super) struct State {
    reader: Reader,
    usage: Mutex<BTreeMap<(FunctionId, u32), Usage>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    counted: u64,
    put_since: u64,
}

/// The entries of one lane.
pub(super) type Lane = (LaneKey, Vec<(String, Bytes)>);

impl State {
    /// Reads through `reader`.
    #[must_use]
    pub(super) fn new(reader: Reader) -> Self {
        Self { reader, usage: Mutex::default() }
    }

    /// An operation was applied.
    pub(super) fn applied(&self, op: &CoreOp) {
        if let CoreOp::PutState { key, value } = op {
            let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
            // A function that was not counted yet is counted when somebody asks.
            if let Some(usage) = usage.get_mut(&(key.function.clone(), key.state_version)) {
                usage.put_since += (key.key.len() + value.len()) as u64;
            }
        }
    }

    /// All state of one version of a function, lane by lane.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) fn lanes(&self, function: &FunctionId, version: u32) -> io::Result<Vec<Lane>> {
        let mut lanes: Vec<Lane> = Vec::new();
        self.each(function, version, |lane, key, value| match lanes.last_mut() {
            Some((last, entries)) if *last == lane => entries.push((key, value)),
            _ => lanes.push((lane, vec![(key, value)])),
        })?;
        Ok(lanes)
    }

    fn each(
        &self,
        function: &FunctionId,
        version: u32,
        mut visit: impl FnMut(LaneKey, String, Bytes),
    ) -> io::Result<()> {
        let mut after: Option<(LaneKey, String)> = None;
        loop {
            let from = after.as_ref().map(|(lane, key)| (lane, key.as_str()));
            let rows = self.reader.state_rows(function, version, from, ROWS_MAX);
            let rows = rows.map_err(io::Error::other)?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = Some((last.lane.clone(), last.key.clone()));
            for row in rows {
                visit(row.lane, row.key, row.value);
            }
        }
    }

    fn count(&self, function: &FunctionId, version: u32) -> u64 {
        let mut bytes = 0;
        let counted = self.each(function, version, |_, key, value| {
            bytes += (key.len() + value.len()) as u64;
        });
        // A store that cannot be read says so at the next commit; until then nothing grows.
        if counted.is_ok() { bytes } else { u64::MAX / 2 }
    }
}

impl StateView for State {
    fn get(&self, key: &StateKey) -> io::Result<Option<Bytes>> {
        self.reader.state_get(key).map_err(io::Error::other)
    }

    fn scan(
        &self,
        domain: &StateDomain,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> io::Result<Vec<(String, Bytes)>> {
        let prefix = domain.key(prefix);
        self.reader.state_scan(&prefix, after, limit, SCAN_BYTES_MAX).map_err(io::Error::other)
    }

    fn used_bytes(&self, function: &FunctionId, state_version: u32) -> u64 {
        let key = (function.clone(), state_version);
        let known = {
            let usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
            usage.get(&key).copied()
        };
        if let Some(Usage { counted, put_since }) = known
            && put_since < RECOUNT_BYTES.max(counted / 16)
        {
            return counted + put_since;
        }
        let counted = self.count(function, state_version);
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        usage.insert(key, Usage { counted, put_since: 0 });
        counted
    }
}
