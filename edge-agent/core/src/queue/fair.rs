//! Who starts next: deficit round robin on worker time.
//!
//! # Rules
//! - Each round gives every function one quantum of credit. An attempt costs the worker time it
//!   takes; a function starts attempts while it has credit. Once none that waits has any, the next
//!   round comes.
//! - What an attempt costs is known at its end. At its start it is charged what the function's
//!   attempts cost lately; at its end the difference.
//! - Whoever has most credit is first, and of those who have as much, the one that was not served
//!   for longest. A function that was quiet has all of its quantum, so it starts before those that
//!   are at it all the time.
//! - Credit is not hoarded: rounds add up to a quantum and no more. A debt is paid by the rounds
//!   that pass.
//!
//! # Invariants
//! - While two functions want more than they get, the worker time they were charged differs by at
//!   most one quantum and one attempt: each was given the same quanta, has used all but a quantum
//!   of them, and began nothing without credit.
//! - Somebody who waits is found, whatever the credits are: no slot idles for fairness' sake.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::id::FunctionId;

/// Worker time that a round gives to a function, in microseconds.
pub(super) const QUANTUM_US: i64 = 10_000;

/// What an attempt costs at least: its sandbox and its way there and back.
const COST_US_MIN: i64 = 20;

/// What it costs at most: no limit allows as much; whoever says so has a broken clock.
const COST_US_MAX: u64 = 3_600_000_000;

/// The part of a new cost in the expected one: an eighth.
const EXPECTED_PART: i64 = 8;

/// What was charged for an attempt at its start, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charge(i64);

#[derive(Clone, Debug)]
struct Account {
    /// In microseconds; below zero it is a debt.
    credit: i64,
    /// The last round that it was given.
    round: u64,
    /// What its attempts cost lately.
    expected: i64,
    /// Number of its last start, over all functions.
    served: u64,
    waits: bool,
}

/// The accounts of all functions.
#[derive(Clone, Debug, Default)]
pub(super) struct Fair {
    round: u64,
    accounts: BTreeMap<FunctionId, Account>,
    /// Those that wait for a slot, the next one first.
    waiting: BTreeSet<Place>,
    /// Starts so far.
    starts: u64,
}

/// Credit, of which more than a quantum counts as one; last start; name.
type Place = (Reverse<i64>, u64, FunctionId);

impl Fair {
    /// Notes whether a function could start something.
    pub(super) fn wait(&mut self, function: &FunctionId, waits: bool) {
        if self.accounts.get(function).map_or(!waits, |account| account.waits == waits) {
            return;
        }
        self.change(function, |account| account.waits = waits);
    }

    /// The function to serve next.
    pub(super) fn next(&mut self) -> Option<FunctionId> {
        let (Reverse(most), ..) = *self.waiting.first()?;
        if most <= 0 {
            self.new_round(most);
        }
        self.waiting.first().map(|(_, _, function)| function.clone())
    }

    /// An attempt begins.
    pub(super) fn begin(&mut self, function: &FunctionId) -> Charge {
        let mut charge = Charge(0);
        self.starts += 1;
        let served = self.starts;
        self.change(function, |account| {
            charge = Charge(account.expected);
            account.credit -= charge.0;
            account.served = served;
        });
        charge
    }

    /// It took so long.
    pub(super) fn end(&mut self, function: &FunctionId, charge: Charge, ran_us: u64) {
        let cost =
            i64::try_from(ran_us.min(COST_US_MAX)).map_or(COST_US_MIN, |us| us.max(COST_US_MIN));
        self.change(function, |account| {
            account.credit += charge.0 - cost;
            account.expected += (cost - account.expected) / EXPECTED_PART;
        });
    }

    /// The function is gone.
    pub(super) fn forget(&mut self, function: &FunctionId) {
        self.wait(function, false);
        self.accounts.remove(function);
    }

    /// As many rounds as it takes for the one with most credit to have some.
    fn new_round(&mut self, most: i64) {
        self.round += most.unsigned_abs() / QUANTUM_US.unsigned_abs() + 1;
        let waiting = std::mem::take(&mut self.waiting);
        for (_, _, function) in waiting {
            let account = self.accounts.get_mut(&function).expect("invariant: it has an account");
            account.settle(self.round);
            self.waiting.insert(account.place(&function));
        }
    }

    /// Changes an account, which is given its rounds first and keeps its place by credit.
    fn change(&mut self, function: &FunctionId, change: impl FnOnce(&mut Account)) {
        if !self.accounts.contains_key(function) {
            let new = Account {
                credit: QUANTUM_US,
                round: self.round,
                expected: QUANTUM_US,
                served: 0,
                waits: false,
            };
            self.accounts.insert(function.clone(), new);
        }
        let account = self.accounts.get_mut(function).expect("invariant: just made");
        if account.waits {
            assert!(self.waiting.remove(&account.place(function)), "who waits has its place");
        }
        account.settle(self.round);
        change(account);
        if account.waits {
            self.waiting.insert(account.place(function));
        }
    }
}

impl Account {
    fn place(&self, function: &FunctionId) -> Place {
        (Reverse(self.credit.min(QUANTUM_US)), self.served, function.clone())
    }

    fn settle(&mut self, round: u64) {
        let rounds = i64::try_from(round - self.round).unwrap_or(i64::MAX);
        let given = rounds.saturating_mul(QUANTUM_US);
        // More than a quantum it has if less was needed than charged: that is no hoard.
        if given > 0 && self.credit < QUANTUM_US {
            self.credit = self.credit.saturating_add(given).min(QUANTUM_US);
        }
        self.round = round;
    }
}

#[cfg(test)]
mod tests;
