//! The gateway's process: turns, what it hands over, its start and its end. As in `simulator`, but
//! that the disk is sound and the network real.

use edge_agent::agent::stepped::Turned;
use edge_agent::runtime::Invocation;
use simulator::plan::Bounds;
use simulator::seen::Clock;
use simulator::time::MILLI;
use simulator::worker;

use super::{Event, Seen, Sim, new_process};

/// Turns in one beat, at most: the rest waits for the next.
const TURNS_MAX: u32 = 64;

impl Sim {
    /// The loop takes what has come.
    pub(super) fn step_gateway(&mut self) {
        for turns in 1..=TURNS_MAX {
            let has_input = self.process.has_input(self.world.has_arrivals());
            let is_due = self.process.due_in().is_some_and(|wait| wait.is_zero());
            if !self.process.is_open() || !(has_input || is_due) {
                return;
            }
            let turned = self.process.turn();
            self.tell_clock();
            let calls = self.take_handed();
            if let (Some(core), Some((broker, limits))) =
                (self.process.core(), self.process.broker())
            {
                self.egress_bytes_max = self.egress_bytes_max.max(broker.egress_bytes);
                let (core, broker, bounds) = (&core, &broker, &Bounds::default());
                let idle_turns = turns;
                let seen = Seen::Turned { core, broker, limits, bounds, idle_turns, calls };
                self.book.see(self.now_us, &seen);
            }
            match turned {
                Turned::On => {}
                Turned::Stopped => self.fail("stop", "nobody asked for a stop".to_owned()),
                Turned::StoreFailed(error) => {
                    self.fail("store", format!("a sound disk, and the store fails: {error}"));
                }
            }
        }
    }

    fn tell_clock(&mut self) {
        if let Some(clock) = Clock::of(&self.process, &self.time) {
            self.see(&Seen::Clock(clock));
        }
    }

    /// Schedules what the gateway handed over. Returns how many calls it made.
    fn take_handed(&mut self) -> u32 {
        let handed = self.world.sim.take_handed();
        for event in &handed.events {
            self.see(&Seen::Core(event));
        }
        let (now, life) = (self.now_us, self.life);
        if let Some(batch) = handed.batch {
            // A card takes its time now and then.
            let slow = self.rng.chance(20_000);
            let wait = self.rng.within(200, if slow { 400 * MILLI } else { 8 * MILLI });
            self.at_store = Some(batch);
            self.put(now + wait, Event::Commit { life });
        }
        for invocation in handed.invocations {
            self.run_attempt(invocation);
        }
        for task in handed.tasks {
            self.task_at_us = self.task_at_us.max(now) + self.rng.within(5 * MILLI, 500 * MILLI);
            self.put(self.task_at_us, Event::Task { life, task: Box::new(task) });
        }
        handed.calls
    }

    fn run_attempt(&mut self, invocation: Invocation) {
        let crashed = worker::take(&invocation, |seen| self.see(seen));
        self.running.insert(invocation.attempt, crashed);
        let at = self.now_us + self.rng.within(300, 30 * MILLI);
        self.put(at, Event::Attempt { life: self.life, invocation: Box::new(invocation) });
    }

    /// An attempt is made, at its end.
    pub(super) fn attempt(&mut self, invocation: Invocation) {
        let (jobs, completion) = worker::make(invocation);
        let attempt = completion.attempt;
        self.running.remove(&attempt);
        self.see(&Seen::Ran { jobs: &jobs, attempt });
        self.world.sim.ran(completion);
    }

    /// The store commits what it was given.
    pub(super) fn commit(&mut self) {
        let Some(batch) = self.at_store.take() else { return };
        match self.world.sim.commit(&batch) {
            Some(Ok(())) => self.see(&Seen::Durable(&batch)),
            Some(Err(_)) | None => self.unknown = Some(batch),
        }
    }

    /// Starts the process.
    pub(super) fn open(&mut self) {
        let opened = self.process.open(&mut self.world);
        let found = self.world.sim.life().found.take();
        if let Some((last, found)) = found {
            if let Some(batch) = self.unknown.take().filter(|batch| batch.seq <= last) {
                self.see(&Seen::Durable(&batch));
            }
            self.see(&Seen::Opened { found: &found, last });
        }
        match opened {
            Ok(()) => {
                self.tell_clock();
                self.take_handed();
            }
            Err(error) => self.fail("open", format!("the gateway does not start: {error}")),
        }
    }

    /// The process is gone for so long; with `power` its host is, and all that the disk was not made
    /// to keep.
    pub(super) fn end_process(&mut self, power: bool, away_us: u64) {
        if !self.process.is_open() {
            return;
        }
        self.count(if power { "gateway-power-cut" } else { "gateway-killed" });
        if power {
            self.disk.cut_power();
        } else {
            self.disk.end_process();
            let crashed = std::mem::take(&mut self.running);
            self.world.sim.leave_crumbs(crashed.into_values().collect());
        }
        // Before anything of it is dropped: a process that is killed says no last words.
        self.life += 1;
        self.world.end_process(power);
        self.process = new_process();
        self.see(&Seen::Died);
        self.at_store = None;
        self.running.clear();
        self.uplink.broken_us = self.now_us;
        self.put(self.now_us + away_us, Event::Open);
    }
}
