//! The tree of named fields: what all patterns of a filter ask at each.
//!
//! # Invariants
//! - A position has at most [`CONDITIONS_MAX`](super::CONDITIONS_MAX) conditions: one bit each.
//! - Conditions only ask for what is there or is not; they are never negated. So more bits of the
//!   fields below never make fewer bits here, and the bits of an array are those of its elements
//!   together.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::value::{Scalar, Test};

/// A field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Named fields below, by their index in `children`.
    pub(super) names: BTreeMap<String, usize>,
    pub(super) children: Vec<Position>,
    pub(super) conditions: Vec<Condition>,
    /// Bits of those that hold if the field is not there.
    pub(super) absent: u64,
    /// Tests and clauses here: what one value costs.
    pub(super) weight: u64,
}

/// What one pattern asks of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Any of these.
    Value(Vec<Test>),
    /// An object in which all of these hold.
    Object(Vec<Clause>),
}

/// One demand on an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Clause {
    /// This condition of this field holds.
    Field { index: usize, bit: usize },
    /// All of any of these hold.
    Or(Vec<Vec<Clause>>),
}

/// Whether all clauses hold, by the bits of the fields.
pub(super) fn holds(clauses: &[Clause], bits: &[u64]) -> bool {
    clauses.iter().all(|clause| match clause {
        Clause::Field { index, bit } => bits[*index] >> bit & 1 == 1,
        Clause::Or(any) => any.iter().any(|clauses| holds(clauses, bits)),
    })
}

impl Clause {
    fn weight(&self) -> u64 {
        match self {
            Self::Field { .. } => 1,
            Self::Or(any) => any.iter().flatten().map(Self::weight).sum(),
        }
    }
}

impl Position {
    /// Works out what follows from the conditions, once all are there.
    pub(super) fn seal(&mut self) {
        self.children.iter_mut().for_each(Self::seal);
        let below: Vec<u64> = self.children.iter().map(|child| child.absent).collect();
        self.absent = self.bits(|condition, _| match condition {
            Condition::Value(tests) => tests.contains(&Test::Exists(false)),
            Condition::Object(clauses) => holds(clauses, &below),
        });
        let weight = |condition: &Condition| match condition {
            Condition::Value(tests) => tests.iter().map(|test| test.weight() as u64).sum(),
            Condition::Object(clauses) => clauses.iter().map(Clause::weight).sum::<u64>(),
        };
        self.weight = self.conditions.iter().map(weight).sum();
    }

    /// Bits of the conditions that hold for a plain value; `None`: too much work.
    pub(super) fn scalar(&self, value: Scalar<'_>, work: &Cell<u64>) -> Option<u64> {
        self.charge(value.bytes(), work)?;
        Some(self.bits(|condition, n| match condition {
            Condition::Value(tests) => tests.iter().any(|test| test.matches(&value)),
            Condition::Object(_) => self.absent >> n & 1 == 1,
        }))
    }

    /// Bits for an object whose fields have these.
    pub(super) fn object(&self, below: &[u64], work: &Cell<u64>) -> Option<u64> {
        self.charge(0, work)?;
        Some(self.bits(|condition, _| match condition {
            Condition::Value(tests) => tests.contains(&Test::Exists(true)),
            Condition::Object(clauses) => holds(clauses, below),
        }))
    }

    /// Bits for an array of none: it is there, but nothing is in it.
    pub(super) fn empty_array(&self) -> u64 {
        self.bits(|condition, n| match condition {
            Condition::Value(tests) => tests.contains(&Test::Exists(true)),
            Condition::Object(_) => self.absent >> n & 1 == 1,
        })
    }

    fn bits(&self, holds: impl Fn(&Condition, usize) -> bool) -> u64 {
        let numbered = self.conditions.iter().enumerate();
        numbered.filter(|(n, condition)| holds(condition, *n)).fold(0, |bits, (n, _)| bits | 1 << n)
    }

    fn charge(&self, bytes: usize, work: &Cell<u64>) -> Option<()> {
        let cost = self.weight * (16 + bytes as u64);
        work.set(work.get().checked_sub(cost)?);
        Some(())
    }
}
