//! Goal: what the first bytes of the files show is told from outside, as a start tells it, and
//! nothing is changed. That a store which opens looks well is checked wherever one is opened
//! ([`Rig::with`]).

use std::fs;

use tempfile::TempDir;

use super::super::{OpenError, is_made};
use super::*;

/// A store with batches in three of six segments, as a kill leaves it.
fn killed() -> TempDir {
    let live = tempfile::tempdir().unwrap();
    let settings = Settings { checkpoint_bytes: u64::MAX, segments: 6, ..small() };
    let mut rig = Rig::with(live.path(), settings);
    for n in 1..=40 {
        rig.commit(vec![put("k", vec![byte(n); 1_000])]);
    }
    let dir = tempfile::tempdir().unwrap();
    copy_dir(live.path(), dir.path());
    dir
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .map(|at| (at.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&at).unwrap()))
        .collect();
    files.sort();
    files
}

/// What is said from outside, and what a start says, of a store after a change of one file.
fn after(file: &str, change: impl FnOnce(&mut Vec<u8>)) -> (OpenError, OpenError) {
    let dir = killed();
    let path = dir.path().join(file);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    if bytes.is_empty() {
        fs::remove_file(&path).unwrap();
    } else {
        fs::write(&path, bytes).unwrap();
    }
    let before = files(dir.path());
    let looked = check_heads(dir.path()).expect_err("it is told");
    assert!(files(dir.path()) == before, "a look changed something");
    (looked, open(dir.path(), small()).expect_err("it does not open"))
}

fn noise(bytes: &mut [u8]) {
    let words = (1_u64..).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    bytes.chunks_mut(8).zip(words).for_each(|(to, word)| to.copy_from_slice(&word[..to.len()]));
}

#[test]
fn damage_of_first_bytes_is_told_as_a_start_tells_it() {
    type Change = fn(&mut Vec<u8>);
    let segment = "journal-01.seg";
    let cases: [(&str, Change); 7] = [
        ("checkpoint.redb", |bytes| noise(bytes)),
        ("checkpoint.redb", Vec::clear),
        (segment, |bytes| noise(bytes)),
        (segment, Vec::clear),
        (segment, |bytes| bytes.truncate(5_000)),
        // The newest header cannot be read, and one is of a format that is not known.
        ("journal-02.seg", |bytes| bytes[40] ^= 1),
        (segment, |bytes| {
            bytes[8] += 1;
            let crc = crc32c::crc32c(&bytes[..40]);
            bytes[40..44].copy_from_slice(&crc.to_le_bytes());
        }),
    ];
    for (file, change) in cases {
        let (looked, opened) = after(file, change);
        assert_eq!(looked.to_string(), opened.to_string());
    }
    let (looked, _) = after("checkpoint.redb", |bytes| bytes.truncate(100));
    assert!(looked.to_string().contains("cut short"), "{looked}");
    let giant = |bytes: &mut Vec<u8>| bytes.resize((64 << 20) + 1, 0);
    let (looked, _) = after(segment, giant);
    assert!(looked.to_string().contains("longer than any"), "{looked}");
}

#[test]
fn the_odd_segment_is_named() {
    let other = tempfile::tempdir().unwrap();
    let mut rig = Rig::with(other.path(), Settings { new_store_id: 77, ..small() });
    rig.commit(vec![put("a", "1")]);
    drop(rig);
    let foreign = fs::read(other.path().join("journal-00.seg")).unwrap();
    let (looked, opened) = after("journal-00.seg", |bytes| *bytes = foreign);
    assert_eq!(looked.to_string(), opened.to_string());
    assert!(looked.to_string().starts_with("journal-00.seg"), "{looked}");
}

#[test]
fn no_store_is_well_and_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("store");
    check_heads(&nowhere).unwrap();
    assert!(!is_made(&nowhere).unwrap());
    fs::write(dir.path().join("lock"), "").unwrap();
    check_heads(dir.path()).unwrap();
    assert!(!is_made(dir.path()).unwrap());
    let killed = killed();
    assert!(is_made(killed.path()).unwrap());
    check_heads(killed.path()).unwrap();
    is_made(&killed.path().join("lock")).expect_err("no folder");
}
