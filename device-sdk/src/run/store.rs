//! From the inbox into the queue.

use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::mutex::Mutex;
use embassy_time::Timer;

use crate::device::{Device, PublishError};
use crate::queue::{Queue, QueueError};

/// Wait before the memory of a queue that could not be opened is looked at again, in milliseconds.
const REOPEN_MS: u64 = 1_000;

/// The queue, shared by the two halves of the task.
pub(super) struct Shelf<'q, Q> {
    pub(super) queue: &'q mut Q,
    /// Records that it has dropped since the other half looked.
    pub(super) dropped: u32,
}

impl<'q, Q> Shelf<'q, Q> {
    pub(super) const fn new(queue: &'q mut Q) -> Self {
        Self { queue, dropped: 0 }
    }
}

pub(super) async fn run<Q: Queue>(
    device: &Device<'_>,
    shelf: &Mutex<NoopRawMutex, Shelf<'_, Q>>,
    staging: &mut [u8],
) -> core::convert::Infallible {
    open(device, shelf).await;
    loop {
        let (sequence, length) = device.bell.until_running(|| oldest(device, staging)).await;
        let mut shelf = shelf.lock().await;
        let (pushed, has_failed) = push_twice(&mut *shelf.queue, &staging[..length]).await;
        let outcome = pushed.map(|_| ()).map_err(|error| match error {
            QueueError::Full => PublishError::Overflow,
            QueueError::TooLong => PublishError::TooLong,
            QueueError::Storage | QueueError::Foreign => PublishError::Storage,
        });
        let dropped = pushed.unwrap_or(0);
        // After a failure the queue may hold other records than it did: what is in flight pops nothing any more, and goes
        // again under its numbers.
        shelf.dropped = if has_failed { u32::MAX } else { shelf.dropped.saturating_add(dropped) };
        let queued = shelf.queue.len();
        device.inbox().lock().await.ring.pop();
        device.change(|facts| {
            let figures = &mut facts.figures;
            figures.queued = queued;
            figures.overflowed += dropped;
            match outcome {
                Ok(()) => figures.published += 1,
                Err(PublishError::Storage) => figures.queue_failures += 1,
                Err(_) => figures.overflowed += 1,
            }
            facts.ended(sequence, outcome);
        });
    }
}

/// Opens the queue, however often that takes. Until then messages wait in the inbox.
async fn open<Q: Queue>(device: &Device<'_>, shelf: &Mutex<NoopRawMutex, Shelf<'_, Q>>) {
    loop {
        let opened = shelf.lock().await.queue.open().await;
        match opened {
            Ok(records) => return device.change(|facts| facts.figures.queued = records),
            Err(_) => device.change(|facts| facts.figures.queue_failures += 1),
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

/// Copies the oldest message of the inbox; returns its sequence and length.
fn oldest(device: &Device<'_>, staging: &mut [u8]) -> Option<(u64, usize)> {
    let inbox = device.inbox().try_lock().ok()?;
    let record = inbox.ring.peek(0)?;
    staging[..record.len()].copy_from_slice(record);
    Some((inbox.oldest_sequence(), record.len()))
}
