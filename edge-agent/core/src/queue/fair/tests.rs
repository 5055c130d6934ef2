//! Random loads on a few slots, in virtual time, against what is fair.

use proptest::prelude::*;

use super::*;

fn name(n: usize) -> FunctionId {
    FunctionId::new(&format!("a/f{n:02}"))
}

/// A function of a simulated load.
#[derive(Clone, Debug)]
struct Load {
    /// Costs of its attempts, in turn.
    costs_us: Vec<u64>,
    started: usize,
    /// Worker time of all that it started.
    served_us: u64,
}

impl Load {
    fn next(&mut self) -> u64 {
        let cost = self.costs_us[self.started % self.costs_us.len()];
        self.started += 1;
        self.served_us += cost;
        cost
    }
}

/// Slots that run what [`Fair`] chooses.
struct Slots {
    fair: Fair,
    now_us: u64,
    /// End, function, cost, charge.
    running: Vec<(u64, usize, u64, Charge)>,
    slots: usize,
}

impl Slots {
    fn new(slots: usize) -> Self {
        Self { fair: Fair::default(), now_us: 0, running: Vec::new(), slots }
    }

    /// Fills the slots, then goes on to the next end.
    fn step(&mut self, loads: &mut [Load]) {
        while self.running.len() < self.slots {
            let Some(function) = self.fair.next() else { break };
            let n: usize = function.as_str()[3..].parse().unwrap();
            let charge = self.fair.begin(&function);
            let cost = loads[n].next();
            self.running.push((self.now_us + cost, n, cost, charge));
        }
        let first = self.running.iter().enumerate().min_by_key(|(_, (end, ..))| *end);
        if let Some((at, _)) = first {
            let (end, n, cost, charge) = self.running.swap_remove(at);
            self.now_us = end;
            self.fair.end(&name(n), charge, cost);
        }
    }
}

/// From functions of 50 us to ones of 30 ms, each at its own.
fn loads() -> impl Strategy<Value = Vec<Load>> {
    let cost = prop_oneof![50..500_u64, 500..5_000_u64, 5_000..30_000_u64];
    let costs = prop::collection::vec(cost, 1..5);
    let load = costs.prop_map(|costs_us| Load { costs_us, started: 0, served_us: 0 });
    prop::collection::vec(load, 2..8)
}

const COST_US_LONGEST: u64 = 30_000;

/// A quantum, the attempt that went beyond it, and what the expectation of those still in work
/// may be wrong by.
fn bound_us(slots: usize) -> u64 {
    QUANTUM_US.unsigned_abs() + COST_US_LONGEST * (slots as u64 + 1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// However different the attempts are, worker time is divided evenly, at every moment.
    #[test]
    fn all_who_want_more_get_the_same(mut loads in loads(), slots in 1..9_usize) {
        let mut world = Slots::new(slots);
        (0..loads.len()).for_each(|n| world.fair.wait(&name(n), true));
        for _ in 0..2_000 {
            world.step(&mut loads);
            let served = loads.iter().map(|load| load.served_us);
            let (least, most) = (served.clone().min().unwrap(), served.max().unwrap());
            prop_assert!(most - least <= bound_us(slots), "{} {:?}", world.now_us, loads);
        }
    }

    /// Who was quiet, for however long, is served before those that were not, and owes nobody.
    #[test]
    fn a_quiet_function_is_next(mut loads in loads(), slots in 1..9_usize, steps in 1..500_usize) {
        let mut world = Slots::new(slots);
        (1..loads.len()).for_each(|n| world.fair.wait(&name(n), true));
        (0..steps).for_each(|_| world.step(&mut loads));
        world.fair.wait(&name(0), true);
        prop_assert_eq!(world.fair.next(), Some(name(0)));
    }

    /// Time that nobody wanted is not saved up: from its return on, a function has its part and
    /// no more.
    #[test]
    fn nothing_is_hoarded(mut loads in loads(), slots in 1..9_usize, steps in 1..500_usize) {
        let mut world = Slots::new(slots);
        (1..loads.len()).for_each(|n| world.fair.wait(&name(n), true));
        (0..steps).for_each(|_| world.step(&mut loads));
        world.fair.wait(&name(0), true);
        let before: Vec<u64> = loads.iter().map(|load| load.served_us).collect();
        for _ in 0..1_000 {
            world.step(&mut loads);
        }
        let since = |n: usize| loads[n].served_us - before[n];
        let others = (1..loads.len()).map(since).min().unwrap();
        // Both have a start of up to a quantum or a debt of an attempt.
        let bound = 2 * bound_us(slots);
        prop_assert!(since(0) <= others + bound, "{} over {others}", since(0));
    }

    /// Some slot is free and somebody waits: somebody starts.
    #[test]
    fn a_debt_keeps_no_slot_idle(debts in prop::collection::vec(0..COST_US_MAX, 1..6)) {
        let mut fair = Fair::default();
        for (n, debt) in debts.iter().enumerate() {
            let charge = fair.begin(&name(n));
            fair.end(&name(n), charge, *debt);
            fair.wait(&name(n), true);
            prop_assert!(fair.next().is_some());
        }
    }
}

#[test]
fn a_debt_is_paid_by_the_rounds_that_pass() {
    let mut fair = Fair::default();
    let charge = fair.begin(&name(0));
    fair.end(&name(0), charge, 100_000);
    (0..2).for_each(|n| fair.wait(&name(n), true));
    let mut others = 0;
    while fair.next() == Some(name(1)) {
        let charge = fair.begin(&name(1));
        fair.end(&name(1), charge, 1_000);
        others += 1_000;
    }
    assert!((80_000..=110_000).contains(&others), "{others} us, then it is its turn again");
}

#[test]
fn what_is_gone_leaves_nothing() {
    let mut fair = Fair::default();
    fair.wait(&name(0), true);
    fair.forget(&name(0));
    assert_eq!(fair.next(), None);
    assert!(fair.accounts.is_empty());
}
