//! The link to the control plane: one thread that sends what the outbox holds and takes what the
//! control plane states.
//!
//! Decisions are in [`session`] (no clock, no I/O), the MQTT client in [`mqtt`]. The store is read
//! here but never written: a receipt goes to the loop, which deletes.
//!
//! # Bounds
//! - At most [`window::MESSAGES_MAX`] unreceipted messages a stream, each at most [`RUN_BYTES_MAX`].
//! - What the loop says ([`Say`]) is bounded by its own pace: positions and states, latest wins.

pub mod backoff;
pub mod convert;
pub mod mqtt;
pub mod order;
pub mod rate;
pub mod session;
pub mod window;

mod driver;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use edge_core::op::OutboxRecord;
use sync_protocol::id::Digest;
use sync_protocol::wire::{Command, Desired, Health, Logs, Reply, StateReport};
use tokio::sync::{mpsc, oneshot};

use self::mqtt::Endpoint;
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

impl Outbox for Box<dyn Outbox> {
    fn read(
        &self,
        stream: u8,
        from: u64,
        to: u64,
        bytes_max: usize,
    ) -> io::Result<Vec<OutboxRecord>> {
        (**self).read(stream, from, to, bytes_max)
    }
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
    /// Folder for artifacts that are being fetched.
    pub partial_dir: PathBuf,
    /// Seed of the connection back-off.
    pub seed: u64,
    /// How fast records may leave; `None`: as fast as they can.
    pub rate: Option<Rate>,
}

/// Handle of the uplink thread.
#[derive(Debug)]
pub struct Uplink {
    say: mpsc::UnboundedSender<Say>,
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Uplink {
    /// Starts the thread. `heard` is called there and must not block.
    ///
    /// # Errors
    /// The system refuses a thread or a folder.
    pub fn spawn(
        setup: Setup,
        outbox: impl Outbox,
        heard: impl Fn(Heard) + Send + 'static,
    ) -> io::Result<Self> {
        std::fs::create_dir_all(&setup.partial_dir)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (say, saying) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("uplink".to_owned()).spawn(move || {
            runtime.block_on(driver::run(setup, outbox, saying, stopped, heard));
            // A name that is being looked up has a thread of its own, which nobody waits for.
            runtime.shutdown_background();
        })?;
        Ok(Self { say, stop, thread })
    }

    /// Says something; a thread that is gone is found out at the join.
    pub fn say(&self, say: Say) {
        let _ = self.say.send(say);
    }

    /// Ends the thread, with a goodbye to the control plane if it can be had within a second.
    pub fn stop(self) {
        // A thread that is gone needs no telling.
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("the uplink thread panicked");
        }
    }
}
