//! Goal: a torn end is cut; whatever else is wrong with the files is refused with its name.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::super::OpenError;
use super::*;
use tempfile::TempDir;

/// A store that was killed with `batches` in its journal, some of them in the checkpoint too.
struct Killed {
    dir: TempDir,
    batches: u64,
}

const VALUE_BYTES: usize = 1_000;

fn killed(batches: u64, checkpoint: bool) -> Killed {
    killed_with(batches, checkpoint, VALUE_BYTES)
}

fn killed_with(batches: u64, checkpoint: bool, value_bytes: usize) -> Killed {
    let live = tempfile::tempdir().unwrap();
    // Without a checkpoint the journal must not come near its end.
    let (checkpoint_bytes, segments) = if checkpoint { (24 << 10, 4) } else { (u64::MAX, 6) };
    let mut rig = Rig::with(live.path(), Settings { checkpoint_bytes, segments, ..small() });
    for n in 1..=batches {
        rig.commit(vec![put(&n.to_string(), vec![byte(n); value_bytes])]);
    }
    let dir = tempfile::tempdir().unwrap();
    copy_dir(live.path(), dir.path());
    Killed { dir, batches }
}

impl Killed {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn segment(&self, slot: usize) -> PathBuf {
        self.path(&super::super::segment::file_name(slot))
    }

    fn edit(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }

    fn refused(&self) -> OpenError {
        let before: Vec<_> = (0..4).filter_map(|slot| fs::read(self.segment(slot)).ok()).collect();
        let error = open(self.dir.path(), small()).expect_err("the store is refused");
        let after: Vec<_> = (0..4).filter_map(|slot| fs::read(self.segment(slot)).ok()).collect();
        assert!(before == after, "a refused journal was changed");
        // A second try says the same.
        let again = open(self.dir.path(), small()).expect_err("it is refused again");
        assert_eq!(error.to_string(), again.to_string());
        error
    }

    fn check_damaged(&self, word: &str) {
        let error = self.refused();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains(word), "{error}");
    }

    /// Slot and life of each used segment, in the order of lives.
    fn lives(&self) -> Vec<(usize, u64)> {
        let mut lives: Vec<(usize, u64)> = (0..4)
            .map(|slot| (slot, fs::read(self.segment(slot)).unwrap()))
            .filter(|(_, bytes)| bytes[0] != 0)
            .map(|(slot, bytes)| (slot, u64::from_le_bytes(bytes[24..32].try_into().unwrap())))
            .collect();
        lives.sort_by_key(|(_, life)| *life);
        lives
    }
}

/// Where the records of a segment file lie.
fn records(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut at = 64;
    while bytes.get(at..at + 4) == Some(b"HBCH") {
        let len = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        let end = (at + 24 + len).next_multiple_of(8);
        found.push(at..end);
        at = end;
    }
    found
}

#[test]
fn a_batch_torn_at_any_byte_is_cut() {
    let killed = killed_with(3, false, 50);
    let whole = fs::read(killed.segment(0)).unwrap();
    let last = records(&whole).pop().unwrap();
    let body_len = u32::from_le_bytes(whole[last.start + 4..last.start + 8].try_into().unwrap());
    let body_end = last.start + 24 + body_len as usize;
    for cut in last.clone() {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(killed.dir.path(), copy.path());
        let mut bytes = whole.clone();
        bytes[cut..last.end].fill(0);
        // Behind the body there are zeros only.
        let rest = cut.min(body_end)..body_end;
        let lost = bytes[rest.clone()] != whole[rest];
        fs::write(copy.path().join("journal-00.seg"), bytes).unwrap();
        let mut rig = Rig::open(copy.path());
        assert_eq!(rig.recovered.last.0, if lost { 2 } else { 3 }, "cut at {cut}");
        assert!(rig.state("2").is_some());
        assert_eq!(rig.state("3").is_some(), !lost);
        if cut % 32 == 0 {
            let next = rig.commit(vec![put("next", "1")]);
            drop(rig);
            let rig = Rig::open(copy.path());
            assert_eq!((rig.recovered.last, rig.state("next")), (next, Some("1".into())));
        }
    }
}

/// Sectors of a torn write arrive in any order.
#[test]
fn a_batch_that_arrived_in_part_is_cut() {
    let killed = killed(2, false);
    let whole = fs::read(killed.segment(0)).unwrap();
    let last = records(&whole).pop().unwrap();
    let sectors = last.start / 512..last.end.div_ceil(512);
    let config = ProptestConfig { cases: 40, ..ProptestConfig::default() };
    proptest!(config, |(lost in proptest::collection::vec(any::<bool>(), sectors.len()))| {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(killed.dir.path(), copy.path());
        let mut torn = whole.clone();
        for (sector, _) in sectors.clone().zip(&lost).filter(|(_, lost)| **lost) {
            torn[(sector * 512).max(last.start)..((sector + 1) * 512).min(last.end)].fill(0);
        }
        fs::write(copy.path().join("journal-00.seg"), torn).unwrap();
        let rig = Rig::open(copy.path());
        prop_assert_eq!(rig.recovered.last.0, if lost.contains(&true) { 1 } else { 2 });
    });
}

#[test]
fn damage_before_the_last_batch_is_refused() {
    let killed = killed(5, false);
    let bytes = fs::read(killed.segment(0)).unwrap();
    let third = records(&bytes)[2].clone();
    killed.edit(&killed.segment(0), |bytes| bytes[third.start + 100] ^= 1);
    killed.check_damaged("where batch 3 belongs");
}

#[test]
fn a_lost_segment_is_refused() {
    let gone = killed(40, false);
    fs::remove_file(gone.segment(1)).unwrap();
    gone.check_damaged("journal-01.seg is gone");

    // Blank, shortened, or with another one's bytes in its place.
    let blank = killed(40, false);
    blank.edit(&blank.segment(1), |bytes| bytes.fill(0));
    blank.check_damaged("are gone");
    let short = killed(40, false);
    short.edit(&short.segment(1), |bytes| bytes.truncate(5_000));
    short.check_damaged("5000 bytes instead of");
    let twin = killed(40, false);
    fs::copy(twin.segment(0), twin.segment(1)).unwrap();
    twin.check_damaged("claim to be the same segment");
    let all = killed(40, true);
    for slot in 0..4 {
        all.edit(&all.segment(slot), |bytes| bytes.fill(0));
    }
    all.check_damaged("blank");
}

#[test]
fn a_torn_header_is_a_crash_and_with_records_behind_it_damage() {
    let crash = killed(40, false);
    let (newest, _) = crash.lives().pop().unwrap();
    crash.edit(&crash.segment(newest), |bytes| {
        bytes[40] ^= 1;
        bytes[64..].fill(0);
    });
    let rig = Rig::open(crash.dir.path());
    assert!(rig.recovered.last.0 < crash.batches);
    assert!(rig.recovered.last.0 > 10);

    let rot = killed(40, false);
    rot.edit(&rot.segment(newest), |bytes| bytes[40] ^= 1);
    rot.check_damaged("the header of");
}

#[test]
fn recycled_segments_never_pass_for_new_ones() {
    // 200 batches in 4 segments of 15: each has had several lives.
    let killed = killed(200, true);
    let lives = killed.lives();
    assert!(lives[0].1 > 4, "segments were recycled: {lives:?}");
    let (newest, _) = *lives.last().unwrap();
    let bytes = fs::read(killed.segment(newest)).unwrap();
    let first = u64::from_le_bytes(bytes[32..40].try_into().unwrap());
    let stale = records(&bytes).split_off((first..=200).count());
    assert!(!stale.is_empty(), "the segment holds nothing of its earlier lives");
    let rig = Rig::open(killed.dir.path());
    assert_eq!((rig.recovered.last.0, rig.recovered.torn_bytes), (200, 0));
    drop(rig);
    // A whole older record, moved to where the next one belongs.
    let (older, _) = lives[0];
    let old = fs::read(killed.segment(older)).unwrap();
    let first = records(&old)[0].clone();
    let end = stale[0].start;
    killed.edit(&killed.segment(newest), |bytes| {
        bytes[end..end + first.len()].copy_from_slice(&old[first]);
    });
    assert_eq!(Rig::open(killed.dir.path()).recovered.last.0, 200);
}

#[test]
fn an_old_checkpoint_is_refused() {
    let live = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(live.path());
    let old = tempfile::tempdir().unwrap();
    for n in 1..=200 {
        if n == 20 {
            copy_dir(live.path(), old.path());
        }
        rig.commit(vec![put(&n.to_string(), vec![1; VALUE_BYTES])]);
    }
    let stale_checkpoint = tempfile::tempdir().unwrap();
    copy_dir(live.path(), stale_checkpoint.path());
    fs::copy(old.path().join("checkpoint.redb"), stale_checkpoint.path().join("checkpoint.redb"))
        .unwrap();
    let killed = Killed { dir: stale_checkpoint, batches: 200 };
    let error = killed.refused();
    assert!(matches!(error, OpenError::StaleCheckpoint { .. }), "{error:?}");

    let stale_journal = tempfile::tempdir().unwrap();
    copy_dir(old.path(), stale_journal.path());
    fs::copy(live.path().join("checkpoint.redb"), stale_journal.path().join("checkpoint.redb"))
        .unwrap();
    let killed = Killed { dir: stale_journal, batches: 20 };
    let error = killed.refused();
    assert!(matches!(error, OpenError::StaleJournal { .. }), "{error:?}");

    let no_checkpoint = tempfile::tempdir().unwrap();
    copy_dir(live.path(), no_checkpoint.path());
    fs::remove_file(no_checkpoint.path().join("checkpoint.redb")).unwrap();
    Killed { dir: no_checkpoint, batches: 200 }.check_damaged("checkpoint.redb is gone");
}

#[test]
fn foreign_files_are_refused() {
    let other = tempfile::tempdir().unwrap();
    let mut rig = Rig::with(other.path(), Settings { new_store_id: 77, ..small() });
    rig.commit(vec![put("a", "1")]);
    let cases: [(&str, Vec<u8>); 5] = [
        ("journal-00.seg", fs::read(other.path().join("journal-00.seg")).unwrap()),
        ("checkpoint.redb", fs::read(other.path().join("checkpoint.redb")).unwrap()),
        ("journal-00.seg", vec![b'x'; 16 << 10]),
        ("checkpoint.redb", vec![b'x'; 64 << 10]),
        ("checkpoint.redb", {
            let file = tempfile::NamedTempFile::new().unwrap();
            redb::Database::create(file.path()).unwrap();
            fs::read(file.path()).unwrap()
        }),
    ];
    for (name, bytes) in cases {
        let killed = killed(5, false);
        fs::write(killed.path(name), bytes).unwrap();
        let error = killed.refused();
        assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
        assert!(error.to_string().contains("does not belong to this store"), "{error}");
    }
}

#[test]
fn another_format_is_refused() {
    let killed = killed(5, false);
    killed.edit(&killed.segment(0), |bytes| {
        bytes[8] += 1;
        let crc = crc32c::crc32c(&bytes[..40]);
        bytes[40..44].copy_from_slice(&crc.to_le_bytes());
    });
    let error = killed.refused();
    assert!(matches!(error, OpenError::OtherFormat { .. }), "{error:?}");
    assert!(error.to_string().contains("format 3."), "{error}");
}

#[test]
fn a_store_half_made_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("journal-00.seg"), vec![0; 100]).unwrap();
    fs::write(dir.path().join("journal-01.seg"), vec![0; 16 << 10]).unwrap();
    fs::write(dir.path().join("checkpoint.redb.new"), "half").unwrap();
    let mut rig = Rig::open(dir.path());
    assert!(rig.recovered.created);
    rig.commit(vec![put("a", "1")]);
    drop(rig);
    assert_eq!(Rig::open(dir.path()).state("a"), Some("1".into()));
}

#[test]
fn senseless_settings_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for settings in [
        Settings { segment_bytes: 5_000, ..small() },
        Settings { segment_bytes: 4_096, ..small() },
        Settings { segments: 2, ..small() },
    ] {
        let refused = open(dir.path(), settings);
        assert!(matches!(refused, Err(OpenError::Settings(_))), "{refused:?}");
    }
}
