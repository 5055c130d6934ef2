//! Goal: what a message costs the disk is known and bounded, in batches and alone.
//! Method: real messages of 200 bytes through job, state and outbox; the store's own count of whole
//! blocks, checkpoints included. `docs/benchmarks.md` names the figures.

use super::*;

const S: StreamId = StreamId::NORMAL;
const PAYLOAD_BYTES: usize = 200;

/// What a message of a device causes: its job, and with the outcome the state of its device (one of
/// 100), a record, and the end of the job.
fn message(n: u64) -> Vec<Op> {
    let mut admitted = job(n);
    let mut event = (*admitted.event).clone();
    event.payload = Bytes::from(vec![byte(n); PAYLOAD_BYTES]);
    admitted.event = Arc::new(event);
    vec![
        Op::Core(CoreOp::AdmitJob(Box::new(admitted))),
        put(&(n % 100).to_string(), vec![byte(n); 64]),
        append(S, n, PAYLOAD_BYTES),
        finish(n),
    ]
}

struct Cost {
    journal: u64,
    disk: u64,
    syncs: f64,
}

/// Bytes and syncs of one of `messages`, of which `batch` are committed together; the outbox is
/// receipted all the time, as with a link that is up.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn cost(messages: u64, batch: u64) -> Cost {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::with(dir.path(), Settings { background: false, ..Settings::default() });
    let before = rig.reader.stats();
    for first in (1..=messages).step_by(usize::try_from(batch).unwrap()) {
        let mut ops: Vec<Op> = (first..first + batch).flat_map(message).collect();
        ops.push(ack(S, first.saturating_sub(1)));
        rig.commit(ops);
    }
    rig.store.checkpoint().unwrap();
    let after = rig.reader.stats();
    Cost {
        journal: (after.journal_bytes - before.journal_bytes) / messages,
        disk: (after.disk_bytes - before.disk_bytes) / messages,
        syncs: (after.syncs - before.syncs) as f64 / messages as f64,
    }
}

#[test]
fn bytes_written_per_message_are_bounded() {
    let batched = cost(40_000, 50);
    let alone = cost(3_000, 1);
    for (what, cost) in [("in batches of 50", &batched), ("in a commit of its own", &alone)] {
        let Cost { journal, disk, syncs } = cost;
        println!(
            "a message of {PAYLOAD_BYTES} B {what}: {journal} B of journal, {disk} B on the disk \
             with checkpoints, {syncs:.3} syncs"
        );
    }
    assert!(batched.journal < 700 && batched.disk < 1_200, "{} {}", batched.journal, batched.disk);
    assert!(alone.journal < 700 && alone.disk < 6_000, "{} {}", alone.journal, alone.disk);
    assert!(alone.syncs >= 1.0 && batched.syncs < 0.03, "{} {}", alone.syncs, batched.syncs);
}
