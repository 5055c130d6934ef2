//! A small part of a card, cut around each write to it: what the boot loader goes by.
//!
//! Beside what [`super::image`] does to unflushed writes, the write under way may end within a sector:
//! a card that loses its power may leave such a sector half new, half old.

use std::path::Path;

use anyhow::Result;

use crate::random::Random;

use super::card::Part;
use super::image::{Image, survivors};
use super::log::{Entry, Log};
use super::points::{Aim, Cut};
use super::record::Record;

/// Times that each place is cut at.
const TIMES: usize = 24;
/// Entries before and behind a write that are cut at, too.
const AROUND: usize = 2;

/// Says what must not be, of what was durable and of what a cut left.
type Judge<'a> = dyn FnMut(&[u8], &[u8]) -> Vec<String> + 'a;

/// What was cut and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Writes to the part.
    pub writes: usize,
    /// Cuts around them.
    pub cuts: usize,
    /// What must not be; empty when all is well.
    pub problems: Vec<String>,
}

/// Cuts a finished record of a card around each write to `part`. `judge` is given what was durable, and what the
/// cut left; it says what must not be.
///
/// # Errors
/// There is no record, or it cannot be read.
pub fn cut(dir: &Path, part: Part, seed: u64, judge: &mut Judge<'_>) -> Result<Found> {
    let record = Record::kept(dir)?;
    Ok(cut_log(&record.log(part)?, record.base(part)?, seed, judge))
}

fn cut_log(log: &Log, base: Vec<u8>, seed: u64, judge: &mut Judge<'_>) -> Found {
    let mut random = Random::new(seed);
    let mut image = Image::new(base);
    let mut found = Found::default();
    for (number, at) in places(log, &mut found.writes).into_iter().enumerate() {
        for _ in 0..TIMES {
            let cut = Cut { number, at, seed: random.bits(), aim: Aim::Commit, flushes_missed: 0 };
            image.advance(log, &cut);
            let mut pieces = survivors(log, &cut);
            if let Some(Entry::Write { offset, data }) = log.entries.get(at) {
                let data = log.data(data);
                pieces.push((*offset, &data[..random.below(data.len() + 1)]));
            }
            let mut after = image.bytes().to_vec();
            for (offset, data) in pieces {
                let begin = usize::try_from(offset).unwrap_or(usize::MAX);
                after[begin..begin + data.len()].copy_from_slice(data);
            }
            found.cuts += 1;
            let problems = judge(image.bytes(), &after);
            found.problems.extend(problems.into_iter().map(|text| format!("entry {at}: {text}")));
        }
    }
    found
}

/// Places of cuts, in order: around each write, and around the flush behind it.
fn places(log: &Log, writes: &mut usize) -> Vec<usize> {
    let mut places = Vec::new();
    let flushes = log.flushes();
    for (place, entry) in log.entries.iter().enumerate() {
        if !matches!(entry, Entry::Write { .. }) {
            continue;
        }
        *writes += 1;
        let flush = flushes.iter().find(|flush| **flush > place);
        for at in std::iter::once(place).chain(flush.copied()) {
            places.extend(at.saturating_sub(AROUND)..=(at + AROUND).min(log.entries.len()));
        }
    }
    places.sort_unstable();
    places.dedup();
    places
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::log::Disk;
    use super::super::log::tests::made;
    use super::*;

    #[test]
    fn the_write_under_way_may_end_within_a_sector() {
        let bytes = made(&[Some((20, vec![1; 512])), None, Some((30, vec![2; 512])), None]);
        let log = Log::read(bytes, Disk::Noted(1 << 20)).unwrap();
        let mut torn = BTreeSet::new();
        let found = cut_log(&log, vec![0; 64 << 10], 5, &mut |durable, after| {
            torn.insert(after[30 * 512..31 * 512].iter().filter(|byte| **byte == 2).count());
            let lost = durable[20 * 512] == 1 && after[20 * 512] != 1;
            lost.then(|| "flushed and gone".to_owned()).into_iter().collect()
        });
        assert_eq!((found.writes, found.problems), (2, Vec::new()));
        assert!(torn.contains(&0) && torn.contains(&512) && torn.len() > 5, "{torn:?}");
    }
}
