//! The world of a gateway process: threads, sockets, files and clocks of this machine.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use edge_broker::transport::{ListenConfig, Listener, Transport, TransportLimits, tls};
use edge_core::op::Event;
use ring::rand::{SecureRandom, SystemRandom};

use super::block_device::SystemBlockDevice;
use super::library::{Folder, Shelf};
use super::prepare::Task;
use super::seams::{
    BlockDevice, Boot, Clocks, Committer, Crumbs, Executor, Link, LinkStart, Network, Passwords,
    Pool, World,
};
use super::start::{RunError, io_error};
use crate::auth::thread::{AuthThread, Question};
use crate::bridge;
use crate::credentials::Credentials;
use crate::identity::Identity;
use crate::runtime::{
    AttemptHook, Breadcrumbs, Compiler, Completion, EngineSettings, Invocation, Runtime, Toolchain,
    Workers,
};
use crate::settings::{Listener as ListenerSettings, Settings};
use crate::store::disk::SystemDisk;
use crate::store::sync_check::SyncLog;
use crate::store::{self, JournalStore, OpenError, StoreThread};
use crate::system_clock;
use crate::tls::TimeFloor;
use crate::uplink::partial::PartialFolder;
use crate::uplink::proxy::{Choice, Environment, Route};
use crate::uplink::rate::Rate;
use crate::uplink::{self, Uplink};

/// Stack of the thread that prepares revisions: `migrate` runs functions on it.
const PREPARE_STACK_BYTES: usize = 4 << 20;

/// This machine, as a gateway of these settings uses it.
pub(super) struct Machine {
    name: String,
    data_dir: PathBuf,
    listeners: Vec<ListenerSettings>,
    credentials: Option<Arc<Credentials>>,
    proxy: Choice,
    time_floor: Arc<TimeFloor>,
    runtime: Arc<Runtime>,
    breadcrumbs: Breadcrumbs,
    /// Bound of the uplink's rate, where the link is metered.
    drain: Option<Rate>,
    attempt_hook: Option<Arc<AttemptHook>>,
    io: tokio::runtime::Handle,
    /// The buses: where their devices call, and how they are.
    buses: (bridge::Dial, bridge::Board),
    transport: Option<Transport>,
    listening: Vec<Listener>,
    addresses: Vec<SocketAddr>,
    sync_log: Option<SyncLog>,
}

impl Machine {
    /// Starts the function runtime and reads what the process before this one left.
    ///
    /// # Errors
    /// See [`RunError`].
    pub(super) fn new(
        settings: &Settings,
        compiler_exe: PathBuf,
        identity: Option<Identity>,
        time_floor: Arc<TimeFloor>,
        attempt_hook: Option<AttemptHook>,
        io: tokio::runtime::Handle,
    ) -> Result<Self, RunError> {
        let data_dir = settings.data_dir.clone();
        let credentials = identity.map(|identity| Credentials::new(identity, &data_dir));
        let credentials = credentials.transpose().map_err(io_error("identity"))?;
        let runtime = runtime(settings, compiler_exe)?;
        let breadcrumbs = Breadcrumbs::open(&data_dir).map_err(io_error("breadcrumbs"))?;
        Ok(Self {
            name: settings.name.clone(),
            data_dir,
            listeners: settings.listeners.clone(),
            credentials,
            proxy: settings.proxy.clone(),
            time_floor,
            runtime: Arc::new(runtime),
            breadcrumbs,
            drain: settings.limits.drain,
            attempt_hook: attempt_hook.map(Arc::new),
            buses: bridge::start(settings, &io),
            io,
            transport: None,
            listening: Vec::new(),
            addresses: Vec::new(),
            sync_log: None,
        })
    }

    /// See [`super::Agent::watch_syncs`].
    pub(super) fn watch_syncs(&mut self, log: SyncLog) {
        self.sync_log = Some(log);
    }

    /// Nobody can connect any more.
    pub(super) fn close_listeners(&mut self) {
        self.buses.0.hang_up();
        self.listening.clear();
        self.transport = None;
    }
}

fn runtime(settings: &Settings, compiler_exe: PathBuf) -> Result<Runtime, RunError> {
    let limits = &settings.limits;
    let compiler = Compiler::Child {
        exe: compiler_exe,
        memory_bytes_max: limits.compile_memory_bytes_max,
        time_max: Duration::from_millis(limits.compile_time_ms_max),
    };
    let cache = settings.data_dir.join("compiled");
    Ok(Runtime::new(EngineSettings::from(limits), compiler, Some(&cache))?)
}

impl World for Machine {
    fn draw(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        let filled = SystemRandom::new().fill(&mut bytes);
        filled.map_err(|_| io::Error::other("none to be had"))?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn clocks(&mut self) -> Box<dyn Clocks> {
        Box::new(SystemClocks::new())
    }

    fn open_store(&mut self, settings: store::Settings) -> Result<store::Opened, OpenError> {
        let dir = self.data_dir.join("store");
        let Some(log) = &self.sync_log else { return store::open(&dir, settings) };
        let disk = SystemDisk::take(&dir).map_err(|source| OpenError::Io {
            step: format!("taking {}", dir.display()),
            source,
        })?;
        store::open_on(log.watch_disk(Arc::new(disk)), settings)
    }

    fn disk_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.data_dir).ok()?;
        Some(disk.f_blocks.saturating_mul(disk.f_frsize))
    }

    fn block_device(&self) -> Option<Box<dyn BlockDevice>> {
        let device = SystemBlockDevice::below(&self.data_dir)?;
        Some(Box::new(device))
    }

    fn committer(
        &mut self,
        store: JournalStore,
        done: Box<dyn FnMut(store::Completion) + Send>,
    ) -> io::Result<Box<dyn Committer>> {
        let thread = match &self.sync_log {
            None => StoreThread::spawn(store, done),
            Some(log) => StoreThread::spawn(log.watch_store(store), done),
        };
        Ok(Box::new(thread?))
    }

    fn network(&mut self, limits: TransportLimits) -> Box<dyn Network> {
        let (transport, port) = Transport::new(limits);
        self.transport = Some(transport);
        Box::new(port)
    }

    fn listen(&mut self) -> Result<Vec<SocketAddr>, RunError> {
        let transport = self.transport.as_ref().expect("invariant: the network is made first");
        let _entered = self.io.enter();
        for (n, settings) in self.listeners.iter().enumerate() {
            // After a store failure the port stays what it was, also where the system chose it.
            let address = self.addresses.get(n).copied().unwrap_or(settings.bind);
            let tls = server_tls(settings, &self.time_floor)?;
            let listener = transport.listen(ListenConfig { address, tls });
            self.listening.push(listener.map_err(io_error(format!("listener {address}")))?);
        }
        self.addresses = self.listening.iter().map(Listener::local_addr).collect();
        self.listening.push(transport.serve(self.buses.0.answer(), bridge::ADDRESS, None));
        Ok(self.addresses.clone())
    }

    fn process_ms(&self) -> Option<u64> {
        system_clock::process_ms()
    }

    fn buses(&self) -> bridge::Board {
        self.buses.1.clone()
    }

    fn slots(&self) -> u16 {
        u16::try_from(self.runtime.settings().slots).unwrap_or(u16::MAX)
    }

    fn pool(&mut self, done: Box<dyn Fn(Completion) + Send + Sync>) -> io::Result<Box<dyn Pool>> {
        let engine = self.runtime.settings();
        let hook = self.attempt_hook.clone();
        let workers = Workers::spawn(
            engine.slots as usize,
            engine.call_stack_bytes,
            Some(self.breadcrumbs.clone()),
            hook.map(|hook| -> AttemptHook { Box::new(move |event: &Event| hook(event)) }),
            done,
        )?;
        Ok(Box::new(WorkerPool { workers, runtime: Arc::clone(&self.runtime) }))
    }

    fn crumbs(&self) -> Box<dyn Crumbs> {
        Box::new(self.breadcrumbs.clone())
    }

    fn toolchain(&self) -> Arc<dyn Toolchain> {
        self.runtime.clone()
    }

    fn shelf(&mut self) -> io::Result<Arc<dyn Shelf>> {
        Ok(Arc::new(Folder::open(&self.data_dir)?))
    }

    fn executor(&mut self) -> io::Result<Box<dyn Executor>> {
        Ok(Box::new(PrepareThread::spawn()?))
    }

    fn passwords(
        &mut self,
        answer: Box<dyn Fn(Question, bool) + Send>,
    ) -> io::Result<Box<dyn Passwords>> {
        Ok(Box::new(AuthThread::spawn(answer)?))
    }

    fn is_managed(&self) -> bool {
        self.credentials.is_some()
    }

    fn link(&mut self, start: LinkStart) -> io::Result<Option<Box<dyn Link>>> {
        let Some(credentials) = &self.credentials else { return Ok(None) };
        let mut endpoint = credentials.endpoint(Arc::clone(&self.time_floor))?;
        endpoint.route = self.proxy.route(&Environment::of_process(), &endpoint.host);
        if let Route::Proxy(proxy) = &endpoint.route {
            tracing::info!(%proxy, "the control plane is dialled through a proxy");
        }
        let setup = uplink::Setup {
            gateway: self.name.clone(),
            version: start.version,
            epoch: start.epoch,
            endpoint,
            credentials: Some(Arc::clone(credentials)),
            streams: start.streams,
            state: start.state,
            seed: start.seed,
            rate: self.drain,
            outbox: start.outbox,
            partial: Box::new(PartialFolder::new(self.data_dir.join("partial"))?),
            heard: start.heard,
        };
        Ok(Some(Box::new(Uplink::spawn(setup)?)))
    }
}

/// The clocks of the system.
pub(super) struct SystemClocks {
    origin: Instant,
}

impl SystemClocks {
    pub(super) fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Clocks for SystemClocks {
    fn mono(&self) -> Duration {
        self.origin.elapsed()
    }

    fn unix_ms(&self) -> u64 {
        system_clock::unix_ms()
    }

    fn disciplined(&self) -> Option<u64> {
        system_clock::disciplined()
    }

    fn boot(&self) -> Option<Boot> {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let id = u64::from_str_radix(id.replace('-', "").get(..16)?, 16).ok()?;
        Some(Boot { id, since_ms: system_clock::uptime_ms()? })
    }
}

struct WorkerPool {
    workers: Workers,
    runtime: Arc<Runtime>,
}

impl Pool for WorkerPool {
    fn submit(&self, invocation: Invocation) -> Result<(), Box<Invocation>> {
        self.workers.submit(invocation)
    }

    /// An attempt that still runs is ended; the run is not counted as a crash.
    fn stop(self: Box<Self>) {
        self.workers.stop_now(&self.runtime);
    }
}

/// The thread that prepares revisions. It ends once its handle is gone and its tasks are done.
struct PrepareThread(Sender<Task>);

impl PrepareThread {
    fn spawn() -> io::Result<Self> {
        let (tasks, queued) = channel::<Task>();
        let builder = std::thread::Builder::new().name("prepare".to_owned());
        builder
            .stack_size(PREPARE_STACK_BYTES)
            .spawn(move || queued.into_iter().for_each(Task::run))?;
        Ok(Self(tasks))
    }
}

impl Executor for PrepareThread {
    fn submit(&self, task: Task) {
        let sent = self.0.send(task).is_ok();
        assert!(sent, "invariant: the thread lives as long as its handle");
    }
}

fn server_tls(
    settings: &ListenerSettings,
    time_floor: &Arc<TimeFloor>,
) -> Result<Option<Arc<rustls::ServerConfig>>, RunError> {
    let Some(files) = &settings.tls else { return Ok(None) };
    let read = |path: &PathBuf| std::fs::read(path).map_err(io_error(path.display().to_string()));
    let ca = files.client_ca.as_ref().map(read).transpose()?;
    let (certificate, key) = (read(&files.certificate)?, read(&files.key)?);
    let config = tls::server_config(tls::TlsSettings {
        cert_chain_pem: &certificate,
        key_pem: &key,
        client_ca_pem: ca.as_deref(),
        allow_tls12: files.tls12,
        record_bytes_max: files.record_bytes_max,
        time: Some(Arc::clone(time_floor) as _),
    });
    let address = settings.bind;
    config.map(Some).map_err(|source| RunError::Tls { address, source })
}
