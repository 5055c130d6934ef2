//! One lane: jobs in order of admission, of which the first, or in a batch the first few, are in work
//! together.
//!
//! # Invariants
//! - Job ids grow from head to tail (A5: arrival order).
//! - Only the head waits for its next try, and what runs begins with the head and has no gap; a
//!   failing head holds the lane (DESIGN, section 4: state and order).
//! - A lane without jobs does not exist.

use std::collections::VecDeque;

use crate::id::JobId;

/// What the head of a lane is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// It may be started.
    Ready,
    /// It failed; its next try has a time.
    Waiting,
    /// A worker has it, and all in all so many jobs from it on.
    Running(usize),
}

#[derive(Clone, Debug)]
pub(super) struct Lane {
    jobs: VecDeque<JobId>,
    head: Head,
}

impl Lane {
    pub(super) fn new(job: JobId) -> Self {
        Self { jobs: VecDeque::from([job]), head: Head::Ready }
    }

    pub(super) fn push(&mut self, job: JobId) {
        assert!(self.jobs.back().is_some_and(|last| *last < job), "a lane is in order of arrival");
        self.jobs.push_back(job);
    }

    pub(super) fn first(&self) -> JobId {
        *self.jobs.front().expect("invariant: a lane without jobs does not exist")
    }

    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// A state change of the head: from ready to running or waiting, and back.
    pub(super) fn turn_to(&mut self, head: Head) {
        let allowed = (self.head == Head::Ready) != (head == Head::Ready);
        assert!(allowed, "no lane goes from {:?} to {head:?}", self.head);
        if let Head::Running(jobs) = head {
            assert!((1..=self.jobs.len()).contains(&jobs), "{jobs} of {} run", self.jobs.len());
        }
        self.head = head;
    }

    /// First job that no worker has.
    pub(super) fn oldest_idle(&self) -> Option<JobId> {
        self.jobs.get(self.running()).copied()
    }

    /// Takes a job out. Returns whether it was the head; the next one is then ready.
    pub(super) fn remove(&mut self, job: JobId) -> bool {
        if self.first() == job {
            assert!(self.head == Head::Ready, "an attempt ends before its job");
            self.jobs.pop_front();
            return true;
        }
        let index = self.jobs.binary_search(&job).expect("invariant: a job is in its lane");
        assert!(index >= self.running(), "an attempt ends before its jobs");
        self.jobs.remove(index);
        false
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// From the head on.
    pub(super) fn jobs(&self) -> impl Iterator<Item = &JobId> {
        self.jobs.iter()
    }

    fn running(&self) -> usize {
        match self.head {
            Head::Running(jobs) => jobs,
            Head::Ready | Head::Waiting => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_head_runs_and_waits() {
        let mut lane = Lane::new(JobId(1));
        lane.push(JobId(2));
        lane.push(JobId(5));
        assert_eq!(lane.oldest_idle(), Some(JobId(1)));
        lane.turn_to(Head::Running(1));
        assert_eq!(lane.oldest_idle(), Some(JobId(2)));
        assert!(!lane.remove(JobId(2)));
        lane.turn_to(Head::Ready);
        lane.turn_to(Head::Waiting);
        assert_eq!((lane.first(), lane.oldest_idle()), (JobId(1), Some(JobId(1))));
        lane.turn_to(Head::Ready);
        assert!(lane.remove(JobId(1)));
        assert_eq!((lane.first(), lane.head()), (JobId(5), Head::Ready));
        assert!(lane.remove(JobId(5)) && lane.is_empty());
    }

    #[test]
    fn a_batch_runs_from_the_head_on() {
        let mut lane = Lane::new(JobId(1));
        (2..=4).for_each(|job| lane.push(JobId(job)));
        lane.turn_to(Head::Running(3));
        assert_eq!(lane.oldest_idle(), Some(JobId(4)));
        assert!(!lane.remove(JobId(4)));
        assert_eq!(lane.oldest_idle(), None);
        lane.turn_to(Head::Ready);
        assert!(lane.remove(JobId(1)) && !lane.remove(JobId(3)) && lane.remove(JobId(2)));
    }

    #[test]
    #[should_panic(expected = "an attempt ends before its jobs")]
    fn a_job_of_a_running_batch_keeps_its_place() {
        let mut lane = Lane::new(JobId(1));
        lane.push(JobId(2));
        lane.turn_to(Head::Running(2));
        lane.remove(JobId(2));
    }

    #[test]
    #[should_panic(expected = "4 of 1 run")]
    fn no_more_run_than_there_are() {
        Lane::new(JobId(1)).turn_to(Head::Running(4));
    }

    #[test]
    #[should_panic(expected = "order of arrival")]
    fn a_lane_takes_no_earlier_job() {
        Lane::new(JobId(2)).push(JobId(1));
    }

    #[test]
    #[should_panic(expected = "no lane goes from")]
    fn a_running_head_is_not_started_again() {
        let mut lane = Lane::new(JobId(1));
        lane.turn_to(Head::Running(1));
        lane.turn_to(Head::Running(1));
    }
}
