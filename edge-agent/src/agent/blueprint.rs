//! Putting a gateway together from its settings, its store and the world.
//!
//! The order is the same at every start: store, core, broker, deployments, loop; then the core is
//! brought to where it was, the link is made, and only then clients may come.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edge_broker::broker::{Broker, BrokerOp, Effect as BrokerEffect, Limits as BrokerLimits, Turn};
use edge_broker::transport::TransportLimits;
use edge_core::core::{Core, Rows, Settings as CoreSettings};
use edge_core::effect::Pace;
use edge_core::id::{BatchSeq, Epoch, StreamId};
use edge_core::input::{Crumb, Input as CoreInput};
use edge_core::limits::Limits as CoreLimits;
use edge_core::reconcile::{AppLedger, Ledger};
use edge_core::time::{Millis, Now};
use sync_protocol::id::Digest;
use sync_protocol::revision::AuthorKeys;

use super::access::Access;
use super::clock::Clock;
use super::commit::Commit;
use super::deploy::{Deployments, LEDGER_ROW, foreign, probation_of};
use super::functions::Functions;
use super::gateway::{Gateway, Work};
use super::inbox::{Inbound, Outlet};
use super::library::Library;
use super::lives::Lives;
use super::plant::Plant;
use super::prepare::{PreparedApp, Preparer, Worker};
use super::report;
use super::seams::{Link, LinkStart, World};
use super::stand_in::StandIn;
use super::start::{RunError, io_error};
use super::state::State;
use super::system::SystemUpdate;
use super::telemetry::Telemetry;
use super::timeline::Timeline;
use super::update::Update;
use super::wear::{Disk, Wear};
use crate::auth::Accounts;
use crate::desk::Desk;
use crate::last_errors::LastErrors;
use crate::launch::Launched;
use crate::runtime::Crashed;
use crate::settings::Settings;
use crate::store::{self, Reader};
use crate::system::OnImage;
use crate::tls::TimeFloor;
use crate::uplink::Outbox;

/// What a gateway is put together from, whatever the world is; it outlives a store failure.
pub(super) struct Blueprint {
    pub(super) settings: Settings,
    pub(super) authors: AuthorKeys,
    pub(super) time_floor: Arc<TimeFloor>,
    /// Which enrolment this is; `None` where there was none.
    pub(super) enrolment: Option<Digest>,
    pub(super) outlet: Outlet,
    pub(super) next_attempt: u64,
    pub(super) plant: Plant,
    pub(super) lives: Arc<Mutex<Lives>>,
    /// Whether it runs from a slot.
    pub(super) launched: Option<Launched>,
    /// The card image that this process runs from.
    pub(super) image: Option<OnImage>,
    /// What the log said of late that is not well.
    pub(super) errors: LastErrors,
}

impl Blueprint {
    /// How often the process died of late.
    pub(super) fn lives(&self) -> MutexGuard<'_, Lives> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this program is an update that has yet to prove itself.
    pub(super) fn is_on_trial(&self) -> bool {
        let Some(launched) = &self.launched else { return false };
        launched.state().is_ok_and(|state| state.on_trial() == Some(launched.slot()))
    }

    /// Builds everything from the store.
    ///
    /// # Errors
    /// See [`RunError`].
    pub(super) fn build(
        &self,
        world: &mut dyn World,
        opened: store::Opened,
    ) -> Result<Gateway, RunError> {
        let reader = opened.reader;
        let mut clock = Clock::start(opened.recovered.gateway_time, world.clocks());
        let now = clock.now();
        let epoch = Epoch(draw(world)?);
        let core = self.core(&*world, epoch, reader.core_rows()?);
        // Before the core goes on: what it writes at the start is not durable yet, and the link is
        // told of it, as of everything later, when it is.
        let streams = streams(&core, now);
        let outlet = self.outlet.clone();
        let done = Box::new(move |completion| outlet.tell(Inbound::Store(completion)));
        let committer = world.committer(opened.store, done).map_err(io_error("store thread"))?;
        let limits = self.broker_limits();
        let network = world.network(transport_limits(&limits));
        let (broker, effects) = broker(limits, draw(world)?, reader.broker_rows()?, now);
        let disk = Disk {
            device: world.block_device(),
            bytes: world.disk_bytes(),
            endurance_bytes: self.settings.disk.endurance_bytes,
        };
        let wear = Wear::load(&reader, now.at, disk)?;
        let timeline = Timeline::load(&reader, self.enrolment)?;
        self.time_floor.vouch(timeline.vouched_unix_s());
        let state = Arc::new(State::new(reader.clone()));
        let functions = self.functions(world, Arc::clone(&state))?;
        let (deployments, apps) = self.deployments(world, &reader, Arc::clone(&state))?;
        let access = self.access(world)?;
        let last = opened.recovered.last;
        let firmware = super::firmware::begin(&self.settings.devices, &broker);
        let update = Update::new(self.launched.clone(), self.settings.update, now.at);
        let update = update.map_err(io_error("state of the slots"))?;
        let mut gateway = Gateway {
            name: self.settings.name.clone(),
            epoch,
            listeners: Vec::new(),
            start_ms: None,
            errors: self.errors.clone(),
            buses: world.buses(),
            link: Default::default(),
            clock,
            now,
            broker,
            core,
            network,
            commit: Commit::new(
                last,
                opened.overlay,
                committer,
                self.settings.disk.commit_interval_ms_min,
                self.plant.clone(),
            ),
            reader,
            state,
            deliveries: Default::default(),
            room: Default::default(),
            functions,
            deployments,
            access,
            uplink: None,
            time_floor: Arc::clone(&self.time_floor),
            timeline,
            telemetry: Telemetry::new(world.watch()),
            desk: Desk::new(self.settings.limits.devices_max),
            firmware,
            update,
            system: SystemUpdate::new(self.image.clone(), now.at),
            wear,
            work: effects.into_iter().map(Work::Broker).collect(),
            grown: Default::default(),
            plant: self.plant.clone(),
            finished: Default::default(),
            after_durable: VecDeque::new(),
            crumbs: world.crumbs(),
            counting: None,
            lives: Arc::clone(&self.lives),
            answers: Default::default(),
            turns: Default::default(),
            stop_by: None,
            idle: false,
            failed: None,
        };
        gateway.begin_labels();
        gateway.begin(apps);
        gateway.uplink = self.link(world, &gateway, streams)?;
        gateway.resume_deployments();
        gateway.carry_out();
        gateway.listeners = world.listen()?.iter().map(SocketAddr::to_string).collect();
        gateway.start_ms = world.process_ms();
        let (listeners, start_ms) = (&gateway.listeners, gateway.start_ms);
        tracing::info!(gateway = self.settings.name, ?listeners, start_ms, "ready");
        Ok(gateway)
    }

    /// Opens the store.
    ///
    /// # Errors
    /// See [`store::OpenError`]; there is no randomness.
    pub(super) fn open_store(&self, world: &mut dyn World) -> Result<store::Opened, RunError> {
        let settings = store::Settings {
            store_bytes_max: self.settings.limits.store_bytes_max,
            new_store_id: draw(world)?,
            hook: self.plant.store_hook(),
            ..store::Settings::default()
        };
        let opened = world.open_store(settings)?;
        let recovered = &opened.recovered;
        tracing::info!(
            last = recovered.last.0,
            replayed = recovered.replayed_batches,
            torn_bytes = recovered.torn_bytes,
            created = recovered.created,
            "store is open"
        );
        Ok(opened)
    }

    fn core(&self, world: &dyn World, epoch: Epoch, rows: Rows) -> Core {
        let limits = &self.settings.limits;
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let outbox_bytes_max =
            limits.outbox_bytes_max.unwrap_or_else(|| default_outbox(world.disk_bytes()));
        Core::restore(
            CoreSettings {
                limits: CoreLimits {
                    queue_jobs_max: narrow(limits.queue_jobs_max),
                    queue_bytes_max: limits.queue_bytes_max as u64,
                    outbox_bytes_max,
                    devices_max: limits.devices_max,
                    ..CoreLimits::default()
                },
                epoch,
                worker_slots: world.slots(),
                first_attempt: self.next_attempt,
                safe_mode: self.lives().safe_mode(),
            },
            rows,
        )
    }

    fn broker_limits(&self) -> BrokerLimits {
        let will_ms = self.settings.limits.will_after_restart_ms_min;
        BrokerLimits {
            message_bytes_max: self.settings.limits.message_bytes_max,
            connections_max: self.settings.limits.connections_max,
            receive_max: self.settings.limits.receive_max,
            will_after_restart_s_min: u32::try_from(will_ms.div_ceil(1_000)).unwrap_or(u32::MAX),
            sessions_max: self.settings.limits.sessions_max,
            sessions_per_identity_max: self.settings.limits.sessions_max.div_ceil(2),
            ..BrokerLimits::default()
        }
    }

    /// What goes on while the store cannot be opened, if that can be had.
    pub(super) fn stand_in(&self, world: &mut dyn World) -> Option<StandIn> {
        let access = self.access(world).ok()?;
        let limits = self.broker_limits();
        let network = world.network(transport_limits(&limits));
        match world.listen() {
            Ok(addresses) => {
                let clock = Clock::start(Millis(0), world.clocks());
                let errors = self.errors.clone();
                let name = &self.settings.name;
                Some(StandIn::new(name, &limits, network, access, clock, &addresses, errors))
            }
            Err(error) => {
                tracing::error!(%error, "nobody is served until the store is back");
                None
            }
        }
    }

    fn functions(&self, world: &mut dyn World, state: Arc<State>) -> Result<Functions, RunError> {
        let outlet = self.outlet.clone();
        let pool = world.pool(Box::new(move |done| outlet.tell(Inbound::Function(done))));
        let pool = pool.map_err(io_error("function workers"))?;
        Ok(Functions::new(pool, world.slots(), state, self.outlet.clone()))
    }

    fn access(&self, world: &mut dyn World) -> Result<Access, RunError> {
        let accounts = Accounts::new(&self.settings)
            .map_err(|_| io_error("randomness")(io::Error::other("none to be had")))?;
        let passwords = world.passwords(Access::answer(self.outlet.clone()));
        Ok(Access::new(accounts, passwords.map_err(io_error("auth thread"))?))
    }

    /// The ledger's live and good revisions are made ready before anything runs.
    fn deployments(
        &self,
        world: &mut dyn World,
        reader: &Reader,
        state: Arc<State>,
    ) -> Result<(Deployments, Vec<PreparedApp>), RunError> {
        let ledger = match reader.ledger_get(LEDGER_ROW)? {
            Some(row) => postcard::from_bytes(&row).map_err(|_| {
                io_error("deployment ledger")(io::Error::other("it is not of this version"))
            })?,
            None => Ledger::default(),
        };
        let library = Library::new(world.shelf().map_err(io_error("library"))?);
        let worker = Worker {
            toolchain: world.toolchain(),
            library: library.clone(),
            authors: self.authors.clone(),
            state,
        };
        let mut apps = Vec::new();
        for (name, app) in &ledger.apps {
            let good = app.good.iter().filter(|good| Some(*good) != app.live.as_ref());
            for revision in app.live.iter().chain(good) {
                match worker.ready(foreign(revision.digest)) {
                    Ok(app) => apps.push(app),
                    Err(error) => {
                        tracing::error!(app = name, revision = %revision.digest, error, "not ready");
                    }
                }
            }
        }
        if let Err(error) = library.keep_only(&wanted(&ledger, &apps)) {
            tracing::warn!(%error, "old files of the library are left");
        }
        let executor = world.executor().map_err(io_error("preparer"))?;
        let preparer = Preparer::new(executor, worker, self.outlet.clone());
        let managed = world.is_managed();
        let deployments = Deployments::new(ledger, apps.clone(), library, preparer, managed);
        Ok((deployments, apps))
    }

    fn link(
        &self,
        world: &mut dyn World,
        gateway: &Gateway,
        streams: Vec<(u8, u64, u64)>,
    ) -> Result<Option<Box<dyn Link>>, RunError> {
        if self.plant.is_deaf() {
            return Ok(None);
        }
        let outlet = self.outlet.clone();
        let start = LinkStart {
            version: gateway.label(),
            epoch: gateway.epoch.0,
            streams,
            state: report::state(&gateway.deployments.reconciler),
            outbox: Box::new(StoreOutbox(gateway.reader.clone())),
            heard: Box::new(move |heard| outlet.tell(Inbound::Uplink(heard))),
            seed: draw(world)?,
        };
        world.link(start).map_err(io_error("uplink"))
    }
}

/// Per stream: number, last position stored by the control plane, last position.
fn streams(core: &Core, now: Now) -> Vec<(u8, u64, u64)> {
    let status = core.status(now);
    let streams = StreamId::ALL.iter().map(|stream| {
        let known = status.outbox.iter().find(|row| row.stream == *stream);
        (stream.0, known.map_or(0, |row| row.stored_to.0), known.map_or(0, |row| row.newest.0))
    });
    streams.collect()
}

fn draw(world: &mut dyn World) -> Result<u64, RunError> {
    world.draw().map_err(io_error("randomness"))
}

fn transport_limits(limits: &BrokerLimits) -> TransportLimits {
    TransportLimits {
        connections_max: limits.connections_max,
        packet_bytes_max: limits.packet_bytes_max(),
        topic_alias_max: limits.topic_alias_max,
        topic_alias_bytes_max: limits.topic_alias_bytes_max,
        ..TransportLimits::default()
    }
}

fn broker(
    limits: BrokerLimits,
    seed: u64,
    rows: Vec<BrokerOp>,
    now: Now,
) -> (Broker, Vec<BrokerEffect>) {
    let mut effects = Vec::new();
    let mut turn = Turn { now, open: BatchSeq(1), effects: &mut effects };
    let broker = Broker::restore(limits, seed, rows, &mut turn);
    (broker, effects)
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
            let is_live = |entry: &&AppLedger| {
                entry.live.as_ref().is_some_and(|live| live.digest == app.release.revision)
            };
            let Some(entry) = entry.filter(is_live) else { continue };
            let is_owed = self.update.owes(app.release.revision);
            let probation = (entry.on_probation && !is_owed).then(|| probation_of(&app.revision));
            self.with_core(CoreInput::Activate { release: app.release, probation });
        }
        self.keep_offers();
        self.begin_life();
        // Left by an update, on trial or gone: no message and no revision is to blame.
        let excused = self.update.is_on_trial() || self.life().follows_another();
        let crashed = if excused { Vec::new() } else { self.crumbs.left() };
        let (alone, none) = (crashed.len() == 1, crashed.is_empty());
        for crash in crashed {
            let Crashed { job, event, run, function, likeness, batched, .. } = crash;
            let what = "the process died during an attempt";
            tracing::warn!(%function, %event, run, alone, batched, "{what}");
            let crumb = Crumb { job, event, run, function, likeness, alone, batched };
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
        if let Err(error) = self.crumbs.settle() {
            tracing::warn!(%error, "crashes may be counted once more");
        }
        self.life().settled();
        self.with_core(CoreInput::Started);
        self.carry_out();
    }
}

/// Files of the library that the ledger's revisions need; those that are not ready, whose files are
/// not known, keep their manifest and lose artifacts that must be fetched again anyway.
fn wanted(ledger: &Ledger, apps: &[PreparedApp]) -> BTreeSet<sync_protocol::id::Digest> {
    let named = ledger.apps.values().flat_map(|app| {
        let revisions = app.live.iter().chain(&app.good).map(|revision| revision.digest);
        revisions.chain(app.desired).map(foreign)
    });
    let artifacts = apps.iter().flat_map(|app| app.revision.manifest().artifacts().into_keys());
    named.chain(artifacts).collect()
}

struct StoreOutbox(Reader);

impl Outbox for StoreOutbox {
    fn read(
        &self,
        stream: u8,
        from: u64,
        to: u64,
        bytes_max: usize,
    ) -> io::Result<Vec<edge_core::op::OutboxRecord>> {
        const ROWS_MAX: usize = sync_protocol::limits::RECORDS_PER_MESSAGE_MAX;
        let (stream, from) = (StreamId(stream), edge_core::id::RecordSeq(from));
        let mut records =
            self.0.outbox_read(stream, from, ROWS_MAX, bytes_max).map_err(io::Error::other)?;
        records.retain(|record| record.seq.0 <= to);
        Ok(records)
    }
}

/// 1 GiB or a tenth of the disk, whichever is less.
fn default_outbox(disk_bytes: Option<u64>) -> u64 {
    const MOST: u64 = 1 << 30;
    disk_bytes.map_or(MOST, |bytes| MOST.min(bytes / 10))
}
