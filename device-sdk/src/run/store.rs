//! From the inbox into the queue.

use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::mutex::Mutex;
use embassy_time::Timer;

use crate::device::{Device, PublishError};
use crate::flight::UNKNOWN;
use crate::queue::{Queue, QueueError};

/// Wait before the memory of a queue that could not be opened is looked at again, in milliseconds.
const REOPEN_MS: u64 = 1_000;

/// The queue, shared by the two halves of the task.
pub(super) struct Shelf<'q, Q> {
    pub(super) queue: &'q mut Q,
    /// Whether its memory was looked at and is the queue's: it has no records before.
    pub(super) is_open: bool,
    /// Records that it has dropped since the other half looked.
    pub(super) dropped: u32,
}

impl<'q, Q: Queue> Shelf<'q, Q> {
    pub(super) const fn new(queue: &'q mut Q) -> Self {
        Self { queue, is_open: false, dropped: 0 }
    }

    /// The `nth` oldest record, from 0, into `out`.
    pub(super) async fn peek(
        &mut self,
        nth: u32,
        out: &mut [u8],
    ) -> Result<Option<usize>, QueueError> {
        if self.is_open { self.queue.peek(nth, out).await } else { Ok(None) }
    }
}

pub(super) async fn run<Q: Queue>(
    device: &Device<'_>,
    shelf: &Mutex<NoopRawMutex, Shelf<'_, Q>>,
    staging: &mut [u8],
) -> core::convert::Infallible {
    loop {
        open(device, shelf).await;
        while let Some((sequence, length)) =
            device.bell.until_running(|| next(device, staging)).await
        {
            keep(device, shelf, sequence, &staging[..length]).await;
        }
    }
}

/// Puts a message into the queue, and tells how that ended.
async fn keep<Q: Queue>(
    device: &Device<'_>,
    shelf: &Mutex<NoopRawMutex, Shelf<'_, Q>>,
    sequence: u64,
    record: &[u8],
) {
    let mut shelf = shelf.lock().await;
    let (pushed, has_failed) = push_twice(&mut *shelf.queue, record).await;
    let outcome = pushed.map(|_| ()).map_err(|error| match error {
        QueueError::Full => PublishError::Overflow,
        QueueError::TooLong => PublishError::TooLong,
        QueueError::Storage => PublishError::Storage,
        QueueError::Foreign => PublishError::Foreign,
    });
    let dropped = pushed.unwrap_or(0);
    // After a failure the queue may hold other records than it did: what is in flight pops nothing any more, and goes
    // again under its numbers.
    shelf.dropped = if has_failed { UNKNOWN } else { shelf.dropped.saturating_add(dropped) };
    let queued = shelf.queue.len();
    device.inbox().lock().await.ring.pop();
    device.change(|facts| {
        let figures = &mut facts.figures;
        figures.queued = queued;
        figures.overflowed += dropped;
        match outcome {
            Ok(()) => figures.published += 1,
            Err(PublishError::Storage | PublishError::Foreign) => figures.queue_failures += 1,
            Err(_) => figures.overflowed += 1,
        }
        facts.ended(sequence, outcome);
    });
}

/// Opens the queue, however often that takes, while messages wait in the inbox. A memory that is not the queue's will not
/// become so by waiting: it is told, and what is published is refused, so that who publishes goes on.
async fn open<Q: Queue>(device: &Device<'_>, shelf: &Mutex<NoopRawMutex, Shelf<'_, Q>>) {
    loop {
        let mut shelf = shelf.lock().await;
        if device.facts(|facts| core::mem::take(&mut facts.is_memory_given)) {
            shelf.queue.give();
        }
        let opened = shelf.queue.open().await;
        shelf.is_open = opened.is_ok();
        drop(shelf);
        let is_foreign = opened == Err(QueueError::Foreign);
        device.change(|facts| {
            let figures = &mut facts.figures;
            figures.is_queue_foreign = is_foreign;
            match opened {
                Ok(records) => figures.queued = records,
                Err(_) => figures.queue_failures += 1,
            }
        });
        if is_foreign {
            #[cfg(feature = "logs")]
            crate::log!(
                device,
                Error,
                "publishing is refused: the queue's memory is of another firmware or layout. Run that one to send what it \
                 keeps, or format the queue"
            );
            return;
        }
        if opened.is_ok() {
            return;
        }
        Timer::after_millis(REOPEN_MS).await;
    }
}

/// Pushes, and once more if the memory failed: the second attempt looks at it anew. Whether it failed, too.
async fn push_twice<Q: Queue>(queue: &mut Q, record: &[u8]) -> (Result<u32, QueueError>, bool) {
    match queue.push(record).await {
        Err(QueueError::Storage) => (queue.push(record).await, true),
        other => (other, false),
    }
}

/// What is to be done next: the [`oldest`] message or, with none, a new look at the memory.
fn next(device: &Device<'_>, staging: &mut [u8]) -> Option<Option<(u64, usize)>> {
    if device.facts(|facts| facts.is_memory_given) {
        return Some(None);
    }
    oldest(device, staging).map(Some)
}

/// Copies the oldest message of the inbox; returns its sequence and length.
fn oldest(device: &Device<'_>, staging: &mut [u8]) -> Option<(u64, usize)> {
    let inbox = device.inbox().try_lock().ok()?;
    let record = inbox.ring.peek(0)?;
    staging[..record.len()].copy_from_slice(record);
    Some((inbox.oldest_sequence(), record.len()))
}
