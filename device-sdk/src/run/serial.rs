//! A device on a serial line: the same queue, duties and promises over `device_protocol::serial` in place of MQTT.
//!
//! # Invariants
//! - As in the other mode: only this task touches the queue, and a record is popped from the front, after the gateway
//!   said that it is durable.
//! - What is dropped by a `select` waits for bytes, for news or for time; nothing of the queue, nothing half written.

use device_protocol::serial::{Device as Line, FromDevice, FromGateway, SendError, WIRE_MAX};
use device_protocol::{Down, serial};
use embassy_futures::join::join;
use embassy_futures::select::select3;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::mutex::Mutex;
use embassy_time::{Instant, Timer};
use embedded_io_async::{Read, Write};
use heapless::Vec;

use super::Link;
use super::duties::{Duties, Outgoing};
use super::store::{self, Shelf};
use crate::app::{App, Settled};
use crate::backoff::{Backoff, BackoffConfig};
use crate::config::Config;
use crate::device::Device;
use crate::flight::{Flight, Load, UNKNOWN};
use crate::limits::IN_FLIGHT_MAX;
use crate::queue::Queue;
use crate::record;
use crate::state::{State, Trouble};

/// Bytes taken from the port at once.
const READ_BYTES: usize = 64;
/// Wait after a failure of the port or of the queue.
const RETRY_MS: u64 = 1_000;
/// Waits after the gateway refused a message for now.
const REFUSED: BackoffConfig = BackoffConfig { min_ms: 1_000, max_ms: 60_000 };
/// Reason codes of MQTT 5 that do not change by waiting: topic name invalid, packet too large, payload format invalid.
const FOR_GOOD: [u8; 3] = [0x90, TOO_LARGE, 0x99];
const TOO_LARGE: u8 = 0x95;
/// Not authorized: a record waits until somebody allows it. What says nothing of records does not hold them up.
const NOT_AUTHORIZED: u8 = 0x87;
/// Longest wait without a look at everything, in milliseconds.
const WAIT_MAX_MS: u64 = 60_000;

impl Device<'_> {
    /// Runs the device over a serial line, for ever, in place of [`Device::run`]. To be called once, by one task.
    ///
    /// `line` is the end of the line, with address and credential; its `TX` and `RX` take the place of those of
    /// [`crate::Memory`], which may be their smallest here. Writes are flushed after each turn, for transceivers that
    /// must be switched.
    pub async fn run_serial<Q: Queue, R: Read, W: Write, const TX: usize, const RX: usize>(
        &self,
        link: Link<'_>,
        line: &mut Line<'_, TX, RX>,
        queue: &mut Q,
        port: (R, W),
        app: &mut dyn App,
    ) -> core::convert::Infallible {
        let Link { config, staging, scratch, .. } = link;
        let shelf = Mutex::<NoopRawMutex, _>::new(Shelf::new(queue));
        let mut end = End::new(self, &config, &shelf, scratch, app, line);
        let (reader, writer) = port;
        join(store::run(self, &shelf, staging), end.run(reader, writer)).await.0
    }
}

struct End<'r, 'a, 's, 'q, 'l, 'c, Q, const TX: usize, const RX: usize> {
    device: &'r Device<'a>,
    shelf: &'r Mutex<NoopRawMutex, Shelf<'q, Q>>,
    scratch: &'s mut [u8],
    app: &'r mut dyn App,
    flight: Flight<u32>,
    duties: Duties,
    line: &'l mut Line<'c, TX, RX>,
    /// Life of the link that the flight belongs to.
    life: u32,
    next_id: u32,
    /// What the gateway has answered and is not settled.
    answered: Vec<(u32, Settled), IN_FLIGHT_MAX>,
    /// Nothing is sent before this.
    resume_ms: u64,
    backoff: Backoff,
    /// Why nothing is sent, while that is a refusal: reason code and wait.
    refused: Option<(u8, u32)>,
    /// Something in flight was refused for now: the flight is to begin anew behind what was answered before it.
    is_refused: bool,
}

/// What was found to send.
enum Found {
    Record(usize),
    System(Outgoing),
}

impl<'r, 'a, 's, 'q, 'l, 'c, Q: Queue, const TX: usize, const RX: usize>
    End<'r, 'a, 's, 'q, 'l, 'c, Q, TX, RX>
{
    fn new(
        device: &'r Device<'a>,
        config: &Config<'_>,
        shelf: &'r Mutex<NoopRawMutex, Shelf<'q, Q>>,
        scratch: &'s mut [u8],
        app: &'r mut dyn App,
        line: &'l mut Line<'c, TX, RX>,
    ) -> Self {
        Self {
            device,
            shelf,
            scratch,
            app,
            flight: Flight::new(),
            duties: Duties::new(config),
            line,
            life: 0,
            next_id: 0,
            answered: Vec::new(),
            resume_ms: 0,
            backoff: Backoff::new(REFUSED, device.boot()),
            refused: None,
            is_refused: false,
        }
    }

    async fn run<R: Read, W: Write>(
        &mut self,
        mut reader: R,
        mut writer: W,
    ) -> core::convert::Infallible {
        let mut buf = [0; READ_BYTES];
        let mut shown = None;
        loop {
            let seen = self.device.changes();
            let state = self.state();
            if shown != Some(state) {
                shown = Some(state);
                self.device.change(|facts| facts.state = state);
                self.app.state(state);
            }
            // A turn is short, and the queue's memory may be slow: what the link has already goes first.
            let mut spoken = self.speak(&mut writer).await;
            let mut is_full = false;
            if spoken.is_ok() {
                self.settle().await;
                is_full = self.fill().await;
                spoken = self.speak(&mut writer).await;
            }
            if spoken.is_err() {
                Timer::after_millis(RETRY_MS).await;
                continue;
            }
            let wait = Timer::at(self.due(is_full));
            let device = self.device;
            let news = device.bell.until_running(|| (device.changes() != seen).then_some(()));
            match select3(reader.read(&mut buf), news, wait).await {
                embassy_futures::select::Either3::First(Ok(length)) => self.hear(&buf[..length]),
                // A broken byte, which the checksum finds; not a reason to spin.
                embassy_futures::select::Either3::First(Err(_)) => Timer::after_millis(1).await,
                _ => {}
            }
        }
    }

    fn due(&self, is_full: bool) -> Instant {
        let now_ms = now_ms();
        let mut due_ms = self.line.deadline_ms().min(now_ms + WAIT_MAX_MS);
        if self.line.state() == serial::State::Up && !is_full {
            due_ms = due_ms.min(self.duties.due_ms(self.device));
        }
        if self.resume_ms > now_ms {
            due_ms = due_ms.min(self.resume_ms);
        }
        Instant::from_millis(due_ms)
    }

    /// Writes what the line has to say now.
    async fn speak<W: Write>(&mut self, writer: &mut W) -> Result<(), W::Error> {
        let mut frame = [0; WIRE_MAX];
        let mut wrote = false;
        loop {
            let length = self.line.transmit(now_ms(), &mut frame);
            if length == 0 {
                break;
            }
            writer.write_all(&frame[..length]).await?;
            wrote = true;
        }
        if wrote { writer.flush().await } else { Ok(()) }
    }

    fn hear(&mut self, mut bytes: &[u8]) {
        loop {
            bytes = &bytes[self.line.receive(bytes, now_ms())..];
            let Some(message) = self.line.message() else { return };
            let made_sense = match message {
                // To what was sent before a new start.
                Ok(FromGateway::Durable { id } | FromGateway::Rejected { id, .. })
                    if !self.flight.any(|other| *other == id) =>
                {
                    true
                }
                Ok(FromGateway::Durable { id }) => self.answered.push((id, Settled::Acked)).is_ok(),
                Ok(FromGateway::Rejected { id, reason })
                    if FOR_GOOD.contains(&reason)
                        || (reason == NOT_AUTHORIZED
                            && self.flight.load(&id) != Some(Load::Record)) =>
                {
                    self.answered.push((id, Settled::Refused(reason))).is_ok()
                }
                // What comes behind it is sent again with it.
                Ok(FromGateway::Rejected { .. }) if self.is_refused => true,
                Ok(FromGateway::Rejected { reason, .. }) => {
                    let wait_ms = self.backoff.next_ms();
                    (self.is_refused, self.refused) = (true, Some((reason, wait_ms)));
                    self.resume_ms = now_ms() + u64::from(wait_ms);
                    true
                }
                Ok(FromGateway::System { down }) => Down::decode(down)
                    .is_ok_and(|down| self.duties.receive(self.device, self.app, &down, false)),
                Err(_) => false,
            };
            self.line.take();
            if !made_sense {
                self.device.facts(|facts| facts.figures.ignored += 1);
            }
        }
    }

    /// Takes what is durable out of the flight, and records out of the queue.
    async fn settle(&mut self) {
        let life = self.line.counters().lives;
        if life != self.life {
            self.life = life;
            self.start_anew();
            self.device.facts(|facts| facts.figures.connects += 1);
        }
        if self.flight.is_empty() {
            return;
        }
        let mut shelf = self.shelf.lock().await;
        self.flight.dropped(core::mem::take(&mut shelf.dropped));
        let (mut acked, mut refused, mut is_settled) = (0, 0, false);
        loop {
            let place = core::cell::Cell::new(None);
            let answered = &self.answered;
            let is_answered = |id: &u32| {
                place.set(answered.iter().position(|(other, _)| other == id));
                place.get().is_some()
            };
            let Some(load) = self.flight.settle(is_answered) else { break };
            let place = place.get().expect("invariant: just found");
            let (_, settled) = self.answered.swap_remove(place);
            is_settled = true;
            match settled {
                Settled::Refused(_) => refused += 1,
                Settled::Acked if matches!(load, Load::Record | Load::Dropped) => acked += 1,
                Settled::Acked => {}
            }
            if load != Load::Record {
                self.duties.settled(self.device, load);
                continue;
            }
            self.app.settled(settled);
            if shelf.queue.pop().await.is_err() {
                // Whether it is out of the queue is not known: what is in flight pops nothing any more.
                self.flight.dropped(UNKNOWN);
                self.device.facts(|facts| facts.figures.queue_failures += 1);
            }
        }
        let queued = shelf.queue.len();
        drop(shelf);
        if acked > 0 {
            self.backoff.reset();
        }
        if self.is_refused {
            self.start_anew();
        }
        if is_settled {
            self.device.change(|facts| {
                facts.figures.acked += acked;
                facts.figures.refused += refused;
                facts.figures.queued = queued;
            });
        }
    }

    /// What was in flight is sent again, from the front of the queue.
    fn start_anew(&mut self) {
        self.flight.clear();
        self.duties.lost(self.device);
        self.answered.clear();
        self.is_refused = false;
    }

    /// Hands messages to the link while there is room. True if there is none left.
    async fn fill(&mut self) -> bool {
        let is_up = self.line.state() == serial::State::Up;
        if self.resume_ms <= now_ms() {
            self.refused = None;
        }
        while is_up && self.resume_ms <= now_ms() {
            if !self.flight.has_room() {
                return true;
            }
            let Some(found) = self.find().await else { return false };
            match self.send(&found) {
                Ok(()) => {}
                Err(SendError::TooLong) => self.discard(found).await,
                Err(SendError::Full | SendError::Down) => {
                    if let Found::System(message) = found {
                        self.duties.unsent(self.device, message.load);
                    }
                    return true;
                }
            }
        }
        false
    }

    fn send(&mut self, found: &Found) -> Result<(), SendError> {
        let id = self.next_id;
        let load = match found {
            Found::System(message) => {
                let up = &self.scratch[..message.length];
                self.line.send(&FromDevice::System { id, up })?;
                message.load
            }
            Found::Record(length) => {
                // One that is none is discarded like one that is too long.
                let (topic, envelope) =
                    record::read(&self.scratch[..*length]).ok_or(SendError::TooLong)?;
                self.line.send(&FromDevice::Publish { id, topic, envelope })?;
                Load::Record
            }
        };
        self.next_id = self.next_id.wrapping_add(1);
        self.flight.sent(id, load);
        Ok(())
    }

    /// Puts the next message into the buffer.
    async fn find(&mut self) -> Option<Found> {
        let out = &mut *self.scratch;
        if let Some(message) = self.duties.next(self.device, self.app, now_ms(), out) {
            return Some(Found::System(message));
        }
        let mut shelf = self.shelf.lock().await;
        self.flight.dropped(core::mem::take(&mut shelf.dropped));
        match shelf.peek(self.flight.records(), out).await {
            Ok(Some(length)) => return Some(Found::Record(length)),
            Ok(None) => {}
            Err(_) => {
                self.device.facts(|facts| facts.figures.queue_failures += 1);
                self.resume_ms = now_ms() + RETRY_MS;
            }
        }
        drop(shelf);
        #[cfg(not(feature = "logs"))]
        let note = None;
        #[cfg(feature = "logs")]
        let note = self.duties.next_note(self.device, self.flight.notes(), now_ms(), self.scratch);
        note.map(Found::System)
    }

    /// A message that this line cannot carry ends here, counted.
    async fn discard(&mut self, found: Found) {
        match found {
            Found::System(message) => self.duties.settled(self.device, message.load),
            // Behind others it waits until it is the first of the queue.
            Found::Record(_) if self.flight.records() > 0 => {
                self.resume_ms = now_ms() + RETRY_MS;
                return;
            }
            Found::Record(_) => {
                let mut shelf = self.shelf.lock().await;
                if shelf.dropped > 0 {
                    // It may be the one that the full queue has dropped meanwhile.
                    return;
                }
                self.app.settled(Settled::Refused(TOO_LARGE));
                let _ = shelf.queue.pop().await;
                let queued = shelf.queue.len();
                drop(shelf);
                self.device.change(|facts| facts.figures.queued = queued);
            }
        }
        self.device.facts(|facts| facts.figures.refused += 1);
    }

    fn state(&self) -> State {
        match (self.line.state(), self.refused) {
            (serial::State::Up, Some((reason, retry_ms))) if self.resume_ms > now_ms() => {
                State::Offline { trouble: Trouble::Refused(reason), retry_ms }
            }
            (serial::State::Up, _) => State::Online { resumed: false },
            (serial::State::Seeking, _) => State::Connecting,
            (serial::State::Refused(_), _) => {
                State::Offline { trouble: Trouble::Refused(NOT_AUTHORIZED), retry_ms: 0 }
            }
        }
    }
}

fn now_ms() -> u64 {
    Instant::now().as_millis()
}

#[cfg(test)]
mod tests;
