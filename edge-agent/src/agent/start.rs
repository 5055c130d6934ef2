//! Opening everything, and the one way back after a failed store.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use edge_broker::transport::{Listener, tls};
use edge_core::effect::Pace;
use edge_core::id::Epoch;
use edge_core::input::{Crumb, Input as CoreInput};
use ring::rand::{SecureRandom, SystemRandom};
use sync_protocol::revision::{AuthorKey, AuthorKeys};
use tokio::sync::mpsc;

use super::access::Access;
use super::clock::Clock;
use super::commit::Commit;
use super::gateway::{Ended, Gateway, Work};
use super::inbox::{Inbound, Outlet, inbox};
use super::lives::Lives;
use super::plant::Plant;
use super::prepare::PreparedApp;
use super::state::State;
use super::telemetry::Telemetry;
use super::wear::Wear;
use crate::auth::Accounts;
use crate::control;
use crate::identity::Identity;
use crate::runtime::{Breadcrumbs, Compiler, Crashed, EngineSettings, Runtime, RuntimeError};
use crate::settings::Settings;
use crate::store::sync_check::SyncLog;
use crate::store::{self, OpenError, ReadError};
use crate::tls::TimeFloor;

mod parts;

/// Waits between attempts to open a store that failed.
const REOPEN_WAITS: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
];

/// After so long a failed store counts as the first failure.
const LIVED_WELL: Duration = Duration::from_secs(60);

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
    lives: Arc<Mutex<Lives>>,
    time_floor: Arc<TimeFloor>,
    outlet: Outlet,
    inbox: mpsc::UnboundedReceiver<Inbound>,
    io: tokio::runtime::Handle,
    addresses: Vec<SocketAddr>,
    next_attempt: u64,
    plant: Plant,
    sync_log: Option<SyncLog>,
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
            call_stack_bytes: settings.limits.call_stack_bytes,
            ..EngineSettings::default()
        };
        let engine = match settings.limits.workers.and_then(|n| u32::try_from(n).ok()) {
            Some(slots) => EngineSettings { slots, ..engine },
            None => engine,
        };
        let cache = data_dir.join("compiled");
        let compiler = Compiler::Child {
            exe: compiler_exe,
            memory_bytes_max: settings.limits.compile_memory_bytes_max,
            time_max: Duration::from_millis(settings.limits.compile_time_ms_max),
        };
        let runtime = Runtime::new(engine, compiler, Some(&cache))?;
        let breadcrumbs = Breadcrumbs::open(&data_dir).map_err(io_error("breadcrumbs"))?;
        let lives = Lives::open(&data_dir, settings.safe_mode_after);
        let lives = Arc::new(Mutex::new(lives.map_err(io_error("count of crashes"))?));
        let (outlet, inbox) = inbox();
        Ok(Self {
            settings,
            identity,
            authors,
            runtime: Arc::new(runtime),
            breadcrumbs,
            lives,
            time_floor: TimeFloor::new(0),
            outlet,
            inbox,
            io,
            addresses: Vec::new(),
            next_attempt: 1,
            plant: Plant::from_environment(),
            sync_log: None,
        })
    }

    /// For tests: what the store's disk was really asked to keep is noted in `log`, and a commit
    /// that returns without a sync fails.
    pub fn watch_syncs(&mut self, log: SyncLog) {
        self.sync_log = Some(log);
    }

    fn lives(&self) -> MutexGuard<'_, Lives> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
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
        // No other process answers there: this one is the next life of the data directory.
        self.lives().begin();
        let outlet = self.outlet.clone();
        let serving = self.io.spawn(control::serve(listener, move |asked| {
            outlet.tell(Inbound::Asked(asked));
        }));
        let own = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(io_error("loop"))?;
        let ended = self.live(&own);
        self.lives().end();
        serving.abort();
        // A leftover socket is replaced at the next start.
        let _ = std::fs::remove_file(&socket);
        ended
    }

    fn live(&mut self, own: &tokio::runtime::Runtime) -> Result<(), RunError> {
        let mut failures = 0;
        let mut stand_in = None;
        loop {
            let opened = draw().and_then(|id| self.open_store(id));
            // The stand-in gives the ports back; its sockets close beside this.
            if opened.is_ok()
                && stand_in.take().is_some()
                && own.block_on(self.wait_or_stop(REOPEN_WAITS[0], "it is starting again"))
            {
                return Ok(());
            }
            let built = opened.and_then(|opened| self.build(opened));
            let (gateway, listeners) = match built {
                Ok(built) => built,
                Err(error) if failures == 0 => return Err(error),
                Err(error) => {
                    let wait = REOPEN_WAITS[failures.min(REOPEN_WAITS.len()) - 1];
                    tracing::error!(%error, ?wait, "cannot start again yet");
                    failures += 1;
                    let why = error.to_string();
                    stand_in = stand_in.or_else(|| self.stand_in());
                    let stopped = match &mut stand_in {
                        Some(serving) => own.block_on(serving.serve(wait, &why, &mut self.inbox)),
                        None => own.block_on(self.wait_or_stop(wait, &why)),
                    };
                    if stopped {
                        return Ok(());
                    }
                    continue;
                }
            };
            let began = Instant::now();
            let ended = own.block_on(gateway.run(&mut self.inbox));
            drop(listeners);
            match ended {
                Ended::Stopped => return Ok(()),
                Ended::StoreFailed { error, stopping: true, .. } => {
                    tracing::error!(%error, "the store failed at the stop: what was acked is in it");
                    return Ok(());
                }
                Ended::StoreFailed { error, next_attempt, stopping: false } => {
                    tracing::error!(%error, "the store failed: everything is rebuilt from it");
                    self.next_attempt = next_attempt;
                    // One that opens and fails again at once must not be opened all the time.
                    failures = if began.elapsed() < LIVED_WELL { failures + 1 } else { 1 };
                    let wait = REOPEN_WAITS[failures.min(REOPEN_WAITS.len()) - 1];
                    if own.block_on(self.wait_or_stop(wait, &error.to_string())) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Waits; what arrives meanwhile belongs to the life before, but for a stop, and for questions:
    /// whoever asks is told why there is no answer.
    async fn wait_or_stop(&mut self, wait: Duration, why: &str) -> bool {
        let stopped = async {
            loop {
                match self.inbox.recv().await {
                    Some(Inbound::Stop) | None => return,
                    Some(Inbound::Asked(asked)) => {
                        let answer =
                            format!("the gateway is down and tries again by itself: {why}");
                        // A client that left is no error.
                        let _ = asked.answer.send(Err(answer));
                    }
                    Some(_) => {}
                }
            }
        };
        tokio::time::timeout(wait, stopped).await.is_ok()
    }

    fn build(&mut self, opened: store::Opened) -> Result<(Gateway, Vec<Listener>), RunError> {
        let reader = opened.reader;
        let recovered = opened.recovered;
        tracing::info!(
            last = recovered.last.0,
            replayed = recovered.replayed_batches,
            torn_bytes = recovered.torn_bytes,
            created = recovered.created,
            "store is open"
        );
        let mut clock = Clock::start(recovered.gateway_time);
        let now = clock.now();
        let epoch = Epoch(draw()?);
        let core = self.core(epoch, reader.core_rows()?);
        let outlet = self.outlet.clone();
        let complete = move |completion| outlet.tell(Inbound::Store(completion));
        let thread = match &self.sync_log {
            None => store::StoreThread::spawn(opened.store, complete),
            Some(log) => store::StoreThread::spawn(log.watch_store(opened.store), complete),
        };
        let thread = thread.map_err(io_error("store thread"))?;
        let (port, transport, broker, broker_effects) =
            self.broker(draw()?, reader.broker_rows()?, now);
        let wear = Wear::load(&reader, now.at)?;
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
            commit: Commit::new(recovered.last, opened.overlay, thread, self.plant.clone()),
            reader,
            state,
            deliveries: Default::default(),
            room: Default::default(),
            functions,
            deployments,
            access,
            uplink: None,
            time_floor: Arc::clone(&self.time_floor),
            telemetry: Telemetry::default(),
            wear,
            work: broker_effects.into_iter().map(Work::Broker).collect(),
            grown: Default::default(),
            plant: self.plant.clone(),
            finished: Default::default(),
            alone: None,
            breadcrumbs: self.breadcrumbs.clone(),
            counting: None,
            lives: Arc::clone(&self.lives),
            answers: Default::default(),
            turns: Default::default(),
            stop_by: None,
            idle: false,
            failed: None,
        };
        gateway.begin(apps);
        gateway.uplink = self.uplink(&gateway, draw()?)?;
        gateway.resume_deployments();
        gateway.carry_out();
        let listeners = self.listen(&transport)?;
        self.addresses = listeners.iter().map(Listener::local_addr).collect();
        gateway.listeners = self.addresses.iter().map(ToString::to_string).collect();
        tracing::info!(gateway = self.settings.name, listeners = ?gateway.listeners, "ready");
        Ok((gateway, listeners))
    }
}

impl Gateway {
    /// Brings the core to where it may take inputs.
    fn begin(&mut self, apps: Vec<PreparedApp>) {
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
        self.begin_life();
        let crashed = self.breadcrumbs.left();
        let (alone, none) = (crashed.len() == 1, crashed.is_empty());
        for crash in crashed {
            let Crashed { job, event, run, function, likeness, .. } = crash;
            tracing::warn!(%function, %event, run, alone, "the process died during an attempt");
            let crumb = Crumb { job, event, run, function, likeness, alone };
            self.with_core(CoreInput::Crashed(crumb));
        }
        self.carry_out();
        if none {
            self.start_functions();
        } else {
            // What is known of the crash must not depend on the next one.
            self.commit.awaited(Pace::Prompt, self.now.at);
            self.counting = Some(self.commit.open());
        }
    }

    /// The crashes before are counted, durably: attempts may start.
    pub(super) fn start_functions(&mut self) {
        if let Err(error) = self.breadcrumbs.settle() {
            tracing::warn!(%error, "crashes may be counted once more");
        }
        self.with_core(CoreInput::Started);
        self.carry_out();
    }
}

/// 64 random bits.
fn draw() -> Result<u64, RunError> {
    let mut bytes = [0; 8];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| io_error("randomness")(io::Error::other("none to be had")))?;
    Ok(u64::from_le_bytes(bytes))
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
