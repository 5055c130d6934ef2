//! What the index knows of one run.

use std::sync::Arc;

use crate::id::RecordSeq;
use crate::op::{DropReason, OutboxChunk};

/// Labels that a run tells apart.
const TALLY_MAX: usize = 8;

/// A run of which all is dropped.
pub(super) fn dropped(
    first: RecordSeq,
    last: RecordSeq,
    bytes: u64,
    reason: DropReason,
) -> OutboxChunk {
    let (dropped, gone, expiry, tally) = (Some(reason), Vec::new(), None, Vec::new());
    OutboxChunk { first, last, bytes, dropped, gone, expiry, tally }
}

/// Live records of a run from a position on.
pub(super) fn live(chunk: &OutboxChunk, lowest: RecordSeq) -> u64 {
    let from = chunk.first.max(lowest).0;
    let span = |first: u64, last: u64| (last + 1).saturating_sub(first.max(from));
    if chunk.dropped.is_some() {
        return 0;
    }
    let gone: u64 = chunk.gone.iter().map(|(first, last)| span(first.0, last.0)).sum();
    span(chunk.first.0, chunk.last.0) - gone
}

/// Adds a range behind, before or between others, and joins those that touch.
pub(super) fn add_gone(
    gone: &mut Vec<(RecordSeq, RecordSeq)>,
    mut first: RecordSeq,
    mut last: RecordSeq,
) {
    let at = gone.partition_point(|(_, end)| end.next() < first);
    while let Some((start, end)) = gone.get(at).copied().filter(|(start, _)| *start <= last.next())
    {
        (first, last) = (first.min(start), last.max(end));
        gone.remove(at);
    }
    gone.insert(at, (first, last));
}

pub(super) fn add_to(tally: &mut Vec<(Arc<str>, u64)>, label: &Arc<str>) {
    let place = tally.iter().position(|(known, _)| known == label);
    match place {
        Some(index) => tally[index].1 += 1,
        None if tally.len() < TALLY_MAX => tally.push((Arc::clone(label), 1)),
        // Those that are not told apart count with the last.
        None => tally[TALLY_MAX - 1].1 += 1,
    }
}

pub(super) fn take_from(tally: &mut Vec<(Arc<str>, u64)>, gone: &[(Arc<str>, u64)]) {
    for (label, count) in gone {
        let mut left = *count;
        let known = tally.iter().position(|(known, _)| known == label);
        for index in known.into_iter().chain((0..tally.len()).rev()) {
            let taken = left.min(tally[index].1);
            tally[index].1 -= taken;
            left -= taken;
        }
    }
    tally.retain(|(_, count)| *count > 0);
}
