//! When schedules fire (DESIGN, section 4, time).
//!
//! # Invariants
//! - A rate runs on gateway time, which stands still without power and never jumps. Cron runs on
//!   wall time and only while that is synced; without it nothing of cron fires and nothing is
//!   missed yet.
//! - A slot's mark enters the same batch as its job; a slot fires once, also over restarts and
//!   when the clock is set back by less than [`BACK_S_MAX`].
//! - One event for however many slots a jump of the clock passes over: a slot that comes up to
//!   [`ON_TIME_S`] late is on time, earlier ones are missed.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::TriggerId;
use crate::release::MissedSlots;
use crate::schedule::Schedule;
use crate::time::{ClockQuality, Millis, Now};

/// A slot may come this late and still be on time.
pub const ON_TIME_S: u64 = 60;
/// A last used slot this far in the future was used on a wrong clock, and is forgotten.
pub const BACK_S_MAX: u64 = 24 * 3_600;

#[derive(Clone, Debug)]
struct Entry {
    schedule: Schedule,
    missed: MissedSlots,
    /// The next slot; `None`: not known before the clock is, or there is none.
    next: Option<u64>,
}

/// What became due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SlotDue {
    /// Wake the trigger for this slot.
    Fire { trigger: TriggerId, slot_s: u64, missed: bool },
    /// The slots up to this one passed; the trigger does not want them any more.
    Skip { trigger: TriggerId, slot_s: u64 },
    /// The mark was beyond reason.
    Behind { trigger: TriggerId, mark_s: u64, now_s: u64 },
}

#[derive(Clone, Debug)]
pub(crate) struct Slots {
    marks: Marks,
    /// By gateway time.
    rates: Line,
    /// By wall time.
    crons: Line,
    /// Gateway time and wall clock (ms) when last told, if that was synced.
    clock: Option<(Millis, u64)>,
}

/// Last used slots, in seconds on the schedule's clock; kept for triggers that come back.
type Marks = BTreeMap<TriggerId, u64>;

impl Slots {
    pub(crate) fn new(marks: Vec<(TriggerId, u64)>) -> Self {
        Self {
            marks: marks.into_iter().collect(),
            rates: Line::default(),
            crons: Line::default(),
            clock: None,
        }
    }

    pub(crate) fn add(&mut self, trigger: &TriggerId, schedule: Schedule, missed: MissedSlots) {
        self.remove(trigger);
        let line = if schedule.is_on_wall_time() { &mut self.crons } else { &mut self.rates };
        line.live.insert(trigger.clone(), Entry { schedule, missed, next: None });
        line.fresh.insert(trigger.clone());
    }

    pub(crate) fn remove(&mut self, trigger: &TriggerId) {
        self.rates.remove(trigger);
        self.crons.remove(trigger);
    }

    /// When the first slot comes, if the wall clock goes on as it does.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        let rate = self.rates.first().map(Millis::from_secs);
        let cron = self.clock.zip(self.crons.first()).map(|((at, unix_ms), slot)| {
            at + Millis(slot.saturating_mul(1_000).saturating_sub(unix_ms))
        });
        [rate, cron].into_iter().flatten().min()
    }

    /// Takes the time and returns one thing that is due. To be called until there is none.
    pub(crate) fn due(&mut self, now: Now) -> Option<SlotDue> {
        if let Some(due) = self.rates.due(&mut self.marks, now.at.0 / 1_000) {
            return Some(due);
        }
        if now.wall.quality != ClockQuality::Synced {
            self.clock = None;
            return None;
        }
        self.clock = Some((now.at, now.wall.unix_ms));
        self.crons.due(&mut self.marks, now.wall.unix_ms / 1_000)
    }
}

/// Triggers on one clock.
#[derive(Clone, Debug, Default)]
struct Line {
    live: BTreeMap<TriggerId, Entry>,
    /// Live ones whose next slot has yet to be found.
    fresh: BTreeSet<TriggerId>,
    due: BTreeSet<(u64, TriggerId)>,
    /// Latest time that slots were planned by.
    latest_s: u64,
}

impl Line {
    fn first(&self) -> Option<u64> {
        self.due.first().map(|(slot, _)| *slot)
    }

    fn remove(&mut self, trigger: &TriggerId) {
        self.fresh.remove(trigger);
        if let Some(Entry { next: Some(next), .. }) = self.live.remove(trigger) {
            self.due.remove(&(next, trigger.clone()));
        }
    }

    fn due(&mut self, marks: &mut Marks, now_s: u64) -> Option<SlotDue> {
        if now_s.saturating_add(BACK_S_MAX) < self.latest_s {
            self.plan_anew();
            self.latest_s = now_s;
        }
        self.latest_s = self.latest_s.max(now_s);
        while let Some(trigger) = self.fresh.pop_first() {
            if let Some(behind) = self.plan(trigger, marks, now_s) {
                return Some(behind);
            }
        }
        let (slot, _) = self.due.first()?;
        if *slot > now_s {
            return None;
        }
        let (slot, trigger) = self.due.pop_first()?;
        Some(self.pass(slot, trigger, marks, now_s))
    }

    /// Finds the first slot of a trigger after its mark, or after now.
    fn plan(&mut self, trigger: TriggerId, marks: &mut Marks, now_s: u64) -> Option<SlotDue> {
        let mark = marks.get(&trigger).copied();
        let behind = mark.filter(|mark| *mark > now_s.saturating_add(BACK_S_MAX));
        if behind.is_some() {
            marks.insert(trigger.clone(), now_s);
        }
        let from = if behind.is_some() { now_s } else { mark.unwrap_or(now_s) };
        self.set_next(&trigger, from);
        let mark_s = behind?;
        Some(SlotDue::Behind { trigger, mark_s, now_s })
    }

    /// All was planned by a clock that was far ahead.
    fn plan_anew(&mut self) {
        self.due.clear();
        for (trigger, entry) in &mut self.live {
            entry.next = None;
            self.fresh.insert(trigger.clone());
        }
    }

    /// A slot has come, and perhaps some after it too.
    fn pass(&mut self, slot: u64, trigger: TriggerId, marks: &mut Marks, now_s: u64) -> SlotDue {
        let entry = self.live.get(&trigger).expect("invariant: due holds live triggers");
        let last = entry.schedule.last_at_or_before(now_s).unwrap_or(slot).max(slot);
        let on_time = now_s - last <= ON_TIME_S;
        let several = last > slot;
        let wanted = entry.missed;
        marks.insert(trigger.clone(), last);
        self.set_next(&trigger, last);
        match wanted {
            MissedSlots::Once => SlotDue::Fire { trigger, slot_s: last, missed: false },
            MissedSlots::Skip if on_time => {
                SlotDue::Fire { trigger, slot_s: last, missed: several }
            }
            MissedSlots::Skip => SlotDue::Skip { trigger, slot_s: last },
        }
    }

    fn set_next(&mut self, trigger: &TriggerId, from: u64) {
        let Some(entry) = self.live.get_mut(trigger) else { return };
        entry.next = entry.schedule.next_after(from);
        if let Some(next) = entry.next {
            self.due.insert((next, trigger.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::WallTime;

    const HOUR: u64 = 3_600;
    /// 2026-11-23 00:00.
    const DAY: u64 = 1_795_392_000;

    fn now(at_s: u64, unix_s: u64, quality: ClockQuality) -> Now {
        let wall = WallTime { unix_ms: unix_s * 1_000 + 5, quality };
        Now { at: Millis::from_secs(at_s), wall }
    }

    fn synced(at_s: u64, unix_s: u64) -> Now {
        now(at_s, unix_s, ClockQuality::Synced)
    }

    fn hourly(missed: MissedSlots, marks: &[u64]) -> (Slots, TriggerId) {
        let trigger = TriggerId::new("a/t");
        let mut slots = Slots::new(marks.iter().map(|mark| (trigger.clone(), *mark)).collect());
        slots.add(&trigger, Schedule::parse("cron(0 * * * ? *)").unwrap(), missed);
        (slots, trigger)
    }

    fn fire(trigger: &TriggerId, slot_s: u64, missed: bool) -> Option<SlotDue> {
        Some(SlotDue::Fire { trigger: trigger.clone(), slot_s, missed })
    }

    #[test]
    fn fires_once_a_slot_and_only_when_synced() {
        let (mut slots, trigger) = hourly(MissedSlots::Skip, &[]);
        assert_eq!(slots.due(now(1, DAY, ClockQuality::Unsynced)), None);
        assert_eq!(slots.next_deadline(), None);
        assert_eq!(slots.due(synced(2, DAY + 10)), None, "no slot before it was deployed");
        assert_eq!(slots.next_deadline(), Some(Millis(2_000 + 3_590_000 - 5)));
        assert_eq!(slots.due(synced(3_592, DAY + HOUR)), fire(&trigger, DAY + HOUR, false));
        assert_eq!(slots.due(synced(3_592, DAY + HOUR)), None);
        assert_eq!(slots.due(synced(3_600, DAY + HOUR - 60)), None, "the clock was set back");
        assert_eq!(slots.due(synced(3_700, DAY + HOUR + 40)), None);
    }

    #[test]
    fn missed_slots_are_skipped_or_done_once() {
        let late = DAY + 5 * HOUR + 300;
        let (mut slots, trigger) = hourly(MissedSlots::Skip, &[DAY]);
        let skip = SlotDue::Skip { trigger: trigger.clone(), slot_s: DAY + 5 * HOUR };
        assert_eq!(slots.due(synced(1, late)), Some(skip));
        assert_eq!(slots.due(synced(1, late)), None);
        let (mut slots, _) = hourly(MissedSlots::Skip, &[DAY]);
        let first = slots.due(synced(1, DAY + 5 * HOUR + 2));
        assert_eq!(first, fire(&trigger, DAY + 5 * HOUR, true), "the last one is on time");
        let (mut slots, _) = hourly(MissedSlots::Once, &[DAY]);
        assert_eq!(slots.due(synced(1, late)), fire(&trigger, DAY + 5 * HOUR, false));
        assert_eq!(slots.due(synced(1, late)), None, "a jump never bursts");
        assert_eq!(slots.due(synced(2, DAY + 6 * HOUR)), fire(&trigger, DAY + 6 * HOUR, false));
    }

    #[test]
    fn a_mark_from_a_clock_far_in_the_future_is_forgotten() {
        let future = DAY + 80 * 365 * 24 * HOUR;
        let (mut slots, trigger) = hourly(MissedSlots::Once, &[]);
        assert_eq!(slots.due(synced(1, future)), None);
        assert!(slots.due(synced(2, future + HOUR)).is_some());
        let behind = slots.due(synced(3, DAY));
        assert!(matches!(behind, Some(SlotDue::Behind { mark_s, .. }) if mark_s > DAY));
        assert_eq!(slots.due(synced(3, DAY)), None);
        assert_eq!(slots.due(synced(4, DAY + HOUR)), fire(&trigger, DAY + HOUR, false));
        let (mut slots, _) = hourly(MissedSlots::Once, &[]);
        assert_eq!(slots.due(synced(1, future)), None, "planned, never fired");
        assert_eq!(slots.due(synced(2, DAY)), None);
        assert_eq!(slots.due(synced(3, DAY + HOUR)), fire(&trigger, DAY + HOUR, false));
        let (mut slots, _) = hourly(MissedSlots::Once, &[future]);
        assert!(matches!(slots.due(synced(3, DAY)), Some(SlotDue::Behind { .. })));
        assert_eq!(slots.due(synced(4, DAY + HOUR)), fire(&trigger, DAY + HOUR, false));
    }

    #[test]
    fn a_trigger_that_goes_takes_its_slots_along_but_not_its_mark() {
        let (mut slots, trigger) = hourly(MissedSlots::Once, &[DAY]);
        assert!(slots.due(synced(1, DAY + HOUR)).is_some());
        slots.remove(&trigger);
        assert_eq!((slots.due(synced(2, DAY + 2 * HOUR)), slots.next_deadline()), (None, None));
        slots.add(&trigger, Schedule::parse("cron(0 * * * ? *)").unwrap(), MissedSlots::Once);
        assert_eq!(slots.due(synced(3, DAY + HOUR + 1)), None, "that slot was used");
    }

    /// A gateway without any clock: its rates run. Time without power is no time to them.
    #[test]
    fn rates_run_on_gateway_time_alone() {
        let trigger = TriggerId::new("a/t");
        let minutely = |marks: &[u64]| {
            let mut slots = Slots::new(marks.iter().map(|mark| (trigger.clone(), *mark)).collect());
            slots.add(&trigger, Schedule::parse("rate(1 minute)").unwrap(), MissedSlots::Skip);
            slots
        };
        let at = |at_s: u64| now(at_s, 7, ClockQuality::Unsynced);
        let mut slots = minutely(&[]);
        assert_eq!(slots.due(at(90)), None, "no slot before it was deployed");
        assert_eq!(slots.next_deadline(), Some(Millis::from_secs(120)));
        assert_eq!(slots.due(at(120)), fire(&trigger, 120, false));
        assert_eq!(slots.due(at(120)), None);
        // The wall clock is set and jumps by years: nothing bursts, nothing is late.
        assert_eq!(slots.due(synced(121, DAY)), None);
        assert_eq!(slots.due(synced(180, DAY + 365 * 24 * HOUR)), fire(&trigger, 180, false));
        let mut slots = minutely(&[180]);
        assert_eq!(slots.due(at(200)), None, "that slot was used before the restart");
        assert_eq!(slots.due(at(240)), fire(&trigger, 240, false));
        // The mark of a cron that became a rate lies far ahead.
        let mut slots = minutely(&[DAY]);
        assert!(matches!(slots.due(at(200)), Some(SlotDue::Behind { .. })));
        assert_eq!(slots.due(at(240)), fire(&trigger, 240, false));
        // The loop stood still for five minutes: one event.
        assert_eq!(slots.due(at(560)), fire(&trigger, 540, true));
        assert_eq!(slots.due(at(560)), None);
    }
}
