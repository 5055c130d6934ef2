//! The world of the simulated process: what the gateway hands over waits here until the event heap
//! says that it is done.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use edge_agent::agent::RunError;
use edge_agent::agent::stepped::{
    Clocks, Committer, Crumbs, Executor, Link, LinkStart, Network, Passwords, Pool, Shelf, Task,
    Watch, World,
};
use edge_agent::auth::thread::Question;
use edge_agent::runtime::{Completion, Crashed, Invocation, Toolchain};
use edge_agent::store::{
    self, Batch, JournalStore, NotTaken, OpenError, Opened, Store as _, StoreError,
};
use edge_agent::uplink::Say;
use edge_agent::uplink::partial::Partial;
use edge_broker::transport::TransportLimits;
use edge_core::event::CoreEvent;
use edge_core::id::BatchSeq;
use edge_core::time::Now;
use sync_protocol::id::Digest;

use crate::disk::SimDisk;
use crate::function::Scripts;
use crate::network::SimNetwork;
use crate::oracle::Rows;
use crate::plan::{self, Bounds};
use crate::rng::Rng;
use crate::time::Time;

/// What the gateway has handed over since the last look.
#[derive(Default)]
pub struct Handed {
    /// A batch to commit.
    pub batch: Option<Batch>,
    /// Attempts to run.
    pub invocations: Vec<Invocation>,
    /// Tasks that take long.
    pub tasks: Vec<Task>,
    /// Words for the control plane.
    pub said: Vec<Say>,
    /// What happened in the core.
    pub events: Vec<CoreEvent>,
    /// Calls over the seams.
    pub calls: u32,
}

/// Tells the gateway what came of a batch.
type CommitDone = Box<dyn FnMut(store::Completion) + Send>;

/// The parts that one life of the gateway has.
#[derive(Default)]
pub struct Life {
    store: Option<(JournalStore, CommitDone)>,
    run_done: Option<Box<dyn Fn(Completion) + Send + Sync>>,
    /// The link as it begins, until the simulation takes it.
    pub link: Option<LinkStart>,
    /// The last batch that the start found, and the rows.
    pub found: Option<(BatchSeq, Rows)>,
}

/// The world; clones are the same one.
#[derive(Clone)]
pub struct SimWorld {
    bounds: Bounds,
    time: Time,
    rng: Rc<RefCell<Rng>>,
    disk: SimDisk,
    network: SimNetwork,
    shelf: Arc<SimShelf>,
    handed: Rc<RefCell<Handed>>,
    life: Rc<RefCell<Life>>,
    crashed: Rc<RefCell<Vec<Crashed>>>,
}

impl SimWorld {
    /// A world around these.
    #[must_use]
    pub fn new(bounds: Bounds, time: Time, disk: SimDisk, network: SimNetwork, rng: Rng) -> Self {
        Self {
            bounds,
            time,
            rng: Rc::new(RefCell::new(rng)),
            disk,
            network,
            shelf: Arc::default(),
            handed: Rc::default(),
            life: Rc::default(),
            crashed: Rc::default(),
        }
    }

    /// What was handed over since the last call.
    #[must_use]
    pub fn take_handed(&self) -> Handed {
        std::mem::take(&mut *self.handed.borrow_mut())
    }

    /// The current life's parts.
    #[must_use]
    pub fn life(&self) -> std::cell::RefMut<'_, Life> {
        self.life.borrow_mut()
    }

    /// The life is over: nobody is answered any more.
    pub fn end_life(&self) {
        let life = std::mem::take(&mut *self.life.borrow_mut());
        drop(life);
        drop(self.take_handed());
    }

    /// What the next start is told of the end of this process.
    pub fn leave_crumbs(&self, crashed: Vec<Crashed>) {
        *self.crashed.borrow_mut() = crashed;
    }

    /// Where one life of the gateway keeps what it fetches. It outlives connections, not the
    /// process.
    #[must_use]
    pub fn partial(&self) -> Box<dyn Partial> {
        Box::new(SimPartial { shelf: Arc::clone(&self.shelf), files: BTreeMap::new(), open: None })
    }

    /// Commits a batch and tells the gateway. Returns what came of it, unless the process died in
    /// the middle.
    pub fn commit(&self, batch: &Batch) -> Option<Result<(), StoreError>> {
        let (mut store, mut done) = self.life.borrow_mut().store.take()?;
        let result = store.commit(batch);
        if self.disk.is_dead() {
            return None;
        }
        match &result {
            Ok(()) => {
                done(store::Completion::Committed(batch.seq));
                self.life.borrow_mut().store = Some((store, done));
            }
            Err(error) => {
                drop(store);
                let error = error.clone();
                done(store::Completion::Failed { batch: batch.seq, error });
            }
        }
        Some(result)
    }

    /// A checkpoint at no particular moment. What fails is met by the next commit.
    pub fn checkpoint(&self) {
        if let Some((store, _)) = &mut self.life.borrow_mut().store {
            let _ = store.checkpoint();
        }
    }

    /// Tells the gateway of an attempt.
    pub fn ran(&self, completion: Completion) {
        if let Some(done) = &self.life.borrow().run_done {
            done(completion);
        }
    }
}

impl World for SimWorld {
    fn draw(&mut self) -> io::Result<u64> {
        Ok(self.rng.borrow_mut().draw())
    }

    fn clocks(&mut self) -> Box<dyn Clocks> {
        Box::new(self.time.clone())
    }

    fn open_store(&mut self, settings: store::Settings) -> Result<Opened, OpenError> {
        let settings = store::Settings {
            segment_bytes: plan::SEGMENT_BYTES,
            segments: plan::SEGMENTS,
            checkpoint_bytes: u64::from(plan::SEGMENT_BYTES) * 2,
            cache_bytes: 1 << 20,
            ballast_bytes: plan::BALLAST_BYTES,
            purge_rows_max: 50,
            background: false,
            ..settings
        };
        let opened = store::open_on(self.disk.mount(), settings)?;
        let rows = Rows::read(&opened.reader).map_err(|error| OpenError::Io {
            step: format!("reading all rows: {error}"),
            source: io::Error::other("the disk failed"),
        })?;
        self.life.borrow_mut().found = Some((opened.recovered.last, rows));
        Ok(opened)
    }

    fn disk_bytes(&self) -> Option<u64> {
        Some(self.bounds.disk_bytes)
    }

    fn committer(
        &mut self,
        store: JournalStore,
        done: Box<dyn FnMut(store::Completion) + Send>,
    ) -> io::Result<Box<dyn Committer>> {
        self.life.borrow_mut().store = Some((store, done));
        Ok(Box::new(Part(self.clone())))
    }

    fn network(&mut self, limits: TransportLimits) -> Box<dyn Network> {
        self.network.begin(limits)
    }

    fn listen(&mut self) -> Result<Vec<SocketAddr>, RunError> {
        Ok(Vec::new())
    }

    fn slots(&self) -> u16 {
        plan::WORKERS
    }

    fn pool(&mut self, done: Box<dyn Fn(Completion) + Send + Sync>) -> io::Result<Box<dyn Pool>> {
        self.life.borrow_mut().run_done = Some(done);
        Ok(Box::new(Part(self.clone())))
    }

    fn crumbs(&self) -> Box<dyn Crumbs> {
        Box::new(Part(self.clone()))
    }

    fn toolchain(&self) -> Arc<dyn Toolchain> {
        Arc::new(Scripts)
    }

    fn shelf(&mut self) -> io::Result<Arc<dyn Shelf>> {
        Ok(self.shelf.clone())
    }

    fn executor(&mut self) -> io::Result<Box<dyn Executor>> {
        Ok(Box::new(Part(self.clone())))
    }

    fn passwords(
        &mut self,
        _answer: Box<dyn Fn(Question, bool) + Send>,
    ) -> io::Result<Box<dyn Passwords>> {
        Ok(Box::new(Part(self.clone())))
    }

    fn is_managed(&self) -> bool {
        true
    }

    fn link(&mut self, start: LinkStart) -> io::Result<Option<Box<dyn Link>>> {
        self.life.borrow_mut().link = Some(start);
        Ok(Some(Box::new(Part(self.clone()))))
    }

    fn watch(&mut self) -> Option<Box<dyn Watch>> {
        Some(Box::new(Part(self.clone())))
    }
}

/// The gateway's hold of one of the parts.
struct Part(SimWorld);

impl Part {
    fn handed(&self) -> std::cell::RefMut<'_, Handed> {
        let mut handed = self.0.handed.borrow_mut();
        handed.calls += 1;
        handed
    }
}

impl Committer for Part {
    fn submit(&self, batch: Batch) -> Result<(), NotTaken> {
        if self.0.life.borrow().store.is_none() {
            return Err(NotTaken::Ended(Box::new(batch)));
        }
        let before = self.handed().batch.replace(batch);
        before.map_or(Ok(()), |batch| Err(NotTaken::Busy(Box::new(batch))))
    }

    fn stop(self: Box<Self>) {
        let store = self.0.life.borrow_mut().store.take();
        drop(store);
    }
}

impl Crumbs for Part {
    fn left(&self) -> Vec<Crashed> {
        self.0.crashed.borrow().clone()
    }

    fn settle(&self) -> io::Result<()> {
        self.0.crashed.borrow_mut().clear();
        Ok(())
    }
}

impl Pool for Part {
    fn submit(&self, invocation: Invocation) -> Result<(), Box<Invocation>> {
        self.handed().invocations.push(invocation);
        Ok(())
    }

    fn stop(self: Box<Self>) {
        self.0.life.borrow_mut().run_done = None;
    }
}

impl Executor for Part {
    fn submit(&self, task: Task) {
        self.handed().tasks.push(task);
    }
}

impl Passwords for Part {
    fn ask(&self, question: Question) -> Result<(), Box<Question>> {
        // Devices of the simulation have tokens.
        Err(Box::new(question))
    }
}

impl Link for Part {
    fn say(&self, say: Say) {
        self.handed().said.push(say);
    }

    fn stop(self: Box<Self>) {
        self.0.life.borrow_mut().link = None;
    }
}

impl Watch for Part {
    fn core(&mut self, event: &CoreEvent, _now: Now) {
        self.0.handed.borrow_mut().events.push(event.clone());
    }
}

/// Signed manifests and components. Its files are whole and durable once they are there.
#[derive(Default)]
struct SimShelf(Mutex<Files>);

#[derive(Default)]
struct Files {
    kept: BTreeMap<Digest, Vec<u8>>,
    fetched: BTreeMap<String, Vec<u8>>,
}

impl SimShelf {
    fn files(&self) -> std::sync::MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct SimPartial {
    shelf: Arc<SimShelf>,
    files: BTreeMap<Digest, Vec<u8>>,
    open: Option<Digest>,
}

impl Partial for SimPartial {
    fn open(&mut self, digest: Digest) -> io::Result<u64> {
        self.open = Some(digest);
        Ok(self.files.entry(digest).or_default().len() as u64)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let digest = self.open.expect("invariant: opened before");
        self.files.entry(digest).or_default().extend(bytes);
        Ok(())
    }

    fn complete(&mut self) -> PathBuf {
        let digest = self.open.take().expect("invariant: opened before");
        let bytes = self.files.remove(&digest).unwrap_or_default();
        let path = format!("partial/{digest}");
        self.shelf.files().fetched.insert(path.clone(), bytes);
        path.into()
    }

    fn close(&mut self) {
        self.open = None;
    }
}

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Shelf for SimShelf {
    fn has(&self, digest: Digest) -> bool {
        self.files().kept.contains_key(&digest)
    }

    fn read(&self, digest: Digest) -> io::Result<Vec<u8>> {
        self.files().kept.get(&digest).cloned().ok_or_else(missing)
    }

    fn add(&self, digest: Digest, bytes: &[u8]) -> io::Result<()> {
        self.files().kept.insert(digest, bytes.to_vec());
        Ok(())
    }

    fn remove(&self, digest: Digest) -> io::Result<()> {
        self.files().kept.remove(&digest).map(drop).ok_or_else(missing)
    }

    fn keep_only(&self, keep: &BTreeSet<Digest>) -> io::Result<()> {
        self.files().kept.retain(|digest, _| keep.contains(digest));
        Ok(())
    }

    fn take_fetched(&self, path: &Path) -> io::Result<Vec<u8>> {
        let name = path.to_string_lossy();
        self.files().fetched.remove(&*name).ok_or_else(missing)
    }
}
