//! Goal: with the checkpoint on its own thread, commits go on beside it, wait for it when the
//! journal is full, and end cleanly.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use super::super::{Completion, NotTaken, Point, StoreError, StoreThread};
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn threaded() -> Settings {
    Settings { background: true, ..small() }
}

#[test]
fn completions_come_in_order_and_stop_waits_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { store, mut overlay, .. } = open(dir.path(), threaded()).unwrap();
    let (done, completions) = channel();
    let thread =
        StoreThread::spawn(store, move |completion| done.send(completion).unwrap()).unwrap();
    for n in 1..=200 {
        let op = put(&n.to_string(), vec![1; 1_000]);
        overlay.apply(BatchSeq(n), &op);
        let mut batch = Batch { seq: BatchSeq(n), gateway_time: Millis(n), ops: vec![op] };
        while let Err(NotTaken::Busy(back)) = thread.submit(batch) {
            batch = *back;
            std::thread::yield_now();
        }
    }
    thread.stop();
    for n in 1..=200 {
        let completion = completions.try_recv().unwrap();
        assert!(matches!(completion, Completion::Committed(BatchSeq(seq)) if seq == n));
    }
    let rig = Rig::open(dir.path());
    assert_eq!(rig.recovered.last, BatchSeq(200));
    assert_eq!(rig.state("1"), Some(vec![1; 1_000].into()));
}

#[test]
fn a_failure_is_the_last_completion_and_frees_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { store, mut overlay, .. } = open(dir.path(), threaded()).unwrap();
    let (done, completions) = channel();
    let thread =
        StoreThread::spawn(store, move |completion| done.send(completion).unwrap()).unwrap();
    // A number that is not the next one: the loop is wrong, and the thread gives up.
    overlay.apply(BatchSeq(9), &put("a", "1"));
    let batch = |n| Batch { seq: BatchSeq(n), gateway_time: Millis(n), ops: Vec::new() };
    thread.submit(batch(9)).unwrap();
    let failed = completions.recv_timeout(PATIENCE).unwrap();
    let Completion::Failed { batch: BatchSeq(9), error: StoreError::OutOfOrder { .. } } = failed
    else {
        panic!("{failed:?}");
    };
    // While the old thread is still held.
    let rig = Rig::open(dir.path());
    assert_eq!(rig.recovered.last, BatchSeq(0));
    let refused = thread.submit(batch(10));
    assert!(matches!(refused, Err(NotTaken::Ended(_))), "{refused:?}");
}

/// A hook that stops the checkpoint thread at a point until it is told to go on.
fn gate(at: Point) -> (super::super::Hook, Receiver<()>, Sender<()>) {
    let (reached, is_reached) = channel();
    let (go, may_go) = channel::<()>();
    let may_go = Mutex::new(may_go);
    let reached: Mutex<mpsc::Sender<()>> = Mutex::new(reached);
    let hook = move |point| {
        if point == at {
            let _ = reached.lock().unwrap().send(());
            // Once the test is over nobody answers, and nobody is held.
            let _ = may_go.lock().unwrap().recv();
        }
    };
    (Arc::new(hook), is_reached, go)
}

#[test]
fn commits_and_reads_go_on_beside_a_checkpoint_until_the_journal_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let (hook, reached, go) = gate(Point::BeforeCheckpointCommit);
    let mut rig = Rig::with(dir.path(), Settings { hook: Some(hook), ..threaded() });
    let value = || vec![1; 1_000];
    // Up to the wish for a checkpoint, and past it.
    while rig.reader.stats().journal_bytes < 24 << 10 {
        rig.commit(vec![put(&rig.next.0.to_string(), value())]);
    }
    reached.recv_timeout(PATIENCE).unwrap();
    for _ in 0..20 {
        rig.commit(vec![put(&rig.next.0.to_string(), value())]);
    }
    for n in 1..rig.next.0 {
        assert_eq!(rig.state(&n.to_string()), Some(value().into()), "{n}");
    }
    assert_eq!(rig.reader.stats().waits, 0);

    // Fill the rest of the journal on another thread: it has to wait.
    let reader = rig.reader.clone();
    let filler = std::thread::spawn(move || {
        for _ in 0..60 {
            rig.commit(vec![put(&rig.next.0.to_string(), value())]);
        }
        rig
    });
    while reader.stats().waits == 0 {
        std::thread::yield_now();
    }
    let stuck = reader.stats().synced;
    assert!(!filler.is_finished());
    drop(go);
    let rig = filler.join().unwrap();
    assert!(rig.reader.stats().synced > stuck);
    let last = rig.recovered.last.0.max(rig.next.0 - 1);
    drop(rig);
    let rig = Rig::open(dir.path());
    assert_eq!(rig.recovered.last.0, last);
    assert_eq!(rig.state("1"), Some(value().into()));
}

#[test]
fn a_checkpoint_comes_with_time_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (hook, reached, go) = gate(Point::AfterCheckpointCommit);
    let checkpoint_interval = Duration::from_millis(20);
    let mut rig =
        Rig::with(dir.path(), Settings { hook: Some(hook), checkpoint_interval, ..threaded() });
    rig.commit(vec![put("a", "1")]);
    reached.recv_timeout(PATIENCE).unwrap();
    drop(go);
    assert_eq!(rig.state("a"), Some("1".into()));
}

#[test]
fn readers_on_other_threads_never_see_half_a_batch_of_one_key_or_old_values() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::with(dir.path(), threaded());
    let reader = rig.reader.clone();
    rig.commit(vec![put("n", vec![0; 8])]);
    let (stop, stopped) = channel::<()>();
    let readers = std::thread::spawn(move || {
        let (mut last, mut reads) = (0, 0_u64);
        while matches!(stopped.try_recv(), Err(mpsc::TryRecvError::Empty)) {
            let value = reader.state_get(&state_key("n")).unwrap().expect("never absent");
            let n = u64::from_be_bytes(value[..8].try_into().unwrap());
            assert!(n >= last, "{n} after {last}");
            (last, reads) = (n, reads + 1);
            let rows = reader.state_scan(&state_key(""), None, 100, 1 << 20).unwrap();
            assert!(rows.iter().any(|(key, _)| key == "n"));
        }
        reads
    });
    for n in 1..400_u64 {
        let filler = put(&(n % 50).to_string(), vec![1; 2_000]);
        rig.commit(vec![put("n", n.to_be_bytes().to_vec()), filler]);
    }
    stop.send(()).unwrap();
    assert!(readers.join().unwrap() > 0);
}
