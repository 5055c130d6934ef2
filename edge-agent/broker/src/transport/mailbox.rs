//! What the owner tells a connection's task, without ever waiting for it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::INPUTS_PER_CONNECTION;

/// Shared by the owner and one connection's task. The lock is held for a few moves only.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    mail: Mutex<Mail>,
    /// Inputs that the owner has not taken yet.
    with_owner: AtomicUsize,
    wake: Notify,
}

/// The contents.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// Bytes to write, in order.
    chunks: Vec<Bytes>,
    /// The connection is not to be read.
    paused: bool,
    /// The connection is to be closed after the bytes.
    close: bool,
}

impl Mailbox {
    fn mail(&self) -> MutexGuard<'_, Mail> {
        // Moves do not panic; if one did, the contents would still be whole.
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn send(&self, chunks: Vec<Bytes>) {
        self.mail().chunks.extend(chunks);
        self.wake.notify_one();
    }

    pub(super) fn set_paused(&self, paused: bool) {
        self.mail().paused = paused;
        if !paused {
            self.wake.notify_one();
        }
    }

    pub(super) fn close(&self) {
        self.mail().close = true;
        self.wake.notify_one();
    }

    /// The owner has taken an input of this connection.
    pub(super) fn taken(&self) {
        if self.with_owner.fetch_sub(1, Ordering::AcqRel) >= INPUTS_PER_CONNECTION {
            self.wake.notify_one();
        }
    }

    /// The task has handed an input over.
    pub(super) fn handed_over(&self) {
        self.with_owner.fetch_add(1, Ordering::AcqRel);
    }

    /// Moves the bytes to `out` and tells whether to read and whether to close.
    pub(super) fn collect(&self, out: &mut VecDeque<Bytes>) -> (bool, bool) {
        let mut mail = self.mail();
        if !mail.chunks.is_empty() {
            out.extend(std::mem::take(&mut mail.chunks));
        }
        let credit = self.with_owner.load(Ordering::Acquire) < INPUTS_PER_CONNECTION;
        (credit && !mail.paused && !mail.close, mail.close)
    }

    /// Something may have changed.
    pub(super) async fn changed(&self) {
        self.wake.notified().await;
    }
}
