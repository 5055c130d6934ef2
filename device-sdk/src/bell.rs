//! Wakes tasks that wait for something to change.

use core::cell::RefCell;
use core::future::poll_fn;
use core::task::Poll;

use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::waitqueue::MultiWakerRegistration;

/// Tasks that may wait at a time: the one that runs the device, the one that updates it, and those that publish or wait
/// for the connection. More than that wake each other without end.
const TASKS: usize = 8;

/// Rung after every change; who waits looks again whether the change is the one that it waits for.
#[derive(Debug)]
pub(crate) struct Bell {
    tasks: Mutex<CriticalSectionRawMutex, RefCell<MultiWakerRegistration<TASKS>>>,
}

impl Bell {
    pub(crate) const fn new() -> Self {
        Self { tasks: Mutex::new(RefCell::new(MultiWakerRegistration::new())) }
    }

    pub(crate) fn ring(&self) {
        self.tasks.lock(|tasks| tasks.borrow_mut().wake());
    }

    /// Waits until `look` finds something. May be dropped at any time.
    pub(crate) async fn until<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        poll_fn(|context| {
            if let Some(found) = look() {
                return Poll::Ready(found);
            }
            self.tasks.lock(|tasks| tasks.borrow_mut().register(context.waker()));
            // It may have been rung between the look and the registration.
            look().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}
