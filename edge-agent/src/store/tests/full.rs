//! Goal: a full disk stops admissions, never deletes, and heals by itself once rows are deleted.
//! Method: a disk with a quota on what the checkpoint and the ballast may take, and a small tmpfs.

use std::io;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::super::disk::{Disk, DiskFile, SystemDisk};
use super::super::{OpenError, StoreError, open_on};
use super::*;

const S: StreamId = StreamId::NORMAL;

/// A disk that allocates pages of 4 KiB from a quota, as a file system does.
#[derive(Debug)]
struct Quota {
    disk: SystemDisk,
    shared: Arc<QuotaShared>,
}

#[derive(Debug)]
struct QuotaShared {
    pages_max: AtomicU64,
    /// Pages held, by file.
    held: Mutex<std::collections::BTreeMap<String, std::collections::BTreeSet<u64>>>,
    fail_syncs: AtomicBool,
}

const PAGE: u64 = 4096;

impl Quota {
    fn on(dir: &Path, shared: &Arc<QuotaShared>) -> Arc<dyn Disk> {
        let disk = SystemDisk::take(dir).unwrap();
        Arc::new(Self { disk, shared: Arc::clone(shared) })
    }

    fn file(&self, name: &str, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let shared = Arc::clone(&self.shared);
        Arc::new(QuotaFile { name: name.into(), file, shared })
    }
}

impl QuotaShared {
    fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self {
            pages_max: AtomicU64::new(bytes_max / PAGE),
            held: Mutex::default(),
            fail_syncs: AtomicBool::new(false),
        })
    }

    fn take(&self, name: &str, offset: u64, len: u64) -> io::Result<()> {
        let mut held = self.held.lock().unwrap();
        let used: usize = held.values().map(std::collections::BTreeSet::len).sum();
        let mut left = self.pages_max.load(Ordering::Relaxed).saturating_sub(used as u64);
        let file = held.entry(name.into()).or_default();
        for page in offset / PAGE..(offset + len).div_ceil(PAGE) {
            if file.contains(&page) {
                continue;
            }
            if left == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            file.insert(page);
            left -= 1;
        }
        Ok(())
    }
}

impl Disk for Quota {
    fn open(&self, name: &str) -> io::Result<Option<Arc<dyn DiskFile>>> {
        Ok(self.disk.open(name)?.map(|file| self.file(name, file)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.shared.held.lock().unwrap().remove(name);
        Ok(self.file(name, self.disk.create(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut held = self.shared.held.lock().unwrap();
        if let Some(pages) = held.remove(from) {
            held.insert(to.into(), pages);
        }
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.shared.held.lock().unwrap().remove(name);
        self.disk.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let held = self.shared.held.lock().unwrap();
        let used: usize = held.values().map(std::collections::BTreeSet::len).sum();
        let left = self.shared.pages_max.load(Ordering::Relaxed).saturating_sub(used as u64);
        Ok(left * PAGE)
    }
}

#[derive(Debug)]
struct QuotaFile {
    name: String,
    file: Arc<dyn DiskFile>,
    shared: Arc<QuotaShared>,
}

impl DiskFile for QuotaFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        // A file made under another name keeps its pages under the new one.
        let name = self.name.strip_suffix(".new").unwrap_or(&self.name);
        self.shared.take(name, offset, data.len() as u64)?;
        self.file.write_at(offset, data)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut held = self.shared.held.lock().unwrap();
        if let Some(pages) = held.get_mut(&self.name) {
            pages.retain(|page| page * PAGE < len);
        }
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.shared.fail_syncs.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.file.sync_data()
    }
}

/// Fills the outbox until there is no headroom. Returns the last position that was acknowledged.
fn fill(rig: &mut Rig) -> u64 {
    let first = rig.next.0;
    for next in first..first + 20_000 {
        if rig.reader.headroom_bytes() == 0 {
            return next - 1;
        }
        rig.commit(vec![append(S, next, 1_000)]);
    }
    panic!("the disk was never full");
}

fn records(rig: &Rig) -> Vec<u64> {
    let records = rig.reader.outbox_read(S, RecordSeq(1), usize::MAX, usize::MAX).unwrap();
    records.iter().map(|record| record.seq.0).collect()
}

#[test]
fn a_full_disk_takes_deletes_and_heals() {
    let dir = tempfile::tempdir().unwrap();
    let quota = QuotaShared::new(1_500 << 10);
    let open_it = || open_on(Quota::on(dir.path(), &quota), small()).map(Rig::from);
    let mut rig = open_it().unwrap();
    let last = fill(&mut rig);
    assert!(last > 300, "{last}");
    assert!(rig.reader.stats().disk_full);
    assert_eq!(records(&rig), (1..=last).collect::<Vec<_>>());

    // Outcomes of what was admitted still go to the journal, and a start finds all of it.
    rig.commit(vec![put("k", "1")]);
    drop(rig);
    let mut rig = open_it().unwrap();
    assert_eq!(records(&rig), (1..=last).collect::<Vec<_>>());
    assert_eq!(rig.state("k"), Some("1".into()));

    // The receipt arrives: no space is added, and there is headroom again.
    rig.commit(vec![ack(S, last - 5)]);
    rig.store.checkpoint().unwrap();
    assert!(!rig.reader.stats().disk_full);
    assert!(rig.reader.headroom_bytes() > 0);
    assert_eq!(records(&rig), (last - 4..=last).collect::<Vec<_>>());
    for n in 0..50 {
        rig.commit(vec![put(&n.to_string(), vec![1; 1_000])]);
    }
    drop(rig);
    let rig = open_it().unwrap();
    assert_eq!(rig.state("49"), Some(vec![1; 1_000].into()));
    assert_eq!(records(&rig), (last - 4..=last).collect::<Vec<_>>());
}

#[test]
fn with_the_journal_full_too_the_store_fails_and_opens_again_when_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let quota = QuotaShared::new(1_000 << 10);
    let open_it = || open_on(Quota::on(dir.path(), &quota), small()).map(Rig::from);
    let mut rig = open_it().unwrap();
    let mut acked = fill(&mut rig);
    let error = loop {
        match rig.try_commit(vec![append(S, acked + 1, 1_000)]) {
            Ok(_) => acked += 1,
            Err(error) => break error,
        }
        assert!(acked < 10_000);
    };
    assert!(matches!(error, StoreError::DiskFull), "{error:?}");
    let again = rig.try_commit(Vec::new());
    assert!(matches!(again, Err(StoreError::Failed)), "{again:?}");
    drop(rig);
    let refused = open_it().map(|_| ());
    assert!(matches!(refused, Err(OpenError::DiskFull)), "{refused:?}");

    quota.pages_max.store(10_000, Ordering::Relaxed);
    let rig = open_it().unwrap();
    assert_eq!(records(&rig), (1..=acked).collect::<Vec<_>>());
    assert!(rig.reader.headroom_bytes() > 0);
}

/// Nothing was deleted, nobody asks: the checkpoint thread sees the space by itself.
#[test]
fn when_space_returns_the_store_heals_within_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let quota = QuotaShared::new(1_500 << 10);
    let settings = Settings { background: true, segments: 40, ..small() };
    let mut rig = Rig::from(open_on(Quota::on(dir.path(), &quota), settings).unwrap());
    let last = fill(&mut rig);
    assert!(rig.reader.stats().disk_full, "{last}");
    let returned = std::time::Instant::now();
    quota.pages_max.store(10_000, Ordering::Relaxed);
    while rig.reader.headroom_bytes() == 0 {
        assert!(returned.elapsed().as_secs() < 10, "only the next try in a while would tell");
        std::thread::yield_now();
    }
    assert_eq!(records(&rig), (1..=last).collect::<Vec<_>>());
}

#[test]
fn a_failed_sync_is_never_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let quota = QuotaShared::new(64 << 20);
    let open_it = || open_on(Quota::on(dir.path(), &quota), small()).map(Rig::from);
    let mut rig = open_it().unwrap();
    rig.commit(vec![put("a", "1")]);
    quota.fail_syncs.store(true, Ordering::Relaxed);
    let error = rig.try_commit(vec![put("a", "2")]).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
    quota.fail_syncs.store(false, Ordering::Relaxed);
    let error = rig.commit_applied(vec![put("a", "2")]).unwrap_err();
    assert!(matches!(error, StoreError::Failed), "{error:?}");
    drop(rig);
    let mut rig = open_it().unwrap();
    // The batch was never acknowledged: there or not, but whole.
    let value = rig.state("a").unwrap();
    assert_eq!(value, if rig.recovered.last.0 == 2 { "2" } else { "1" });
    rig.commit(vec![put("a", "3")]);
}

#[test]
fn a_failed_checkpoint_fails_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let quota = QuotaShared::new(64 << 20);
    let mut rig = Rig::from(open_on(Quota::on(dir.path(), &quota), small()).unwrap());
    rig.commit(vec![put("a", "1")]);
    quota.fail_syncs.store(true, Ordering::Relaxed);
    rig.store.checkpoint().unwrap_err();
    quota.fail_syncs.store(false, Ordering::Relaxed);
    let error = rig.try_commit(vec![put("a", "2")]).unwrap_err();
    assert!(matches!(error, StoreError::Checkpoint(_)), "{error:?}");
    drop(rig);
    let rig = Rig::from(open_on(Quota::on(dir.path(), &quota), small()).unwrap());
    assert_eq!(rig.state("a"), Some("1".into()));
}

/// Unmounts on drop.
struct Mount(tempfile::TempDir);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

fn mount_tmpfs(bytes: u64) -> Option<Mount> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let done = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
        .arg(dir.path())
        .status();
    done.is_ok_and(|status| status.success()).then_some(Mount(dir))
}

#[test]
fn a_full_file_system_heals() {
    let Some(mount) = mount_tmpfs(8 << 20) else {
        eprintln!("skipped: only root can mount a small file system");
        return;
    };
    let dir = mount.0.path();
    let settings = || Settings { ballast_bytes: 512 << 10, ..small() };
    let mut rig = Rig::with(dir, settings());
    let last = fill(&mut rig);
    assert!(last > 2_000, "{last}");
    rig.commit(vec![ack(S, last)]);
    rig.store.checkpoint().unwrap();
    assert!(rig.reader.headroom_bytes() > 0);
    assert_eq!(records(&rig), [] as [u64; 0]);
    rig.commit(vec![append(S, last + 1, 1_000)]);
    drop(rig);
    let rig = Rig::with(dir, settings());
    assert_eq!(records(&rig), [last + 1]);
    drop(rig);
}
