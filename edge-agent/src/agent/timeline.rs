//! What is remembered of wall time, over restarts: how wrong the clock was in which process run, and
//! the last time that the control plane vouched for (decision 0011).
//!
//! # Invariants
//! - A run that begins unsynced is in the row before, or in the same batch as, the first row that
//!   bears one of its labels. A store without room takes none: then a restart forgets it.
//! - The report that corrects a run and the row that knows the correction stand in one batch: each
//!   run is reported once.
//! - The vouched time never goes back, but belongs to one enrolment: another one begins without.
//! - Rows that bear labels are never rewritten; who shows one corrects it.

use bytes::Bytes;
use edge_core::effect::Pace;
use edge_core::id::{Epoch, StreamId};
use edge_core::input::Input;
use edge_core::time::{ClockQuality, Millis, Now, WallTime};
use edge_core::wall::Move;
use serde::{Deserialize, Serialize};
use sync_protocol::id::Digest;
use sync_protocol::record::Report;

use super::clock::Clock;
use super::gateway::Gateway;
use super::seams::Boot;
use crate::store::{LedgerOp, Op, ReadError, Reader};

const ROW: &str = "wall-time";
/// Runs that are remembered; the oldest goes, and its labels stay as they are.
const RUNS_MAX: usize = 64;
/// The vouched time is written again once it is so much later.
const SAVE_EVERY_S: u64 = 3_600;

/// A process run that began with a clock that nobody vouched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    epoch: u64,
    /// Gateway time at its beginning.
    since: Millis,
    /// Boot of the machine and milliseconds since it began, at the beginning of the run.
    boot: Option<(u64, u64)>,
    /// What was shown at that moment.
    shown_ms: u64,
    /// What is to be added to its labels, once that is known.
    off_ms: Option<i64>,
}

/// See the module.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Timeline {
    /// The enrolment that the vouched time belongs to.
    enrolment: Option<Digest>,
    /// Seconds since 1970 that the control plane vouched for.
    vouched_unix_s: u64,
    /// Oldest first.
    runs: Vec<Run>,
}

impl Timeline {
    /// Goes on from the store's row, under this enrolment.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) fn load(reader: &Reader, enrolment: Option<Digest>) -> Result<Self, ReadError> {
        let row = reader.ledger_get(ROW)?;
        // Without it labels of the past stay what they are; nothing else depends on it.
        let row: Self = row.and_then(|row| postcard::from_bytes(&row).ok()).unwrap_or_default();
        Ok(row.under(enrolment))
    }

    /// Who enrols anew begins anew: a vouched time that was wrong ends here.
    fn under(self, enrolment: Option<Digest>) -> Self {
        let vouched_unix_s = if self.enrolment == enrolment { self.vouched_unix_s } else { 0 };
        Self { enrolment, vouched_unix_s, ..self }
    }

    /// Seconds since 1970 that it certainly is.
    #[must_use]
    pub(super) fn vouched_unix_s(&self) -> u64 {
        self.vouched_unix_s
    }

    /// A run begins unsynced.
    pub(super) fn begin(&mut self, epoch: Epoch, now: Now, boot: Option<Boot>) {
        let boot = boot.map(|boot| (boot.id, boot.since_ms));
        let shown_ms = now.wall.unix_ms;
        let run = Run { epoch: epoch.0, since: now.at, boot, shown_ms, off_ms: None };
        let over = (self.runs.len() + 1).saturating_sub(RUNS_MAX);
        self.runs.drain(..over);
        self.runs.push(run);
    }

    /// The clock of this run was synced: what was found out about runs of this boot.
    fn found_out(&mut self, epoch: Epoch, moved: Move, boot: Option<Boot>) -> Vec<Report> {
        let mut reports = Vec::new();
        for run in self.runs.iter_mut().filter(|run| run.off_ms.is_none()) {
            let shown_ms = run.shown_ms;
            let true_ms = match (run.boot, boot) {
                _ if run.epoch == epoch.0 => {
                    let gone_ms = moved.shown_ms.saturating_sub(shown_ms);
                    moved.true_ms.saturating_sub(gone_ms)
                }
                (Some((id, since_ms)), Some(boot)) if id == boot.id => {
                    moved.true_ms.saturating_sub(boot.since_ms.saturating_sub(since_ms))
                }
                _ => continue,
            };
            run.off_ms = Some(true_ms.cast_signed().wrapping_sub(shown_ms.cast_signed()));
            reports.push(Report::Clock { epoch: run.epoch, shown_ms, true_ms });
        }
        reports
    }

    /// The control plane vouches for a time. True where that is worth writing; it is not where the
    /// time daemon contradicts.
    fn vouched(&mut self, unix_s: u64, clock: &Clock) -> bool {
        let is_news = unix_s >= self.vouched_unix_s.saturating_add(SAVE_EVERY_S)
            && !clock.contradicts(unix_s.saturating_mul(1_000));
        if is_news {
            self.vouched_unix_s = unix_s;
        }
        is_news
    }

    /// A label of a process run, corrected where that is known.
    #[must_use]
    pub(super) fn of_run(&self, epoch: Epoch, label: WallTime) -> WallTime {
        corrected(label, self.runs.iter().rfind(|run| run.epoch == epoch.0))
    }

    /// A label of the process run `from` that will stand under the run `to`: right, or such that no
    /// report on `to` corrects it.
    #[must_use]
    pub(super) fn carried(&self, label: WallTime, from: Epoch, to: Epoch) -> WallTime {
        let label = self.of_run(from, label);
        match label.quality {
            ClockQuality::Unsynced if from != to => {
                WallTime { quality: ClockQuality::Unknown, ..label }
            }
            _ => label,
        }
    }

    /// A label of a moment of gateway time, corrected where that is known.
    #[must_use]
    pub(super) fn of_moment(&self, at: Millis, label: WallTime) -> WallTime {
        corrected(label, self.runs.iter().rfind(|run| run.since <= at))
    }

    fn op(&self) -> Op {
        let row = postcard::to_stdvec(self).expect("invariant: numbers in bounds");
        Op::Ledger(LedgerOp::Put { name: ROW.to_owned(), value: Bytes::from(row) })
    }
}

fn corrected(label: WallTime, run: Option<&Run>) -> WallTime {
    match (label.quality, run.and_then(|run| run.off_ms)) {
        (ClockQuality::Unsynced, Some(off_ms)) => WallTime {
            unix_ms: label.unix_ms.saturating_add_signed(off_ms),
            quality: ClockQuality::Synced,
        },
        _ => label,
    }
}

impl Gateway {
    /// A life begins; nothing was written in it yet.
    pub(super) fn begin_labels(&mut self) {
        if self.clock.is_synced() {
            return self.time_floor.know(self.now.wall.unix_ms);
        }
        let boot = self.clock.boot();
        self.timeline.begin(self.epoch, self.now, boot);
        self.save_timeline();
    }

    fn save_timeline(&mut self) {
        if self.reader.headroom_bytes() == 0 {
            return;
        }
        self.commit.push(self.timeline.op(), Pace::Lazy, self.now.at);
    }

    /// The shown time was set.
    pub(super) fn clock_moved(&mut self, moved: Move) {
        let Move { shown_ms, true_ms, first } = moved;
        tracing::info!(shown_ms, true_ms, first, "the clock was set");
        self.now = self.clock.now();
        self.time_floor.know(self.now.wall.unix_ms);
        if first {
            let boot = self.clock.boot();
            let reports = self.timeline.found_out(self.epoch, moved, boot);
            if !reports.is_empty() {
                self.save_timeline();
            }
            for report in reports {
                let body = Bytes::from(report.to_bytes());
                self.with_core(Input::Report { stream: StreamId::URGENT, body });
            }
        }
        self.with_core(Input::Tick);
    }

    /// The control plane says what time it is.
    pub(super) fn told_time(&mut self, unix_ms: u64) {
        self.link.vouched(unix_ms, self.now.at);
        self.link.clock_error_ms = self.clock.system_error_ms(unix_ms);
        if self.clock.contradicts(unix_ms) {
            tracing::warn!(
                told_ms = unix_ms,
                shown_ms = self.now.wall.unix_ms,
                "the control plane and this machine's time daemon differ by more than a day; the \
                 time daemon is believed: look at the control plane's clock"
            );
        }
        if let Some(moved) = self.clock.told(unix_ms) {
            self.clock_moved(moved);
        }
        self.keep_floor();
    }

    /// The time that the control plane vouched for goes on; certificates that ended before it stay
    /// dead, whatever the clock shows after the next start.
    pub(super) fn keep_floor(&mut self) {
        let Some(unix_s) = self.link.vouched_unix_s(self.now.at) else { return };
        if self.timeline.vouched(unix_s, &self.clock) {
            self.time_floor.vouch(unix_s);
            if self.clock.is_synced() {
                self.time_floor.know(self.now.wall.unix_ms);
            }
            self.save_timeline();
        }
    }
}

#[cfg(test)]
mod tests;
