//! Opening everything, and the one way back after a failed store.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edge_broker::broker::{Broker, Limits as BrokerLimits, Turn};
use edge_broker::transport::{ListenConfig, Listener, Port, Transport, TransportLimits, tls};
use edge_core::core::{Core, Settings as CoreSettings};
use edge_core::id::{BatchSeq, Epoch};
use edge_core::input::Input as CoreInput;
use edge_core::limits::Limits as CoreLimits;
use edge_core::reconcile::Ledger;
use ring::rand::{SecureRandom, SystemRandom};
use sync_protocol::revision::{AuthorKey, AuthorKeys};
use tokio::sync::mpsc;

use super::access::Access;
use super::clock::Clock;
use super::commit::Commit;
use super::deploy::{Deployments, LEDGER_ROW};
use super::functions::Functions;
use super::gateway::{Ended, Gateway, Work};
use super::inbox::{Inbound, Outlet, inbox};
use super::library::Library;
use super::plant::Plant;
use super::prepare::{PreparedApp, Preparer, Worker};
use super::state::State;
use super::telemetry::Telemetry;
use crate::auth::Accounts;
use crate::control;
use crate::identity::Identity;
use crate::runtime::{Breadcrumbs, Compiler, Crashed, EngineSettings, Runtime, RuntimeError, Workers};
use crate::settings::{Listener as ListenerSettings, Settings};
use crate::store::{self, OpenError, ReadError};
use crate::tls::TimeFloor;
use crate::uplink::{self, Outbox, Uplink};

/// Waits between attempts to open a store that failed.
const REOPEN_WAITS: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
];

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory, a certificate or a thread.
    #[error("{what}: {source}")]
    Io {
        /// Which.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The store.
    #[error("store: {0}")]
    Store(#[from] OpenError),
    /// The store's rows.
    #[error("store: {0}")]
    Rows(#[from] ReadError),
    /// The function runtime.
    #[error("{0}")]
    Runtime(#[from] RuntimeError),
    /// A TLS listener.
    #[error("listener {address}: {source}")]
    Tls {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: tls::TlsError,
    },
    /// An author key of the configuration.
    #[error("author key {0:?} is none")]
    AuthorKey(String),
    /// The identity belongs to another gateway.
    #[error(
        "this data directory is enrolled as {enrolled:?}, the configuration names {configured:?}"
    )]
    OtherName {
        /// In the certificate.
        enrolled: String,
        /// In the configuration.
        configured: String,
    },
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> RunError {
    let what = what.into();
    move |source| RunError::Io { what, source }
}

/// A gateway process.
pub struct Agent {
    settings: Settings,
    identity: Option<Identity>,
    authors: AuthorKeys,
    runtime: Arc<Runtime>,
    breadcrumbs: Breadcrumbs,
    crashed: Vec<Crashed>,
    time_floor: Arc<TimeFloor>,
    outlet: Outlet,
    inbox: mpsc::UnboundedReceiver<Inbound>,
    io: tokio::runtime::Handle,
    addresses: Vec<SocketAddr>,
    next_attempt: u64,
}

/// Tells a running agent to stop.
#[derive(Clone, Debug)]
pub struct Stopper(Outlet);

impl Stopper {
    /// Stop gracefully: finish or persist what is in work, sync, exit.
    pub fn stop(&self) {
        self.0.tell(Inbound::Stop);
    }
}

impl Agent {
    /// Prepares everything that outlives a store failure. `io` runs sockets; the loop runs on the
    /// thread that calls [`Agent::run`].
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn new(
        settings: Settings,
        compiler_exe: PathBuf,
        io: tokio::runtime::Handle,
    ) -> Result<Self, RunError> {
        let data_dir = settings.data_dir.clone();
        std::fs::create_dir_all(&data_dir).map_err(io_error(data_dir.display().to_string()))?;
        let identity = Identity::load(&data_dir).map_err(io_error("identity"))?;
        if let Some(identity) = &identity
            && identity.gateway != settings.name
        {
            let (enrolled, configured) = (identity.gateway.clone(), settings.name.clone());
            return Err(RunError::OtherName { enrolled, configured });
        }
        let authors = author_keys(&settings, identity.as_ref())?;
        let engine = EngineSettings {
            function_memory_bytes_max: settings.limits.function_memory_bytes_max,
            ..EngineSettings::default()
        };
        let engine = match settings.limits.workers.and_then(|n| u32::try_from(n).ok()) {
            Some(slots) => EngineSettings { slots, ..engine },
            None => engine,
        };
        let cache = data_dir.join("compiled");
        let runtime = Runtime::new(engine, Compiler::child(compiler_exe), Some(&cache))?;
        let (breadcrumbs, crashed) = Breadcrumbs::open(&data_dir).map_err(io_error("breadcrumbs"))?;
        let (outlet, inbox) = inbox();
        Ok(Self {
            settings,
            identity,
            authors,
            runtime: Arc::new(runtime),
            breadcrumbs,
            crashed,
            time_floor: TimeFloor::new(0),
            outlet,
            inbox,
            io,
            addresses: Vec::new(),
            next_attempt: 1,
        })
    }

    /// Stops the agent from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(self.outlet.clone())
    }

    /// Runs on the calling thread until stopped.
    ///
    /// # Errors
    /// It cannot start. Once it runs, a failed store is opened again until that works.
    pub fn run(mut self) -> Result<(), RunError> {
        let socket = self.settings.control_socket.clone();
        let what = format!("control socket {}", socket.display());
        let entered = self.io.enter();
        let listener = control::bind(&socket).map_err(io_error(what))?;
        drop(entered);
        let outlet = self.outlet.clone();
        let serving = self.io.spawn(control::serve(listener, move |asked| {
            outlet.tell(Inbound::Asked(asked));
        }));
        let own = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(io_error("loop"))?;
        let ended = self.live(&own);
        serving.abort();
        // A leftover socket is replaced at the next start.
        let _ = std::fs::remove_file(&socket);
        ended
    }

    fn live(&mut self, own: &tokio::runtime::Runtime) -> Result<(), RunError> {
        let mut failures = 0;
        loop {
            let built = self.build();
            let (gateway, listeners) = match built {
                Ok(built) => built,
                Err(error) if failures == 0 => return Err(error),
                Err(error) => {
                    let wait = REOPEN_WAITS[failures.min(REOPEN_WAITS.len()) - 1];
                    tracing::error!(%error, ?wait, "cannot start again yet");
                    failures += 1;
                    if own.block_on(self.wait_or_stop(wait)) {
                        return Ok(());
                    }
                    continue;
                }
            };
            let ended = own.block_on(gateway.run(&mut self.inbox));
            drop(listeners);
            match ended {
                Ended::Stopped => return Ok(()),
                Ended::StoreFailed { error, next_attempt } => {
                    tracing::error!(%error, "the store failed: everything is rebuilt from it");
                    self.next_attempt = next_attempt;
                    failures = failures.max(1);
                    if own.block_on(self.wait_or_stop(REOPEN_WAITS[0])) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Waits; what arrives meanwhile belongs to the life before, but for a stop.
    async fn wait_or_stop(&mut self, wait: Duration) -> bool {
        let stopped = async {
            loop {
                if let Some(Inbound::Stop) | None = self.inbox.recv().await {
                    return;
                }
            }
        };
        tokio::time::timeout(wait, stopped).await.is_ok()
    }

    fn build(&mut self) -> Result<(Gateway, Vec<Listener>), RunError> {
        let random = SystemRandom::new();
        let draw = || {
            let mut bytes = [0; 8];
            let filled = random.fill(&mut bytes);
            filled.map_err(|_| io_error("randomness")(io::Error::other("none to be had")))?;
            Ok::<_, RunError>(u64::from_le_bytes(bytes))
        };
        let opened = self.open_store(draw()?)?;
        let reader = opened.reader;
        let recovered = opened.recovered;
        tracing::info!(last = recovered.last.0, replayed = recovered.replayed_batches,
            torn_bytes = recovered.torn_bytes, created = recovered.created, "store is open");
        let mut clock = Clock::start(recovered.gateway_time);
        let now = clock.now();
        let epoch = Epoch(draw()?);
        let core = self.core(epoch, reader.core_rows()?);
        let outlet = self.outlet.clone();
        let thread = store::StoreThread::spawn(opened.store, move |completion| {
            outlet.tell(Inbound::Store(completion));
        });
        let thread = thread.map_err(io_error("store thread"))?;
        let (port, transport, broker, broker_effects) =
            self.broker(draw()?, reader.broker_rows()?, now);
        let state = Arc::new(State::new(reader.clone()));
        let functions = self.functions(Arc::clone(&state))?;
        let (deployments, apps) = self.deployments(&reader, Arc::clone(&state))?;
        let accounts = Accounts::new(&self.settings)
            .map_err(|_| io_error("randomness")(io::Error::other("none to be had")))?;
        let access =
            Access::start(accounts, self.outlet.clone()).map_err(io_error("auth thread"))?;
        let mut gateway = Gateway {
            name: self.settings.name.clone(),
            epoch,
            listeners: Vec::new(),
            link: Default::default(),
            clock,
            now,
            broker,
            core,
            port,
            commit: Commit::new(recovered.last, opened.overlay, thread),
            reader,
            state,
            deliveries: Default::default(),
            functions,
            deployments,
            access,
            uplink: None,
            time_floor: Arc::clone(&self.time_floor),
            telemetry: Telemetry::default(),
            work: broker_effects.into_iter().map(Work::Broker).collect(),
            grown: Default::default(),
            plant: Plant::from_environment(),
            stopping: false,
            idle: false,
            failed: None,
        };
        gateway.begin(apps, std::mem::take(&mut self.crashed));
        gateway.uplink = self.uplink(&gateway, draw()?)?;
        gateway.resume_deployments();
        gateway.carry_out();
        let listeners = self.listen(&transport)?;
        self.addresses = listeners.iter().map(Listener::local_addr).collect();
        gateway.listeners = self.addresses.iter().map(ToString::to_string).collect();
        tracing::info!(gateway = self.settings.name, listeners = ?gateway.listeners, "ready");
        Ok((gateway, listeners))
    }

    fn open_store(&self, new_store_id: u64) -> Result<store::Opened, RunError> {
        let settings = store::Settings {
            store_bytes_max: self.settings.limits.store_bytes_max,
            new_store_id,
            ..store::Settings::default()
        };
        Ok(store::open(&self.settings.data_dir.join("store"), settings)?)
    }

    fn core(&self, epoch: Epoch, rows: edge_core::core::Rows) -> Core {
        let limits = &self.settings.limits;
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let outbox_bytes_max = limits.outbox_bytes_max.unwrap_or_else(|| default_outbox(&self.settings));
        Core::restore(
            CoreSettings {
                limits: CoreLimits {
                    queue_jobs_max: narrow(limits.queue_jobs_max),
                    queue_bytes_max: limits.queue_bytes_max as u64,
                    outbox_bytes_max,
                    ..CoreLimits::default()
                },
                epoch,
                worker_slots: u16::try_from(self.runtime.settings().slots).unwrap_or(u16::MAX),
                first_attempt: self.next_attempt,
                safe_mode: false,
            },
            rows,
        )
    }

    fn broker(
        &self,
        seed: u64,
        rows: Vec<edge_broker::broker::BrokerOp>,
        now: edge_core::time::Now,
    ) -> (Port, Transport, Broker, Vec<edge_broker::broker::Effect>) {
        let limits = BrokerLimits {
            message_bytes_max: self.settings.limits.message_bytes_max,
            connections_max: self.settings.limits.connections_max,
            ..BrokerLimits::default()
        };
        let transport_limits = TransportLimits {
            packet_bytes_max: limits.packet_bytes_max(),
            ..TransportLimits::default()
        };
        let (transport, port) = Transport::new(transport_limits);
        let mut effects = Vec::new();
        let mut turn = Turn { now, open: BatchSeq(1), effects: &mut effects };
        let broker = Broker::restore(limits, seed, rows, &mut turn);
        (port, transport, broker, effects)
    }

    fn functions(&self, state: Arc<State>) -> Result<Functions, RunError> {
        let engine = self.runtime.settings();
        let outlet = self.outlet.clone();
        let workers = Workers::spawn(
            engine.slots as usize,
            engine.call_stack_bytes,
            Some(self.breadcrumbs.clone()),
            move |done| outlet.tell(Inbound::Function(done)),
        );
        let workers = workers.map_err(io_error("function workers"))?;
        Ok(Functions::new(workers, state, self.outlet.clone()))
    }

    /// The ledger's live and good revisions are made ready before anything runs.
    fn deployments(
        &self,
        reader: &store::Reader,
        state: Arc<State>,
    ) -> Result<(Deployments, Vec<PreparedApp>), RunError> {
        let ledger = match reader.ledger_get(LEDGER_ROW)? {
            Some(row) => postcard::from_bytes(&row).map_err(|_| {
                io_error("deployment ledger")(io::Error::other("it is not of this version"))
            })?,
            None => Ledger::default(),
        };
        let library = Library::open(&self.settings.data_dir).map_err(io_error("library"))?;
        let worker = Worker {
            runtime: Arc::clone(&self.runtime),
            library: library.clone(),
            authors: self.authors.clone(),
            state,
        };
        let mut apps = Vec::new();
        for (name, app) in &ledger.apps {
            let good = app.good.iter().filter(|good| Some(*good) != app.live.as_ref());
            for revision in app.live.iter().chain(good) {
                match worker.ready(super::deploy::foreign(revision.digest)) {
                    Ok(app) => apps.push(app),
                    Err(error) => {
                        tracing::error!(app = name, revision = %revision.digest, error, "not ready");
                    }
                }
            }
        }
        let preparer = Preparer::spawn(worker, self.outlet.clone());
        let preparer = preparer.map_err(io_error("preparer"))?;
        let managed = self.identity.is_some();
        let deployments = Deployments::new(ledger, apps.clone(), library, preparer, managed);
        Ok((deployments, apps))
    }

    fn uplink(&self, gateway: &Gateway, seed: u64) -> Result<Option<Uplink>, RunError> {
        let Some(identity) = &self.identity else { return Ok(None) };
        let endpoint = identity.endpoint(Arc::clone(&self.time_floor)).map_err(io_error("uplink"))?;
        let status = gateway.core.status(gateway.now);
        let streams = edge_core::id::StreamId::ALL.iter().map(|stream| {
            let known = status.outbox.iter().find(|row| row.stream == *stream);
            (stream.0, known.map_or(0, |row| row.stored_to.0), known.map_or(0, |row| row.newest.0))
        });
        let setup = uplink::Setup {
            gateway: self.settings.name.clone(),
            epoch: gateway.epoch.0,
            endpoint,
            streams: streams.collect(),
            state: super::report::state(&gateway.deployments.reconciler),
            partial_dir: self.settings.data_dir.join("partial"),
            seed,
        };
        let outlet = self.outlet.clone();
        let outbox = StoreOutbox(gateway.reader.clone());
        let heard = move |heard| outlet.tell(Inbound::Uplink(heard));
        Uplink::spawn(setup, outbox, heard).map(Some).map_err(io_error("uplink"))
    }

    fn listen(&self, transport: &Transport) -> Result<Vec<Listener>, RunError> {
        let _entered = self.io.enter();
        let mut listeners = Vec::with_capacity(self.settings.listeners.len());
        for (n, settings) in self.settings.listeners.iter().enumerate() {
            // After a store failure the port stays what it was, also where the system chose it.
            let address = self.addresses.get(n).copied().unwrap_or(settings.bind);
            let tls = server_tls(settings, &self.time_floor)?;
            let config = ListenConfig { address, tls };
            let listener = transport.listen(config);
            listeners.push(listener.map_err(io_error(format!("listener {address}")))?);
        }
        Ok(listeners)
    }
}

struct StoreOutbox(store::Reader);

impl Outbox for StoreOutbox {
    fn read(
        &self,
        stream: u8,
        from: u64,
        to: u64,
        bytes_max: usize,
    ) -> io::Result<Vec<edge_core::op::OutboxRecord>> {
        const ROWS_MAX: usize = sync_protocol::limits::RECORDS_PER_MESSAGE_MAX;
        let (stream, from) = (edge_core::id::StreamId(stream), edge_core::id::RecordSeq(from));
        let mut records =
            self.0.outbox_read(stream, from, ROWS_MAX, bytes_max).map_err(io::Error::other)?;
        records.retain(|record| record.seq.0 <= to);
        Ok(records)
    }
}

impl Gateway {
    /// Brings the core to where it may take inputs.
    fn begin(&mut self, apps: Vec<PreparedApp>, crashed: Vec<Crashed>) {
        let ledger = self.deployments.reconciler.ledger().clone();
        for app in apps {
            for prepared in &app.functions {
                self.functions.add(Arc::clone(prepared));
            }
            let entry = ledger.apps.get(&app.release.app);
            let is_live = |entry: &&edge_core::reconcile::AppLedger| {
                entry.live.as_ref().is_some_and(|live| live.digest == app.release.revision)
            };
            let Some(entry) = entry.filter(is_live) else { continue };
            let probation = entry.on_probation.then_some(super::deploy::PROBATION);
            self.with_core(CoreInput::Activate { release: app.release, probation });
        }
        for crash in crashed {
            let Crashed { job, event, run, function, .. } = crash;
            tracing::warn!(%function, %event, run, "the process died during an attempt");
            self.with_core(CoreInput::Crashed { job, event, run });
        }
        self.with_core(CoreInput::Started);
        self.carry_out();
    }
}

fn author_keys(settings: &Settings, identity: Option<&Identity>) -> Result<AuthorKeys, RunError> {
    let configured = settings.author_keys.iter().map(|text| {
        let key = text.parse::<AuthorKey>();
        key.map_err(|_| RunError::AuthorKey(text.clone()))
    });
    let configured = configured.collect::<Result<Vec<_>, _>>()?;
    let pinned = identity.map(|identity| identity.enrolled.author_keys.clone());
    Ok(configured.into_iter().chain(pinned.unwrap_or_default()).collect())
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
        time: Some(Arc::clone(time_floor) as _),
    });
    let address = settings.bind;
    config.map(Some).map_err(|source| RunError::Tls { address, source })
}

/// 1 GiB or a tenth of the disk, whichever is less.
fn default_outbox(settings: &Settings) -> u64 {
    const MOST: u64 = 1 << 30;
    let Ok(disk) = rustix::fs::statvfs(&settings.data_dir) else { return MOST };
    MOST.min(disk.f_blocks.saturating_mul(disk.f_frsize) / 10)
}
