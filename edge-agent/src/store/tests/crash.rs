//! Goal: after a kill at any moment everything acknowledged is there. The files are copied while
//! the store is open, which is what a start after SIGKILL finds.

use std::sync::{Arc, Mutex};

use super::super::sync_check::SyncLog;
use super::super::{Point, open_on};
use super::*;
use crate::store::disk::SystemDisk;

#[test]
fn what_was_committed_is_there_after_a_close_and_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    assert!(rig.recovered.created);
    rig.commit(vec![put("a", "1"), put("b", "2"), admit(1), admit(2)]);
    rig.commit(vec![delete("a"), finish(1), update(2, 3)]);
    rig.apply(&[put("b", "never committed")]);

    let killed = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), killed.path());
    drop(rig);
    for dir in [&dir, &killed] {
        let rig = Rig::open(dir.path());
        let expected = Recovered {
            last: BatchSeq(2),
            gateway_time: Millis(20),
            created: false,
            replayed_batches: 2,
            torn_bytes: 0,
        };
        assert_eq!(rig.recovered, expected);
        assert_eq!((rig.state("a"), rig.state("b")), (None, Some("2".into())));
        let jobs = rig.reader.core_rows().unwrap().jobs;
        assert_eq!(jobs.iter().map(|job| job.id.0).collect::<Vec<_>>(), [2]);
        assert_eq!(jobs[0].progress.attempts, 3);
        drop(rig);
        // A second start finds nothing to roll forward.
        let rig = Rig::open(dir.path());
        assert_eq!((rig.recovered.last, rig.recovered.replayed_batches), (BatchSeq(2), 0));
        assert_eq!(rig.state("b"), Some("2".into()));
    }
}

#[test]
fn a_kill_at_every_named_point_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let copies = tempfile::tempdir().unwrap();
    let taken: Arc<Mutex<Vec<(Point, u64)>>> = Arc::default();
    let acked = Arc::new(Mutex::new(0_u64));
    let settings = {
        let (from, to) = (dir.path().to_owned(), copies.path().to_owned());
        let (taken, acked) = (Arc::clone(&taken), Arc::clone(&acked));
        let hook = move |point| {
            let mut taken = taken.lock().unwrap();
            let before = taken.iter().filter(|(at, _)| *at == point).count();
            if before < 12 {
                copy_dir(&from, &to.join(taken.len().to_string()));
                taken.push((point, *acked.lock().unwrap()));
            }
        };
        Settings { hook: Some(Arc::new(hook)), ..small() }
    };
    // Every seventh batch is too long for a segment.
    let value = |n: u64| vec![byte(n); if n.is_multiple_of(7) { 20_000 } else { 1_500 }];
    let mut rig = Rig::with(dir.path(), settings);
    for n in 1..=60 {
        let ops = vec![put(&n.to_string(), value(n)), put("last", n.to_string())];
        rig.commit(ops);
        *acked.lock().unwrap() = n;
    }
    let taken = taken.lock().unwrap();
    for point in [
        Point::BeforeAppend,
        Point::AfterAppend,
        Point::AfterSync,
        Point::BeforeCheckpoint,
        Point::BeforeCheckpointCommit,
        Point::AfterCheckpointCommit,
        Point::BeforeRecycle,
        Point::AfterRecycle,
    ] {
        assert!(taken.iter().any(|(at, _)| *at == point), "{point:?} was never reached");
    }
    for (n, (point, acked)) in taken.iter().enumerate() {
        let rig = Rig::open(&copies.path().join(n.to_string()));
        let last = rig.recovered.last.0;
        assert!((*acked..=acked + 1).contains(&last), "{point:?}: {acked} acked, {last} there");
        for n in 1..=last {
            assert_eq!(rig.state(&n.to_string()), Some(value(n).into()), "{point:?}");
        }
        assert_eq!(rig.state(&(last + 1).to_string()), None, "{point:?}");
        let expected = (last > 0).then(|| Bytes::from(last.to_string()));
        assert_eq!(rig.state("last"), expected, "{point:?}");
    }
}

#[test]
fn every_batch_is_synced_before_commit_returns() {
    let dir = tempfile::tempdir().unwrap();
    let log = SyncLog::default();
    let disk = log.watch_disk(Arc::new(SystemDisk::take(dir.path()).unwrap()));
    let Opened { store, mut overlay, .. } = open_on(disk, small()).unwrap();
    let mut store = log.watch_store(store);
    let before = log.syncs();
    for n in 1..=50 {
        let op = put("k", vec![1; 1_000]);
        overlay.apply(BatchSeq(n), &op);
        let batch = Batch { seq: BatchSeq(n), gateway_time: Millis(n), ops: vec![op] };
        store.commit(&batch).unwrap();
        assert_eq!(log.synced(), BatchSeq(n));
    }
    // One for each batch and one for the header of each of at least three segments.
    assert!((53..60).contains(&(log.syncs() - before)), "{}", log.syncs() - before);
}

#[test]
fn a_store_that_forgets_to_sync_is_caught() {
    struct Forgetful;
    impl Store for Forgetful {
        fn commit(&mut self, _: &Batch) -> Result<(), super::super::StoreError> {
            Ok(())
        }
    }
    let batch = Batch { seq: BatchSeq(1), gateway_time: Millis(1), ops: Vec::new() };
    assert!(SyncLog::default().watch_store(Forgetful).commit(&batch).is_err());
}

#[test]
fn another_process_cannot_open_the_same_directory() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    let refused = open(dir.path(), small());
    assert!(matches!(refused, Err(super::super::OpenError::InUse)), "{refused:?}");
    let reader = rig.reader.clone();
    drop(rig);
    assert!(reader.state_get(&state_key("a")).is_err(), "a reader outlives its store");
    Rig::open(dir.path());
}

/// One message that wakes many functions, or is kept for many sessions, is one batch, and so is all
/// that a migration fills: many times a segment.
#[test]
fn a_batch_of_any_length_is_committed() {
    const COPIES: u64 = 100;
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let payload = Bytes::from(vec![7; rig.store.batch_bytes_max() / 2]);
    let copy = |id| {
        let mut copy = job(id);
        let mut event = (*copy.event).clone();
        event.payload = payload.clone();
        copy.event = Arc::new(event);
        Op::Core(CoreOp::AdmitJob(Box::new(copy)))
    };
    rig.commit((1..=COPIES).map(copy).collect());
    rig.commit(vec![put("k", "v")]);
    drop(rig);
    let rig = Rig::open(dir.path());
    assert_eq!(rig.recovered.last, BatchSeq(2));
    let jobs = rig.reader.core_rows().unwrap().jobs;
    assert_eq!(jobs.len() as u64, COPIES);
    assert!(jobs.iter().all(|job| job.event.payload == payload));
}

#[test]
fn a_batch_out_of_order_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let gap = Batch { seq: BatchSeq(2), gateway_time: Millis(1), ops: Vec::new() };
    let refused = rig.store.commit(&gap).unwrap_err();
    assert!(refused.is_harmless(), "{refused}");
    let bytes_max = rig.store.batch_bytes_max();
    // The largest batch that fits, again and again: each takes a segment.
    for _ in 0..10 {
        rig.commit(vec![put("k", vec![1; bytes_max - 100])]);
    }
    drop(rig);
    assert_eq!(Rig::open(dir.path()).recovered.last, BatchSeq(10));
}
