//! Goal: the outbox hides what is receipted at once, deletes it bit by bit, and starts without
//! reading its records.

use edge_core::op::{DropReason, OutboxChunk};

use super::*;

const S: StreamId = StreamId::NORMAL;

fn positions(reader: &Reader, from: u64) -> Vec<u64> {
    let records = reader.outbox_read(S, RecordSeq(from), usize::MAX, usize::MAX).unwrap();
    records.iter().map(|record| record.seq.0).collect()
}

fn drop_run(from: u64, to: u64) -> [Op; 2] {
    let (from, to, reason) = (RecordSeq(from), RecordSeq(to), DropReason::Full);
    let body = RecordBody::Tombstone { from, to, reason };
    let tombstone = OutboxRecord { seq: to, body, ..record(S, to.0, 0) };
    [
        Op::Core(CoreOp::DropOutbox { stream: S, from, to, reason }),
        Op::Core(CoreOp::AppendOutbox(Box::new(tombstone))),
    ]
}

#[test]
fn records_are_readable_once_they_are_durable() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    rig.commit(vec![append(S, 1, 10), append(StreamId::BULK, 1, 10)]);
    let ops = vec![append(S, 2, 10), append(S, 3, 10)];
    rig.apply(&ops);
    assert_eq!(positions(&rig.reader, 1), [1]);
    rig.commit_applied(ops).unwrap();
    assert_eq!(positions(&rig.reader, 1), [1, 2, 3]);
    assert_eq!(positions(&rig.reader, 3), [3]);
    let read = |rows, bytes| rig.reader.outbox_read(S, RecordSeq(1), rows, bytes).unwrap();
    assert_eq!(read(2, usize::MAX).len(), 2);
    assert_eq!(read(usize::MAX, 0), [record(S, 1, 10)], "at least one");
}

#[test]
fn a_large_receipt_is_purged_piece_by_piece() {
    const RECORDS: u64 = 2_000;
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { purge_rows_max: 300, ..small() };
    let mut rig = Rig::with(dir.path(), settings.clone());
    for first in (1..=RECORDS).step_by(50) {
        rig.commit((first..first + 50).map(|seq| append(S, seq, 100)).collect());
    }
    rig.store.checkpoint().unwrap();
    let full = rig.reader.stats().live_bytes;
    rig.commit(vec![ack(S, RECORDS - 10)]);
    assert_eq!(positions(&rig.reader, 1), (RECORDS - 9..=RECORDS).collect::<Vec<_>>());

    rig.store.checkpoint().unwrap();
    let purged = rig.reader.stats().purged_rows;
    assert_eq!(purged, 300);
    // Killed in between: what is dead stays dead.
    drop(rig);
    let mut rig = Rig::with(dir.path(), settings);
    assert_eq!(positions(&rig.reader, 1), (RECORDS - 9..=RECORDS).collect::<Vec<_>>());
    rig.commit(vec![append(S, RECORDS + 1, 10)]);
    for _ in 0..10 {
        rig.store.checkpoint().unwrap();
    }
    assert_eq!(rig.reader.stats().purged_rows + purged, RECORDS - 10);
    assert_eq!(positions(&rig.reader, 1), (RECORDS - 9..=RECORDS + 1).collect::<Vec<_>>());
    let live = rig.reader.stats().live_bytes;
    assert!(live < full / 50, "{live} of {full} bytes are left");
}

#[test]
fn a_tombstone_stands_where_records_were() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::with(dir.path(), Settings { purge_rows_max: 3, ..small() });
    rig.commit((1..=20).map(|seq| append(S, seq, 10)).collect());
    rig.store.checkpoint().unwrap();
    rig.commit(drop_run(1, 8).into());
    let expected: Vec<u64> = (8..=20).collect();
    assert_eq!(positions(&rig.reader, 1), expected);
    rig.store.checkpoint().unwrap();
    assert_eq!(positions(&rig.reader, 1), expected);
    // Merged with the next run, while the first is not purged yet.
    rig.commit(drop_run(1, 12).into());
    rig.store.checkpoint().unwrap();
    let expected: Vec<u64> = (12..=20).collect();
    assert_eq!(positions(&rig.reader, 1), expected);
    drop(rig);
    let mut rig = Rig::open(dir.path());
    assert_eq!(positions(&rig.reader, 1), expected);
    let first = rig.reader.outbox_read(S, RecordSeq(1), 1, 1).unwrap();
    assert!(matches!(first[0].body, RecordBody::Tombstone { .. }));
    rig.commit(vec![ack(S, 20)]);
    assert_eq!(positions(&rig.reader, 1), [] as [u64; 0]);
    for _ in 0..8 {
        rig.store.checkpoint().unwrap();
    }
    // Only the row of the stream's positions is left.
    assert!(rig.reader.stats().live_bytes < 16, "{}", rig.reader.stats().live_bytes);
}

#[test]
fn a_start_reads_runs_and_the_records_behind_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let chunk = |first: u64, last: u64| OutboxChunk {
        first: RecordSeq(first),
        last: RecordSeq(last),
        bytes: 7,
        dropped: None,
        gone: Vec::new(),
        expiry: None,
        tally: Vec::new(),
    };
    let put_chunk = |chunk| Op::Core(CoreOp::PutOutboxChunk { stream: S, chunk });
    rig.commit((1..=10).map(|seq| append(S, seq, 10)).collect());
    rig.commit(vec![put_chunk(chunk(1, 4)), put_chunk(chunk(5, 8)), ack(S, 5)]);
    let delete = CoreOp::DeleteOutboxChunk { stream: S, first: RecordSeq(1) };
    rig.commit(vec![Op::Core(delete)]);
    drop(rig);
    let mut rig = Rig::open(dir.path());
    let rows = rig.reader.core_rows().unwrap().outbox;
    assert_eq!(rows.len(), 1);
    let cost = record(S, 1, 10).cost_bytes();
    assert_eq!((rows[0].stream, rows[0].stored_to), (S, RecordSeq(5)));
    assert_eq!(rows[0].chunks, [chunk(5, 8)]);
    let tail: Vec<_> = rows[0].tail.iter().map(|row| (row.seq.0, row.cost_bytes)).collect();
    assert_eq!(tail, [(9, cost), (10, cost)]);

    // All receipted: the position outlives the records.
    rig.commit(vec![ack(S, 10)]);
    drop(rig);
    let rows = Rig::open(dir.path()).reader.core_rows().unwrap().outbox;
    assert_eq!((rows[0].stored_to, rows[0].tail.len()), (RecordSeq(10), 0));
}

#[test]
fn jobs_that_are_admitted_and_finished_between_checkpoints_cost_redb_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    for id in 0..100 {
        rig.commit(vec![admit(id), update(id, 1)]);
        rig.commit(vec![finish(id)]);
    }
    rig.store.checkpoint().unwrap();
    let stats = rig.reader.stats();
    assert_eq!((stats.live_bytes, stats.memory_bytes), (0, 0));
    // One that lives longer does reach redb, and goes.
    rig.commit(vec![admit(100), update(100, 2)]);
    rig.store.checkpoint().unwrap();
    assert!(rig.reader.stats().live_bytes > 0);
    assert_eq!(rig.reader.core_rows().unwrap().jobs[0].progress.attempts, 2);
    rig.commit(vec![finish(100)]);
    assert_eq!(rig.reader.core_rows().unwrap().jobs.len(), 0);
    rig.store.checkpoint().unwrap();
    assert_eq!(rig.reader.stats().live_bytes, 0);
}

#[test]
fn a_batch_of_thousands_of_rows_moves_in_steps() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { segment_bytes: 256 << 10, checkpoint_bytes: 1 << 20, ..small() };
    let mut rig = Rig::with(dir.path(), settings.clone());
    for first in [1, 2_001] {
        let jobs = (first..first + 700).flat_map(|id| [admit(id), update(id, 1)]);
        let records = (first..first + 2_000).map(|seq| append(S, seq, 10));
        rig.commit(jobs.chain(records).collect());
    }
    assert_eq!(positions(&rig.reader, 1), (1..=4_000).collect::<Vec<_>>());
    // All at once: a range of thousands of rows, and rows behind it.
    let mut ops: Vec<Op> = (1..=700).map(finish).collect();
    ops.extend([ack(S, 3_000), append(S, 4_001, 10)]);
    rig.commit(ops);
    let check = |rig: &Rig| {
        assert_eq!(positions(&rig.reader, 1), (3_001..=4_001).collect::<Vec<_>>());
        let jobs = rig.reader.core_rows().unwrap().jobs;
        assert!(jobs.iter().map(|job| job.id.0).eq(2_001..=2_700));
        assert!(jobs.iter().all(|job| job.progress.attempts == 1));
    };
    check(&rig);
    drop(rig);
    check(&Rig::with(dir.path(), settings));
}

/// The bound of the outbox counts what records cost; this is what that means on the disk: over many
/// times its size the checkpoint file stays within twice the bound, and beside it stand the journal
/// and the ballast, whose sizes are fixed.
#[test]
fn the_files_stay_within_a_bound_of_what_is_live() {
    const BOUND: u64 = 4 << 20;
    const RUN: u64 = 256;
    /// Where the checkpoint thread is behind, deleted rows still lie in the file.
    const UNPURGED: u64 = 1 << 20;
    for bytes in [60, 400, 3_000] {
        let dir = tempfile::tempdir().unwrap();
        let mut rig = Rig::open(dir.path());
        let fixed = dir_bytes(dir.path()) - file_bytes(dir.path());
        let cost = record(S, 1, bytes).cost_bytes();
        let (mut written, mut dropped, mut most) = (0, 0, 0);
        while written * cost < 10 * BOUND {
            let mut ops: Vec<Op> =
                (written + 1..=written + RUN).map(|n| append(S, n, bytes)).collect();
            written += RUN;
            if (written - dropped) * cost > BOUND {
                // As the core does: the oldest run and the tombstone before it become one.
                let from = if dropped == 0 { 1 } else { dropped };
                dropped += RUN;
                ops.extend(drop_run(from, dropped));
            }
            rig.commit(ops);
            rig.store.checkpoint().unwrap();
            most = most.max(file_bytes(dir.path()));
        }
        let times = most * 100 / BOUND;
        assert!(most <= 2 * BOUND + UNPURGED, "{bytes}: {times} % of the bound");
        assert_eq!(dir_bytes(dir.path()) - file_bytes(dir.path()), fixed, "journal and ballast");
    }
}

fn dir_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

/// The checkpoint's file.
fn file_bytes(dir: &Path) -> u64 {
    std::fs::metadata(dir.join(super::super::base::FILE)).unwrap().len()
}
