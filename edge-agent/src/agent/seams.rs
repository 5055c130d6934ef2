//! The seams between the loop and the world (DESIGN, section 5).
//!
//! Everything above them - the loop, the open batch, broker, core, reconciler, store - is the same
//! code in the gateway process and in the simulator. [`World`] makes what is below: on a machine
//! ([`super::machine`]) threads, sockets, files and the system's clocks; in a simulation queues
//! that a seed empties.
//!
//! # Invariants
//! - No call blocks the loop, but for opening: `submit`, `say`, `ask` and `apply` hand over.
//! - Answers come through the callbacks given to [`World`], never inside the call that asked.
//! - Once a part is stopped or dropped its callback is not called any more: an answer to the life
//!   before must not be taken for one to the next.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use edge_broker::broker;
use edge_broker::transport::TransportLimits;
use edge_core::event::CoreEvent;
use edge_core::time::Now;
use sync_protocol::wire::StateReport;

use super::RunError;
use super::library::Shelf;
use super::prepare::Task;
use crate::auth::thread::Question;
use crate::bridge::Board;
use crate::runtime::{Crashed, Invocation, Toolchain};
use crate::store::{self, Batch, JournalStore, NotTaken};
use crate::uplink::{Heard, Outbox, Say};
use crate::{runtime, uplink};

/// The system's clocks.
pub trait Clocks {
    /// Monotonic time since any fixed moment.
    fn mono(&self) -> Duration;

    /// What the wall clock shows, in milliseconds since 1970; 0 before that.
    fn unix_ms(&self) -> u64;

    /// Set where the system says that its wall clock is disciplined; another number each time that
    /// it was found right or set right.
    fn disciplined(&self) -> Option<u64>;

    /// How long this boot of the machine has lasted; `None` where that is not known.
    fn boot(&self) -> Option<Boot>;
}

/// A boot of the machine. Processes of one boot know from each other how long ago something was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Which.
    pub id: u64,
    /// Milliseconds since it began.
    pub since_ms: u64,
}

/// Connections of clients: what they sent comes out, what is to be sent goes in.
pub trait Network {
    /// The next input, or a wake-up when there is one. `None` where nobody listens any more.
    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<broker::Input>>;

    /// The next input, if one is there.
    fn try_recv(&mut self) -> Option<broker::Input>;

    /// Carries out what concerns a connection and gives back every other effect.
    fn apply(&mut self, effect: broker::Effect) -> Option<broker::Effect>;
}

/// Who commits batches, one after the other.
pub trait Committer {
    /// Hands over the next batch.
    ///
    /// # Errors
    /// [`NotTaken`] with the batch.
    fn submit(&self, batch: Batch) -> Result<(), NotTaken>;

    /// Commits what was submitted and closes the store.
    fn stop(self: Box<Self>);
}

/// Who runs attempts.
pub trait Pool {
    /// Queues an attempt.
    ///
    /// # Errors
    /// Hands it back when too many wait, or when stopping.
    fn submit(&self, invocation: Invocation) -> Result<(), Box<Invocation>>;

    /// Ends all attempts; none is answered any more.
    fn stop(self: Box<Self>);
}

/// Breadcrumbs of workers: attempts during which the process before this one died.
pub trait Crumbs {
    /// Those not yet settled.
    fn left(&self) -> Vec<Crashed>;

    /// They are counted durably: no later process needs them.
    ///
    /// # Errors
    /// They stay, and may be counted once more.
    fn settle(&self) -> io::Result<()>;
}

/// Who does what takes long, one task at a time: verifying, compiling, carrying state over.
pub trait Executor {
    /// Queues a task; whoever executes it calls [`Task::run`].
    fn submit(&self, task: Task);
}

/// Who verifies passwords that people chose.
pub trait Passwords {
    /// Asks; a full queue gives the question back.
    ///
    /// # Errors
    /// The queue is full.
    fn ask(&self, question: Question) -> Result<(), Box<Question>>;
}

/// The link to the control plane.
pub trait Link {
    /// Says something.
    fn say(&self, say: Say);

    /// Ends the link, with a goodbye if it can be had soon.
    fn stop(self: Box<Self>);
}

/// The block device that holds the data.
pub trait BlockDevice {
    /// How far its count has come; `None` where it cannot be read any more.
    fn count(&self) -> Option<BlockCount>;
}

/// What a block device has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockCount {
    /// Which device.
    pub identity: u64,
    /// Which boot of the machine.
    pub boot: u64,
    /// Bytes written to it since this boot began, by everybody.
    pub written_bytes: u64,
    /// Bytes that it has room for.
    pub size_bytes: u64,
}

/// Sees what happens in the core, in order: the stream that logs and metrics are made from.
pub trait Watch {
    /// Something happened.
    fn core(&mut self, event: &CoreEvent, now: Now);
}

/// What a link begins with.
pub struct LinkStart {
    /// Version of the agent, with its slot where it has one.
    pub version: String,
    /// The process run.
    pub epoch: u64,
    /// Per stream: number, last position stored by the control plane, last durable position.
    pub streams: Vec<(u8, u64, u64)>,
    /// Where the deployments stand.
    pub state: StateReport,
    /// Where records are read from.
    pub outbox: Box<dyn Outbox>,
    /// Whom to tell what was heard.
    pub heard: Box<dyn Fn(Heard) + Send>,
    /// Seed of the connection back-off.
    pub seed: u64,
}

/// Makes the parts below the seams, anew for each life of the gateway: at start and after each
/// failure of the store.
pub trait World {
    /// Entropy: a number that nobody can guess, or that a seed gives.
    ///
    /// # Errors
    /// There is none to be had.
    fn draw(&mut self) -> io::Result<u64>;

    /// The clocks.
    fn clocks(&mut self) -> Box<dyn Clocks>;

    /// Opens the store.
    ///
    /// # Errors
    /// See [`store::OpenError`].
    fn open_store(&mut self, settings: store::Settings) -> Result<store::Opened, store::OpenError>;

    /// Size of the file system that holds the store, in bytes, where it is known.
    fn disk_bytes(&self) -> Option<u64>;

    /// The block device below it, where the system counts; none in a simulation.
    fn block_device(&self) -> Option<Box<dyn BlockDevice>> {
        None
    }

    /// Takes the store to commit with.
    ///
    /// # Errors
    /// The system refuses a thread.
    fn committer(
        &mut self,
        store: JournalStore,
        done: Box<dyn FnMut(store::Completion) + Send>,
    ) -> io::Result<Box<dyn Committer>>;

    /// Makes the network; nobody can connect before [`World::listen`].
    fn network(&mut self, limits: TransportLimits) -> Box<dyn Network>;

    /// Lets clients connect. Returns where.
    ///
    /// # Errors
    /// An address or a certificate cannot be used.
    fn listen(&mut self) -> Result<Vec<SocketAddr>, RunError>;

    /// How long this process has been there, in milliseconds, where the system tells; a simulation has
    /// none.
    fn process_ms(&self) -> Option<u64> {
        None
    }

    /// How the serial lines are; none in a simulation.
    fn buses(&self) -> Board {
        Board::default()
    }

    /// Attempts that can be in work at once.
    fn slots(&self) -> u16;

    /// Starts the workers.
    ///
    /// # Errors
    /// The system refuses a thread.
    fn pool(
        &mut self,
        done: Box<dyn Fn(runtime::Completion) + Send + Sync>,
    ) -> io::Result<Box<dyn Pool>>;

    /// What the workers of the process before this one left behind.
    fn crumbs(&self) -> Box<dyn Crumbs>;

    /// What makes functions of components.
    fn toolchain(&self) -> Arc<dyn Toolchain>;

    /// Where signed manifests and components are kept.
    ///
    /// # Errors
    /// The folder cannot be made.
    fn shelf(&mut self) -> io::Result<Arc<dyn Shelf>>;

    /// Starts whoever does what takes long.
    ///
    /// # Errors
    /// The system refuses a thread.
    fn executor(&mut self) -> io::Result<Box<dyn Executor>>;

    /// Starts whoever verifies passwords. `answer` gets each question and whether it holds.
    ///
    /// # Errors
    /// The system refuses a thread.
    fn passwords(
        &mut self,
        answer: Box<dyn Fn(Question, bool) + Send>,
    ) -> io::Result<Box<dyn Passwords>>;

    /// Whether a control plane states what should run.
    fn is_managed(&self) -> bool;

    /// Starts the link; `None` on a gateway without a control plane.
    ///
    /// # Errors
    /// The system refuses a thread or a folder.
    fn link(&mut self, start: LinkStart) -> io::Result<Option<Box<dyn Link>>>;

    /// Who watches; nobody on a machine.
    fn watch(&mut self) -> Option<Box<dyn Watch>> {
        None
    }
}

impl Network for edge_broker::transport::Port {
    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<broker::Input>> {
        Self::poll_recv(self, context)
    }

    fn try_recv(&mut self) -> Option<broker::Input> {
        Self::try_recv(self)
    }

    fn apply(&mut self, effect: broker::Effect) -> Option<broker::Effect> {
        Self::apply(self, effect)
    }
}

impl Committer for store::StoreThread {
    fn submit(&self, batch: Batch) -> Result<(), NotTaken> {
        Self::submit(self, batch)
    }

    fn stop(self: Box<Self>) {
        Self::stop(*self);
    }
}

impl Passwords for crate::auth::thread::AuthThread {
    fn ask(&self, question: Question) -> Result<(), Box<Question>> {
        Self::ask(self, question)
    }
}

impl Crumbs for runtime::Breadcrumbs {
    fn left(&self) -> Vec<Crashed> {
        Self::left(self)
    }

    fn settle(&self) -> io::Result<()> {
        Self::settle(self)
    }
}

impl Link for uplink::Uplink {
    fn say(&self, say: Say) {
        Self::say(self, say);
    }

    fn stop(self: Box<Self>) {
        Self::stop(*self);
    }
}
