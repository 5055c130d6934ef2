//! The load generator: one thread, all connections and the ledger.
//!
//! # Invariants
//! - A packet id is used again only when its message is finished: acked, and its output received
//!   where it has one. So a connection never has more than `in_flight` unfinished messages, and
//!   neither contender can run ahead of its own outputs.
//! - Nothing is counted that a client has not received. The ledger covers the whole load, the
//!   figures only the measured time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mio::{Events, Interest, Poll, Token};

use super::ledger::{Id, Judgement, Ledger, News};
use super::meter::{self, Used};
use super::wire::{Incoming, Wire, append_puback};
use super::workload::{self, Template};

/// Bytes of one read.
const READ_BYTES: usize = 256 << 10;
/// Without any news for so long, what is unfinished is lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a finished load is listened to for repeats.
const AFTERWARDS: Duration = Duration::from_millis(200);
/// Longest wait for the next event.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// One output in so many is compared with its input field by field.
const WHOLE_EVERY: u32 = 997;

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As soon as an earlier one of the connection is finished.
    Closed,
    /// At fixed times, so many a second over all connections.
    PerSecond(u32),
}

/// A load.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The broker.
    pub address: SocketAddr,
    /// Publishing connections; one more subscribes.
    pub connections: u16,
    /// Unfinished messages of each, at most.
    pub in_flight: u16,
    /// When messages are sent.
    pub pace: Pace,
    /// Before anything is measured.
    pub warm_up: Duration,
    /// What the figures are from.
    pub measured: Duration,
    /// Processes under load.
    pub pids: Vec<u32>,
}

/// What a load came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// By the ledger, over the whole load.
    pub judgement: Judgement,
    /// Messages finished in the measured time.
    pub finished: u64,
    /// The measured time.
    pub window: Duration,
    /// What the processes used in it.
    pub used: Used,
    /// From sending a message to its output, in microseconds, ascending; of the measured time.
    pub latencies_us: Vec<u32>,
}

#[derive(Debug)]
struct Publisher {
    wire: Wire,
    template: Template,
    slots: Vec<Option<Slot>>,
    free: Vec<u16>,
}

/// A message under way; its packet id is the place of its slot plus one.
#[derive(Clone, Copy, Debug)]
struct Slot {
    n: u32,
    sent_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    WarmingUp,
    Measuring { since: Instant, before: Used },
    Draining,
}

struct Load<'a> {
    plan: &'a Plan,
    publishers: Vec<Publisher>,
    subscriber: Wire,
    ledger: Ledger,
    stage: Stage,
    /// Messages under way.
    open: usize,
    /// Connections to be flushed.
    dirty: Vec<u16>,
    last_news: Instant,
    finished: u64,
    window: Duration,
    used: Used,
    latencies_us: Vec<u32>,
    /// Messages sent at fixed times so far, and since when.
    paced: u32,
    begun: Instant,
}

/// Runs a load to its end.
///
/// # Errors
/// A connection is refused or lost, or a process under load has ended.
pub fn run(plan: &Plan) -> Result<Outcome> {
    let mut poll = Poll::new()?;
    let mut load = Load::connect(plan, &poll)?;
    let mut events = Events::with_capacity(1_024);
    let mut scratch = vec![0; READ_BYTES];
    load.begun = Instant::now();
    load.last_news = load.begun;
    loop {
        let now = Instant::now();
        load.turn_stage(now)?;
        if load.stage == Stage::Draining && load.is_over(now) {
            break;
        }
        let wait = load.send(now)?;
        load.flush()?;
        match poll.poll(&mut events, Some(wait)) {
            Err(err) if err.kind() != std::io::ErrorKind::Interrupted => return Err(err.into()),
            _ => {}
        }
        for event in &events {
            load.event(event.token().0, &mut scratch)?;
        }
        load.flush()?;
    }
    load.latencies_us.sort_unstable();
    Ok(Outcome {
        judgement: load.ledger.judge(),
        finished: load.finished,
        window: load.window,
        used: load.used,
        latencies_us: load.latencies_us,
    })
}

impl<'a> Load<'a> {
    fn connect(plan: &'a Plan, poll: &Poll) -> Result<Self> {
        let mut publishers = Vec::with_capacity(plan.connections.into());
        let both = Interest::READABLE | Interest::WRITABLE;
        let mut subscriber =
            Wire::connect(plan.address, "bench-subscriber", 1, Some(workload::OUTPUTS))?;
        let token = Token(plan.connections.into());
        poll.registry().register(&mut subscriber.stream, token, both)?;
        for n in 0..plan.connections {
            let wire = Wire::connect(plan.address, &format!("bench-{n}"), plan.in_flight, None);
            let mut wire = wire.with_context(|| format!("connection {n}"))?;
            poll.registry().register(&mut wire.stream, Token(n.into()), both)?;
            publishers.push(Publisher {
                wire,
                template: Template::new(n)?,
                slots: vec![None; plan.in_flight.into()],
                free: (0..plan.in_flight).rev().collect(),
            });
        }
        Ok(Self {
            plan,
            publishers,
            subscriber,
            ledger: Ledger::new(plan.connections.into()),
            stage: Stage::WarmingUp,
            open: 0,
            dirty: (0..plan.connections).collect(),
            last_news: Instant::now(),
            finished: 0,
            window: Duration::ZERO,
            used: Used::default(),
            latencies_us: Vec::new(),
            paced: 0,
            begun: Instant::now(),
        })
    }

    fn turn_stage(&mut self, now: Instant) -> Result<()> {
        match self.stage {
            Stage::WarmingUp if now >= self.begun + self.plan.warm_up => {
                let before = meter::used(&self.plan.pids)?;
                (self.finished, self.latencies_us) = (0, Vec::new());
                self.stage = Stage::Measuring { since: now, before };
            }
            Stage::Measuring { since, before } if now >= since + self.plan.measured => {
                self.used = meter::used(&self.plan.pids)?.since(before);
                self.window = now - since;
                self.stage = Stage::Draining;
            }
            _ => {}
        }
        Ok(())
    }

    fn is_over(&self, now: Instant) -> bool {
        let quiet = now.duration_since(self.last_news);
        quiet >= PATIENCE || (self.open == 0 && quiet >= AFTERWARDS)
    }

    /// Sends what may be sent now. Returns how long nothing more is due.
    fn send(&mut self, now: Instant) -> Result<Duration> {
        if self.stage == Stage::Draining {
            return Ok(AFTERWARDS);
        }
        // In a closed loop a connection has room only after news of it: see `flush`.
        let Pace::PerSecond(rate) = self.plan.pace else { return Ok(WAIT_MAX) };
        loop {
            let due = self.begun + Duration::from_secs(1) * self.paced / rate;
            if due > now {
                return Ok((due - now).min(WAIT_MAX));
            }
            let connection = u16::try_from(self.paced % u32::from(self.plan.connections))?;
            if !self.publish(connection, now) {
                bail!("{rate} messages/s are more than it can take: all packet ids are in use");
            }
            self.dirty.push(connection);
            self.paced += 1;
        }
    }

    /// Sends one message, if a packet id is free.
    fn publish(&mut self, connection: u16, now: Instant) -> bool {
        let publisher = &mut self.publishers[usize::from(connection)];
        let Some(slot) = publisher.free.pop() else { return false };
        let n = self.ledger.sent(connection, workload::has_output);
        publisher.slots[usize::from(slot)] = Some(Slot { n, sent_at: now });
        publisher.template.append(n, slot + 1, &mut publisher.wire.out);
        self.open += 1;
        true
    }

    fn event(&mut self, token: usize, scratch: &mut [u8]) -> Result<()> {
        if token == self.publishers.len() {
            return self.outputs(scratch);
        }
        let publisher = &mut self.publishers[token];
        let connection = u16::try_from(token)?;
        let Publisher { wire, slots, free, .. } = publisher;
        let (mut finished, mut acks) = (0, 0);
        let read = wire.read(scratch, |incoming, _| {
            let Incoming::Acked { packet_id, taken: true } = incoming else {
                self.ledger.strange();
                return;
            };
            acks += 1;
            let slot = packet_id.wrapping_sub(1);
            let Some(Some(Slot { n, .. })) = slots.get(usize::from(slot)).copied() else {
                self.ledger.strange();
                return;
            };
            if self.ledger.acked(Id { connection, n }) == News::Finished {
                slots[usize::from(slot)] = None;
                free.push(slot);
                finished += 1;
            }
        });
        read.with_context(|| format!("connection {connection}"))?;
        self.note(finished, acks);
        self.dirty.push(connection);
        Ok(())
    }

    fn outputs(&mut self, scratch: &mut [u8]) -> Result<()> {
        let now = Instant::now();
        let (mut finished, mut received) = (0, 0);
        let draining = self.stage == Stage::Draining;
        let Self { subscriber, ledger, publishers, dirty, latencies_us, .. } = self;
        let read = subscriber.read(scratch, |incoming, out| {
            let Incoming::Message { packet_id, payload } = incoming else {
                ledger.strange();
                return;
            };
            received += 1;
            append_puback(packet_id, out);
            let Some((id, true)) = workload::judge_output(payload) else {
                ledger.strange();
                return;
            };
            if id.n % WHOLE_EVERY == 1 && !workload::is_whole(id, payload) {
                ledger.strange();
            }
            let news = ledger.received(id);
            let Some(publisher) = publishers.get_mut(usize::from(id.connection)) else { return };
            let of_id = |slot: &Option<Slot>| slot.is_some_and(|slot| slot.n == id.n);
            // A repeat has no slot any more.
            let Some(at) = publisher.slots.iter().position(of_id) else { return };
            if news == News::Nothing {
                return;
            }
            if let Some(slot) = publisher.slots[at]
                && !draining
            {
                let us = now.duration_since(slot.sent_at).as_micros();
                latencies_us.push(u32::try_from(us).unwrap_or(u32::MAX));
            }
            if news == News::Finished {
                publisher.slots[at] = None;
                publisher.free.push(u16::try_from(at).unwrap_or_default());
                dirty.push(id.connection);
                finished += 1;
            }
        });
        read.context("the subscriber")?;
        self.note(finished, received);
        Ok(())
    }

    fn note(&mut self, finished: usize, news: usize) {
        self.open -= finished;
        if self.stage != Stage::Draining {
            self.finished += finished as u64;
        }
        if news > 0 {
            self.last_news = Instant::now();
        }
    }

    /// Writes what is queued; connections with room are filled first.
    fn flush(&mut self) -> Result<()> {
        self.dirty.sort_unstable();
        self.dirty.dedup();
        for n in std::mem::take(&mut self.dirty) {
            if self.plan.pace == Pace::Closed && self.stage != Stage::Draining {
                let now = Instant::now();
                while self.publish(n, now) {}
            }
            let flushed = self.publishers[usize::from(n)].wire.flush();
            flushed.with_context(|| format!("connection {n}"))?;
        }
        self.subscriber.flush().context("the subscriber")
    }
}
