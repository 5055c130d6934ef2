//! The wall clock as the gateway shows it: labels for what it writes, and what cron runs on.
//!
//! The system's clock may stand in 1970, jump, and be set by anybody. Monotonic time is the only
//! thing that can be relied on, so the shown time runs on it, from a moment that somebody vouched
//! for (decision 0011).
//!
//! # Invariants
//! - Until somebody vouches, the shown time is what the system's clock showed at the start plus
//!   monotonic time, whatever that clock does meanwhile: all unsynced labels of one run are wrong
//!   by the same amount, which is known at the first [`Move`].
//! - Once synced it stays so. The system's clock is followed while it goes on as expected; a jump
//!   of more than [`JUMP_MS_MAX`] is believed only when it is vouched for.

use crate::time::{ClockQuality, WallTime};

/// The system's clock may differ by so much from what is expected, and is still followed.
pub const JUMP_MS_MAX: u64 = 10_000;

/// What the control plane says contradicts the time daemon from here on: no zone, no second that
/// leaps and no slow network explains it, so one of the two is wrong.
const CONTRADICTION_MS: u64 = 86_400_000;

/// What the clocks of the system show at one moment, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The monotonic clock.
    pub mono_ms: u64,
    /// The wall clock, since 1970.
    pub system_ms: u64,
}

/// The shown time was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Milliseconds since 1970 that were shown until now.
    pub shown_ms: u64,
    /// What it is.
    pub true_ms: u64,
    /// Nobody had vouched before: all labels of this run are wrong by the difference.
    pub first: bool,
}

/// Who vouched for the shown time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Nobody,
    /// The system's time daemon.
    System,
    ControlPlane,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    /// `shown_ms` was shown at this monotonic time.
    mono_ms: u64,
    shown_ms: u64,
    source: Source,
}

impl WallClock {
    /// Begins with what the system's clock shows; nobody vouches for it.
    #[must_use]
    pub fn start(now: Reading) -> Self {
        Self { mono_ms: now.mono_ms, shown_ms: now.system_ms, source: Source::Nobody }
    }

    /// Whether somebody vouched for the shown time.
    #[must_use]
    pub fn quality(&self) -> ClockQuality {
        match self.source {
            Source::Nobody => ClockQuality::Unsynced,
            Source::System | Source::ControlPlane => ClockQuality::Synced,
        }
    }

    /// The label for what is written now.
    pub fn label(&mut self, now: Reading) -> WallTime {
        if self.source != Source::Nobody && self.follows(now) {
            (self.mono_ms, self.shown_ms) = (now.mono_ms, now.system_ms);
        }
        WallTime { unix_ms: self.shown(now), quality: self.quality() }
    }

    /// The system's time daemon has set its clock, or found it right.
    pub fn disciplined(&mut self, now: Reading) -> Option<Move> {
        self.set(now, now.system_ms, Source::System)
    }

    /// The control plane says what time it is. A time daemon of this machine knows better, as long
    /// as its clock has not jumped since.
    pub fn told(&mut self, now: Reading, unix_ms: u64) -> Option<Move> {
        let agree = now.system_ms.abs_diff(unix_ms) <= JUMP_MS_MAX;
        match self.source {
            Source::System if self.follows(now) => None,
            source if agree => {
                let known = source == Source::System;
                self.set(
                    now,
                    now.system_ms,
                    if known { Source::System } else { Source::ControlPlane },
                )
            }
            _ => self.set(now, unix_ms, Source::ControlPlane),
        }
    }

    /// Whether the time daemon, whose clock goes on as expected, says that it is another day.
    #[must_use]
    pub fn contradicts(&self, now: Reading, unix_ms: u64) -> bool {
        self.source == Source::System
            && self.follows(now)
            && self.shown(now).abs_diff(unix_ms) > CONTRADICTION_MS
    }

    fn shown(&self, now: Reading) -> u64 {
        self.shown_ms.saturating_add(now.mono_ms.saturating_sub(self.mono_ms))
    }

    /// Whether the system's clock goes on as expected.
    fn follows(&self, now: Reading) -> bool {
        now.system_ms.abs_diff(self.shown(now)) <= JUMP_MS_MAX
    }

    fn set(&mut self, now: Reading, true_ms: u64, source: Source) -> Option<Move> {
        let (shown_ms, first) = (self.shown(now), self.source == Source::Nobody);
        *self = Self { mono_ms: now.mono_ms, shown_ms: true_ms, source };
        let is_move = first || shown_ms.abs_diff(true_ms) > JUMP_MS_MAX;
        is_move.then_some(Move { shown_ms, true_ms, first })
    }
}

#[cfg(test)]
mod tests;
