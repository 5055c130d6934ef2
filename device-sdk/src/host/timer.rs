//! The time driver of `embassy-time`, for any number of tasks.
//!
//! The drivers that come with it hold 128 tasks at most; with more, they wake without need, over and over. This one holds
//! one entry a task, as a task has one waker, in a tree.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use embassy_time_driver::{Driver, TICK_HZ};

/// One tick is a microsecond, as nothing else is chosen.
const TICKS_PER_MICROSECOND: u64 = TICK_HZ / 1_000_000;
const _: () = assert!(TICKS_PER_MICROSECOND > 0, "the timer of the host counts microseconds");

struct HostTimer {
    shared: LazyLock<Shared>,
}

struct Shared {
    start: Instant,
    sleepers: Mutex<Sleepers>,
    sooner: Condvar,
}

/// Who wakes when. A waker is known by where it points.
#[derive(Default)]
struct Sleepers {
    by_time: BTreeMap<(u64, usize), Waker>,
    times: HashMap<usize, u64>,
}

impl Sleepers {
    /// Adds a waker, or makes it wake sooner; whether it is now the first of all.
    fn add(&mut self, at: u64, waker: &Waker) -> bool {
        let task = waker.data().addr();
        match self.times.get(&task) {
            Some(known) if *known <= at => return false,
            Some(known) => {
                self.by_time.remove(&(*known, task));
            }
            None => {}
        }
        self.times.insert(task, at);
        self.by_time.insert((at, task), waker.clone());
        self.by_time.keys().next() == Some(&(at, task))
    }

    /// Takes a waker whose time has come; else says when the next one's comes.
    fn due(&mut self, now: u64) -> Result<Waker, Option<u64>> {
        match self.by_time.first_entry() {
            Some(first) if first.key().0 <= now => {
                let ((_, task), waker) = first.remove_entry();
                self.times.remove(&task);
                Ok(waker)
            }
            Some(first) => Err(Some(first.key().0)),
            None => Err(None),
        }
    }
}

embassy_time_driver::time_driver_impl!(static TIMER: HostTimer = HostTimer {
    shared: LazyLock::new(Shared::start)
});

impl Driver for HostTimer {
    fn now(&self) -> u64 {
        self.shared.now()
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        if lock(&self.shared.sleepers).add(at, waker) {
            self.shared.sooner.notify_one();
        }
    }
}

impl Shared {
    fn start() -> Self {
        thread::Builder::new()
            .name("device-timer".into())
            .spawn(|| TIMER.shared.wake_for_ever())
            .expect("the timer of the devices needs a thread");
        Self { start: Instant::now(), sleepers: Mutex::default(), sooner: Condvar::new() }
    }

    fn now(&self) -> u64 {
        let micros = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        micros.saturating_mul(TICKS_PER_MICROSECOND)
    }

    fn wake_for_ever(&self) {
        let mut sleepers = lock(&self.sleepers);
        loop {
            match sleepers.due(self.now()) {
                Ok(waker) => {
                    // A waker may run code of others, which may ask for a wake.
                    drop(sleepers);
                    waker.wake();
                    sleepers = lock(&self.sleepers);
                }
                Err(None) => {
                    sleepers = self.sooner.wait(sleepers).unwrap_or_else(PoisonError::into_inner);
                }
                Err(Some(at)) => {
                    let micros = at.saturating_sub(self.now()) / TICKS_PER_MICROSECOND + 1;
                    let waited = self.sooner.wait_timeout(sleepers, Duration::from_micros(micros));
                    sleepers = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }
}

fn lock(sleepers: &Mutex<Sleepers>) -> MutexGuard<'_, Sleepers> {
    sleepers.lock().unwrap_or_else(PoisonError::into_inner)
}
