//! The thread that makes messages of gateways durable, many in one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use sync_protocol::InstanceId;
use sync_protocol::wire::{Down, Up};
use tokio::sync::mpsc;

use super::take;
use crate::clock::Clock;
use crate::limits::{INGEST_BATCH_MESSAGES_MAX, INGEST_QUEUE_MAX};
use crate::store::{self, GatewayId, Rows, Store, StoreError};

/// A message of a gateway. `ticket` comes back with the answer.
pub(crate) struct Inbound<T> {
    /// Authenticated name of the gateway.
    pub(crate) gateway: String,
    /// What it says.
    pub(crate) up: Box<Up>,
    /// What was noticed about it.
    pub(crate) note: Option<Note>,
    /// Comes back.
    pub(crate) ticket: T,
}

/// An alarm that belongs to a message.
pub(crate) struct Note {
    /// Its code.
    pub(crate) code: &'static str,
    /// Its text.
    pub(crate) text: String,
}

/// What a message is answered with, after it is durable. A message that could not be stored is
/// answered with nothing, and the gateway sends it again.
pub(crate) struct Answer<T> {
    /// The gateway.
    pub(crate) gateway: String,
    /// What to tell it.
    pub(crate) downs: Vec<Down>,
    /// From the message.
    pub(crate) ticket: T,
}

/// The running thread.
pub(crate) struct Worker<T> {
    inbound: mpsc::Sender<Inbound<T>>,
    failures: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts the thread; answers go to `outbound`, which must not block for long.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        instance: InstanceId,
        clock: Clock,
        mut outbound: impl FnMut(Vec<Answer<T>>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (inbound, mut queue) = mpsc::channel::<Inbound<T>>(INGEST_QUEUE_MAX);
        let failures = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&failures);
        let thread = std::thread::Builder::new().name("ingest".into()).spawn(move || {
            let mut batch = Vec::with_capacity(INGEST_BATCH_MESSAGES_MAX);
            while queue.blocking_recv_many(&mut batch, INGEST_BATCH_MESSAGES_MAX) > 0 {
                let now_ms = clock.now_ms();
                let messages = std::mem::take(&mut batch);
                outbound(commit(&*store, instance, messages, now_ms, &counter));
            }
        })?;
        Ok(Self { inbound, failures, thread })
    }

    /// Where messages go in. A full queue gives the message back.
    pub(crate) fn inbound(&self) -> mpsc::Sender<Inbound<T>> {
        self.inbound.clone()
    }

    /// Counts transactions that failed since start.
    pub(crate) fn failures(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.failures)
    }

    /// Waits until everything that was put in is durable; all senders must be gone.
    pub(crate) fn finish(self) {
        drop(self.inbound);
        if self.thread.join().is_err() {
            tracing::error!("the ingest thread panicked");
        }
    }
}

/// One transaction for all; if that fails, one for each, so that one bad message spoils nothing.
fn commit<T>(
    store: &dyn Store,
    instance: InstanceId,
    messages: Vec<Inbound<T>>,
    now_ms: u64,
    failures: &AtomicU64,
) -> Vec<Answer<T>> {
    let together = store::write(store, |rows| take_all(rows, instance, &messages, now_ms));
    let downs: Vec<Vec<Down>> = match together {
        Ok(downs) => downs,
        Err(error) => {
            tracing::error!(%error, messages = messages.len(), "a batch was not stored");
            failures.fetch_add(1, Ordering::Relaxed);
            messages.iter().map(|message| alone(store, instance, message, now_ms)).collect()
        }
    };
    messages
        .into_iter()
        .zip(downs)
        .map(|(message, downs)| Answer { gateway: message.gateway, downs, ticket: message.ticket })
        .collect()
}

fn alone<T>(
    store: &dyn Store,
    instance: InstanceId,
    message: &Inbound<T>,
    now_ms: u64,
) -> Vec<Down> {
    let one = std::slice::from_ref(message);
    match store::write(store, |rows| take_all(rows, instance, one, now_ms)) {
        Ok(downs) => downs.into_iter().flatten().collect(),
        Err(error) => {
            tracing::error!(%error, gateway = message.gateway, "a message was not stored");
            Vec::new()
        }
    }
}

fn take_all<T>(
    rows: &mut dyn Rows,
    instance: InstanceId,
    messages: &[Inbound<T>],
    now_ms: u64,
) -> Result<Vec<Vec<Down>>, StoreError> {
    let mut known: BTreeMap<&str, Option<GatewayId>> = BTreeMap::new();
    let mut all = Vec::with_capacity(messages.len());
    for message in messages {
        let name = message.gateway.as_str();
        let gateway = if let Some(gateway) = known.get(name) {
            *gateway
        } else {
            let gateway = rows.member(name)?.map(|row| row.id);
            if let Some(gateway) = gateway {
                rows.set_last_seen(gateway, now_ms)?;
            }
            known.insert(name, gateway);
            gateway
        };
        let Some(gateway) = gateway else {
            all.push(Vec::new()); // It was authenticated and then removed.
            continue;
        };
        if let Some(Note { code, text }) = &message.note {
            rows.raise_alarm(gateway, code, text, now_ms)?;
        }
        all.push(take(rows, instance, gateway, &message.up, now_ms)?);
    }
    Ok(all)
}
