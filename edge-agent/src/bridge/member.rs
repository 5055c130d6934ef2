//! One device on a bus: its link on one side, its MQTT session on the other. Without I/O and clocks.
//!
//! # Invariants
//! - The device hears `Durable` only after the broker's PUBACK; the broker hears PUBACK only after the device took the
//!   message.
//! - What waits here is bounded: publishes by the session's window, messages for the device by its receive maximum
//!   (16 with those of QoS 0), one message in the link. Beyond that the device gets no credit.
//! - If either side ends, so does the other, and both send again what was not answered. After the broker has ended a
//!   session the device is told to wait ([`Holdoff`]).

use device_protocol::serial::{
    ADDRESS_POINT_TO_POINT, Counters, Header, Heard, Hello, MESSAGE_MAX, Refusal, Station,
    StationConfig, Timing, WIRE_MAX, buffered_bytes,
};
use device_protocol::system;

use super::client::Event;
use super::holdoff::Holdoff;
use super::roster::Roster;
use super::session::Session;

const TX: usize = buffered_bytes(MESSAGE_MAX);

/// The gateway's end of a link.
pub(super) type Gate = Station<TX, MESSAGE_MAX>;

/// What a member is made with.
#[derive(Debug)]
pub(super) struct MemberConfig {
    /// Name of its bus, for the log.
    pub(super) bus: String,
    /// Address on a shared bus; `None` on a line with one device.
    pub(super) address: Option<u8>,
    pub(super) timing: Timing,
    pub(super) seed: u64,
    /// The longest payload that the broker takes.
    pub(super) payload_bytes_max: usize,
}

/// A device, or an address where one may be.
#[derive(Debug)]
pub(super) struct Member {
    config: MemberConfig,
    station: Box<Gate>,
    phase: Phase,
    holdoff: Holdoff,
    /// A device was told to wait; it is asked again then.
    ask_at_ms: Option<u64>,
    /// Number of the connection to the broker; what comes from an earlier one is stale.
    call: u32,
    wants_call: bool,
    pub(super) figures: Figures,
}

/// Counts beside those of the link.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    /// Messages of the device that were not taken.
    pub(super) rejected: u64,
    /// Messages for the device that it cannot receive.
    pub(super) undelivered: u64,
}

#[derive(Debug)]
enum Phase {
    Silent,
    /// It said hello; the broker has not answered yet.
    Connecting(Session),
    Up(Session),
}

impl Member {
    pub(super) fn new(config: MemberConfig) -> Self {
        let MemberConfig { address, timing, seed, .. } = config;
        Self {
            config,
            station: Box::new(Station::new(StationConfig { address, timing, seed })),
            phase: Phase::Silent,
            holdoff: Holdoff::default(),
            ask_at_ms: None,
            call: 0,
            wants_call: false,
            figures: Figures::default(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up(_))
    }

    /// Whether a device has spoken of late.
    pub(super) fn is_silent(&self) -> bool {
        matches!(self.phase, Phase::Silent)
    }

    pub(super) fn device(&self) -> Option<&str> {
        match &self.phase {
            Phase::Silent => None,
            Phase::Connecting(session) | Phase::Up(session) => Some(&session.device),
        }
    }

    pub(super) fn counters(&self) -> Counters {
        self.station.counters()
    }

    /// Takes a frame of this address.
    pub(super) fn frame(&mut self, header: &Header, payload: &[u8], roster: &Roster, now_ms: u64) {
        if let Heard::Hello(hello) = self.station.frame(header, payload, now_ms) {
            self.hello(&hello, roster, now_ms);
        }
        self.work(now_ms);
    }

    fn hello(&mut self, hello: &Hello<'_>, roster: &Roster, now_ms: u64) {
        let Hello { device, message_max, .. } = *hello;
        let message_max = usize::try_from(message_max).unwrap_or(usize::MAX);
        if let Phase::Connecting(session) = &self.phase
            && (session.device.as_str(), session.message_max) == (device, message_max)
        {
            return;
        }
        self.end_session("the device began anew");
        let filter = system::down_filter(device).ok().and_then(|filter| filter.parse().ok());
        match (roster.admit(hello), filter) {
            (Ok(()), Some(_)) if self.holdoff.until_ms() > now_ms => {
                self.ask_at_ms = Some(self.holdoff.until_ms());
                self.station.refuse(Refusal::Busy);
            }
            (Ok(()), Some(filter)) => {
                self.call = self.call.wrapping_add(1);
                self.wants_call = true;
                let payload_bytes_max = self.config.payload_bytes_max;
                let session = Session::new(device, filter, message_max, payload_bytes_max);
                self.phase = Phase::Connecting(session);
            }
            (refused, _) => {
                let why = refused.err().unwrap_or("its name makes no topic");
                tracing::info!(device, why, "device on a bus refused");
                self.station.refuse(Refusal::Credential);
            }
        }
    }

    /// The connection to make: its number and the device. Asked once for each.
    pub(super) fn call(&mut self) -> Option<(u32, &str)> {
        if !std::mem::take(&mut self.wants_call) {
            return None;
        }
        let call = self.call;
        self.device().map(|device| (call, device))
    }

    /// Whether this is the connection of now.
    pub(super) fn is_call(&self, call: u32) -> bool {
        self.call == call && !self.is_silent()
    }

    /// The connection is over, or could not be made.
    pub(super) fn hung_up(&mut self, why: &str, now_ms: u64) {
        if self.is_up() {
            self.holdoff.hung_up(now_ms);
        }
        self.end_session(why);
        self.station.close();
    }

    fn end_session(&mut self, why: &str) {
        self.wants_call = false;
        if let Phase::Up(session) = std::mem::replace(&mut self.phase, Phase::Silent) {
            tracing::info!(device = session.device, why, "device on a bus is gone");
        }
    }

    /// Bytes for the broker.
    pub(super) fn take_bytes(&mut self) -> Vec<u8> {
        match &mut self.phase {
            Phase::Silent => Vec::new(),
            Phase::Connecting(session) | Phase::Up(session) => session.client.take_bytes(),
        }
    }

    /// Bytes of the broker.
    pub(super) fn hear_broker(&mut self, bytes: &[u8], now_ms: u64) {
        let mut events = Vec::new();
        match &mut self.phase {
            Phase::Silent => return,
            Phase::Connecting(session) | Phase::Up(session) => {
                session.client.receive(bytes, &mut events);
            }
        }
        for event in events {
            self.event(event, now_ms);
        }
        self.work(now_ms);
    }

    fn event(&mut self, event: Event, now_ms: u64) {
        match event {
            Event::Ready => match std::mem::replace(&mut self.phase, Phase::Silent) {
                Phase::Connecting(session) => {
                    tracing::info!(device = session.device, "device on a bus is here");
                    self.station.accept(session.message_max, now_ms);
                    self.holdoff.up(now_ms);
                    self.phase = Phase::Up(session);
                }
                other => self.phase = other,
            },
            Event::Broken(why) => self.hung_up(&why, now_ms),
            Event::TakenOver => {
                let bus = self.config.bus.as_str();
                let address = self.config.address.unwrap_or(ADDRESS_POINT_TO_POINT);
                let device = self.device().unwrap_or_default();
                tracing::warn!(
                    bus,
                    address,
                    device,
                    "another connection has the name of this device: two devices must not share one"
                );
                self.hung_up("another connection has its name", now_ms);
            }
            Event::Answered { id, reason } => {
                if let Phase::Up(session) = &mut self.phase {
                    session.answers.push_back((id, reason));
                }
            }
            Event::Down { packet, retained, topic, payload } => {
                if let Phase::Up(session) | Phase::Connecting(session) = &mut self.phase {
                    session.down(packet, retained, &topic, payload, &mut self.figures);
                }
            }
        }
    }

    /// Moves what can be moved.
    pub(super) fn work(&mut self, now_ms: u64) {
        if self.ask_at_ms.take_if(|at| *at <= now_ms).is_some() {
            self.station.discover();
        }
        self.station.close_if_lost(now_ms);
        if self.is_up() && !self.station.is_up() {
            self.end_session("its link ended");
        }
        if let Phase::Up(session) = &mut self.phase {
            session.work(&mut self.station, &mut self.figures);
        }
    }

    /// On a shared bus: the device is to get the turn.
    pub(super) fn begin_turn(&mut self, now_ms: u64) {
        self.station.begin_turn(now_ms);
    }

    pub(super) fn transmit(&mut self, now_ms: u64, out: &mut [u8; WIRE_MAX]) -> usize {
        self.station.transmit(now_ms, out)
    }

    pub(super) fn deadline_ms(&self) -> u64 {
        self.station.deadline_ms().min(self.ask_at_ms.unwrap_or(u64::MAX))
    }
}
