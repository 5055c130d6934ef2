//! Wakers that set an [`Alarm`].

use core::task::{RawWaker, RawWakerVTable, Waker};

use crate::clock::Alarm;

static TABLE: RawWakerVTable =
    RawWakerVTable::new(|alarm| RawWaker::new(alarm, &TABLE), wake, wake, |_| ());

fn wake(alarm: *const ()) {
    // SAFETY: every waker with this table was made by `of` from a reference that lives for ever.
    let alarm = unsafe { &*alarm.cast::<Alarm>() };
    alarm.wake();
}

/// A waker for that alarm.
pub(crate) fn of(alarm: &'static Alarm) -> Waker {
    let raw = RawWaker::new(core::ptr::from_ref(alarm).cast(), &TABLE);
    // SAFETY: the table copies and drops without an effect, and `Alarm` may be used from any thread.
    unsafe { Waker::from_raw(raw) }
}

/// The alarm of a waker that [`of`] made.
pub(crate) fn alarm(waker: &Waker) -> Option<&'static Alarm> {
    let is_ours = core::ptr::eq(waker.vtable(), &TABLE);
    // SAFETY: as in `wake`.
    is_ours.then(|| unsafe { &*waker.data().cast::<Alarm>() })
}
