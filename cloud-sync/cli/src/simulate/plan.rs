//! What happens to which device, and when. Pure: a seed and a profile give the same day again.
//!
//! # Invariants
//! - A share of the devices is that many of them, rounded; which ones is a matter of the seed.
//! - Of a device's faults none begins before the one before it is over.

use super::profile::{Fault, FaultKind, Profile};
use super::random::Random;

/// A device has so long a rest between two faults.
const REST_MS: u64 = 500;
/// Shortest fault.
const LASTS_MS_MIN: u64 = 100;

/// How wrong the clock of a device is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ClockError {
    /// How much faster than the true time it runs, in parts per million.
    pub(super) drift_ppm: i32,
    /// How much it is ahead, in milliseconds.
    pub(super) offset_ms: i64,
}

/// The day of a device.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DevicePlan {
    /// Its number, from 0.
    pub(super) index: usize,
    /// Its name.
    pub(super) name: String,
    /// When it joins, from the start.
    pub(super) joins_ms: u64,
    /// Whether it attacks.
    pub(super) is_hostile: bool,
    /// Its clock.
    pub(super) clock: ClockError,
    faults: Vec<Fault>,
    seed: u64,
}

/// A fault of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// When it begins, from the start.
    pub(super) at_ms: u64,
    /// When it is over.
    pub(super) until_ms: u64,
    /// What it is.
    pub(super) kind: FaultKind,
}

/// The days of all devices. The day begins `unix_ms` milliseconds after 1970.
pub(super) fn of(profile: &Profile, names: &[String], seed: u64, unix_ms: u64) -> Vec<DevicePlan> {
    let all = names.len();
    let mut plans: Vec<DevicePlan> = names
        .iter()
        .enumerate()
        .map(|(index, name)| DevicePlan {
            index,
            name: name.clone(),
            joins_ms: profile.join_ms * index as u64 / (all as u64).max(1),
            is_hostile: false,
            clock: ClockError::default(),
            faults: Vec::new(),
            seed: Random::of(seed, "faults", index as u64).bits(),
        })
        .collect();
    if let Some(hostile) = profile.hostile {
        chosen(seed, "hostile", all, hostile.share).for_each(|n| plans[n].is_hostile = true);
    }
    for fault in &profile.faults {
        chosen(seed, fault.kind.word(), all, fault.share)
            .for_each(|n| plans[n].faults.push(*fault));
    }
    if let Some(clock) = profile.clock {
        for n in chosen(seed, "clock", all, clock.share) {
            let mut random = Random::of(seed, "clock error", n as u64);
            let mut within = |most: f64| most * (2.0 * random.fraction() - 1.0);
            #[expect(clippy::cast_possible_truncation, reason = "far below the bounds")]
            let error = ClockError {
                drift_ppm: within(f64::from(clock.drift_ppm)) as i32,
                offset_ms: within(clock.offset_ms as f64) as i64,
            };
            plans[n].clock = error;
        }
        let since_1970_ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
        for n in chosen(seed, "in 1970", all, clock.share_in_1970) {
            plans[n].clock.offset_ms = -since_1970_ms;
        }
    }
    plans
}

/// A share of `all`, in no order.
fn chosen(seed: u64, what: &str, all: usize, share: f64) -> impl Iterator<Item = usize> + use<> {
    let mut random = Random::of(seed, what, 0);
    let mut numbers: Vec<usize> = (0..all).collect();
    for end in (1..all).rev() {
        numbers.swap(end, random.below(end + 1));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a number is below it"
    )]
    let count = (all as f64 * share).round() as usize;
    numbers.into_iter().take(count)
}

impl DevicePlan {
    /// What happens to it, in order, without an end.
    pub(super) fn faults(&self) -> Faults {
        let mut random = Random::new(self.seed);
        let first = |fault: &Fault| self.joins_ms + REST_MS + random.bits() % fault.every_ms;
        Faults {
            due: self.faults.iter().map(first).collect(),
            faults: self.faults.clone(),
            free_ms: self.joins_ms + REST_MS,
            random: Random::of(self.seed, "lasts", 0),
        }
    }
}

/// See [`DevicePlan::faults`].
#[derive(Clone, Debug)]
pub(super) struct Faults {
    faults: Vec<Fault>,
    /// When each of them is due next.
    due: Vec<u64>,
    free_ms: u64,
    random: Random,
}

impl Iterator for Faults {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let next = (0..self.due.len()).min_by_key(|n| self.due[*n])?;
        let Fault { kind, every_ms, lasts_ms, .. } = self.faults[next];
        let at_ms = self.due[next].max(self.free_ms);
        let until_ms = at_ms + self.random.about(lasts_ms).max(LASTS_MS_MIN);
        self.free_ms = until_ms + REST_MS;
        self.due[next] = at_ms + self.random.about(every_ms).max(1);
        Some(Event { at_ms, until_ms, kind })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::simulate::profile::WORKSHOP;
    use proptest::prelude::*;

    const BEGUN_MS: u64 = 1_795_000_000_000;

    fn day(devices: usize, seed: u64) -> Vec<DevicePlan> {
        let profile = Profile::parse(WORKSHOP, &|_| Err("none".to_owned())).unwrap();
        let names: Vec<_> = (1..=devices).map(|n| format!("sim-{n:04}")).collect();
        of(&profile, &names, seed, BEGUN_MS)
    }

    proptest! {
        #[test]
        fn a_seed_gives_its_day_and_faults_do_not_overlap(seed: u64, devices in 1_usize..60) {
            let (plans, again) = (day(devices, seed), day(devices, seed));
            prop_assert_eq!(&plans, &again);
            for (plan, same) in plans.iter().zip(&again) {
                let events: Vec<_> = plan.faults().take(40).collect();
                prop_assert_eq!(&events, &same.faults().take(40).collect::<Vec<_>>());
                let mut free_ms = plan.joins_ms;
                for event in events {
                    prop_assert!(event.at_ms >= free_ms && event.until_ms > event.at_ms);
                    free_ms = event.until_ms;
                }
            }
        }
    }

    #[test]
    fn shares_are_kept_and_seeds_differ() {
        let plans = day(200, 1);
        let count = |is: &dyn Fn(&DevicePlan) -> bool| plans.iter().filter(|plan| is(plan)).count();
        assert_eq!(count(&|plan| plan.is_hostile), 10);
        assert_eq!(count(&|plan| plan.clock != ClockError::default()), 40);
        for (word, expected) in [("cut", 60), ("power_cut", 20), ("slow", 20)] {
            let has = |plan: &DevicePlan| plan.faults.iter().any(|it| it.kind.word() == word);
            assert_eq!(count(&has), expected, "{word}");
        }
        let joins: BTreeSet<u64> = plans.iter().map(|plan| plan.joins_ms).collect();
        assert_eq!((joins.len(), joins.first(), joins.last()), (200, Some(&0), Some(&4_975)));
        assert!(plans.iter().all(|plan| plan.clock.drift_ppm.abs() <= 200));
        let hostile = |seed| -> Vec<usize> {
            day(200, seed).iter().filter(|it| it.is_hostile).map(|it| it.index).collect()
        };
        assert_ne!(hostile(1), hostile(2));
    }

    #[test]
    fn some_clocks_begin_in_1970_and_the_others_are_a_little_off() {
        let text = "[clock]\ndevices = 0.5\noffset = \"2 s\"\ndrift_ppm = 100\nin_1970 = 0.25\n";
        let profile = Profile::parse(text, &|_| Err("none".to_owned())).unwrap();
        let names: Vec<_> = (1..=40).map(|n| format!("sim-{n:04}")).collect();
        let plans = of(&profile, &names, 4, BEGUN_MS);
        let in_1970 = |plan: &&DevicePlan| plan.clock.offset_ms == -1_795_000_000_000;
        assert_eq!(plans.iter().filter(in_1970).count(), 10);
        let others: Vec<_> = plans.iter().filter(|plan| !in_1970(plan)).collect();
        assert!(others.iter().all(|plan| plan.clock.offset_ms.abs() <= 2_000));
        assert!(others.iter().any(|plan| plan.clock != ClockError::default()));
    }

    #[test]
    fn faults_come_about_as_often_as_the_profile_says() {
        let plans = day(200, 3);
        let cuts = plans.iter().flat_map(|plan| {
            let within = plan.faults().take_while(|event| event.at_ms < 600_000);
            within.filter(|event| event.kind == FaultKind::Cut).collect::<Vec<_>>()
        });
        // 60 devices, 20 each in ten minutes.
        let count = cuts.count();
        assert!((900..1_500).contains(&count), "{count}");
    }
}
