//! Wakes tasks that wait for something to change.
//!
//! # Limits
//! - [`TASKS_MAX`] tasks are woken at once, and the one that runs the device. While there are more, those without a place look
//!   again by the clock; no task wakes another one to get its place.

use core::cell::RefCell;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Poll, Waker};

use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_time::Timer;
use heapless::Vec;

use crate::limits::TASKS_MAX;

/// From look to look of a task that has no place, in milliseconds.
const LOOK_AGAIN_MS: u64 = 20;

/// Rung after every change; who waits looks again whether the change is the one that it waits for.
#[derive(Debug)]
pub(crate) struct Bell {
    waiting: Mutex<CriticalSectionRawMutex, RefCell<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    runner: Option<Waker>,
    tasks: Vec<Waker, TASKS_MAX>,
}

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// The task that runs the device: it always has a place.
    Runner,
    Task,
}

impl Bell {
    pub(crate) const fn new() -> Self {
        Self { waiting: Mutex::new(RefCell::new(Waiting::new())) }
    }

    pub(crate) fn ring(&self) {
        let Waiting { runner, tasks } =
            self.waiting.lock(|waiting| waiting.replace(Waiting::new()));
        runner.into_iter().chain(tasks).for_each(Waker::wake);
    }

    /// Waits until `look` finds something. May be dropped at any time.
    pub(crate) async fn until<T>(&self, look: impl FnMut() -> Option<T>) -> T {
        self.wait(Role::Task, look).await
    }

    /// [`Bell::until`] for the task that runs the device.
    pub(crate) async fn until_running<T>(&self, look: impl FnMut() -> Option<T>) -> T {
        self.wait(Role::Runner, look).await
    }

    async fn wait<T>(&self, role: Role, mut look: impl FnMut() -> Option<T>) -> T {
        let mut again = None;
        poll_fn(|context| {
            if let Some(found) = look() {
                return Poll::Ready(found);
            }
            if !self.register(role, context.waker()) {
                let timer = again.get_or_insert_with(next_look);
                if Pin::new(&mut *timer).poll(context).is_ready() {
                    *timer = next_look();
                    // A timer is set by its first poll, which finds it pending.
                    let _ = Pin::new(timer).poll(context);
                }
            }
            // It may have been rung between the look and the registration.
            look().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Whether there is a place for this task, or it has one.
    fn register(&self, role: Role, task: &Waker) -> bool {
        self.waiting.lock(|waiting| {
            let Waiting { runner, tasks } = &mut *waiting.borrow_mut();
            if role == Role::Runner {
                *runner = Some(task.clone());
                return true;
            }
            tasks.iter().any(|other| other.will_wake(task)) || tasks.push(task.clone()).is_ok()
        })
    }
}

fn next_look() -> Timer {
    Timer::after_millis(LOOK_AGAIN_MS)
}

impl Waiting {
    const fn new() -> Self {
        Self { runner: None, tasks: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;
    use futures_util::stream::{FuturesUnordered, StreamExt};
    use std::time::Duration;
    use std::vec::Vec;

    #[tokio::test]
    async fn more_tasks_than_places_rest_while_nothing_happens_and_all_hear_of_what_does() {
        const MANY: usize = 50;
        let (bell, looks, is_so) = (Bell::new(), Cell::new(0), Cell::new(false));
        let look = || {
            looks.set(looks.get() + 1);
            is_so.get().then_some(())
        };
        // Each in a waker of its own, as tasks are.
        let mut waiting: FuturesUnordered<_> = (0..MANY).map(|_| bell.until(look)).collect();
        let quiet = tokio::time::timeout(Duration::from_millis(200), waiting.next()).await;
        assert!(quiet.is_err(), "nothing happened");
        // Two looks at each registration; those without a place look again every 20 ms or so.
        assert!(looks.get() < 2 * MANY * 15, "{} looks of tasks that should rest", looks.get());
        is_so.set(true);
        bell.ring();
        let all = waiting.collect::<Vec<_>>();
        tokio::time::timeout(Duration::from_secs(5), all).await.expect("each hears of it");
    }
}
