//! Reads rows through all levels: batches not absorbed yet, active, frozen, redb.

use std::collections::btree_map;
use std::iter::Peekable;
use std::ops::Bound;

use bytes::Bytes;
use redb::{ReadTransaction, ReadableDatabase};

use super::base::definition;
use super::error::ReadError;
use super::memtable::{Entry, Found, TableRows};
use super::ranges::RangeSet;
use super::shared::{Key, Mem, Shared};
use super::table::Table;

/// Which batches a read sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// All that was applied, durable or not: what functions read.
    Applied,
    /// Durable batches only: what may leave the gateway.
    Durable,
}

/// Rows of one table with `start <= key < end` (an empty `end` is no end).
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) table: Table,
    pub(super) start: Key,
    pub(super) end: Key,
}

/// A row.
pub(super) type Row = (Key, Bytes);

/// Levels of one table in memory, newest first.
fn levels(mem: &Mem, table: Table, view: View) -> impl Iterator<Item = &TableRows> {
    let durable = mem.durable;
    let pending = mem.pending.iter().rev();
    pending
        .filter(move |(seq, _)| view == View::Applied || *seq <= durable)
        .map(|(_, rows)| &**rows)
        .chain([&mem.active])
        .chain(mem.frozen.as_deref())
        .map(move |rows| rows.table(table))
}

impl Shared {
    /// One row.
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let base = self.base();
        let txn = {
            let mem = self.mem();
            for level in levels(&mem, table, View::Applied) {
                match level.get(key) {
                    Found::Row(value) => return Ok(Some(value.clone())),
                    Found::Gone => return Ok(None),
                    Found::Unknown => {}
                }
            }
            if table == Table::Outbox && mem.dead.contains(key) {
                return Ok(None);
            }
            // Under the lock, so that rows that leave memory now are in what is read below.
            begin(base.as_ref())?
        };
        let open = match txn.open_table(definition(table)) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            other => other.map_err(ReadError::base)?,
        };
        let row = open.get(key).map_err(ReadError::base)?;
        Ok(row.map(|row| Bytes::copy_from_slice(row.value())))
    }

    /// Rows in the order of their keys: at most `rows_max`, and no more once they hold
    /// `bytes_max` bytes.
    pub(super) fn scan(
        &self,
        span: &Span,
        view: View,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Row>, ReadError> {
        if rows_max == 0 || (!span.end.is_empty() && span.start >= span.end) {
            return Ok(Vec::new());
        }
        let base = self.base();
        let (over, txn) = {
            let mem = self.mem();
            (Over::collect(&mem, span, view, rows_max), begin(base.as_ref())?)
        };
        let bytes_max = bytes_max.max(1);
        let mut merge = Merge { rows: Vec::new(), rows_max, bytes_max, bytes: 0 };
        merge.run(&txn, span, over)?;
        Ok(merge.rows)
    }

    /// All rows of a table, a page at a time.
    pub(super) fn each(
        &self,
        span: &Span,
        view: View,
        mut take: impl FnMut(&[u8], &[u8]) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        const PAGE_ROWS: usize = 256;
        const PAGE_BYTES: usize = 1 << 20;
        let mut span = span.clone();
        loop {
            let rows = self.scan(&span, view, PAGE_ROWS, PAGE_BYTES)?;
            for (key, value) in &rows {
                take(key, value)?;
            }
            let Some((last, _)) = rows.last() else { return Ok(()) };
            span.start = super::table::successor(last);
        }
    }
}

fn begin(base: Option<&redb::Database>) -> Result<ReadTransaction, ReadError> {
    base.ok_or(ReadError::Closed)?.begin_read().map_err(ReadError::base)
}

/// What memory says of a span: copied under the lock, so that redb is read without it.
struct Over {
    /// Rows and deleted rows, in order.
    rows: Vec<(Key, Option<Bytes>)>,
    /// Ranges whose rows in redb are hidden.
    gone: RangeSet,
    /// Memory was read up to the last of `rows` only: enough, for the scan ends there.
    cut: bool,
}

type LevelRows<'a> = Peekable<btree_map::Range<'a, Key, Entry>>;

impl Over {
    fn collect(mem: &Mem, span: &Span, view: View, rows_max: usize) -> Self {
        let end = if span.end.is_empty() { Bound::Unbounded } else { Bound::Excluded(&*span.end) };
        let levels: Vec<&TableRows> = levels(mem, span.table, view).collect();
        let mut gone =
            if span.table == Table::Outbox { (*mem.dead).clone() } else { RangeSet::default() };
        for (start, end) in levels.iter().flat_map(|level| level.gone.iter()) {
            gone.insert(start.into(), end.into());
        }
        let mut heads: Vec<LevelRows<'_>> = levels
            .iter()
            .map(|level| {
                let range = (Bound::Included(&*span.start), end);
                level.rows.range::<[u8], _>(range).peekable()
            })
            .collect();
        let mut rows = Vec::new();
        let mut live = 0;
        while live < rows_max
            && let Some((newest, key, entry)) = next(&mut heads)
        {
            let hidden = levels[..newest].iter().any(|level| level.gone.contains(key));
            if !hidden {
                live += usize::from(entry.value.is_some());
                rows.push((key.clone(), entry.value.clone()));
            }
        }
        Self { rows, gone, cut: live == rows_max }
    }
}

/// The smallest key of all levels with the newest level's entry; passes over the older ones.
fn next<'a>(heads: &mut [LevelRows<'a>]) -> Option<(usize, &'a Key, &'a Entry)> {
    let key = heads.iter_mut().filter_map(|head| head.peek().map(|(key, _)| *key)).min()?;
    let mut found = None;
    for (level, head) in heads.iter_mut().enumerate() {
        if let Some((_, entry)) = head.next_if(|(at, _)| *at == key) {
            found.get_or_insert((level, key, entry));
        }
    }
    found
}

/// Puts memory's rows over redb's.
struct Merge {
    rows: Vec<Row>,
    rows_max: usize,
    bytes_max: usize,
    bytes: usize,
}

impl Merge {
    fn is_full(&self) -> bool {
        self.rows.len() >= self.rows_max || self.bytes >= self.bytes_max
    }

    fn push(&mut self, key: Key, value: Option<Bytes>) {
        if let Some(value) = value
            && !self.is_full()
        {
            self.bytes += key.len() + value.len();
            self.rows.push((key, value));
        }
    }

    fn run(&mut self, txn: &ReadTransaction, span: &Span, over: Over) -> Result<(), ReadError> {
        // Behind the cut nothing is wanted: as many rows as asked for stand before it.
        let end = match over.rows.last() {
            Some((last, _)) if over.cut => super::table::successor(last),
            _ => span.end.clone(),
        };
        let mut over_rows = over.rows.into_iter().peekable();
        let open = match txn.open_table(definition(span.table)) {
            Err(redb::TableError::TableDoesNotExist(_)) => None,
            other => Some(other.map_err(ReadError::base)?),
        };
        let mut from: Option<Key> = Some(span.start.clone());
        while let (Some(open), Some(start)) = (&open, from.take()) {
            if !end.is_empty() && start >= end {
                break;
            }
            let until = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(&*end) };
            let range =
                open.range::<&[u8]>((Bound::Included(&*start), until)).map_err(ReadError::base)?;
            for row in range {
                let (key, value) = row.map_err(ReadError::base)?;
                let key = key.value();
                while let Some((key, value)) = over_rows.next_if(|(at, _)| **at < *key) {
                    self.push(key, value);
                }
                if self.is_full() {
                    return Ok(());
                }
                if let Some((key, value)) = over_rows.next_if(|(at, _)| **at == *key) {
                    self.push(key, value);
                } else if let Some(end) = over.gone.end_of(key) {
                    // Millions of rows may lie in there: go on behind them.
                    if !end.is_empty() {
                        from = Some(end.into());
                    }
                    break;
                } else {
                    self.push(key.into(), Some(Bytes::copy_from_slice(value.value())));
                }
            }
        }
        for (key, value) in over_rows {
            self.push(key, value);
        }
        Ok(())
    }
}
