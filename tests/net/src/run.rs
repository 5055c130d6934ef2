//! One simulation: a gateway, its devices and its control plane over a network that breaks.
//!
//! One thread, tokio's clock paused: virtual time passes when every task waits. Each millisecond
//! is a beat, in which the network moves, the loops of gateway and control plane are stepped, and
//! devices look at their connections. Between beats run the tasks of the real code: the broker's
//! transport on both sides, the uplink with its MQTT client and TLS.
//!
//! # Phases
//! As in `simulator::run`: warm-up, faults, quiet; at the end everything must come to rest.

use std::collections::BTreeMap;
use std::time::Duration;

use edge_agent::agent::stepped::{Process, Task};
use edge_agent::runtime::{Crashed, Invocation};
use edge_agent::store::Batch;
use edge_broker::AckToken;
use edge_core::id::AttemptId;
use simulator::app::{self, Kind};
use simulator::book::{Book, Failure, Hash};
use simulator::cloud::Cloud;
use simulator::disk::SimDisk;
use simulator::network::SimNetwork;
use simulator::plan::{self, Bounds};
use simulator::rng::Rng;
use simulator::seen::Seen;
use simulator::time::{SECOND, Time};
use simulator::world::SimWorld;
use sync_protocol::wire::Up;
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::cable;
use crate::hub::Hub;
use crate::net::{LinkId, Net};
use crate::scenario::{Fault, Scenario};
use crate::world::NetWorld;

mod cloud;
mod devices;
mod faults;
mod gateway;
mod rest;
mod strangers;

/// How often everything is looked at.
const BEAT: Duration = Duration::from_millis(1);
/// How long things go wrong.
const FAULTS_US: u64 = 120 * SECOND;
/// Where the gateway listens.
const GATEWAY_ADDRESS: ([u8; 4], u16) = ([192, 0, 2, 1], 1883);
/// Where the control plane does.
const CLOUD_ADDRESS: ([u8; 4], u16) = ([192, 0, 2, 2], 8883);
/// Devices of a simulation.
const DEVICES: usize = 4;

/// What came of a simulation.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its scenario.
    pub scenario: &'static str,
    /// Its seed.
    pub seed: u64,
    /// Virtual time that passed.
    pub virtual_us: u64,
    /// Hash over all events.
    pub hash: Hash,
    /// Messages that were acked.
    pub acked: u64,
    /// Faults that were injected and what came of them, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Most bytes that the gateway's broker had handed to connections and knew as not written.
    pub egress_bytes_max: usize,
    /// Longest time from a publish to its ack, on one connection.
    pub ack_wait_us_max: u64,
    /// Longest time from a break of the uplink to the next hello at the control plane, without the
    /// time in which there could be none.
    pub link_back_us_max: u64,
    /// What is wrong, if anything is.
    pub failure: Option<Failure>,
}

/// Something to happen. What belongs to one life of a process is void in the next.
enum Event {
    Open,
    Commit {
        life: u64,
    },
    Attempt {
        life: u64,
        invocation: Box<Invocation>,
    },
    Task {
        life: u64,
        task: Box<Task>,
    },
    /// The control plane has stored a message.
    Stored {
        life: u64,
        token: AckToken,
        up: Box<Up>,
    },
    CloudStarts,
    Dial(usize),
    Publish(usize),
    Checkpoint,
    Fault(Fault),
    /// A link is as it should be again.
    Heal(LinkId),
    /// By now the gateway must have noticed that all devices are gone; if this life goes on.
    AllNoticed {
        life: u64,
    },
    Quiet,
    Look,
}

/// A simulation that runs.
struct Sim {
    scenario: &'static Scenario,
    seed: u64,
    rng: Rng,
    /// Draws faults only, and `load` publishes only: their times are those of the seed, whatever
    /// else is drawn.
    chaos: Rng,
    load: Rng,
    began: Instant,
    now_us: u64,
    heap: BTreeMap<(u64, u64), Event>,
    order: u64,
    book: Book,
    net: Net,
    // The gateway.
    time: Time,
    disk: SimDisk,
    world: NetWorld,
    process: Process,
    life: u64,
    at_store: Option<Batch>,
    unknown: Option<Batch>,
    running: BTreeMap<AttemptId, Crashed>,
    task_at_us: u64,
    // The control plane.
    cloud: Cloud,
    hub: Option<Hub>,
    hub_life: u64,
    /// When the last message is stored that it has taken.
    stored_at_us: u64,
    uplink: cloud::Uplink,
    // Clients.
    devices: Vec<devices::Slot>,
    strangers: Vec<strangers::Stranger>,
    next_no: u64,
    next_conn: u64,
    // The whole.
    is_quiet: bool,
    is_over: bool,
    counts: BTreeMap<&'static str, u64>,
    acked: u64,
    egress_bytes_max: usize,
    ack_wait_us_max: u64,
}

/// Simulates a scenario with a seed.
///
/// # Panics
/// Where the system has no loopback.
#[must_use]
pub fn run(scenario: &'static Scenario, seed: u64) -> Report {
    simulate(scenario, seed, false)
}

/// As [`run`]; every event is printed.
///
/// # Panics
/// As [`run`].
#[must_use]
pub fn trace(scenario: &'static Scenario, seed: u64) -> Report {
    simulate(scenario, seed, true)
}

fn simulate(scenario: &'static Scenario, seed: u64, prints: bool) -> Report {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    LocalSet::new().block_on(&runtime, async {
        let mut sim = Sim::new(scenario, seed);
        if prints {
            sim.book.print();
        }
        let mut beats = tokio::time::interval(BEAT);
        while !sim.is_over && sim.book.failure().is_none() {
            beats.tick().await;
            sim.beat();
        }
        sim.report()
    })
}

impl Sim {
    fn new(scenario: &'static Scenario, seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0xbeef);
        let (bounds, time) = (Bounds::default(), Time::new(rng.fork()));
        let disk = SimDisk::new(bounds.disk_bytes, rng.fork());
        let unused = SimNetwork::default();
        let sim_world = SimWorld::new(bounds, time.clone(), disk.clone(), unused, rng.fork());
        let net = Net::new(rng.fork());
        let (chaos, load) = (rng.fork(), rng.fork());
        let cable = cable::lay(&net, LinkId::Uplink, CLOUD_ADDRESS.into());
        let cable = cable.unwrap_or_else(|error| panic!("no loopback: {error}"));
        let keep_alive = Duration::from_secs(scenario.uplink_keep_alive_s);
        let address = GATEWAY_ADDRESS.into();
        let world = NetWorld::new(sim_world, net.clone(), address, cable, keep_alive);
        let mut sim = Self {
            scenario,
            seed,
            rng,
            chaos,
            load,
            began: Instant::now(),
            now_us: 0,
            heap: BTreeMap::new(),
            order: 0,
            book: Book::default(),
            net,
            time,
            disk,
            world,
            process: new_process(),
            life: 0,
            at_store: None,
            unknown: None,
            running: BTreeMap::new(),
            task_at_us: 0,
            cloud: Cloud::default(),
            hub: None,
            hub_life: 0,
            stored_at_us: 0,
            uplink: cloud::Uplink::default(),
            devices: Vec::new(),
            strangers: Vec::new(),
            next_no: 0,
            next_conn: 0,
            is_quiet: false,
            is_over: false,
            counts: BTreeMap::new(),
            acked: 0,
            egress_bytes_max: 0,
            ack_wait_us_max: 0,
        };
        sim.begin();
        sim
    }

    fn begin(&mut self) {
        self.desire(Kind::Good);
        self.put(0, Event::CloudStarts);
        self.put(0, Event::Open);
        for n in 0..DEVICES {
            let slot = self.new_device(n);
            self.devices.push(slot);
            let at = self.rng.within(SECOND, 3 * SECOND);
            self.put(at, Event::Dial(n));
            self.put(at + 5 * SECOND, Event::Publish(n));
        }
        for link in self.links() {
            self.heal(link);
        }
        for &(fault, _) in self.scenario.faults {
            self.schedule(fault, plan::WARM_UP_US);
        }
        self.put(SECOND, Event::Checkpoint);
        self.put(plan::WARM_UP_US + FAULTS_US, Event::Quiet);
    }

    fn put(&mut self, at_us: u64, event: Event) {
        self.order += 1;
        self.heap.insert((at_us, self.order), event);
    }

    /// A millisecond has passed.
    fn beat(&mut self) {
        let elapsed = Instant::now().duration_since(self.began);
        self.now_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.time.advance_to(self.now_us);
        self.net.tick();
        while let Some(first) = self.heap.first_entry()
            && first.key().0 <= self.now_us
        {
            let event = first.remove();
            self.event(event);
        }
        self.step_hub();
        self.step_gateway();
        for n in 0..self.devices.len() {
            self.step_device(n);
        }
        self.step_strangers();
        self.judge_link();
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Open => self.open(),
            Event::Commit { life } if life == self.life => self.commit(),
            Event::Attempt { life, invocation } if life == self.life => self.attempt(*invocation),
            Event::Task { life, task } if life == self.life => task.run(),
            Event::Stored { life, token, up } if life == self.hub_life => self.stored(token, *up),
            Event::Commit { .. }
            | Event::Attempt { .. }
            | Event::Task { .. }
            | Event::Stored { .. } => {}
            Event::CloudStarts => self.start_cloud(),
            Event::Dial(n) => self.dial(n),
            Event::Publish(n) => self.publish(n),
            Event::Checkpoint => {
                self.world.sim.checkpoint();
                let at = self.now_us + self.rng.within(SECOND, 20 * SECOND);
                self.put(at, Event::Checkpoint);
            }
            Event::Fault(fault) => self.fault(fault),
            Event::Heal(link) => self.heal(link),
            Event::AllNoticed { life } => self.judge_noticed(life),
            Event::Quiet => self.quiet(),
            Event::Look => self.look(),
        }
    }

    fn see(&mut self, seen: &Seen<'_>) {
        self.book.see(self.now_us, seen);
    }

    fn fail(&mut self, oracle: &str, text: String) {
        self.book.fail(self.now_us, oracle.to_owned(), text);
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
        self.book.note(self.now_us, what);
    }

    fn report(&self) -> Report {
        Report {
            scenario: self.scenario.name,
            seed: self.seed,
            virtual_us: self.now_us,
            hash: self.book.sum().0,
            acked: self.acked,
            faults: self.counts.clone(),
            egress_bytes_max: self.egress_bytes_max,
            ack_wait_us_max: self.ack_wait_us_max,
            link_back_us_max: self.uplink.back_us_max,
            failure: self.book.failure().cloned(),
        }
    }
}

fn new_process() -> Process {
    Process::new(devices::settings(DEVICES), app::authors())
}
