//! The store thread: batches in, completions out.

use std::io;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use edge_core::id::BatchSeq;
use thiserror::Error;

use super::{Batch, Store, StoreError};

/// Batches that may wait. The loop closes a batch when the store is idle, so one is usual.
const QUEUE: usize = 4;

/// Outcome of a batch, in the order they were submitted.
#[derive(Clone, Debug)]
pub enum Completion {
    /// It is durable.
    Committed(BatchSeq),
    /// It is not (or nobody knows), and no later one will be. The store is closed and its directory
    /// free to be opened again; this is the last completion.
    Failed {
        /// The batch.
        batch: BatchSeq,
        /// Why.
        error: StoreError,
    },
}

/// A batch that was not taken, and comes back.
#[derive(Debug, Error)]
pub enum NotTaken {
    /// Too many wait already.
    #[error("the store thread is busy")]
    Busy(Box<Batch>),
    /// The thread has ended, after a failure that was reported.
    #[error("the store thread has ended")]
    Ended(Box<Batch>),
}

/// A thread that commits.
#[derive(Debug)]
pub struct StoreThread {
    batches: Option<SyncSender<Batch>>,
    thread: Option<JoinHandle<()>>,
}

impl StoreThread {
    /// Starts the thread. `complete` is called on it and must not block.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub fn spawn<S, F>(mut store: S, mut complete: F) -> io::Result<Self>
    where
        S: Store + 'static,
        F: FnMut(Completion) + Send + 'static,
    {
        let (batches, queue) = sync_channel::<Batch>(QUEUE);
        let run = move || {
            while let Ok(batch) = queue.recv() {
                match store.commit(&batch) {
                    Ok(()) => complete(Completion::Committed(batch.seq)),
                    Err(error) => {
                        drop(store);
                        complete(Completion::Failed { batch: batch.seq, error });
                        return;
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("store".into()).spawn(run)?;
        Ok(Self { batches: Some(batches), thread: Some(thread) })
    }

    /// Hands over the next batch; never blocks.
    ///
    /// # Errors
    /// [`NotTaken`] with the batch.
    pub fn submit(&self, batch: Batch) -> Result<(), NotTaken> {
        let Some(batches) = &self.batches else { return Err(NotTaken::Ended(Box::new(batch))) };
        batches.try_send(batch).map_err(|error| match error {
            TrySendError::Full(batch) => NotTaken::Busy(Box::new(batch)),
            TrySendError::Disconnected(batch) => NotTaken::Ended(Box::new(batch)),
        })
    }

    /// Commits what was submitted, closes the store and waits until that is done.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by the panic hook; whoever stops wants it stopped.
            let _ = thread.join();
        }
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        self.end();
    }
}
