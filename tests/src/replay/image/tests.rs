use std::collections::BTreeMap;

use super::super::log::Disk;
use super::super::log::tests::made;
use super::super::points::Aim;
use super::*;

const DISK_BYTES: usize = 64 << 10;

fn sectors(value: u8, count: usize) -> Vec<u8> {
    vec![value; count * SECTOR_BYTES]
}

fn log() -> Log {
    let entries = [
        Some((0, sectors(1, 1))),
        Some((8, sectors(2, 2))),
        None,
        Some((0, sectors(3, 1))),
        Some((8, sectors(4, 4))),
        Some((8, sectors(5, 1))),
        Some((100, sectors(6, 8))),
        None,
    ];
    Log::read(made(&entries), Disk::Noted(DISK_BYTES as u64)).unwrap()
}

fn cut(at: usize, seed: u64) -> Cut {
    Cut { number: 0, at, seed, aim: Aim::Anywhere, flushes_missed: 0 }
}

/// The disk after a cut.
fn after(at: usize, seed: u64) -> Vec<u8> {
    let log = log();
    let mut image = Image::new(vec![0; DISK_BYTES]);
    image.advance(&log, &cut(at, seed));
    let file = tempfile::NamedTempFile::new().unwrap();
    image.write(file.path(), &survivors(&log, &cut(at, seed))).unwrap();
    std::fs::read(file.path()).unwrap()
}

#[test]
fn what_was_flushed_is_there_whatever_the_seed() {
    for seed in 0..200 {
        let disk = after(3, seed);
        assert_eq!((disk[8 * SECTOR_BYTES], disk[9 * SECTOR_BYTES]), (2, 2));
        assert!([1, 3].contains(&disk[0]), "the next write may be there, {}", disk[0]);
        let disk = after(8, seed);
        assert_eq!((disk[0], disk[8 * SECTOR_BYTES], disk[9 * SECTOR_BYTES]), (3, 5, 4));
        assert!(disk[100 * SECTOR_BYTES..108 * SECTOR_BYTES].iter().all(|byte| *byte == 6));
    }
}

#[test]
fn what_was_not_flushed_is_kept_dropped_torn_and_reordered() {
    let mut seen: BTreeMap<[u8; 4], usize> = BTreeMap::new();
    for seed in 0..2_000 {
        let disk = after(6, seed);
        let places = [0, 8, 9, 11].map(|sector| disk[sector * SECTOR_BYTES]);
        *seen.entry(places).or_default() += 1;
        for sector in disk.chunks(SECTOR_BYTES) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is never torn");
        }
    }
    // All, nothing, only the last write, a torn third one, the second without the first.
    for places in [[3, 5, 4, 4], [1, 2, 2, 0], [1, 5, 2, 0], [3, 4, 4, 0], [1, 4, 4, 4]] {
        assert!(seen.contains_key(&places), "{places:?} among {seen:?}");
    }
    // The later of two writes to a sector wins, or it was dropped; nothing else is ever there.
    assert!(seen.keys().all(|places| [2, 4, 5].contains(&places[1])), "{seen:?}");
}

#[test]
fn the_write_under_way_may_be_there_in_part() {
    let parts: BTreeSet<usize> = (0..300)
        .map(|seed| {
            let disk = after(6, seed);
            let sectors = disk[100 * SECTOR_BYTES..108 * SECTOR_BYTES].chunks(SECTOR_BYTES);
            sectors.filter(|sector| sector[0] == 6).count()
        })
        .collect();
    assert!(parts.contains(&0) && parts.contains(&8) && parts.len() > 4, "{parts:?}");
}

#[test]
fn the_superblock_is_there_as_a_whole_or_as_it_was() {
    let log =
        Log::read(made(&[Some((2, sectors(9, 2))), None]), Disk::Noted(DISK_BYTES as u64)).unwrap();
    let pieces = |seed| survivors(&log, &cut(1, seed)).len() + survivors(&log, &cut(0, seed)).len();
    let counts: BTreeSet<usize> = (0..100).map(pieces).collect();
    assert_eq!(counts, BTreeSet::from([0, 1, 2]));
    let whole = |seed| survivors(&log, &cut(1, seed)).iter().all(|(_, data)| data.len() == 1_024);
    assert!((0..100).all(whole));
}

#[test]
fn the_same_cut_leaves_the_same_disk() {
    assert_eq!(after(6, 77), after(6, 77));
}

#[test]
fn a_disk_that_did_not_flush_may_have_lost_what_was_flushed() {
    let log = log();
    let lies = |seed| Cut { flushes_missed: 1, ..cut(8, seed) };
    let is_there = |seed| {
        let mut image = Image::new(vec![0; DISK_BYTES]);
        image.advance(&log, &lies(seed));
        let begin = 100 * SECTOR_BYTES as u64;
        assert_eq!((image.bytes()[8 * SECTOR_BYTES], image.bytes()[0]), (2, 1));
        survivors(&log, &lies(seed)).iter().any(|(offset, _)| *offset >= begin)
    };
    assert!((0..50).any(is_there) && !(0..50).all(is_there));
}
