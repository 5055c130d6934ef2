//! The parts that an agent is put together from.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use edge_broker::broker::{Broker, Limits as BrokerLimits, Turn};
use edge_broker::transport::{ListenConfig, Listener, Port, Transport, TransportLimits, tls};
use edge_core::core::{Core, Settings as CoreSettings};
use edge_core::id::{BatchSeq, Epoch};
use edge_core::limits::Limits as CoreLimits;
use edge_core::reconcile::Ledger;

use super::{Agent, RunError, io_error};
use crate::agent::access::Access;
use crate::agent::deploy::{Deployments, LEDGER_ROW, foreign};
use crate::agent::functions::Functions;
use crate::agent::gateway::Gateway;
use crate::agent::inbox::Inbound;
use crate::agent::library::Library;
use crate::agent::prepare::{PreparedApp, Preparer, Worker};
use crate::agent::report;
use crate::agent::stand_in::StandIn;
use crate::agent::state::State;
use crate::auth::Accounts;
use crate::runtime::Workers;
use crate::settings::{Listener as ListenerSettings, Settings};
use crate::store;
use crate::store::disk::SystemDisk;
use crate::tls::TimeFloor;
use crate::uplink::{self, Outbox, Uplink};

impl Agent {
    pub(super) fn open_store(&self, new_store_id: u64) -> Result<store::Opened, RunError> {
        let settings = store::Settings {
            store_bytes_max: self.settings.limits.store_bytes_max,
            new_store_id,
            hook: self.plant.store_hook(),
            ..store::Settings::default()
        };
        let dir = self.settings.data_dir.join("store");
        let Some(log) = &self.sync_log else { return Ok(store::open(&dir, settings)?) };
        let disk = SystemDisk::take(&dir).map_err(io_error("store"))?;
        Ok(store::open_on(log.watch_disk(Arc::new(disk)), settings)?)
    }

    pub(super) fn core(&self, epoch: Epoch, rows: edge_core::core::Rows) -> Core {
        let limits = &self.settings.limits;
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let outbox_bytes_max =
            limits.outbox_bytes_max.unwrap_or_else(|| default_outbox(&self.settings));
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
                safe_mode: self.lives().safe_mode(),
            },
            rows,
        )
    }

    pub(super) fn broker(
        &self,
        seed: u64,
        rows: Vec<edge_broker::broker::BrokerOp>,
        now: edge_core::time::Now,
    ) -> (Port, Transport, Broker, Vec<edge_broker::broker::Effect>) {
        let limits = self.broker_limits();
        let (transport, port) = transport(&limits);
        let mut effects = Vec::new();
        let mut turn = Turn { now, open: BatchSeq(1), effects: &mut effects };
        let broker = Broker::restore(limits, seed, rows, &mut turn);
        (port, transport, broker, effects)
    }

    /// What goes on while the store cannot be opened, if that can be had.
    pub(super) fn stand_in(&self) -> Option<StandIn> {
        let accounts = Accounts::new(&self.settings).ok()?;
        let access = Access::start(accounts, self.outlet.clone()).ok()?;
        let limits = self.broker_limits();
        let (transport, port) = transport(&limits);
        match self.listen(&transport) {
            Ok(listeners) => {
                Some(StandIn::new(&self.settings.name, &limits, port, access, listeners))
            }
            Err(error) => {
                tracing::error!(%error, "nobody is served until the store is back");
                None
            }
        }
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

    pub(super) fn functions(&self, state: Arc<State>) -> Result<Functions, RunError> {
        let engine = self.runtime.settings();
        let outlet = self.outlet.clone();
        let workers = Workers::spawn(
            engine.slots as usize,
            engine.call_stack_bytes,
            Some(self.breadcrumbs.clone()),
            self.plant.attempt_hook(),
            move |done| outlet.tell(Inbound::Function(done)),
        );
        let workers = workers.map_err(io_error("function workers"))?;
        Ok(Functions::new(Arc::clone(&self.runtime), workers, state, self.outlet.clone()))
    }

    /// The ledger's live and good revisions are made ready before anything runs.
    pub(super) fn deployments(
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
        let preparer = Preparer::spawn(worker, self.outlet.clone());
        let preparer = preparer.map_err(io_error("preparer"))?;
        let managed = self.identity.is_some();
        let deployments = Deployments::new(ledger, apps.clone(), library, preparer, managed);
        Ok((deployments, apps))
    }

    pub(super) fn uplink(&self, gateway: &Gateway, seed: u64) -> Result<Option<Uplink>, RunError> {
        let Some(identity) = &self.identity else { return Ok(None) };
        let endpoint =
            identity.endpoint(Arc::clone(&self.time_floor)).map_err(io_error("uplink"))?;
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
            state: report::state(&gateway.deployments.reconciler),
            partial_dir: self.settings.data_dir.join("partial"),
            seed,
            rate: self.settings.limits.drain,
        };
        let outlet = self.outlet.clone();
        let outbox = StoreOutbox(gateway.reader.clone());
        let heard = move |heard| outlet.tell(Inbound::Uplink(heard));
        Uplink::spawn(setup, outbox, heard).map(Some).map_err(io_error("uplink"))
    }

    pub(super) fn listen(&self, transport: &Transport) -> Result<Vec<Listener>, RunError> {
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

fn transport(limits: &BrokerLimits) -> (Transport, Port) {
    Transport::new(TransportLimits {
        connections_max: limits.connections_max,
        packet_bytes_max: limits.packet_bytes_max(),
        topic_alias_max: limits.topic_alias_max,
        topic_alias_bytes_max: limits.topic_alias_bytes_max,
        ..TransportLimits::default()
    })
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
