//! The queue and the application as the client sees them: both tell C how each message ended.

use core::cell::Cell;

use device_sdk::protocol::system::{Command, Status};
use device_sdk::queue::{QueueError, number};
use device_sdk::{App, Overflow, Queue, RamQueue, Reply, Settled, State};

use crate::abi;
use crate::hooks::{Hooks, event_of};

/// What one part of the client learns and another tells.
#[derive(Default)]
pub(crate) struct Fate {
    /// How the message ended that is popped next.
    settled: Cell<Option<Settled>>,
    /// What came of TLS in the attempt to connect that has failed: reason of [`abi::TROUBLE_TLS`].
    tls: Cell<Option<u8>>,
}

impl Fate {
    /// TLS did not come to stand.
    #[cfg(feature = "tls")]
    pub(crate) fn tls_failed(&self, reason: u8) {
        self.tls.set(Some(reason));
    }
}

/// A queue in memory that tells which messages leave it, and how.
///
/// With [`Overflow::DropOldest`] it drops here and not in the queue below, so that none goes untold.
pub(crate) struct Watched {
    queue: RamQueue<'static>,
    overflow: Overflow,
    hooks: Hooks,
    fate: &'static Fate,
}

impl Watched {
    pub(crate) fn new(
        memory: &'static mut [u8],
        overflow: Overflow,
        hooks: Hooks,
        fate: &'static Fate,
    ) -> Self {
        let queue = RamQueue::new(memory, Overflow::DropNewest);
        Self { queue, overflow, hooks, fate }
    }

    fn ended(&self, record: Option<&[u8]>, kind: u8, reason: u8) {
        if let Some(number) = record.and_then(number) {
            self.hooks.ended(kind, reason, number.sequence);
        }
    }
}

impl Queue for Watched {
    async fn open(&mut self) -> Result<u32, QueueError> {
        self.queue.open().await
    }

    async fn push(&mut self, record: &[u8]) -> Result<u32, QueueError> {
        let mut dropped = 0;
        loop {
            match self.queue.push(record).await {
                Err(QueueError::Full) if self.overflow == Overflow::DropOldest => {
                    self.ended(self.queue.oldest(), abi::EVENT_DROPPED, 0);
                    self.queue.pop().await?;
                    dropped += 1;
                }
                Err(error) => {
                    self.ended(Some(record), abi::EVENT_DROPPED, 0);
                    return Err(error);
                }
                Ok(_) => return Ok(dropped),
            }
        }
    }

    async fn peek(&mut self, nth: u32, out: &mut [u8]) -> Result<Option<usize>, QueueError> {
        self.queue.peek(nth, out).await
    }

    async fn pop(&mut self) -> Result<(), QueueError> {
        let (kind, reason) = match self.fate.settled.take() {
            Some(Settled::Acked) => (abi::EVENT_ACKED, 0),
            Some(Settled::Refused(reason)) => (abi::EVENT_REFUSED, reason),
            None => (abi::EVENT_DROPPED, 0),
        };
        self.ended(self.queue.oldest(), kind, reason);
        self.queue.pop().await
    }

    fn len(&self) -> u32 {
        self.queue.len()
    }
}

/// What the client says to the application goes to C.
pub(crate) struct Ears {
    hooks: Hooks,
    fate: &'static Fate,
    was_online: bool,
}

impl Ears {
    pub(crate) const fn new(hooks: Hooks, fate: &'static Fate) -> Self {
        Self { hooks, fate, was_online: false }
    }
}

impl App for Ears {
    fn command(&mut self, command: &Command<'_>, reply: &mut Reply) -> Status {
        self.hooks.obey(command, reply)
    }

    fn settled(&mut self, settled: Settled) {
        self.fate.settled.set(Some(settled));
    }

    fn state(&mut self, state: State) {
        if let Some(mut event) = event_of(state, self.was_online) {
            if let Some(reason) = self.fate.tls.take() {
                (event.trouble, event.reason) = (abi::TROUBLE_TLS, reason);
            }
            self.hooks.tell(&event);
        }
        self.was_online = matches!(state, State::Online { .. });
    }
}
