//! A function that faults again and again is paused, visibly, and tried again with backoff
//! (DESIGN, section 8): a circuit breaker.
//!
//! # Rules
//! - What counts is events, not attempts: the function is paused once `after` different events
//!   faulted and none went well in between. One poisoned event that is tried again and again
//!   holds its lane, and pauses nobody.
//! - A fault is what the sandbox stopped. A function that asks for another attempt or rejects an
//!   event works: it said what it meant to say.
//! - After the pause exactly one attempt is made. If it faults the next pause is twice as long, up
//!   to `ms_max`; if it ends well the function goes on as before.
//! - Attempts that were under way when the pause began change nothing, whatever they come to.

use std::collections::BTreeSet;

use crate::id::JobId;
use crate::op::PauseRow;
use crate::release::PausePolicy;
use crate::time::Millis;

#[derive(Clone, Debug)]
pub(super) enum Health {
    /// It starts what it has. Events that faulted since one went well; at most `after`.
    Works {
        faulted: BTreeSet<JobId>,
    },
    Paused(Pause),
    /// The pause is over: one attempt tells.
    Probing {
        pause: Pause,
        probe: Option<JobId>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pause {
    pub(crate) faults: u32,
    pub(crate) until: Millis,
    pub(crate) length: Millis,
}

impl Default for Health {
    fn default() -> Self {
        Self::Works { faulted: BTreeSet::new() }
    }
}

impl Health {
    /// As it was before the restart.
    pub(super) fn restored(row: &PauseRow) -> Self {
        Self::Paused(Pause { faults: row.faults, until: row.until, length: row.length })
    }

    /// An attempt faulted. Returns the pause, if one begins now.
    pub(super) fn fault(&mut self, job: JobId, now: Millis, policy: &PausePolicy) -> Option<Pause> {
        let (faults, length) = match self {
            Self::Works { faulted } => {
                faulted.insert(job);
                if faulted.len() < usize::from(policy.after) {
                    return None;
                }
                (u32::from(policy.after), policy.ms_min)
            }
            Self::Probing { pause, probe } if *probe == Some(job) => {
                let twice = pause.length + pause.length;
                (pause.faults.saturating_add(1), twice.min(policy.ms_max))
            }
            Self::Paused(_) | Self::Probing { .. } => return None,
        };
        let pause = Pause { faults, until: now + length, length };
        *self = Self::Paused(pause);
        Some(pause)
    }

    /// An attempt ended as the function meant it. Returns whether that ends a pause.
    pub(super) fn answered(&mut self, job: JobId) -> bool {
        match self {
            Self::Works { faulted } => {
                faulted.clear();
                false
            }
            Self::Probing { probe, .. } if *probe == Some(job) => self.resume(),
            Self::Paused(_) | Self::Probing { .. } => false,
        }
    }

    /// It goes on as before. Returns whether it was paused.
    pub(super) fn resume(&mut self) -> bool {
        let paused = self.is_paused();
        *self = Self::default();
        paused
    }

    /// The time of the pause is over.
    pub(super) fn probe(&mut self) {
        if let Self::Paused(pause) = *self {
            *self = Self::Probing { pause, probe: None };
        }
    }

    /// An attempt starts.
    pub(super) fn started(&mut self, job: JobId) {
        if let Self::Probing { probe, .. } = self {
            assert!(probe.is_none(), "one attempt tells");
            *probe = Some(job);
        }
    }

    /// An attempt is over; if it told nothing (its outcome was discarded), another one has to.
    pub(super) fn stopped(&mut self, job: JobId) {
        if let Self::Probing { probe, .. } = self
            && *probe == Some(job)
        {
            *probe = None;
        }
    }

    pub(super) fn may_start(&self) -> bool {
        match self {
            Self::Works { .. } => true,
            Self::Paused(_) => false,
            Self::Probing { probe, .. } => probe.is_none(),
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        !matches!(self, Self::Works { .. })
    }

    pub(super) fn is_probing(&self) -> bool {
        matches!(self, Self::Probing { .. })
    }

    /// Events that faulted with none going well in between, and failed tries since.
    pub(super) fn faults_in_row(&self) -> u32 {
        match self {
            Self::Works { faulted } => u32::try_from(faulted.len()).unwrap_or(u32::MAX),
            Self::Paused(pause) | Self::Probing { pause, .. } => pause.faults,
        }
    }

    /// Time that the pause has still to run.
    pub(super) fn paused_for(&self, now: Millis) -> Option<Millis> {
        match self {
            Self::Works { .. } => None,
            Self::Paused(pause) => Some(pause.until.since(now)),
            Self::Probing { .. } => Some(Millis(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: PausePolicy =
        PausePolicy { after: 2, ms_min: Millis(5_000), ms_max: Millis(300_000) };

    /// When the pause is over that this fault began.
    fn fault(health: &mut Health, job: u64, now: u64) -> Option<u64> {
        health.fault(JobId(job), Millis(now), &POLICY).map(|pause| pause.until.0)
    }

    #[test]
    fn pauses_double_and_end_with_one_good_attempt() {
        let mut health = Health::default();
        assert_eq!(fault(&mut health, 1, 0), None);
        assert!(!health.answered(JobId(9)));
        assert_eq!(fault(&mut health, 1, 0), None, "in a row");
        assert_eq!(fault(&mut health, 2, 0), Some(5_000));
        assert_eq!(fault(&mut health, 3, 1), None, "was under way");
        assert!(!health.may_start());
        let mut now = 5_000;
        for length in [10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000] {
            health.probe();
            assert!(health.may_start());
            health.started(JobId(4));
            assert!(!health.may_start(), "one attempt tells");
            assert_eq!(fault(&mut health, 4, now), Some(now + length));
            now += length;
        }
        assert_eq!(health.faults_in_row(), 9);
        health.probe();
        health.started(JobId(5));
        assert!(health.answered(JobId(5)) && !health.is_paused() && health.may_start());
    }

    #[test]
    fn one_event_that_faults_for_ever_pauses_nobody() {
        let mut health = Health::default();
        assert!((0..100).all(|now| fault(&mut health, 1, now).is_none()));
        assert_eq!(health.faults_in_row(), 1);
        assert!(fault(&mut health, 2, 100).is_some());
    }

    #[test]
    fn only_the_attempt_that_was_made_to_tell_does() {
        let mut health = Health::default();
        assert_eq!((fault(&mut health, 1, 0), fault(&mut health, 2, 0)), (None, Some(5_000)));
        assert!(!health.answered(JobId(7)), "it began before the pause");
        health.probe();
        health.started(JobId(4));
        assert!(!health.answered(JobId(7)));
        assert_eq!(fault(&mut health, 8, 5_000), None);
        health.stopped(JobId(7));
        assert!(!health.may_start());
        health.stopped(JobId(4));
        assert!(health.may_start(), "its outcome was discarded: another one tells");
        health.started(JobId(5));
        assert!(health.answered(JobId(5)));
    }

    #[test]
    fn an_operator_ends_a_pause() {
        let mut health = Health::default();
        assert!(!health.resume());
        assert_eq!((fault(&mut health, 1, 0), fault(&mut health, 2, 0)), (None, Some(5_000)));
        assert!(health.resume() && health.may_start());
        assert_eq!((health.faults_in_row(), fault(&mut health, 1, 0)), (0, None));
    }
}
