//! The queue between the loop and the workers.
//!
//! # Invariants
//! - Nothing waits while a worker is idle; at most as much waits as there are workers.
//! - Work goes to the worker that became idle last: its stack and its sandbox are still warm, and
//!   the others sleep on. Only that one is woken.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

pub(super) struct Queue<T> {
    inner: Mutex<Inner<T>>,
    /// One for each worker.
    wakes: Vec<Condvar>,
}

struct Inner<T> {
    waiting: VecDeque<T>,
    /// Workers without work, the last to become so at the end.
    idle: Vec<usize>,
    /// What a worker is woken for.
    handed: Vec<Option<T>>,
    stopping: bool,
}

impl<T> Queue<T> {
    /// For so many workers, numbered from 0.
    pub(super) fn new(workers: usize) -> Self {
        let inner = Inner {
            waiting: VecDeque::with_capacity(workers),
            idle: Vec::with_capacity(workers),
            handed: (0..workers).map(|_| None).collect(),
            stopping: false,
        };
        let wakes = (0..workers).map(|_| Condvar::new()).collect();
        Self { inner: Mutex::new(inner), wakes }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands work to a worker, or back if all are busy and as much waits, or when stopping.
    pub(super) fn push(&self, work: T) -> Result<(), T> {
        let mut inner = self.lock();
        if inner.stopping {
            return Err(work);
        }
        if let Some(worker) = inner.idle.pop() {
            inner.handed[worker] = Some(work);
            drop(inner);
            self.wakes[worker].notify_one();
        } else if inner.waiting.len() < self.wakes.len() {
            inner.waiting.push_back(work);
        } else {
            return Err(work);
        }
        Ok(())
    }

    /// The next work of a worker, or `None` when stopping. Blocks until there is some.
    pub(super) fn pop(&self, worker: usize) -> Option<T> {
        let mut inner = self.lock();
        if let Some(work) = inner.waiting.pop_front() {
            return Some(work);
        }
        inner.idle.push(worker);
        loop {
            if let Some(work) = inner.handed[worker].take() {
                return Some(work);
            }
            if inner.stopping {
                return None;
            }
            inner = self.wakes[worker].wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets go of all workers; what still waits for one is dropped.
    pub(super) fn stop(&self) {
        let mut inner = self.lock();
        inner.stopping = true;
        let waiting = mem::take(&mut inner.waiting);
        drop(inner);
        self.wakes.iter().for_each(Condvar::notify_one);
        drop(waiting);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn wait_until_idle<T>(queue: &Queue<T>, workers: usize) {
        while queue.lock().idle.len() < workers {
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_worker_that_became_idle_last_is_woken_and_no_other() {
        let queue = Queue::new(3);
        let (told, taken) = mpsc::channel();
        std::thread::scope(|scope| {
            for worker in 0..3 {
                let (queue, told) = (&queue, told.clone());
                scope.spawn(move || {
                    while let Some(work) = queue.pop(worker) {
                        told.send((worker, work)).unwrap();
                    }
                });
                wait_until_idle(queue, worker + 1);
            }
            for work in 0..5 {
                queue.push(work).unwrap();
                assert_eq!(taken.recv_timeout(LONG).unwrap(), (2, work));
                wait_until_idle(&queue, 3);
            }
            queue.stop();
        });
        assert!(taken.try_recv().is_err());
        assert_eq!(queue.push(9), Err(9), "stopping");
    }

    #[test]
    fn what_waits_is_bounded_and_taken_in_order() {
        let queue = Queue::new(2);
        assert_eq!((queue.push(1), queue.push(2), queue.push(3)), (Ok(()), Ok(()), Err(3)));
        assert_eq!((queue.pop(0), queue.pop(1)), (Some(1), Some(2)));
        queue.push(4).unwrap();
        queue.stop();
        assert_eq!(queue.pop(0), None, "dropped unstarted");
    }
}
