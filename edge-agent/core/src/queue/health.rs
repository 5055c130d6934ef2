//! A function that faults again and again is paused, visibly, and tried again with backoff
//! (DESIGN, section 8).

use crate::limits::Limits;
use crate::time::Millis;

#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    faults_in_row: u32,
    pause: Option<Pause>,
}

#[derive(Clone, Debug)]
struct Pause {
    until: Millis,
    length: Millis,
    /// The time is over; one attempt at a time until one ends well.
    probing: bool,
}

impl Health {
    /// An attempt faulted. Returns until when the function is paused, if it now is.
    pub(super) fn fault(&mut self, now: Millis, limits: &Limits) -> Option<Millis> {
        self.faults_in_row = self.faults_in_row.saturating_add(1);
        let length = match &self.pause {
            // An attempt that was under way when the pause began.
            Some(pause) if !pause.probing => return None,
            Some(pause) => (pause.length + pause.length).min(limits.pause_ms_max),
            None if self.faults_in_row < u32::from(limits.pause_after_faults) => return None,
            None => limits.pause_ms_first,
        };
        let until = now + length;
        self.pause = Some(Pause { until, length, probing: false });
        Some(until)
    }

    /// An attempt ended as the function meant it. Returns whether that ends a pause.
    pub(super) fn answered(&mut self) -> bool {
        self.faults_in_row = 0;
        self.pause.take().is_some()
    }

    /// The pause is over: one try.
    pub(super) fn probe(&mut self) {
        if let Some(pause) = &mut self.pause {
            pause.probing = true;
        }
    }

    pub(super) fn may_start(&self, running: u16) -> bool {
        self.pause.as_ref().is_none_or(|pause| pause.probing && running == 0)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    pub(super) fn faults_in_row(&self) -> u32 {
        self.faults_in_row
    }

    /// Time that the pause has still to run.
    pub(super) fn paused_for(&self, now: Millis) -> Option<Millis> {
        self.pause.as_ref().map(|pause| pause.until.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end_with_one_good_attempt() {
        let limits = Limits { pause_after_faults: 2, ..Limits::default() };
        let mut health = Health::default();
        assert_eq!(health.fault(Millis(0), &limits), None);
        assert!(!health.answered());
        assert_eq!(health.fault(Millis(0), &limits), None, "in a row");
        assert_eq!(health.fault(Millis(0), &limits), Some(Millis(5_000)));
        assert_eq!(health.fault(Millis(1), &limits), None, "was under way");
        assert!(!health.may_start(0));
        let mut now = Millis(5_000);
        for length in [10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000] {
            health.probe();
            assert!(health.may_start(0) && !health.may_start(1));
            assert_eq!(health.fault(now, &limits), Some(now + Millis(length)));
            now = now + Millis(length);
        }
        health.probe();
        assert!(health.answered() && !health.is_paused() && health.may_start(7));
    }
}
