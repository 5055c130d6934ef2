//! Opening: make what is not there, check what is, roll the journal forward.

use std::path::Path;
use std::sync::Arc;

use edge_core::id::{BatchSeq, StreamId};
use edge_core::time::Millis;
use redb::{Database, ReadableDatabase, ReadableTable};

use super::ballast::Ballast;
use super::base::{self, Meta};
use super::checkpoint::Checkpointer;
use super::commit::JournalStore;
use super::disk::{Disk, SystemDisk};
use super::error::{OpenError, StoreError};
use super::heads;
use super::journal::{self, Journal, Slots};
use super::memtable::Generation;
use super::op::{Positions, StreamRow};
use super::reader::{Overlay, Reader};
use super::replay::replay;
use super::segment;
use super::shared::{Mem, Shared, State};
use super::stats::Counters;
use super::table::{KeyReader, Table};
use super::{Recovered, SEGMENTS, Settings};

/// An open store, in three hands.
#[derive(Debug)]
pub struct Opened {
    /// For the thread that commits.
    pub store: JournalStore,
    /// For the loop.
    pub overlay: Overlay,
    /// For whoever reads.
    pub reader: Reader,
    /// What was found.
    pub recovered: Recovered,
}

/// Opens the store in a directory, making it where the directory is new.
///
/// # Errors
/// [`OpenError`]; whatever is missing, foreign, newer or damaged is refused.
pub fn open(dir: &Path, settings: Settings) -> Result<Opened, OpenError> {
    let disk = SystemDisk::take(dir)
        .map_err(OpenError::io(format!("taking the store directory {}", dir.display())))?;
    open_on(Arc::new(disk), settings)
}

/// [`open`] on any disk.
///
/// # Errors
/// [`OpenError`].
pub fn open_on(disk: Arc<dyn Disk>, settings: Settings) -> Result<Opened, OpenError> {
    check(&settings)?;
    let counters = Arc::new(Counters::default());
    let found = base::open(&*disk, settings.cache_bytes, &counters)?;
    let created = found.is_none();
    let (db, meta) = match found {
        Some(found) => found,
        None => create(&*disk, &settings, &counters)?,
    };
    let mut slots = Slots {
        files: journal::open_files(&*disk, usize::from(meta.segments), meta.segment_bytes)?,
        segment_bytes: meta.segment_bytes as usize,
        store_id: meta.store_id,
        number: 0,
        in_use: Vec::new(),
    };
    let mut positions = read_positions(&db)?;
    let mut rows = Generation::new(BatchSeq(meta.seq));
    let mut gateway_time = Millis(meta.gateway_time);
    let mut changes = Vec::new();
    let replayed = replay(&mut slots, meta.seq, |batch| {
        for op in &batch.ops {
            op.changes(&mut positions, &mut changes);
        }
        for change in changes.drain(..) {
            rows.apply(change);
        }
        gateway_time = gateway_time.max(batch.gateway_time);
        rows.upto = batch.seq;
    })?;
    let recovered = Recovered {
        last: BatchSeq(replayed.last),
        gateway_time,
        created,
        replayed_batches: replayed.batches,
        torn_bytes: replayed.torn_bytes,
    };
    finish(disk, settings, counters, Found { db, meta, slots, positions, rows }, recovered)
}

struct Found {
    db: Database,
    meta: Meta,
    slots: Slots,
    positions: Positions,
    rows: Generation,
}

/// Checkpoints what was rolled forward and puts the parts together.
fn finish(
    disk: Arc<dyn Disk>,
    settings: Settings,
    counters: Arc<Counters>,
    found: Found,
    recovered: Recovered,
) -> Result<Opened, OpenError> {
    let Found { db, meta, slots, positions, rows } = found;
    super::stats::set(&counters.live_bytes, meta.live_bytes);
    let dead = meta.dead();
    let mem = Mem {
        pending: std::collections::VecDeque::new(),
        active: rows,
        frozen: None,
        dead: Arc::new(dead.clone()),
        positions,
        durable: recovered.last,
    };
    let state = State {
        durable_time: recovered.gateway_time,
        checkpointed: BatchSeq(meta.seq),
        ..State::default()
    };
    let ballast_bytes = settings.ballast_bytes;
    let ballast = Ballast::open(Arc::clone(&disk), ballast_bytes)
        .map_err(OpenError::io("writing the ballast file"))?;
    let shared = Arc::new(Shared::new(settings, counters, db, mem, state));
    let mut checkpointer = Checkpointer { shared: Arc::clone(&shared), disk, ballast, meta, dead };
    if recovered.replayed_batches > 0 {
        match checkpointer.checkpoint() {
            // The rows stay in memory; what is left of the journal takes what frees space.
            Ok(()) | Err(StoreError::DiskFull) => {}
            Err(error) => return Err(failed(&shared, error)),
        }
    }
    let mut journal = Journal::resume(slots);
    journal.release(shared.state().checkpointed.0);
    if journal.free_segments() == 0 {
        return Err(OpenError::DiskFull);
    }
    let reader = Reader { shared: Arc::clone(&shared) };
    let overlay = Overlay::new(Arc::clone(&shared));
    let store = JournalStore::new(shared, journal, checkpointer, recovered.last)
        .map_err(OpenError::io("starting the checkpoint thread"))?;
    Ok(Opened { store, overlay, reader, recovered })
}

fn failed(shared: &Shared, error: StoreError) -> OpenError {
    *shared.base_mut() = None;
    let step = "rolling the journal forward into the checkpoint".to_owned();
    OpenError::Io { step, source: std::io::Error::other(error) }
}

fn check(settings: &Settings) -> Result<(), OpenError> {
    const SEGMENT_BYTES_MIN: u32 = 16 << 10;
    let segment_bytes = SEGMENT_BYTES_MIN..=heads::SEGMENT_BYTES_MAX;
    if !segment_bytes.contains(&settings.segment_bytes)
        || !settings.segment_bytes.is_multiple_of(4096)
    {
        return Err(OpenError::Settings("a segment is a multiple of 4 KiB, from 16 KiB to 64 MiB"));
    }
    if !SEGMENTS.contains(&settings.segments) {
        return Err(OpenError::Settings("a journal has 3 to 99 segments"));
    }
    Ok(())
}

/// Makes a new store, unless the directory holds a journal without its checkpoint.
fn create(
    disk: &dyn Disk,
    settings: &Settings,
    counters: &Arc<Counters>,
) -> Result<(Database, Meta), OpenError> {
    let slots = usize::from(settings.segments);
    check_no_journal(disk, slots)?;
    journal::create(disk, slots, settings.segment_bytes)
        .map_err(OpenError::io("making the journal"))?;
    let meta = Meta {
        store_id: settings.new_store_id,
        segments: settings.segments,
        segment_bytes: settings.segment_bytes,
        ..Meta::default()
    };
    base::create(disk, &meta, settings.cache_bytes, counters)?;
    let made = base::open(disk, settings.cache_bytes, counters)?;
    made.ok_or_else(|| OpenError::Damaged { what: format!("{} vanished", base::FILE) })
}

/// Where there is no checkpoint nothing was ever written to a journal.
pub(super) fn check_no_journal(disk: &dyn Disk, slots: usize) -> Result<(), OpenError> {
    for slot in 0..slots {
        let name = segment::file_name(slot);
        let file = disk.open(&name).map_err(OpenError::io(format!("opening {name}")))?;
        let Some(file) = file else { continue };
        let mut header = [0; segment::HEADER_BYTES];
        // A file cut short is left over from making the store.
        if file.read_at(0, &mut header).is_ok() && header.iter().any(|byte| *byte != 0) {
            let what = format!("there is a journal ({name}) but {} is gone", base::FILE);
            return Err(OpenError::Damaged { what });
        }
    }
    Ok(())
}

fn read_positions(db: &Database) -> Result<Positions, OpenError> {
    let read = || -> Result<Positions, redb::Error> {
        let mut positions = Positions::new();
        let table = match db.begin_read()?.open_table(base::definition(Table::Stream)) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(positions),
            other => other?,
        };
        for row in table.iter()? {
            let (key, value) = row?;
            let stream = KeyReader::new(key.value()).u8();
            let row: Option<StreamRow> = postcard::from_bytes(value.value()).ok();
            let (Some(stream), Some(row)) = (stream, row) else {
                return Err(redb::Error::Corrupted("a stream's row does not decode".into()));
            };
            positions.insert(StreamId(stream), row);
        }
        Ok(positions)
    };
    read().map_err(OpenError::checkpoint)
}
