//! Rows that are not in redb yet.
//!
//! # Invariants
//! - A row of a generation hides whatever lies below it; a deleted row stands as `None`, a deleted
//!   range in `gone`. A row in the map is newer than any range of the same generation.
//! - A row that was new in a generation and is deleted within it leaves nothing, for nothing lies
//!   below it: most jobs never reach redb.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::ops::Bound;

use bytes::Bytes;
use edge_core::id::BatchSeq;

use super::op::Change;
use super::ranges::RangeSet;
use super::shared::Key;
use super::table::Table;

/// Memory a row costs beside its bytes: map node, key and value headers.
const ROW_BYTES: usize = 120;

/// A row, or its absence.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) value: Option<Bytes>,
    /// No row of this key lies below this generation.
    fresh: bool,
}

/// Changes of one table.
#[derive(Clone, Debug, Default)]
pub(super) struct TableRows {
    pub(super) rows: BTreeMap<Box<[u8]>, Entry>,
    pub(super) gone: RangeSet,
}

/// What one level knows of a key.
pub(super) enum Found<'a> {
    Row(&'a Bytes),
    Gone,
    Unknown,
}

impl TableRows {
    pub(super) fn get(&self, key: &[u8]) -> Found<'_> {
        match self.rows.get(key) {
            Some(Entry { value: Some(value), .. }) => Found::Row(value),
            Some(Entry { value: None, .. }) => Found::Gone,
            None if self.gone.contains(key) => Found::Gone,
            None => Found::Unknown,
        }
    }
}

/// Changes since some batch.
#[derive(Clone, Debug)]
pub(super) struct Generation {
    tables: Vec<TableRows>,
    /// Estimated memory.
    bytes: usize,
    /// Every batch up to this one is in it or below it.
    pub(super) upto: BatchSeq,
}

impl Generation {
    pub(super) fn new(upto: BatchSeq) -> Self {
        Self { tables: vec![TableRows::default(); Table::ALL.len()], bytes: 0, upto }
    }

    pub(super) fn table(&self, table: Table) -> &TableRows {
        &self.tables[table as usize]
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.iter().all(|table| table.rows.is_empty() && table.gone.is_empty())
    }

    /// Whether it deletes anything that may lie below.
    pub(super) fn has_deletes(&self) -> bool {
        self.tables.iter().any(|table| {
            !table.gone.is_empty() || table.rows.values().any(|entry| entry.value.is_none())
        })
    }

    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Put { table, key, value } => {
                self.put(table, key, Entry { value: Some(value), fresh: false });
            }
            Change::PutNew { table, key, value } => {
                self.put(table, key, Entry { value: Some(value), fresh: true });
            }
            Change::Delete { table, key } => self.delete(table, key),
            Change::FinishJob { key } => {
                self.delete(Table::JobProgress, key.clone());
                self.delete(Table::Job, key);
            }
            Change::DeleteRange { table, start, end } => {
                self.absorb_range(table, &start, &end, usize::MAX);
            }
        }
    }

    /// Takes over all changes of a newer generation.
    pub(super) fn absorb(&mut self, newer: &Self) {
        for (table, start, end) in newer.ranges() {
            self.absorb_range(table, start, end, usize::MAX);
        }
        for (table, key, entry) in newer.rows_after(None) {
            self.absorb_row(table, key, entry);
        }
        self.upto = newer.upto;
    }

    /// All deleted ranges.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (Table, &[u8], &[u8])> {
        let tables = Table::ALL.into_iter().zip(&self.tables);
        tables
            .flat_map(|(table, rows)| rows.gone.iter().map(move |(start, end)| (table, start, end)))
    }

    /// Takes over one deleted range of a newer generation, whose rows come after its ranges.
    /// Removes at most `rows_max` rows; `false`: call again.
    pub(super) fn absorb_range(
        &mut self,
        table: Table,
        start: &[u8],
        end: &[u8],
        rows_max: usize,
    ) -> bool {
        if !end.is_empty() && start >= end {
            return true;
        }
        let until = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end.into()) };
        let span: (Bound<Key>, Bound<Key>) = (Bound::Included(start.into()), until);
        let TableRows { rows, gone } = &mut self.tables[table as usize];
        let mut removed = 0;
        // What the iterator does not come to stays.
        for (key, entry) in rows.extract_if(span, |_, _| true).take(rows_max) {
            removed += 1;
            let bytes = ROW_BYTES + key.len() + entry.value.as_ref().map_or(0, Bytes::len);
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        let done = removed < rows_max;
        if done {
            gone.insert(start.into(), end.into());
        }
        done
    }

    /// Takes over one row of a newer generation. Progress of a job comes before the job.
    pub(super) fn absorb_row(&mut self, table: Table, key: &[u8], entry: &Entry) {
        match entry.value {
            Some(_) => self.put(table, key.into(), entry.clone()),
            None => self.delete(table, key.into()),
        }
    }

    /// The rows behind `after` in the order of tables and keys.
    pub(super) fn rows_after<'a>(
        &'a self,
        after: Option<(Table, &'a [u8])>,
    ) -> impl Iterator<Item = (Table, &'a [u8], &'a Entry)> {
        let first = after.map_or(0, |(table, _)| table as usize);
        Table::ALL.into_iter().skip(first).flat_map(move |table| {
            let from = match after {
                Some((at, key)) if at == table => Bound::Excluded(key),
                _ => Bound::Unbounded,
            };
            let rows = &self.tables[table as usize].rows;
            rows.range::<[u8], _>((from, Bound::Unbounded))
                .map(move |(key, entry)| (table, &**key, entry))
        })
    }

    fn put(&mut self, table: Table, key: Box<[u8]>, mut entry: Entry) {
        let new = ROW_BYTES + key.len() + entry.value.as_ref().map_or(0, Bytes::len);
        let key_len = key.len();
        let rows = &mut self.tables[table as usize].rows;
        let old = match rows.entry(key) {
            MapEntry::Vacant(place) => {
                place.insert(entry);
                None
            }
            MapEntry::Occupied(mut place) => {
                // Numbers are used again after a start: below a delete that is not in redb yet
                // there may be a row.
                entry.fresh &= place.get().fresh;
                Some(place.insert(entry))
            }
        };
        self.bytes += new;
        self.forget_bytes(key_len, old.as_ref());
    }

    fn delete(&mut self, table: Table, key: Box<[u8]>) {
        if self.knows_nothing_below(table, &key) {
            let old = self.tables[table as usize].rows.remove(&key);
            self.forget_bytes(key.len(), old.as_ref());
        } else {
            self.put(table, key, Entry { value: None, fresh: false });
        }
    }

    fn knows_nothing_below(&self, table: Table, key: &[u8]) -> bool {
        // The progress of a job is as fresh as the job itself.
        let table = if table == Table::JobProgress { Table::Job } else { table };
        self.table(table).rows.get(key).is_some_and(|entry| entry.fresh)
    }

    fn forget_bytes(&mut self, key_len: usize, old: Option<&Entry>) {
        if let Some(old) = old {
            let bytes = ROW_BYTES + key_len + old.value.as_ref().map_or(0, Bytes::len);
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_row_over_a_delete_leaves_the_delete_behind() {
        let mut rows = Generation::new(BatchSeq(0));
        let key = || Box::from(&b"7"[..]);
        rows.apply(Change::Delete { table: Table::Job, key: key() });
        rows.apply(Change::PutNew { table: Table::Job, key: key(), value: Bytes::new() });
        rows.apply(Change::Delete { table: Table::Job, key: key() });
        assert!(rows.has_deletes(), "an old row in redb would be back");
        rows.apply(Change::PutNew {
            table: Table::Job,
            key: Box::from(&b"8"[..]),
            value: Bytes::new(),
        });
        rows.apply(Change::Delete { table: Table::Job, key: Box::from(&b"8"[..]) });
        assert_eq!(rows.rows_after(None).count(), 1, "what was never anywhere leaves nothing");
    }
}
