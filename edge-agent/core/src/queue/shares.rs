//! Who may have how much of the queue.
//!
//! # Invariants
//! - A function never has more than a quarter of the queue.
//! - Half of the queue is divided evenly: that part of a function is its own, whatever the others
//!   do. The rest is common. So the queue as a whole stays within its bound, but for what
//!   outcomes add (they always commit; see [`super::pressure`]).

use crate::limits::Limits;

/// What a function has in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) jobs: u64,
    pub(super) bytes: u64,
}

impl Used {
    fn plus(self, other: Self) -> Self {
        Self { jobs: self.jobs + other.jobs, bytes: self.bytes + other.bytes }
    }

    fn minus(self, other: Self) -> Self {
        assert!(self.jobs >= other.jobs && self.bytes >= other.bytes, "counts never go negative");
        Self { jobs: self.jobs - other.jobs, bytes: self.bytes - other.bytes }
    }

    fn over(self, bound: Self) -> Self {
        Self {
            jobs: self.jobs.saturating_sub(bound.jobs),
            bytes: self.bytes.saturating_sub(bound.bytes),
        }
    }

    fn within(self, bound: Self) -> bool {
        self.jobs <= bound.jobs && self.bytes <= bound.bytes
    }
}

/// Whether a function has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// It has.
    Enough,
    /// Its own quarter is full: only its own work makes room.
    ShareFull,
    /// The common part is full: any function's work makes room.
    CommonFull,
}

#[derive(Clone, Debug)]
pub(super) struct Shares {
    limits: Limits,
    /// Bound of one function.
    share: Used,
    /// Of which this much is its own.
    own: Used,
    /// Bound of what all functions have over their own part.
    common: Used,
    common_used: Used,
    total: Used,
}

impl Shares {
    pub(super) fn new(limits: &Limits) -> Self {
        let mut shares = Self {
            limits: limits.clone(),
            share: Used { jobs: limits.share_jobs().into(), bytes: limits.share_bytes() },
            own: Used::default(),
            common: Used::default(),
            common_used: Used::default(),
            total: Used::default(),
        };
        shares.divide(std::iter::empty());
        shares
    }

    /// Divides anew among these functions.
    pub(super) fn divide(&mut self, functions: impl Iterator<Item = Used> + Clone) {
        let count = u32::try_from(functions.clone().count()).unwrap_or(u32::MAX);
        self.own =
            Used { jobs: self.limits.own_jobs(count).into(), bytes: self.limits.own_bytes(count) };
        let all_own = Used {
            jobs: self.own.jobs * u64::from(count),
            bytes: self.own.bytes * u64::from(count),
        };
        let whole =
            Used { jobs: self.limits.queue_jobs_max.into(), bytes: self.limits.queue_bytes_max };
        self.common = whole.minus(all_own);
        self.common_used = Used::default();
        self.total = Used::default();
        for used in functions {
            self.common_used = self.common_used.plus(used.over(self.own));
            self.total = self.total.plus(used);
        }
    }

    /// Whether a function that has `used` may have `more`.
    pub(super) fn room(&self, used: Used, more: Used) -> Room {
        let then = used.plus(more);
        let common = self.common_used.minus(used.over(self.own)).plus(then.over(self.own));
        if !then.within(self.share) {
            Room::ShareFull
        } else if then.within(self.own) || common.within(self.common) {
            Room::Enough
        } else {
            Room::CommonFull
        }
    }

    pub(super) fn add(&mut self, used: &mut Used, more: Used) {
        self.change(used, used.plus(more));
    }

    pub(super) fn remove(&mut self, used: &mut Used, less: Used) {
        self.change(used, used.minus(less));
    }

    pub(super) fn total(&self) -> Used {
        self.total
    }

    fn change(&mut self, used: &mut Used, to: Used) {
        self.common_used = self.common_used.minus(used.over(self.own)).plus(to.over(self.own));
        self.total = self.total.minus(*used).plus(to);
        *used = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Used = Used { jobs: 1, bytes: 10 };

    fn shares(functions: usize) -> (Shares, Vec<Used>) {
        let limits = Limits { queue_jobs_max: 80, queue_bytes_max: 10_000, ..Limits::default() };
        let used = vec![Used::default(); functions];
        let mut shares = Shares::new(&limits);
        shares.divide(used.iter().copied());
        (shares, used)
    }

    fn fill(shares: &mut Shares, used: &mut Used) -> u64 {
        while shares.room(*used, ONE) == Room::Enough {
            shares.add(used, ONE);
        }
        used.jobs
    }

    #[test]
    fn one_function_has_at_most_a_quarter() {
        let (mut shares, mut used) = shares(1);
        assert_eq!(fill(&mut shares, &mut used[0]), 20);
        assert_eq!(shares.room(used[0], ONE), Room::ShareFull);
        let big = Used { jobs: 1, bytes: 2_400 };
        shares.remove(&mut used[0], Used { jobs: 20, bytes: 200 });
        assert_eq!(shares.room(used[0], big), Room::Enough);
        shares.add(&mut used[0], big);
        assert_eq!(shares.room(used[0], Used { jobs: 1, bytes: 101 }), Room::ShareFull);
    }

    #[test]
    fn a_function_has_its_own_part_when_all_others_are_full() {
        let (mut shares, mut used) = shares(8);
        for used in &mut used[..7] {
            fill(&mut shares, used);
        }
        assert_eq!(shares.room(used[6], ONE), Room::CommonFull);
        assert_eq!(fill(&mut shares, &mut used[7]), 5, "80 / 2 / 8");
        assert_eq!(shares.total().jobs, 80, "and the whole is within its bound");
        shares.remove(&mut used[0], ONE);
        assert_eq!(shares.room(used[7], ONE), Room::Enough, "room for any");
    }

    #[test]
    fn what_outcomes_add_takes_nothing_from_the_own_part_of_others() {
        let (mut shares, mut used) = shares(2);
        shares.add(&mut used[0], Used { jobs: 70, bytes: 700 });
        assert_eq!(shares.room(used[0], ONE), Room::ShareFull);
        assert_eq!(fill(&mut shares, &mut used[1]), 20);
    }

    #[test]
    fn dividing_anew_keeps_the_sums() {
        let (mut shares, mut used) = shares(2);
        for used in &mut used {
            fill(&mut shares, used);
        }
        used.push(Used::default());
        shares.divide(used.iter().copied());
        assert_eq!(shares.total(), Used { jobs: 40, bytes: 400 });
        assert_eq!(fill(&mut shares, &mut used[2]), 20);
    }
}
