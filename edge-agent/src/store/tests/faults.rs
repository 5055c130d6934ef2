//! Goal: a disk that is read-only, or whose syncs fail, commits nothing more; once it is well again
//! the store opens with everything that was acknowledged.

use super::super::disk::SystemDisk;
use super::super::open_on;
use super::super::sync_check::{DiskFault, SyncLog};
use super::*;

const S: StreamId = StreamId::NORMAL;

fn opened(dir: &Path, log: &SyncLog) -> Result<Rig, super::super::OpenError> {
    let disk = SystemDisk::take(dir).map_err(super::super::OpenError::io("the directory"))?;
    open_on(log.watch_disk(Arc::new(disk)), small()).map(Rig::from)
}

#[test]
fn a_failing_disk_commits_nothing_and_opens_again_once_it_is_well() {
    for fault in [DiskFault::ReadOnly, DiskFault::SyncFails] {
        let dir = tempfile::tempdir().unwrap();
        let log = SyncLog::default();
        let mut rig = opened(dir.path(), &log).unwrap();
        rig.commit((1..=50).map(|seq| append(S, seq, 100)).collect());
        log.set_fault(Some(fault));
        let more = vec![append(S, 51, 100)];
        rig.apply(&more);
        assert!(rig.commit_applied(more).is_err(), "{fault:?}");
        let again = vec![append(S, 52, 100)];
        rig.apply(&again);
        assert!(rig.commit_applied(again).is_err(), "{fault:?}: not on that handle");
        drop(rig);
        assert!(opened(dir.path(), &log).is_err(), "{fault:?}");
        log.set_fault(None);
        let rig = opened(dir.path(), &log).unwrap();
        let kept = rig.reader.outbox_read(S, RecordSeq(1), usize::MAX, usize::MAX).unwrap();
        assert!(kept.len() >= 50, "{fault:?}: {}", kept.len());
    }
}
