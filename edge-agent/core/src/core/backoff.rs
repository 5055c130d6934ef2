//! How long a failed job waits, and when it is too old.
//!
//! # Rules
//! - A job's age counts on gateway time from its admission: while it waits for its lane, for a
//!   retry, for a paused function. It is given up when it is too old, before it starts again; a
//!   running attempt may still end well.
//! - Time without power ages nothing, unless the trigger asks for wall age and the clock was synced
//!   at admission and is now (DESIGN, time): then the greater of the two ages counts.

use crate::id::{Epoch, JobId};
use crate::op::Job;
use crate::release::{Jitter, RetryPolicy, TriggerSpec};
use crate::time::{ClockQuality, Millis, Now};
use crate::turn::Turn;

use super::Core;

/// Wait before the next attempt, after so many that counted. One that did not count (on
/// probation) waits like the first. `run` numbers the job's runs.
///
/// With jitter the wait is drawn evenly from zero to the whole, by a hash of what names the run:
/// the core draws no random numbers, and no two gateways or jobs draw alike.
pub(super) fn wait(
    retry: &RetryPolicy,
    attempts: u8,
    (epoch, job, run): (Epoch, JobId, u32),
) -> Millis {
    let index = usize::from(attempts.saturating_sub(1));
    let whole = retry.backoff.get(index).or(retry.backoff.last()).copied().unwrap_or_default();
    match retry.jitter {
        Jitter::None => whole,
        Jitter::Full => {
            let hash = mixed(mixed(mixed(epoch.0) ^ job.0) ^ u64::from(run));
            // Even enough: waits are far below 2^64.
            Millis(hash % whole.0.saturating_add(1))
        }
    }
}

/// The finalizer of SplitMix64: every bit depends on every bit.
fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// When a job is too old, as far as can be told now.
pub(super) fn too_old_at(trigger: &TriggerSpec, job: &Job, now: Now) -> Millis {
    let RetryPolicy { age_max, age_by_wall, .. } = trigger.retry;
    let by_gateway = job.admitted_at + age_max;
    let synced = [now.wall, job.admitted_wall].map(|wall| wall.quality == ClockQuality::Synced);
    if !age_by_wall || synced != [true, true] {
        return by_gateway;
    }
    let age = Millis(now.wall.unix_ms).since(Millis(job.admitted_wall.unix_ms));
    by_gateway.min(now.at + age_max.since(age))
}

impl Core {
    /// The clock is synced now: jobs may be older than gateway time says.
    pub(super) fn note_clock(&mut self, turn: &mut Turn<'_>) {
        let synced = turn.now.wall.quality == ClockQuality::Synced;
        if std::mem::replace(&mut self.synced, synced) || !synced {
            return;
        }
        for id in self.queue.jobs() {
            let Some(job) = self.queue.get(id) else { continue };
            let Some(trigger) = self.trigger(&job.event.trigger) else { continue };
            if trigger.retry.age_by_wall {
                let at = too_old_at(&trigger, job, turn.now);
                self.queue.set_too_old_at(id, at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_jitter_is_even_between_zero_and_the_whole_and_the_same_each_time() {
        let retry = RetryPolicy {
            backoff: vec![Millis(9), Millis(1_000)],
            jitter: Jitter::Full,
            ..RetryPolicy::default()
        };
        let drawn = |job, run| wait(&retry, 1, (Epoch(7), JobId(job), run));
        let mut counts = [0_u32; 10];
        for job in 0..10_000 {
            assert_eq!(drawn(job, 1), drawn(job, 1));
            counts[usize::try_from(drawn(job, 1).0).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (900..1_100).contains(count)), "{counts:?}");
        assert!((0..100).any(|run| drawn(1, run) != drawn(1, 0)), "each run draws anew");
        assert!(wait(&retry, 5, (Epoch(7), JobId(1), 5)).0 <= 1_000);
        let plain = RetryPolicy { jitter: Jitter::None, ..retry };
        assert_eq!(wait(&plain, 1, (Epoch(7), JobId(1), 1)), Millis(9));
        assert_eq!(wait(&plain, 7, (Epoch(7), JobId(1), 1)), Millis(1_000));
    }
}
