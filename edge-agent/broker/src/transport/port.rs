//! The owner's end of a transport.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::mailbox::Mailbox;
use crate::broker::{ConnId, Effect, Input};

/// An input on its way to the owner.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A new connection and its mailbox.
    Opened(Input, Arc<Mailbox>),
    /// Packets, for which the connection has given a credit.
    Packets(ConnId, Input),
    /// The end of a connection.
    Closed(ConnId),
    /// Anything else.
    Other(Input),
}

/// The owner's end: inputs come out, effects go in.
#[derive(Debug)]
pub struct Port {
    arrivals: mpsc::Receiver<Arrival>,
    boxes: HashMap<ConnId, Arc<Mailbox>>,
}

impl Port {
    pub(super) fn new(arrivals: mpsc::Receiver<Arrival>) -> Self {
        Self { arrivals, boxes: HashMap::new() }
    }

    /// The next input; `None` once the transport and all its tasks are gone. Cancel safe.
    pub async fn recv(&mut self) -> Option<Input> {
        std::future::poll_fn(|context| self.poll_recv(context)).await
    }

    /// The next input, or a wake-up of the task when there is one; `None` as with [`Port::recv`].
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<Input>> {
        self.arrivals.poll_recv(context).map(|arrival| arrival.map(|arrival| self.note(arrival)))
    }

    /// The next input, if one is there.
    pub fn try_recv(&mut self) -> Option<Input> {
        let arrival = self.arrivals.try_recv().ok()?;
        Some(self.note(arrival))
    }

    /// The next input, for an owner on a thread of its own.
    pub fn blocking_recv(&mut self) -> Option<Input> {
        let arrival = self.arrivals.blocking_recv()?;
        Some(self.note(arrival))
    }

    /// Carries out what concerns a connection and gives back every other effect. Never blocks.
    pub fn apply(&mut self, effect: Effect) -> Option<Effect> {
        let (conn, act): (ConnId, fn(&Mailbox)) = match effect {
            Effect::Send { conn, chunks } => {
                if let Some(mailbox) = self.boxes.get(&conn) {
                    mailbox.send(chunks);
                }
                return None;
            }
            Effect::PauseRead { conn } => (conn, |mailbox| mailbox.set_paused(true)),
            Effect::ResumeRead { conn } => (conn, |mailbox| mailbox.set_paused(false)),
            Effect::Close { conn } => {
                if let Some(mailbox) = self.boxes.remove(&conn) {
                    mailbox.close();
                }
                return None;
            }
            effect => return Some(effect),
        };
        if let Some(mailbox) = self.boxes.get(&conn) {
            act(mailbox);
        }
        None
    }

    fn note(&mut self, arrival: Arrival) -> Input {
        match arrival {
            Arrival::Opened(input, mailbox) => {
                if let Input::Opened { conn, .. } = &input {
                    self.boxes.insert(*conn, mailbox);
                }
                input
            }
            Arrival::Packets(conn, input) => {
                if let Some(mailbox) = self.boxes.get(&conn) {
                    mailbox.taken();
                }
                input
            }
            Arrival::Closed(conn) => {
                self.boxes.remove(&conn);
                Input::Closed { conn }
            }
            Arrival::Other(input) => input,
        }
    }
}

impl Drop for Port {
    /// Nobody answers any more: every connection ends, also one that the owner has not heard of.
    fn drop(&mut self) {
        // A task that has its permit already sends at once: it is waited for, but not for ever.
        const YIELDS_MAX: usize = 1_000;
        self.arrivals.close();
        let mut yields = 0;
        while yields < YIELDS_MAX {
            match self.arrivals.try_recv() {
                Ok(arrival) => drop(self.note(arrival)),
                Err(TryRecvError::Empty) => {
                    yields += 1;
                    std::thread::yield_now();
                }
                Err(TryRecvError::Disconnected) => break,
            }
        }
        self.boxes.drain().for_each(|(_, mailbox)| mailbox.close());
    }
}
