//! The gateway process: everything that outlives a store failure, and the one way back after one.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use edge_broker::transport::tls;
use sync_protocol::revision::{AuthorKey, AuthorKeys};
use tokio::sync::{mpsc, oneshot};

use super::blueprint::Blueprint;
use super::gateway::Ended;
use super::inbox::{Inbound, Outlet, inbox};
use super::lives::Lives;
use super::machine::Machine;
use super::plant::Plant;
use crate::backup::{self, BackupError};
use crate::control;
use crate::identity::Identity;
use crate::last_errors::LastErrors;
use crate::launch::Launched;
use crate::runtime::RuntimeError;
use crate::settings::Settings;
use crate::store::sync_check::SyncLog;
use crate::store::{OpenError, ReadError};
use crate::supervisor::Supervisor;
use crate::system::OnImage;
use crate::tls::TimeFloor;

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
    /// A reset that was cut off.
    #[error("a reset was cut off, and cannot be finished: {0}")]
    Reset(#[from] BackupError),
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

pub(super) fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> RunError {
    let what = what.into();
    move |source| RunError::Io { what, source }
}

/// A gateway process.
pub struct Agent {
    blueprint: Blueprint,
    machine: Machine,
    inbox: mpsc::UnboundedReceiver<Inbound>,
    io: tokio::runtime::Handle,
    supervisor: Supervisor,
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

/// Asks a running agent whether its loop turns.
#[derive(Clone, Debug)]
pub struct Pulse(Outlet);

impl Pulse {
    /// Waits until the loop has answered, however long; false where there is none any more.
    pub async fn feel(&self) -> bool {
        let (beat, felt) = oneshot::channel();
        self.0.tell(Inbound::Beat(beat));
        felt.await.is_ok()
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
        if let Some(done) = backup::finish_reset(&data_dir)? {
            let (deleted, identity_stays) = (done.deleted.join(", "), done.identity_stays);
            tracing::warn!(deleted, identity_stays, "a reset that was cut off is finished");
        }
        let identity = Identity::load(&data_dir).map_err(io_error("identity"))?;
        if let Some(identity) = &identity
            && identity.gateway != settings.name
        {
            let (enrolled, configured) = (identity.gateway.clone(), settings.name.clone());
            return Err(RunError::OtherName { enrolled, configured });
        }
        let authors = author_keys(&settings, identity.as_ref())?;
        let lives = Lives::open(&data_dir, settings.safe_mode_after);
        let lives = Arc::new(Mutex::new(lives.map_err(io_error("count of crashes"))?));
        let (outlet, inbox) = inbox();
        let time_floor = TimeFloor::new(0);
        let enrolment = identity.as_ref().map(Identity::enrolment);
        let plant = Plant::from_environment();
        let machine = Machine::new(
            &settings,
            compiler_exe,
            identity,
            time_floor.clone(),
            plant.attempt_hook(),
            io.clone(),
        )?;
        let blueprint = Blueprint {
            settings,
            authors,
            time_floor,
            enrolment,
            outlet,
            next_attempt: 1,
            plant,
            lives,
            launched: None,
            image: OnImage::from_environment(&data_dir),
            errors: LastErrors::default(),
        };
        Ok(Self { blueprint, machine, inbox, io, supervisor: Supervisor::nobody() })
    }

    /// Tells `supervisor` how the loop is from now on; without it nobody is told.
    pub fn supervised_by(&mut self, supervisor: Supervisor) {
        self.supervisor = supervisor;
    }

    /// Its status shows these from now on: a layer of the log keeps them.
    pub fn shows_errors(&mut self, errors: LastErrors) {
        self.blueprint.errors = errors;
    }

    /// For tests: what the store's disk was really asked to keep is noted in `log`, and a commit
    /// that returns without a sync fails.
    pub fn watch_syncs(&mut self, log: SyncLog) {
        self.machine.watch_syncs(log);
    }

    /// The agent runs from a slot, and may update itself. Ends of another program, and of an update on
    /// trial, are not held against it.
    ///
    /// # Errors
    /// The state of the slots cannot be read.
    pub fn launched_by(&mut self, launched: Launched) -> Result<(), RunError> {
        let state = launched.state().map_err(io_error("state of the slots"))?;
        let slot = launched.slot();
        if let Some(program) = state.program(slot) {
            let on_trial = state.on_trial() == Some(slot);
            self.blueprint.lives().run_by(program.digest, on_trial);
        }
        self.blueprint.launched = Some(launched);
        Ok(())
    }

    /// Feels whether the loop turns.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        Pulse(self.blueprint.outlet.clone())
    }

    /// Stops the agent from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(self.blueprint.outlet.clone())
    }

    /// Runs on the calling thread until stopped.
    ///
    /// # Errors
    /// It cannot start. Once it runs, a failed store is opened again until that works.
    pub fn run(mut self) -> Result<(), RunError> {
        let socket = self.blueprint.settings.control_socket.clone();
        let what = format!("control socket {}", socket.display());
        let entered = self.io.enter();
        let listener = control::bind(&socket).map_err(io_error(what))?;
        drop(entered);
        // No other process answers there: this one is the next life of the data directory.
        self.blueprint.lives().begin();
        self.blueprint.plant.starts();
        let outlet = self.blueprint.outlet.clone();
        let serving = self.io.spawn(control::serve(listener, move |asked| {
            outlet.tell(Inbound::Asked(asked));
        }));
        let own = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(io_error("loop"))?;
        let ended = self.live(&own);
        self.blueprint.lives().end();
        serving.abort();
        // A leftover socket is replaced at the next start.
        let _ = std::fs::remove_file(&socket);
        ended
    }

    fn live(&mut self, own: &tokio::runtime::Runtime) -> Result<(), RunError> {
        let mut failures = 0;
        let mut stand_in = None;
        loop {
            let opened = self.blueprint.open_store(&mut self.machine);
            // The stand-in gives the ports back; its sockets close beside this.
            if opened.is_ok() && stand_in.take().is_some() {
                self.machine.close_listeners();
                if own.block_on(self.wait_or_stop(REOPEN_WAITS[0], "it is starting again")) {
                    return Ok(());
                }
            }
            let built = opened.and_then(|opened| self.blueprint.build(&mut self.machine, opened));
            let gateway = match built {
                Ok(gateway) => gateway,
                Err(error) if failures == 0 || self.blueprint.is_on_trial() => return Err(error),
                Err(error) => {
                    let wait = REOPEN_WAITS[failures.min(REOPEN_WAITS.len()) - 1];
                    tracing::error!(%error, ?wait, "cannot start again yet");
                    failures += 1;
                    let why = error.to_string();
                    if stand_in.is_none() {
                        self.machine.close_listeners();
                        stand_in = self.blueprint.stand_in(&mut self.machine);
                    }
                    let stopped = match &mut stand_in {
                        Some(serving) => {
                            let (inbox, supervisor) = (&mut self.inbox, &mut self.supervisor);
                            own.block_on(serving.serve(wait, &why, inbox, supervisor))
                        }
                        None => own.block_on(self.wait_or_stop(wait, &why)),
                    };
                    if stopped {
                        return Ok(());
                    }
                    continue;
                }
            };
            let began = Instant::now();
            let ended = own.block_on(gateway.run(&mut self.inbox, &mut self.supervisor));
            self.machine.close_listeners();
            match ended {
                Ended::Stopped => return Ok(()),
                Ended::StoreFailed { error, stopping: true, .. } => {
                    tracing::error!(%error, "the store failed at the stop: what was acked is in it");
                    return Ok(());
                }
                Ended::StoreFailed { error, .. } if self.blueprint.is_on_trial() => {
                    // Whether the disk or the update is to blame, the agent before it finds out.
                    let what = "the store failed while this agent is on trial";
                    return Err(io_error(what)(io::Error::other(error)));
                }
                Ended::StoreFailed { error, next_attempt, stopping: false } => {
                    tracing::error!(%error, "the store failed: everything is rebuilt from it");
                    self.blueprint.next_attempt = next_attempt;
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
        let until = Instant::now() + wait;
        loop {
            let Some(wait) = self.supervisor.beat_until(Instant::now(), until) else {
                return false;
            };
            match tokio::time::timeout(wait, self.inbox.recv()).await {
                Ok(Some(Inbound::Stop) | None) => return true,
                Ok(Some(Inbound::Beat(beat))) => {
                    // Whoever left wants to know nothing.
                    let _ = beat.send(());
                }
                Ok(Some(Inbound::Asked(asked))) => {
                    let answer = format!("the gateway is down and tries again by itself: {why}");
                    // A client that left is no error.
                    let _ = asked.answer.send(Err(answer));
                }
                Ok(Some(_)) | Err(_) => {}
            }
        }
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
