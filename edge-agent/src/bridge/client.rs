//! The MQTT session of one device, without I/O: MQTT 5 over a connection that loses nothing.
//!
//! # Invariants
//! - At most [`IN_FLIGHT_MAX`] publishes wait for their PUBACK.
//! - A message from the broker is acked when the caller says so; the broker sends at most [`RECEIVE_MAX`] before that.
//! - After [`Event::Broken`] and [`Event::TakenOver`] the client is of no more use.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use edge_broker::codec::{
    Ack, Connect, Decoder, Packet, PacketId, Publish, ReasonCode, Subscribe, SubscribeOptions,
    Version, encode,
};
use edge_core::message::{Properties, QoS};
use edge_core::topic::{Topic, TopicFilter};

/// Publishes of a device that wait to be durable.
pub(super) const IN_FLIGHT_MAX: usize = 16;
/// Messages for a device that it has not taken yet.
pub(super) const RECEIVE_MAX: u16 = 4;
/// A session is kept as long as the broker keeps any.
const SESSION_EXPIRY_S: u32 = 7 * 24 * 3_600;
/// Room for topic and properties of a packet, beside the payload.
const PACKET_OVERHEAD: usize = 1_024;
/// A packet of the broker is at most this long: it was told less.
const PACKET_BYTES_MAX: usize = 64 << 10;

/// What the broker said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The session is there and subscribed.
    Ready,
    /// The answer to the publish that was given this number.
    Answered { id: u32, reason: ReasonCode },
    /// A message for the device; with a packet id it is to be acked.
    Down { packet: Option<PacketId>, retained: bool, topic: Topic, payload: Bytes },
    /// Another connection speaks for the device now; this one is over.
    TakenOver,
    /// The connection is over.
    Broken(String),
}

/// A publish is longer than the broker takes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// What a publish is about.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) id: u32,
    pub(super) topic: Topic,
    pub(super) payload: Bytes,
    pub(super) properties: Properties,
    pub(super) retain: bool,
}

/// A session.
#[derive(Debug)]
pub(super) struct Client {
    filter: TopicFilter,
    decoder: Decoder,
    buf: BytesMut,
    out: Vec<u8>,
    ready: bool,
    next_packet: u16,
    window: usize,
    /// The longest packet that the broker takes.
    packet_bytes_max: usize,
    in_flight: BTreeMap<PacketId, u32>,
}

const SUBSCRIBE_PACKET: u16 = u16::MAX;

impl Client {
    /// Connects as `device`, which receives messages of at most `message_max` bytes, and subscribes to `filter`.
    pub(super) fn new(device: &str, filter: TopicFilter, message_max: usize) -> Self {
        let packet_max = (message_max + PACKET_OVERHEAD).min(PACKET_BYTES_MAX);
        let connect = Connect {
            clean_start: false,
            session_expiry_s: SESSION_EXPIRY_S,
            receive_max: RECEIVE_MAX,
            packet_bytes_max: u32::try_from(packet_max).ok(),
            ..Connect::new(Version::V5, device)
        };
        let mut out = Vec::new();
        encode(&Packet::Connect(Box::new(connect)), Version::V5, &mut out);
        Self {
            filter,
            decoder: Decoder::client(Version::V5, PACKET_BYTES_MAX),
            buf: BytesMut::new(),
            out,
            ready: false,
            next_packet: 1,
            window: 0,
            packet_bytes_max: usize::MAX,
            in_flight: BTreeMap::new(),
        }
    }

    /// Bytes for the broker.
    pub(super) fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Whether it can publish now.
    pub(super) fn has_room(&self) -> bool {
        self.ready && self.in_flight.len() < self.window
    }

    /// Publishes waiting for their answer.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Publishes with QoS 1.
    ///
    /// # Errors
    /// The packet is longer than the broker takes; nothing was sent.
    pub(super) fn publish(&mut self, publish: Outgoing) -> Result<(), TooLarge> {
        assert!(self.has_room(), "a publish beyond the window");
        let (packet, id) = (self.free_packet(), publish.id);
        self.send_publish(publish, QoS::AtLeastOnce, Some(packet))?;
        self.in_flight.insert(packet, id);
        Ok(())
    }

    /// Publishes with QoS 0: there is no answer.
    ///
    /// # Errors
    /// As [`Client::publish`].
    pub(super) fn publish_at_most_once(&mut self, publish: Outgoing) -> Result<(), TooLarge> {
        self.send_publish(publish, QoS::AtMostOnce, None)
    }

    fn send_publish(
        &mut self,
        publish: Outgoing,
        qos: QoS,
        packet_id: Option<PacketId>,
    ) -> Result<(), TooLarge> {
        let Outgoing { topic, payload, properties, retain, .. } = publish;
        let before = self.out.len();
        self.send(&Packet::Publish(Publish {
            dup: false,
            qos,
            retain,
            topic,
            packet_id,
            expiry_s: None,
            subscription_ids: Vec::new(),
            properties,
            payload,
        }));
        if self.out.len() - before > self.packet_bytes_max {
            self.out.truncate(before);
            return Err(TooLarge);
        }
        Ok(())
    }

    fn free_packet(&mut self) -> PacketId {
        loop {
            let number = self.next_packet;
            self.next_packet = if number >= SUBSCRIBE_PACKET - 1 { 1 } else { number + 1 };
            if let Some(packet) = PacketId::new(number)
                && !self.in_flight.contains_key(&packet)
            {
                return packet;
            }
        }
    }

    /// The device has the message.
    pub(super) fn ack(&mut self, packet: PacketId) {
        self.send(&Packet::PubAck(Ack::ok(packet)));
    }

    fn send(&mut self, packet: &Packet) {
        encode(packet, Version::V5, &mut self.out);
    }

    /// Takes bytes of the broker.
    pub(super) fn receive(&mut self, bytes: &[u8], events: &mut Vec<Event>) {
        self.buf.extend_from_slice(bytes);
        loop {
            match self.decoder.decode(&mut self.buf) {
                Ok(None) => return,
                Ok(Some(packet)) => self.packet(packet, events),
                Err(error) => return events.push(Event::Broken(error.to_string())),
            }
        }
    }

    fn packet(&mut self, packet: Packet, events: &mut Vec<Event>) {
        match packet {
            Packet::ConnAck(connack) if connack.reason == ReasonCode::Success => {
                let window = connack.properties.receive_max.map_or(usize::MAX, usize::from);
                self.window = window.min(IN_FLIGHT_MAX);
                let packet_bytes_max = connack.properties.packet_bytes_max;
                self.packet_bytes_max = packet_bytes_max
                    .and_then(|max| usize::try_from(max).ok())
                    .unwrap_or(usize::MAX);
                let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..Default::default() };
                let packet_id = PacketId::new(SUBSCRIBE_PACKET);
                self.send(&Packet::Subscribe(Subscribe {
                    packet_id: packet_id.expect("invariant: not 0"),
                    subscription_id: None,
                    filters: vec![(self.filter.clone(), options)],
                }));
            }
            Packet::ConnAck(connack) => events.push(Event::Broken(connack.reason.to_string())),
            Packet::SubAck(list) => {
                if list.reasons.iter().any(|reason| reason.is_error()) {
                    // It can publish all the same; what it cannot receive is for the operator to grant.
                    tracing::warn!(filter = %self.filter, "a device on a bus may not subscribe to its messages");
                }
                self.ready = true;
                events.push(Event::Ready);
            }
            Packet::PubAck(ack) => {
                if let Some(id) = self.in_flight.remove(&ack.packet_id) {
                    events.push(Event::Answered { id, reason: ack.reason });
                }
            }
            Packet::Publish(publish) => {
                let Publish { packet_id: packet, retain: retained, topic, payload, .. } = publish;
                events.push(Event::Down { packet, retained, topic, payload });
            }
            Packet::Disconnect(disconnect) if disconnect.reason == ReasonCode::SessionTakenOver => {
                events.push(Event::TakenOver);
            }
            Packet::Disconnect(disconnect) => {
                events.push(Event::Broken(disconnect.reason.to_string()));
            }
            _ => {}
        }
    }
}
