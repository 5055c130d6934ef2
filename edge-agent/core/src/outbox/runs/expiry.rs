//! Records of a run that outlive their time to live.

use crate::op::{DropReason, OutboxChunk, RunExpiry};
use crate::outbox::GRACE_MIN;
use crate::outbox::pen::{Given, Pen};
use crate::outbox::summary::RecordSummary;
use crate::time::Millis;

use super::Runs;
use super::chunk::{add_gone, add_to, take_from};

impl Runs {
    /// Drops those rows of a run that have expired.
    pub(super) fn drop_expired(
        &mut self,
        index: usize,
        rows: &[RecordSummary],
        pen: &mut Pen<'_, '_>,
    ) {
        let (now, lowest) = (pen.now(), self.head.lowest());
        let has_expired =
            |row: &&RecordSummary| row.dropped.is_none() && row.expires.is_some_and(|at| at <= now);
        let live: Vec<_> = rows.iter().filter(|row| row.seq >= lowest).collect();
        let expired: Vec<_> = live.iter().copied().filter(has_expired).collect();
        let (Some(first), Some(last)) = (expired.first(), expired.last()) else {
            return self.look_again(index, &live, pen);
        };
        let mut tally = Vec::new();
        expired.iter().for_each(|row| add_to(&mut tally, &pen.label(&row.label)));
        let bytes = expired.iter().map(|row| row.cost_bytes).sum();
        let (stream, reason) = (self.head.id, DropReason::Expired);
        let given = Given { stream, from: first.seq, to: last.seq, bytes, reason };
        pen.given_up(given, expired.len() as u64, &tally);
        let stones = self.bury(&live, &has_expired, pen);
        let chunk = &mut self.chunks[index];
        expired.iter().for_each(|row| add_gone(&mut chunk.gone, row.seq, row.seq));
        take_from(&mut chunk.tally, &tally);
        self.set_bytes(index, stones);
        self.look_again(index, &live, pen);
    }

    /// Writes tombstones for the rows that are to go. Returns what the rows cost less now.
    fn bury(
        &mut self,
        rows: &[&RecordSummary],
        goes: &impl Fn(&&RecordSummary) -> bool,
        pen: &mut Pen<'_, '_>,
    ) -> u64 {
        let (stream, lowest, reason) = (self.head.id, self.head.lowest(), DropReason::Expired);
        let is_stone = |row: &&RecordSummary| goes(row) || row.dropped == Some(reason);
        let mut freed = 0;
        for group in rows.chunk_by(|a, b| is_stone(a) && is_stone(b)) {
            let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
            if !is_stone(first) || !group.iter().any(goes) {
                continue;
            }
            group[..group.len() - 1].iter().for_each(|row| pen.erase(stream, row.seq));
            freed += group.iter().map(|row| row.cost_bytes).sum::<u64>();
            freed -= pen.stone(stream, first.from.max(lowest), last.seq, reason);
            if self.open && last.seq == self.head.newest {
                self.tail = Some((first.from, reason));
            }
        }
        freed
    }

    fn set_bytes(&mut self, index: usize, freed: u64) {
        let chunk = &mut self.chunks[index];
        assert!(freed < chunk.bytes, "a tombstone stays");
        chunk.bytes -= freed;
        self.head.bytes -= freed;
    }

    /// When the rest of a run expires; where nothing is left of it, it becomes one tombstone.
    fn look_again(&mut self, index: usize, rows: &[&RecordSummary], pen: &mut Pen<'_, '_>) {
        let now = pen.now();
        let left = rows
            .iter()
            .filter(|row| row.dropped.is_none() && row.expires.is_none_or(|at| at > now));
        let times: Vec<_> = left.map(|row| row.expires).collect();
        let chunk = &mut self.chunks[index];
        self.due.clear(&chunk.first);
        if times.is_empty() {
            return self.give_up(index, DropReason::Expired, pen);
        }
        let grace = chunk.expiry.map_or(GRACE_MIN, |expiry| expiry.grace);
        chunk.expiry = times.iter().flatten().min().map(|first| RunExpiry {
            look_at: *first + grace,
            grace,
            all_at: times.iter().copied().try_fold(now, |last, at| at.map(|at| at.max(last))),
        });
        let (first, expiry) = (chunk.first, chunk.expiry);
        self.watch(first, expiry);
        if !self.is_open(index) {
            pen.put_chunk(self.head.id, &self.chunks[index]);
        }
    }
}

/// When a run expires once it has one more record.
pub(super) fn expiry_with(
    chunk: &OutboxChunk,
    expires: Option<Millis>,
    grace: Millis,
) -> Option<RunExpiry> {
    let Some(at) = expires else {
        return chunk.expiry.map(|expiry| RunExpiry { all_at: None, ..expiry });
    };
    let look_at = at + grace;
    Some(match chunk.expiry {
        Some(before) => RunExpiry {
            look_at: before.look_at.min(look_at),
            grace: before.grace.min(grace),
            all_at: before.all_at.map(|last| last.max(at)),
        },
        None => RunExpiry { look_at, grace, all_at: chunk.tally.is_empty().then_some(at) },
    })
}
