//! The gateway's process: turns, what it hands over, its start and its end.

use edge_agent::agent::stepped::Turned;
use edge_agent::runtime::Invocation;
use edge_broker::broker::ConnId;
use edge_broker::codec::Packet;
use edge_core::effect::Member;
use edge_core::event::CoreEvent;

use super::{Event, MILLI, Row, SECOND, Seen, Sim, SimLink, new_process};
use crate::network::Out;
use crate::payload::{self, Wish};
use crate::seen::Clock;
use crate::worker;

/// Longest time a lingering function takes: just below its limit.
const LINGER_US: u64 = 2_900 * MILLI;
/// A function that comes to no end is stopped then.
const LIMIT_US: u64 = 3_000 * MILLI;

/// Longest time until the control plane is reached after a start.
const LATE_US_MAX: u64 = 60 * SECOND;

impl Sim {
    /// The loop takes what has come.
    pub(super) fn turn(&mut self) {
        self.idle_turns += 1;
        let turned = self.process.turn();
        if self.disk.is_dead() {
            return;
        }
        self.tell_clock();
        let calls = self.network.take_calls();
        let handed_calls = self.take_handed();
        for out in self.network.take_out() {
            match out {
                Out::Bytes(conn, bytes) => self.take_from_gateway(conn, bytes),
                Out::Close(conn) => self.gateway_closes(conn),
            }
        }
        if let (Some(core), Some((broker, limits))) = (self.process.core(), self.process.broker()) {
            let (broker, idle_turns) = (&broker, self.idle_turns);
            let (calls, bounds) = (calls + handed_calls, &self.plan.bounds);
            let seen = Seen::Turned { core: &core, broker, limits, bounds, idle_turns, calls };
            self.book.see(self.time.now(), &seen);
        }
        match turned {
            Turned::On => {}
            Turned::Stopped => {
                self.book.note(self.time.now(), "stopped");
                self.end_process(false);
            }
            Turned::StoreFailed(error) => {
                self.book.note(self.time.now(), &format!("the store failed: {error}"));
                self.count("store-failed");
                self.end_life();
                if self.stopping {
                    return self.end_process(false);
                }
                self.heap.put(self.time.now() + 100 * MILLI, Event::Open);
            }
        }
    }

    fn tell_clock(&mut self) {
        // A gateway whose store failed in this turn is gone, and what it did is yet to be told.
        let gone = self.clock.map(|clock| clock.later(&self.time));
        if let Some(clock) = Clock::of(&self.process, &self.time).or(gone) {
            self.clock = Some(clock);
            self.see(&Seen::Clock(clock));
        }
    }

    /// Schedules what the gateway handed over. Returns how many calls it made.
    fn take_handed(&mut self) -> u32 {
        let handed = self.world.take_handed();
        for event in &handed.events {
            self.core_event(event);
        }
        let (now, life) = (self.time.now(), self.life);
        if let Some(batch) = handed.batch {
            // A card takes its time now and then, and often for what comes first after a start.
            let slow = self.rng.chance(if self.is_fresh { 400_000 } else { 20_000 });
            self.is_fresh = false;
            let wait = self.rng.within(200, if slow { 400 * MILLI } else { 8 * MILLI });
            self.at_store = Some(batch);
            self.heap.put(now + wait, Event::Commit { life });
        }
        for invocation in handed.invocations {
            self.run_attempt(invocation);
        }
        for task in handed.tasks {
            let at = self.later(Row::Tasks, 5 * MILLI, 500 * MILLI);
            self.heap.put(at, Event::Task { life, task: Box::new(task) });
        }
        if let Some(link) = &mut self.link {
            handed.said.into_iter().for_each(|say| link.say(say, now));
        }
        self.flush_link();
        self.cut_at_phase();
        handed.calls
    }

    fn core_event(&mut self, event: &CoreEvent) {
        match event {
            CoreEvent::Shed { .. } => self.count("shed"),
            CoreEvent::Held { .. } => self.count("held"),
            CoreEvent::Repeat { .. } => self.count("repeat"),
            CoreEvent::DeadLettered { .. } => self.count("dead-lettered"),
            CoreEvent::OutboxDropped { .. } => self.count("outbox-dropped"),
            CoreEvent::FunctionPaused { .. } => self.count("paused"),
            CoreEvent::BatchStarted { size: 2.., .. } => self.count("batch"),
            CoreEvent::BatchHalved { .. } => self.count("batch-halved"),
            CoreEvent::OutcomeDiscarded { .. } => self.count("outcome-discarded"),
            _ => {}
        }
        self.see(&Seen::Core(event));
    }

    fn run_attempt(&mut self, invocation: Invocation) {
        let crashed = worker::take(&invocation, |seen| self.see(seen));
        self.running.insert(invocation.attempt, crashed);
        let members = invocation.work.members();
        let wishes = |wish| members.iter().any(|member| has_wish(member, wish));
        let wait = match () {
            () if wishes(Wish::Spin) => LIMIT_US,
            () if wishes(Wish::Linger) => LINGER_US,
            () => self.rng.within(300, 30 * MILLI),
        };
        let (life, invocation) = (self.life, Box::new(invocation));
        self.heap.put(self.time.now() + wait, Event::Attempt { life, invocation });
    }

    /// An attempt is made, at its end: nothing that it reads changes while it holds its lane.
    pub(super) fn attempt(&mut self, invocation: Invocation) {
        let kills = |member: &Member| member.event.hops == 0 && has_wish(member, Wish::Kill);
        if invocation.work.members().iter().any(kills) {
            return self.end_process(false);
        }
        let (jobs, completion) = worker::make(invocation);
        if self.disk.is_dead() {
            return;
        }
        let attempt = completion.attempt;
        self.running.remove(&attempt);
        self.see(&Seen::Ran { jobs: &jobs, attempt });
        self.world.ran(completion);
    }

    /// The store commits what it was given.
    pub(super) fn commit(&mut self) {
        let Some(batch) = self.at_store.take() else { return };
        match self.world.commit(&batch) {
            Some(Ok(())) => self.see(&Seen::Durable(&batch)),
            // A start will tell.
            Some(Err(_)) | None => self.unknown = Some(batch),
        }
    }

    /// Starts the process, or opens the store again.
    pub(super) fn open(&mut self) {
        if self.process.is_open() {
            return;
        }
        let before = self.disk.counts();
        let opened = self.process.open(&mut self.world);
        if self.disk.is_dead() {
            return;
        }
        let found = self.world.life().found.take();
        if let Some((last, found)) = found {
            if let Some(batch) = self.unknown.take().filter(|batch| batch.seq <= last) {
                self.see(&Seen::Durable(&batch));
            }
            self.see(&Seen::Opened { found: &found, last });
        }
        match opened {
            Ok(()) => {
                self.open_failures = 0;
                self.is_fresh = true;
                self.tell_clock();
                let start = self.world.life().link.take();
                let partial = self.world.partial();
                self.link = start.map(|start| SimLink::new(start, partial, self.time.now()));
                let _calls = self.take_handed();
                let is_near = self.rng.chance(300_000);
                let mut most = if is_near { 20 * MILLI } else { 2 * SECOND };
                if self.chance(self.plan.ratios.late_contact) {
                    self.count("late-contact");
                    most = LATE_US_MAX;
                }
                let at = self.time.now() + self.rng.within(MILLI, most);
                self.heap.put(at, Event::LinkConnect { life: self.life });
            }
            Err(error) => {
                let now = self.disk.counts();
                let hindered = now.syncs_failed > before.syncs_failed
                    || now.short_writes > before.short_writes
                    || now.full > before.full
                    || now.sealed > before.sealed;
                self.book.note(self.time.now(), &format!("cannot open: {error}"));
                self.end_life();
                if !hindered {
                    let text = format!("a sound disk, and the store is refused: {error}");
                    return self.book.fail(self.time.now(), "open".to_owned(), text);
                }
                self.open_failures += 1;
                let wait = SECOND * u64::from(self.open_failures.min(15));
                self.heap.put(self.time.now() + wait, Event::Open);
            }
        }
    }

    /// Everything that belongs to one life is over: what is in work is not answered any more.
    fn end_life(&mut self) {
        self.life += 1;
        self.clock = None;
        self.see(&Seen::Died);
        self.at_store = None;
        self.running.clear();
        self.link = None;
        self.link_conn = None;
        self.world.end_life();
        let _ = (self.network.take_out(), self.network.take_calls());
        let conns: Vec<(ConnId, usize)> =
            self.conns.iter().map(|(conn, (device, ..))| (*conn, *device)).collect();
        self.conns.clear();
        for (conn, device) in conns {
            let at = self.later(Row::ToDevice(conn), MILLI, 500 * MILLI);
            self.heap.put(at, Event::Closed(device, conn));
        }
    }

    /// The process is gone, and with `power` all that the disk was not made to keep.
    pub(super) fn end_process(&mut self, power: bool) {
        self.count(if power { "power-cut" } else { "process-end" });
        self.book.note(self.time.now(), if power { "power cut" } else { "process ends" });
        if power {
            self.disk.cut_power();
            self.time.boot_again();
            self.boot_clock();
        } else {
            self.disk.end_process();
            let crashed = std::mem::take(&mut self.running);
            self.world.leave_crumbs(crashed.into_values().collect());
        }
        // With the disk cut off nothing of the old process can write any more.
        self.process = new_process(&self.plan, &self.bug);
        self.end_life();
        self.stopping = false;
        let wait = self.rng.within(300 * MILLI, 5 * SECOND);
        self.heap.put(self.time.now() + wait, Event::Open);
    }

    /// Bytes leave the gateway for a client: acks among them are judged now.
    fn take_from_gateway(&mut self, conn: ConnId, bytes: Vec<u8>) {
        let Some((device, decoder, buffer)) = self.conns.get_mut(&conn) else { return };
        let device = *device;
        buffer.extend_from_slice(&bytes);
        let mut acks = Vec::new();
        while let Some(packet) = decoder.decode(buffer).expect("invariant: the broker speaks MQTT")
        {
            if let Packet::PubAck(ack) | Packet::PubRec(ack) = packet
                && !ack.reason.is_error()
            {
                acks.push(ack.packet_id);
            }
        }
        for packet_id in acks {
            if let Some(no) = self.devices[device].device.number_of(packet_id) {
                let is_durable = self.disk.has_durable(no);
                self.see(&Seen::Acked { no, is_durable });
            }
        }
        let slow = self.devices[device].slow_us;
        let at = self.later(Row::ToDevice(conn), 200, 20 * MILLI + slow);
        self.heap.put(at, Event::ToDevice(device, conn, bytes));
    }

    fn gateway_closes(&mut self, conn: ConnId) {
        let Some((device, ..)) = self.conns.remove(&conn) else { return };
        let at = self.later(Row::ToDevice(conn), 200, 20 * MILLI);
        self.heap.put(at, Event::Closed(device, conn));
    }
}

fn has_wish(member: &Member, wanted: Wish) -> bool {
    payload::decode(&member.event.payload).is_some_and(|(_, wish)| wish == wanted)
}
