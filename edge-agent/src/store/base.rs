//! The redb file that holds every row as of some batch, and its meta row.
//!
//! Table `meta` has one row: 8 bytes of formats (journal, rows of core, broker and ledger;
//! little-endian), then postcard of [`Meta`]. Every other table is one of [`Table`], from bytes to
//! bytes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use redb::{Database, ReadableDatabase, StorageBackend, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::disk::{Disk, DiskFile, is_full};
use super::error::OpenError;
use super::ranges::RangeSet;
use super::segment::{FORMATS, text};
use super::shared::Key;
use super::stats::{Counters, add};
use super::table::Table;

/// Name of the file.
pub(super) const FILE: &str = "checkpoint.redb";
const NEW_FILE: &str = "checkpoint.redb.new";
/// How a redb file begins.
const REDB_MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";
/// No redb file is shorter.
const REDB_BYTES_MIN: u64 = 4_096;
pub(super) const NOT_REDB: &str = "it is not a redb file";
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const META_ROW: &str = "meta";

/// A table as redb sees it.
pub(super) type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

pub(super) fn definition(table: Table) -> Definition {
    TableDefinition::new(table.name())
}

/// What the checkpoint says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) store_id: u64,
    /// The last batch in it.
    pub(super) seq: u64,
    pub(super) gateway_time: u64,
    pub(super) segments: u16,
    pub(super) segment_bytes: u32,
    /// Keys and values in all tables.
    pub(super) live_bytes: u64,
    /// Outbox keys that are deleted, though their rows still stand in the table.
    pub(super) dead: Vec<(Key, Key)>,
}

impl Meta {
    pub(super) fn dead(&self) -> RangeSet {
        let mut set = RangeSet::default();
        for (start, end) in &self.dead {
            set.insert(start.clone(), end.clone());
        }
        set
    }

    pub(super) fn put(&self, txn: &WriteTransaction) -> Result<(), redb::Error> {
        let mut bytes: Vec<u8> = FORMATS.iter().flat_map(|format| format.to_le_bytes()).collect();
        bytes.extend(super::op::encode(self));
        txn.open_table(META)?.insert(META_ROW, bytes.as_slice())?;
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Self, OpenError> {
        let damaged = || OpenError::Damaged { what: format!("the meta row of {FILE}") };
        let (formats, rest) = bytes.split_at_checked(8).ok_or_else(damaged)?;
        let formats = [0, 2, 4, 6].map(|at| u16::from_le_bytes([formats[at], formats[at + 1]]));
        if formats != FORMATS {
            return Err(OpenError::OtherFormat {
                file: FILE.into(),
                found: text(formats),
                known: text(FORMATS),
            });
        }
        postcard::from_bytes(rest).map_err(|_| damaged())
    }
}

/// Whether there is a checkpoint, by the first bytes of its file.
pub(super) fn check_head(disk: &dyn Disk) -> Result<bool, OpenError> {
    let file = disk.open(FILE).map_err(OpenError::io(format!("opening {FILE}")))?;
    let Some(file) = file else { return Ok(false) };
    let reading = || OpenError::io(format!("reading {FILE}"));
    if file.len().map_err(reading())? < REDB_BYTES_MIN {
        return Err(OpenError::Foreign { file: FILE.into(), why: "it is cut short" });
    }
    let mut head = [0; REDB_MAGIC.len()];
    file.read_at(0, &mut head).map_err(reading())?;
    if head != REDB_MAGIC {
        return Err(OpenError::Foreign { file: FILE.into(), why: NOT_REDB });
    }
    Ok(true)
}

/// Opens the checkpoint; `None` where there is none.
pub(super) fn open(
    disk: &dyn Disk,
    cache_bytes: usize,
    counters: &Arc<Counters>,
) -> Result<Option<(Database, Meta)>, OpenError> {
    let file = disk.open(FILE).map_err(OpenError::io(format!("opening {FILE}")))?;
    let Some(file) = file else { return Ok(None) };
    let db = database(file, cache_bytes, counters).map_err(OpenError::checkpoint)?;
    let meta = read_meta(&db)?;
    Ok(Some((db, meta)))
}

/// Makes the file with all tables, durably and at once: it has its name only when it is whole.
pub(super) fn create(
    disk: &dyn Disk,
    meta: &Meta,
    cache_bytes: usize,
    counters: &Arc<Counters>,
) -> Result<(), OpenError> {
    let file = disk.create(NEW_FILE).map_err(OpenError::io(format!("making {NEW_FILE}")))?;
    let make = || -> Result<(), redb::Error> {
        let db = database(file, cache_bytes, counters)?;
        let txn = begin(&db)?;
        for table in Table::ALL {
            txn.open_table(definition(table))?;
        }
        meta.put(&txn)?;
        txn.commit()?;
        db.close()?;
        Ok(())
    };
    make().map_err(OpenError::checkpoint)?;
    disk.rename(NEW_FILE, FILE)
        .and_then(|()| disk.sync_dir())
        .map_err(OpenError::io(format!("naming {FILE}")))
}

/// Begins a transaction that is durable at commit and needs no repair after a crash.
pub(super) fn begin(db: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut txn = db.begin_write()?;
    txn.set_quick_repair(true);
    Ok(txn)
}

fn read_meta(db: &Database) -> Result<Meta, OpenError> {
    let read = || -> Result<Option<Vec<u8>>, redb::Error> {
        let table = match db.begin_read()?.open_table(META) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            other => other?,
        };
        Ok(table.get(META_ROW)?.map(|row| row.value().to_vec()))
    };
    let bytes = read().map_err(OpenError::checkpoint)?;
    let why = "it is a redb file without the meta row of a store";
    let bytes = bytes.ok_or_else(|| OpenError::Foreign { file: FILE.into(), why })?;
    Meta::decode(&bytes)
}

fn database(
    file: Arc<dyn DiskFile>,
    cache_bytes: usize,
    counters: &Arc<Counters>,
) -> Result<Database, redb::DatabaseError> {
    let backend = Backend { file, counters: Arc::clone(counters) };
    Database::builder().set_cache_size(cache_bytes).create_with_backend(backend)
}

/// redb's view of the file. Locking is the directory's business.
#[derive(Debug)]
struct Backend {
    file: Arc<dyn DiskFile>,
    counters: Arc<Counters>,
}

impl Backend {
    /// redb reports a full disk once and as something else afterwards; this remembers.
    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if result.as_ref().is_err_and(is_full) {
            self.counters.base_full.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.note(self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.note(self.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        add(&self.counters.checkpoint_bytes, data.len() as u64);
        self.note(self.file.write_at(offset, data))
    }
}
