//! The link to the control plane: one thread that sends what the outbox holds and takes what the
//! control plane states.
//!
//! Decisions are in [`session`] (no clock, no I/O), carried out by [`conversation`] (no clock, no
//! transport); the MQTT client is in [`mqtt`], [`dial`] makes its connections, and `relay` hands them
//! to it. The store is read here but never written: a receipt goes to the loop, which deletes.
//!
//! # Bounds
//! - At most [`window::MESSAGES_MAX`] unreceipted messages a stream, each at most [`RUN_BYTES_MAX`].
//! - What the loop says ([`Say`]) is bounded by its own pace: positions and states, latest wins.

pub mod backoff;
pub mod conversation;
pub mod convert;
pub mod dial;
pub mod mqtt;
pub mod order;
pub mod partial;
pub mod proxy;
pub mod rate;
pub mod session;
pub mod window;

mod driver;
mod relay;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use edge_core::op::OutboxRecord;
use sync_protocol::id::Digest;
use sync_protocol::wire::{Command, Desired, Health, Logs, Reply, StateReport};
use tokio::sync::{mpsc, oneshot};

use self::mqtt::Endpoint;
use self::partial::Partial;
use self::rate::Rate;
use crate::credentials::Credentials;

/// Bytes of records in one message.
pub const RUN_BYTES_MAX: usize = 128 << 10;

/// Where records are read from.
pub trait Outbox: Send + 'static {
    /// Records `from..=to` of a stream, in order, until `bytes_max` is reached (at least one where
    /// one exists).
    ///
    /// # Errors
    /// The store cannot be read.
    fn read(
        &self,
        stream: u8,
        from: u64,
        to: u64,
        bytes_max: usize,
    ) -> io::Result<Vec<OutboxRecord>>;
}

/// What the loop says to the uplink.
#[derive(Debug)]
pub enum Say {
    /// Records are durable up to here.
    Durable {
        /// Stream.
        stream: u8,
        /// Position.
        seq: u64,
    },
    /// Where the deployments stand.
    State(StateReport),
    /// How the gateway is.
    Health(Box<Health>),
    /// An artifact is wanted.
    Fetch {
        /// Which.
        digest: Digest,
        /// More bytes are refused.
        bytes_max: u64,
    },
    /// Nobody wants an artifact any more.
    CancelFetch,
    /// Answer to a command.
    Reply(Reply),
    /// Log lines for whoever follows.
    Logs(Logs),
}

/// What the uplink says to the loop.
#[derive(Debug)]
pub enum Heard {
    /// The link came up or went down; the text says why.
    Link {
        /// Whether records flow.
        up: bool,
        /// Why not.
        reason: String,
    },
    /// The control plane has stored a stream up to here.
    Receipt {
        /// Stream.
        stream: u8,
        /// Position.
        seq: u64,
    },
    /// The control plane holds positions that this store never wrote: the stream goes on after
    /// them.
    GoOnAfter {
        /// Stream.
        stream: u8,
        /// Position.
        seq: u64,
    },
    /// The control plane holds other records at these positions: those of this store go again at
    /// positions of their own.
    Renumber {
        /// Stream.
        stream: u8,
        /// Positions.
        positions: Vec<u64>,
    },
    /// The control plane shows a gap up to a position that it had receipted.
    Gap {
        /// Stream.
        stream: u8,
        /// Position.
        seq: u64,
    },
    /// The control plane vouches for this time (milliseconds since 1970).
    Time(u64),
    /// What should run.
    Desired(Desired),
    /// An artifact is complete on disk, unverified; or it cannot be had.
    Fetched {
        /// Which.
        digest: Digest,
        /// The file, or why not.
        result: Result<PathBuf, String>,
    },
    /// An operator asks something.
    Command(Command),
}

/// What the uplink is made with.
pub struct Setup {
    /// Gateway name.
    pub gateway: String,
    /// Version of the agent, with its slot where it has one.
    pub version: String,
    /// The process run.
    pub epoch: u64,
    /// Where to connect.
    pub endpoint: Endpoint,
    /// What is shown there, to be renewed when the control plane says so.
    pub credentials: Option<Arc<Credentials>>,
    /// Per stream: number, last position stored by the control plane, last durable position.
    pub streams: Vec<(u8, u64, u64)>,
    /// Where the deployments stand at start.
    pub state: StateReport,
    /// Seed of the connection back-off.
    pub seed: u64,
    /// How fast records may leave; `None`: as fast as they can.
    pub rate: Option<Rate>,
    /// Where records are read from.
    pub outbox: Box<dyn Outbox>,
    /// Where artifacts are kept while they are fetched.
    pub partial: Box<dyn Partial>,
    /// Whom to tell what was heard. It is called by the uplink's thread and must not block.
    pub heard: Box<dyn Fn(Heard) + Send>,
}

/// Handle of the uplink thread.
#[derive(Debug)]
pub struct Uplink {
    handle: Handle,
    thread: std::thread::JoinHandle<()>,
}

impl Uplink {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn spawn(setup: Setup) -> io::Result<Self> {
        let (handle, running) = prepare(setup);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("uplink".to_owned()).spawn(move || {
            runtime.block_on(running);
            // A name that is being looked up has a thread of its own, which nobody waits for.
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, thread })
    }

    /// Says something; a thread that is gone is found out at the join.
    pub fn say(&self, say: Say) {
        self.handle.say(say);
    }

    /// Ends the thread, with a goodbye to the control plane if it can be had within a second.
    pub fn stop(self) {
        self.handle.stop();
        if self.thread.join().is_err() {
            tracing::error!("the uplink thread panicked");
        }
    }
}

/// Handle of an uplink that runs as a future.
#[derive(Debug)]
pub struct Handle {
    say: mpsc::UnboundedSender<Say>,
    stop: oneshot::Sender<()>,
}

impl Handle {
    /// Says something; an uplink that is gone hears nothing.
    pub fn say(&self, say: Say) {
        let _ = self.say.send(say);
    }

    /// Asks for the end: a goodbye to the control plane is tried for a second.
    pub fn stop(self) {
        // An uplink that is gone needs no telling.
        let _ = self.stop.send(());
    }
}

/// The uplink as a future, for a tokio runtime of the caller with I/O and time: what the thread of
/// an [`Uplink`] runs. It ends after [`Handle::stop`], or when the handle is dropped.
pub fn prepare(setup: Setup) -> (Handle, impl Future<Output = ()> + Send) {
    let (say, saying) = mpsc::unbounded_channel();
    let (stop, stopped) = oneshot::channel();
    (Handle { say, stop }, driver::run(setup, saying, stopped))
}
