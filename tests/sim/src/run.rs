//! One simulation: the gateway's own loop over a simulated disk, network, functions and cloud.
//!
//! # Phases
//! 1. Warm-up: nothing goes wrong, until a revision has proved itself.
//! 2. Faults: at the ratios and intervals of the plan.
//! 3. Quiet: nothing goes wrong any more, nobody publishes; within a bound of virtual time
//!    everything comes to rest, and the oracles judge the end.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::BytesMut;
use edge_agent::agent::stepped::Process;
use edge_agent::runtime::Crashed;
use edge_agent::settings::Settings;
use edge_agent::store::Batch;
use edge_broker::broker::ConnId;
use edge_broker::codec::Decoder;
use edge_core::id::AttemptId;
use sync_protocol::id::Digest;
use sync_protocol::record::Phase;

use crate::app::{self, Kind};
use crate::book::{Book, Failure, Hash};
use crate::cloud::Cloud;
use crate::device::token;
use crate::disk::{DiskCounts, SimDisk};
use crate::heap::{Event, Fault, Heap};
use crate::link::SimLink;
use crate::network::SimNetwork;
use crate::plan::{self, Group, Plan};
use crate::rng::Rng;
use crate::seen::{Clock, Seen};
use crate::time::{MILLI, SECOND, Time};
use crate::world::SimWorld;

mod deeds;
mod devices;
mod faults;
mod gateway;
mod link;
mod rest;

/// Longest time between two looks of what stands for the store's checkpoint thread.
const CHECKPOINT_US_MAX: u64 = 20 * SECOND;
/// Most turns and events of one simulation: one that goes on longer has lost its way.
const STEPS_MAX: u64 = 3_000_000;

/// What came of a simulation.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Virtual time that passed.
    pub virtual_us: u64,
    /// Hash over all events.
    pub hash: Hash,
    /// Events that the oracles saw.
    pub events: u64,
    /// Faults that were injected, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// What it came to, by the names of [`crate::figures::NAMES`].
    pub figures: BTreeMap<&'static str, u64>,
    /// What is wrong, if anything is.
    pub failure: Option<Failure>,
}

/// A simulation that runs.
struct Sim {
    plan: Plan,
    rng: Rng,
    time: Time,
    heap: Heap,
    book: Book,
    disk: SimDisk,
    network: SimNetwork,
    world: SimWorld,
    process: Process,
    /// Bug to plant, for the mutation check.
    bug: String,
    life: u64,
    /// What the gateway of this life took the time to be.
    clock: Option<Clock>,
    idle_turns: u32,
    open_failures: u32,
    stopping: bool,
    /// It was just opened; nothing was committed since.
    is_fresh: bool,
    dies_with_power: bool,
    /// The batch at the store, and the one of which nobody knows whether it is durable.
    at_store: Option<Batch>,
    unknown: Option<Batch>,
    running: BTreeMap<AttemptId, Crashed>,
    devices: Vec<devices::Slot>,
    /// Whose a connection is, and how the gateway's bytes on it are read.
    conns: BTreeMap<ConnId, (usize, Decoder, BytesMut)>,
    cloud: Cloud,
    link: Option<SimLink>,
    link_conn: Option<u64>,
    /// There is none to be had.
    is_link_down: bool,
    /// Generations and phases at which the link was cut.
    cut_at: BTreeSet<(u64, Phase)>,
    next_link_conn: u64,
    next_no: u64,
    is_quiet: bool,
    quiet_at: u64,
    is_over: bool,
    /// When the last thing of a row was due; the next one is not earlier.
    rows: BTreeMap<Row, u64>,
    counts: BTreeMap<&'static str, u64>,
    publishes: BTreeMap<u64, devices::Published>,
}

/// What keeps its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    ToGateway(ConnId),
    ToDevice(ConnId),
    Tasks,
    LinkUp,
    LinkDown,
}

/// Simulates a seed.
#[must_use]
pub fn run(seed: u64) -> Report {
    run_with(seed, "")
}

/// Simulates a seed with a planted bug; with none where `bug` is empty.
///
/// # Panics
/// Where a bug is named and the feature `plant` is not built in.
#[must_use]
pub fn run_with(seed: u64, bug: &str) -> Report {
    run_plan(Plan::new(seed), bug)
}

/// Simulates a plan, with a planted bug or none.
///
/// # Panics
/// As [`run_with`].
#[must_use]
pub fn run_plan(plan: Plan, bug: &str) -> Report {
    finish(Sim::new(plan, bug))
}

/// Simulates a plan and prints every event.
#[must_use]
pub fn trace(plan: Plan, bug: &str) -> Report {
    let mut sim = Sim::new(plan, bug);
    sim.book.print();
    finish(sim)
}

fn finish(mut sim: Sim) -> Report {
    let mut steps = 0;
    while !sim.is_over && sim.book.failure().is_none() {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| sim.step())) {
            sim.book.fail(sim.time.now(), "panic".to_owned(), words(panic.as_ref()));
            let report = sim.report();
            // What panicked may be half done; nothing of it is dropped, and so run, again.
            std::mem::forget(sim);
            return report;
        }
        steps += 1;
        if steps == STEPS_MAX {
            let text = format!("no end after {steps} steps");
            sim.book.fail(sim.time.now(), "a9".to_owned(), text);
        }
    }
    sim.report()
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}

fn settings(plan: &Plan) -> Settings {
    let mut text = format!(
        "name = \"simulated\"\n[limits]\nqueue_jobs = {}\noutbox = \"{} KiB\"\n",
        plan.bounds.queue_jobs_max,
        plan.bounds.outbox_bytes_max >> 10
    );
    for n in 0..plan.cast().count() {
        let name = format!("d{n}");
        let hash = Digest::of(token(&name).as_bytes());
        text.push_str(&format!(
            "[[devices]]\nname = \"{name}\"\ntoken_sha256 = \"{hash}\"\n\
             publish = [\"in/{{device}}/#\", \"note/{{device}}/#\"]\n\
             subscribe = [\"echo/{{device}}\"]\n"
        ));
    }
    Settings::parse(&text).unwrap_or_else(|problems| panic!("invariant: {problems:?}"))
}

impl Sim {
    fn new(plan: Plan, bug: &str) -> Self {
        let mut rng = Rng::new(plan.seed ^ 0xface);
        let time = Time::new(rng.fork());
        let disk = SimDisk::new(plan.bounds.disk_bytes, rng.fork());
        let network = SimNetwork::default();
        let clocks = time.clone();
        let world = SimWorld::new(plan.bounds, clocks, disk.clone(), network.clone(), rng.fork());
        let mut sim = Self {
            process: new_process(&plan, bug),
            rng,
            time,
            heap: Heap::default(),
            book: Book::default(),
            disk,
            network,
            world,
            bug: bug.to_owned(),
            life: 0,
            clock: None,
            idle_turns: 0,
            open_failures: 0,
            stopping: false,
            is_fresh: false,
            dies_with_power: false,
            at_store: None,
            unknown: None,
            running: BTreeMap::new(),
            devices: Vec::new(),
            conns: BTreeMap::new(),
            cloud: Cloud::default(),
            link: None,
            link_conn: None,
            is_link_down: false,
            cut_at: BTreeSet::new(),
            next_link_conn: 0,
            next_no: 0,
            is_quiet: false,
            quiet_at: plan::WARM_UP_US + plan.faults_us,
            is_over: false,
            rows: BTreeMap::new(),
            counts: BTreeMap::new(),
            publishes: BTreeMap::new(),
            plan,
        };
        sim.cloud.apps.series = sim.plan.series;
        sim.cloud.apps.has_cron = sim.plan.has_cron;
        sim.desire(Kind::Good);
        sim.begin();
        sim
    }

    fn begin(&mut self) {
        self.begin_timeline();
        self.heap.put(0, Event::Open);
        let cast: Vec<Group> = self.plan.cast().cloned().collect();
        for (n, group) in cast.into_iter().enumerate() {
            let from = group.from_us;
            let slot = self.new_device(n, group);
            self.devices.push(slot);
            let at = self.rng.within(SECOND, 3 * SECOND);
            self.heap.put(at, Event::Connect(n));
            self.heap.put((at + 5 * SECOND).max(from), Event::Publish(n));
        }
        if self.plan.is_born_1970 {
            self.count("begins-in-1970");
            self.time.set_wall(self.time.to_1970_ms(), false);
        }
        self.schedule_faults();
        self.heap.put(SECOND, Event::Checkpoint);
        self.heap.put(plan::WARM_UP_US, Event::Faulty);
        self.heap.put(self.quiet_at, Event::Quiet);
    }

    /// One turn of the gateway, or one event.
    fn step(&mut self) {
        let now = self.time.now();
        let turn_at = if self.process.has_input(self.network.has_arrivals()) {
            Some(now)
        } else {
            self.process
                .due_in()
                .map(|wait| now + u64::try_from(wait.as_micros()).unwrap_or(u64::MAX / 2))
        };
        let link_at = self.link.as_ref().filter(|_| self.link_conn.is_some());
        let link_at = link_at.and_then(SimLink::due_us);
        let event_at = self.heap.next_at();
        let first = [turn_at, link_at, event_at].into_iter().flatten().min();
        let Some(first) = first else {
            self.is_over = true;
            return;
        };
        self.time.advance_to(first);
        if turn_at == Some(first) {
            if first > now {
                self.idle_turns = 0;
            }
            self.turn();
        } else if link_at == Some(first) {
            self.link_tick();
        } else if let Some((_, event)) = self.heap.pop() {
            self.idle_turns = 0;
            self.event(event);
        }
        if self.disk.is_dead() {
            self.end_process(self.dies_with_power);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Open => self.open(),
            Event::Commit { life } if life == self.life => self.commit(),
            Event::Attempt { life, invocation } if life == self.life => self.attempt(*invocation),
            Event::Task { life, task } if life == self.life => {
                task.run();
            }
            Event::Commit { .. } | Event::Attempt { .. } | Event::Task { .. } => {}
            Event::ToGateway(conn, bytes) => {
                self.network.receive(conn, &bytes);
            }
            Event::ToDevice(device, conn, bytes) => self.hand_to_device(device, conn, &bytes),
            Event::Closed(device, conn) => self.closed(device, conn),
            Event::Connect(device) => self.connect(device),
            Event::Publish(device) => self.publish(device),
            Event::Repeat(device, no) => self.repeat(device, no),
            Event::LinkConnect { life } => {
                if life == self.life {
                    self.link_connect();
                }
            }
            Event::LinkUp(conn, bytes) => self.link_up(conn, &bytes),
            Event::LinkDown(conn, bytes) => self.link_down(conn, &bytes),
            Event::Checkpoint => {
                self.world.checkpoint();
                // Long plans are quiet ones: they need no look every few seconds.
                let most = CHECKPOINT_US_MAX.max(self.plan.faults_us / 10_000);
                let at = self.time.now() + self.rng.within(SECOND, most);
                self.heap.put(at, Event::Checkpoint);
            }
            Event::Fault(fault) => self.fault(fault),
            Event::Deed(deed) => self.deed(deed),
            Event::Entry(n) => self.entry(n),
            Event::Faulty => self.disk.set_faults(self.plan.disk),
            Event::Quiet => self.quiet(),
            Event::Look => self.look(),
        }
    }

    fn see(&mut self, seen: &Seen<'_>) {
        self.book.see(self.time.now(), seen);
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// A moment between `low` and `high` from now, not before the last one of the row.
    fn later(&mut self, row: Row, low: u64, high: u64) -> u64 {
        let at = self.time.now() + self.rng.within(low, high);
        let last = self.rows.entry(row).or_default();
        *last = at.max(*last + 1);
        *last
    }

    /// Whether something of so many in a million happens; not when all is to be quiet, nor before
    /// the first revision has proved itself.
    fn chance(&mut self, per_million: u32) -> bool {
        let may = !self.is_quiet && self.time.now() >= plan::WARM_UP_US;
        self.rng.chance(per_million) && may
    }

    fn report(&self) -> Report {
        let disk = self.disk.counts();
        let DiskCounts { syncs_failed, short_writes, full, lost, torn, sealed, .. } = disk;
        let mut faults = self.counts.clone();
        for (what, count) in [
            ("sync-failed", syncs_failed),
            ("write-cut-short", short_writes),
            ("disk-full", full),
            ("disk-read-only", sealed),
            ("write-lost", lost),
            ("write-torn", torn),
        ] {
            faults.insert(what, count);
        }
        let (hash, events) = self.book.sum();
        let mut more = faults.clone();
        more.insert("disk-bytes-max", disk.most_bytes);
        more.insert("rests-ms", self.time.now().saturating_sub(self.quiet_at) / MILLI);
        Report {
            seed: self.plan.seed,
            virtual_us: self.time.now(),
            hash,
            events,
            faults,
            figures: self.book.figures().all(&more),
            failure: self.book.failure().cloned(),
        }
    }
}

fn new_process(plan: &Plan, bug: &str) -> Process {
    #[cfg_attr(not(feature = "plant"), expect(unused_mut, reason = "only a planted one changes"))]
    let mut process = Process::new(settings(plan), app::authors());
    #[cfg(feature = "plant")]
    process.plant(bug);
    #[cfg(not(feature = "plant"))]
    assert!(bug.is_empty(), "to plant {bug:?} build with the feature `plant`");
    process
}
