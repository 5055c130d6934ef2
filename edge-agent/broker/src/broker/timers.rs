//! The broker's deadlines as one indexed table: at most one moment per timer.

use std::collections::{BTreeMap, BTreeSet};

use edge_core::time::Millis;

use super::{ConnId, SessionId};

/// Something that is due at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The owner has not said who a client is.
    Auth(ConnId),
    /// A client has not been heard.
    KeepAlive(ConnId),
    /// A connection over its egress bound has taken nothing.
    Stall(ConnId),
    /// A session without a connection ends.
    Expiry(SessionId),
    /// A session without a connection has more to pass on to other members of its shares.
    PassOn(SessionId),
    /// A will's delay is over.
    Will(SessionId),
    /// Connections wait for the ingress budget of all.
    Starved,
    /// A retained message expires.
    Retained,
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    by_timer: BTreeMap<Timer, Millis>,
    by_time: BTreeSet<(Millis, Timer)>,
}

impl Timers {
    /// Sets or moves a timer.
    pub(super) fn set(&mut self, timer: Timer, at: Millis) {
        if let Some(old) = self.by_timer.insert(timer, at) {
            self.by_time.remove(&(old, timer));
        }
        self.by_time.insert((at, timer));
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        if let Some(old) = self.by_timer.remove(&timer) {
            self.by_time.remove(&(old, timer));
        }
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.by_timer.contains_key(&timer)
    }

    /// The earliest moment.
    pub(super) fn first(&self) -> Option<Millis> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes a timer that is due.
    pub(super) fn pop_due(&mut self, now: Millis) -> Option<Timer> {
        let (at, timer) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_moves_and_fires_once() {
        let (a, b) = (Timer::KeepAlive(ConnId(1)), Timer::Will(SessionId(2)));
        let mut timers = Timers::default();
        timers.set(a, Millis(10));
        timers.set(b, Millis(20));
        timers.set(a, Millis(30));
        assert_eq!(timers.first(), Some(Millis(20)));
        assert_eq!(timers.pop_due(Millis(19)), None);
        assert_eq!(timers.pop_due(Millis(30)), Some(b));
        assert!(timers.is_set(a));
        timers.clear(a);
        assert_eq!(timers.pop_due(Millis(99)), None);
        assert_eq!(timers.first(), None);
    }
}
