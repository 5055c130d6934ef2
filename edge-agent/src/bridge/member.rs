//! One device on a bus: its link on one side, its MQTT session on the other. Without I/O and clocks.
//!
//! # Invariants
//! - The device hears `Durable` only after the broker's PUBACK; the broker hears PUBACK only after the device took the
//!   message.
//! - What waits here is bounded: publishes by the session's window, messages for the device by its receive maximum
//!   ([`DOWNS_MAX`] with those of QoS 0), one message in the link. Beyond that the device gets no credit.
//! - If either side ends, so does the other, and both send again what was not answered.

use std::collections::VecDeque;

use bytes::Bytes;
use device_protocol::serial::{
    Counters, FromDevice, FromGateway, Header, Heard, Hello, MESSAGE_MAX, Refusal, SendError,
    Station, StationConfig, Timing, WIRE_MAX, buffered_bytes,
};
use device_protocol::{CONTENT_TYPE, Down, Envelope, Up, system};
use edge_broker::codec::{PacketId, ReasonCode};
use edge_core::message::{PROPERTY_BOOT_ID, PROPERTY_SEQUENCE, Properties};
use edge_core::topic::Topic;

use super::client::{Client, Event, IN_FLIGHT_MAX, Outgoing};
use super::roster::Roster;

/// Messages for a device that wait here; further ones of QoS 0 are dropped.
const DOWNS_MAX: usize = 16;
/// With so few places left the device is asked to wait: what is under way still comes.
const PLACES_LEFT: usize = 4;

const TX: usize = buffered_bytes(MESSAGE_MAX);

/// A device, or an address where one may be.
#[derive(Debug)]
pub(super) struct Member {
    station: Box<Station<TX, MESSAGE_MAX>>,
    phase: Phase,
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

#[derive(Debug)]
struct Session {
    device: String,
    message_max: usize,
    client: Client,
    /// Answers that the link had no room for.
    answers: VecDeque<(u32, ReasonCode)>,
    downs: VecDeque<(Option<PacketId>, Bytes)>,
    /// What the link has and the device did not take yet, in order; with the packet that is to be acked then.
    under_way: VecDeque<Option<PacketId>>,
    acked: u32,
}

/// What a message of the device comes to.
enum Upward {
    Publish(Outgoing),
    AtMostOnce(Outgoing),
    Reject(u32, ReasonCode),
    /// Not even a number to answer.
    Unreadable,
}

impl Member {
    pub(super) fn new(address: Option<u8>, timing: Timing, seed: u64) -> Self {
        Self {
            station: Box::new(Station::new(StationConfig { address, timing, seed })),
            phase: Phase::Silent,
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
            self.hello(&hello, roster);
        }
        self.work(now_ms);
    }

    fn hello(&mut self, hello: &Hello<'_>, roster: &Roster) {
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
            (Ok(()), Some(filter)) => {
                self.call = self.call.wrapping_add(1);
                self.wants_call = true;
                self.phase = Phase::Connecting(Session {
                    device: device.to_owned(),
                    message_max,
                    client: Client::new(device, filter, message_max),
                    answers: VecDeque::new(),
                    downs: VecDeque::new(),
                    under_way: VecDeque::new(),
                    acked: 0,
                });
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
    pub(super) fn hung_up(&mut self, why: &str) {
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
    pub(super) fn from_broker(&mut self, bytes: &[u8], now_ms: u64) {
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
                    self.phase = Phase::Up(session);
                }
                other => self.phase = other,
            },
            Event::Broken(why) => self.hung_up(&why),
            Event::Answered { id, reason } => {
                if let Phase::Up(session) = &mut self.phase {
                    session.answers.push_back((id, reason));
                }
            }
            Event::Down { packet, retained, payload } => self.down(packet, retained, payload),
        }
    }

    /// A message for the device.
    fn down(&mut self, packet: Option<PacketId>, retained: bool, payload: Bytes) {
        let (Phase::Up(session) | Phase::Connecting(session)) = &mut self.phase else { return };
        let is_sound = match Down::decode(&payload) {
            // A command that is kept would be done again at each connection.
            Ok(Down::Command(_)) => !retained,
            Ok(_) => true,
            Err(_) => false,
        };
        if is_sound && (packet.is_some() || session.downs.len() < DOWNS_MAX) {
            session.downs.push_back((packet, payload));
        } else {
            self.figures.undelivered += 1;
            packet.into_iter().for_each(|packet| session.client.ack(packet));
        }
    }

    /// Moves what can be moved.
    pub(super) fn work(&mut self, now_ms: u64) {
        self.station.close_if_lost(now_ms);
        if self.is_up() && !self.station.is_up() {
            self.end_session("its link ended");
        }
        let Phase::Up(session) = &mut self.phase else { return };
        session.downward(&mut self.station, &mut self.figures);
        while session.has_room()
            && let Some(message) = self.station.message()
        {
            let upward = message.map_or(Upward::Unreadable, |message| session.upward(&message));
            match upward {
                Upward::Publish(publish) => session.client.publish(publish),
                Upward::AtMostOnce(publish) => {
                    session.answers.push_back((publish.id, ReasonCode::Success));
                    session.client.publish_at_most_once(publish);
                }
                Upward::Reject(id, reason) => {
                    self.figures.rejected += 1;
                    session.answers.push_back((id, reason));
                }
                Upward::Unreadable => self.figures.rejected += 1,
            }
            self.station.take();
            session.downward(&mut self.station, &mut self.figures);
        }
        let waiting = session.client.in_flight() + session.answers.len();
        self.station.hold(waiting + PLACES_LEFT > IN_FLIGHT_MAX);
    }

    /// On a shared bus: the device is to get the turn.
    pub(super) fn begin_turn(&mut self) {
        self.station.begin_turn();
    }

    pub(super) fn transmit(&mut self, now_ms: u64, out: &mut [u8; WIRE_MAX]) -> usize {
        self.station.transmit(now_ms, out)
    }

    pub(super) fn deadline_ms(&self) -> u64 {
        self.station.deadline_ms()
    }
}

impl Session {
    fn has_room(&self) -> bool {
        self.client.has_room() && self.client.in_flight() + self.answers.len() < IN_FLIGHT_MAX
    }

    /// Towards the device.
    fn downward(&mut self, station: &mut Station<TX, MESSAGE_MAX>, figures: &mut Figures) {
        while self.acked != station.messages_acked() {
            self.acked = self.acked.wrapping_add(1);
            if let Some(Some(packet)) = self.under_way.pop_front() {
                self.client.ack(packet);
            }
        }
        while let Some((id, reason)) = self.answers.front().copied() {
            let answer = if reason.is_error() {
                FromGateway::Rejected { id, reason: reason.as_u8() }
            } else {
                FromGateway::Durable { id }
            };
            if station.send(&answer).is_err() {
                return;
            }
            self.under_way.push_back(None);
            self.answers.pop_front();
        }
        while let Some((packet, payload)) = self.downs.front() {
            match station.send(&FromGateway::System { down: payload }) {
                Ok(_) => self.under_way.push_back(*packet),
                Err(SendError::Full | SendError::Down) => return,
                Err(SendError::TooLong) => {
                    figures.undelivered += 1;
                    packet.iter().for_each(|packet| self.client.ack(*packet));
                }
            }
            self.downs.pop_front();
        }
    }

    fn upward(&self, message: &FromDevice<'_>) -> Upward {
        match *message {
            FromDevice::Publish { id, topic, envelope } => {
                let Ok(topic) = Topic::new(topic) else {
                    return Upward::Reject(id, ReasonCode::TopicNameInvalid);
                };
                let Ok(read) = Envelope::decode(envelope) else {
                    return Upward::Reject(id, ReasonCode::PayloadFormatInvalid);
                };
                if read.device != self.device {
                    return Upward::Reject(id, ReasonCode::NotAuthorized);
                }
                let properties = Properties {
                    content_type: Some(CONTENT_TYPE.to_owned()),
                    user: vec![
                        (PROPERTY_BOOT_ID.to_owned(), format!("{:016x}", read.boot)),
                        (PROPERTY_SEQUENCE.to_owned(), read.sequence.to_string()),
                    ],
                    ..Properties::default()
                };
                let payload = Bytes::copy_from_slice(envelope);
                Upward::Publish(Outgoing { id, topic, payload, properties, retain: false })
            }
            FromDevice::System { id, up } => {
                let Ok(read) = Up::decode(up) else {
                    return Upward::Reject(id, ReasonCode::PayloadFormatInvalid);
                };
                let topic = read.topic(&self.device).ok().and_then(|t| Topic::new(t.as_str()).ok());
                let Some(topic) = topic else {
                    return Upward::Reject(id, ReasonCode::TopicNameInvalid);
                };
                let publish = Outgoing {
                    id,
                    topic,
                    payload: Bytes::copy_from_slice(up),
                    properties: Properties::default(),
                    retain: read.is_retained(),
                };
                // The time is of no use after a wait for the disk.
                match read {
                    Up::TimeRequest(_) => Upward::AtMostOnce(publish),
                    _ => Upward::Publish(publish),
                }
            }
        }
    }
}
