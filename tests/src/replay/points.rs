//! Where the power is cut.

use crate::random::Random;

use super::log::{Entry, Log};

/// Why a point was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Aim {
    /// Anywhere in the log.
    Anywhere,
    /// Within a few entries of a flush: around the commit of a batch.
    Commit,
    /// Between two flushes that have much between them: a checkpoint, or the making of the store.
    Checkpoint,
}

/// A cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Its number, in the order in which the points were chosen.
    pub(super) number: usize,
    /// Entries of the log that were completed before it.
    pub(super) at: usize,
    /// Chooses what becomes of writes that were not flushed.
    pub(super) seed: u64,
    pub(super) aim: Aim,
    /// Of the last flushes before it, so many were not done, though the disk said so. No disk of a
    /// real run does that: whoever judges must see it.
    pub(super) flushes_missed: usize,
}

/// Entries before and behind a flush that count as around it.
const AROUND: usize = 3;
/// Of the stretches between two flushes, one in so many counts as wide.
const WIDE_ONE_IN: usize = 20;

/// Chooses `points` cuts, in order of their place: half of them anywhere, a quarter around flushes,
/// a quarter in wide stretches.
pub(super) fn choose(log: &Log, points: usize, seed: u64) -> Vec<Cut> {
    let mut random = Random::new(seed);
    let end = log.entries.len();
    let flushes = log.flushes();
    let wide = widest(log, &flushes);
    let mut cuts: Vec<Cut> = (0..points)
        .map(|number| {
            let aim = match number % 4 {
                0 | 1 => Aim::Anywhere,
                2 => Aim::Commit,
                _ => Aim::Checkpoint,
            };
            let at = match aim {
                Aim::Commit if !flushes.is_empty() => {
                    let flush = flushes[random.below(flushes.len())];
                    (flush + 1 + random.below(2 * AROUND)).saturating_sub(AROUND)
                }
                Aim::Checkpoint if !wide.is_empty() => {
                    let (begin, end) = wide[random.below(wide.len())];
                    begin + random.below(end - begin + 1)
                }
                _ => random.below(end + 1),
            };
            Cut { number, at: at.min(end), seed: random.bits(), aim, flushes_missed: 0 }
        })
        .collect();
    cuts.sort_by_key(|cut| cut.at);
    cuts
}

/// The stretches between flushes with the most writes, each from behind a flush to the next one.
fn widest(log: &Log, flushes: &[usize]) -> Vec<(usize, usize)> {
    let begins = std::iter::once(0).chain(flushes.iter().map(|flush| flush + 1));
    let mut stretches: Vec<(usize, usize)> = begins.zip(flushes.iter().copied()).collect();
    let writes = |(begin, end): &(usize, usize)| {
        let entries = &log.entries[*begin..*end];
        entries.iter().filter(|entry| matches!(entry, Entry::Write { .. })).count()
    };
    stretches.sort_by_key(|stretch| std::cmp::Reverse(writes(stretch)));
    stretches.truncate(stretches.len().div_ceil(WIDE_ONE_IN));
    stretches
}

#[cfg(test)]
mod tests {
    use super::super::log::Disk;
    use super::super::log::tests::made;
    use super::*;

    fn log() -> Log {
        let write = |n: u64| Some((n, vec![1; 512]));
        let mut entries = Vec::new();
        for batch in 0..40 {
            // One wide stretch among narrow ones.
            let writes = if batch == 30 { 50 } else { 1 };
            entries.extend((0..writes).map(write));
            entries.push(None);
        }
        Log::read(made(&entries), Disk::Noted(1 << 20)).unwrap()
    }

    #[test]
    fn points_follow_the_seed_and_lie_where_they_aim() {
        let log = log();
        let cuts = choose(&log, 400, 9);
        assert_eq!(cuts, choose(&log, 400, 9));
        assert_ne!(cuts, choose(&log, 400, 10));
        assert!(cuts.is_sorted_by_key(|cut| cut.at));
        assert!(cuts.iter().all(|cut| cut.at <= log.entries.len()));
        let flushes = log.flushes();
        let near = |at: usize| {
            flushes.iter().any(|flush| at + AROUND > *flush && at <= flush + 1 + AROUND)
        };
        assert!(cuts.iter().filter(|cut| cut.aim == Aim::Commit).all(|cut| near(cut.at)));
        let aimed: Vec<_> = cuts.iter().filter(|cut| cut.aim == Aim::Checkpoint).collect();
        assert_eq!(aimed.len(), 100);
        let wide = aimed.iter().filter(|cut| (60..=110).contains(&cut.at)).count();
        assert!(wide >= 30, "{wide} of 100 in the wide stretch, one of two that count as wide");
    }

    #[test]
    fn an_empty_log_has_only_its_begin() {
        let cuts = choose(&Log::default(), 8, 1);
        assert!(cuts.iter().all(|cut| cut.at == 0));
        assert_eq!(cuts.len(), 8);
    }
}
