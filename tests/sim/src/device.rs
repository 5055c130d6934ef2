//! Scripted devices: MQTT clients that keep what was not acked and send it again, over connections
//! that break. They speak real packets through the broker's codec.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use edge_broker::broker::ConnId;
use edge_broker::codec::{
    Ack, ConnAck, Connect, Decoder, Packet, PacketId, Publish, Subscribe, SubscribeOptions,
    Version, encode,
};
use edge_core::message::{PROPERTY_BOOT_ID, PROPERTY_SEQUENCE, Properties, QoS};
use edge_core::topic::{Topic, TopicFilter};

use crate::payload::{self, MessageNo};
use crate::seen::Promise;

/// Messages that a device keeps at most.
const OUTBOX_MAX: usize = 12;

/// How a device behaves, for all its life.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Protocol version; message ids need version 5.
    pub version: Version,
    /// Its session outlives its connections, and it is subscribed to what comes of its messages.
    pub keeps_session: bool,
    /// It numbers its messages.
    pub has_ids: bool,
    /// Quality of service of its publishes.
    pub qos: QoS,
    /// Seconds after which it has to be heard of; 0: never.
    pub keep_alive_s: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not sent on this connection.
    Waiting,
    /// Sent; `PUBACK` or `PUBREC` is awaited.
    Sent,
    /// `PUBREC` came; `PUBCOMP` is awaited.
    Released,
}

#[derive(Clone, Debug)]
struct Message {
    no: MessageNo,
    topic: String,
    payload: Bytes,
    qos: QoS,
    seq: u64,
    packet_id: Option<PacketId>,
    stage: Stage,
    /// It was sent before, on this session.
    was_sent: bool,
}

/// What a device took note of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// The gateway answered its CONNECT.
    Connected,
    /// A message is acked.
    Acked(MessageNo),
    /// What a function published came.
    Echo(MessageNo),
}

/// A device.
#[derive(Debug)]
pub struct Device {
    name: String,
    habits: Habits,
    boot: u64,
    conn: Option<(ConnId, Decoder, BytesMut)>,
    is_linked: bool,
    next_packet: u16,
    next_seq: u64,
    outbox: VecDeque<Message>,
    is_subscribed: bool,
}

/// Its token, and with it its password.
#[must_use]
pub fn token(name: &str) -> String {
    format!("token of {name}")
}

impl Device {
    /// A device that never connected.
    #[must_use]
    pub fn new(name: String, habits: Habits, boot: u64) -> Self {
        Self {
            name,
            habits,
            boot,
            conn: None,
            is_linked: false,
            next_packet: 0,
            next_seq: 0,
            outbox: VecDeque::new(),
            is_subscribed: false,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The connection it has.
    #[must_use]
    pub fn conn(&self) -> Option<ConnId> {
        self.conn.as_ref().map(|(conn, ..)| *conn)
    }

    /// The message that waits for an ack under this packet id.
    #[must_use]
    pub fn number_of(&self, packet_id: PacketId) -> Option<MessageNo> {
        let mut messages = self.outbox.iter();
        messages.find(|message| message.packet_id == Some(packet_id)).map(|message| message.no)
    }

    /// Whether the gateway answered on that connection.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        self.is_linked
    }

    /// Messages not acked yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// Whether it takes another message.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.outbox.len() < OUTBOX_MAX
    }

    /// Whether what comes of its messages must reach it.
    #[must_use]
    pub fn wants_echo(&self) -> bool {
        self.habits.keeps_session && self.is_subscribed
    }

    /// What it is owed for a message of this quality of service.
    #[must_use]
    pub fn promise(&self, qos: QoS) -> Promise {
        match qos {
            QoS::AtMostOnce => Promise::None,
            _ if self.habits.has_ids => Promise::Once,
            QoS::ExactlyOnce if self.habits.keeps_session => Promise::Once,
            QoS::AtLeastOnce | QoS::ExactlyOnce => Promise::AtLeastOnce,
        }
    }

    /// Connects over `conn`; returns the bytes to send.
    pub fn connect(&mut self, conn: ConnId) -> Vec<u8> {
        let Habits { version, keeps_session, keep_alive_s, .. } = self.habits;
        self.conn = Some((conn, Decoder::client(version, usize::MAX), BytesMut::new()));
        self.is_linked = false;
        let connect = Connect {
            clean_start: !keeps_session,
            session_expiry_s: if keeps_session { u32::MAX } else { 0 },
            username: Some(self.name.clone()),
            password: Some(Bytes::from(token(&self.name))),
            keep_alive_s,
            ..Connect::new(version, &self.name)
        };
        self.bytes(&[Packet::Connect(Box::new(connect))])
    }

    /// A sign of life.
    #[must_use]
    pub fn ping(&self) -> Vec<u8> {
        self.bytes(&[Packet::PingReq])
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        self.conn = None;
        self.is_linked = false;
        for message in &mut self.outbox {
            if message.stage == Stage::Sent {
                message.stage = Stage::Waiting;
            }
        }
    }

    /// Publishes; the message is kept until it is acked. Returns what to send now.
    pub fn publish(&mut self, no: MessageNo, topic: String, payload: Bytes, qos: QoS) -> Vec<u8> {
        self.next_seq += 1;
        let seq = self.next_seq;
        let (packet_id, stage) = (None, Stage::Waiting);
        let message = Message { no, topic, payload, qos, seq, packet_id, stage, was_sent: false };
        self.outbox.push_back(message);
        self.flush()
    }

    /// Forgets that a message was acked, as after a crash of its own: sends it again under its id.
    pub fn repeat(&mut self, no: MessageNo, topic: String, payload: Bytes, seq: u64) -> Vec<u8> {
        if !self.habits.has_ids {
            return Vec::new();
        }
        let (packet_id, stage, qos) = (None, Stage::Waiting, QoS::AtLeastOnce);
        let message = Message { no, topic, payload, qos, seq, packet_id, stage, was_sent: false };
        self.outbox.push_back(message);
        self.flush()
    }

    /// The number that the next message gets.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq + 1
    }

    /// Bytes came. Returns what to send, and what happened.
    pub fn receive(&mut self, conn: ConnId, bytes: &[u8]) -> (Vec<u8>, Vec<Noted>) {
        let mut packets = Vec::new();
        match &mut self.conn {
            Some((own, decoder, buffer)) if *own == conn => {
                buffer.extend_from_slice(bytes);
                while let Some(packet) =
                    decoder.decode(buffer).expect("invariant: the broker speaks MQTT")
                {
                    packets.push(packet);
                }
            }
            _ => return (Vec::new(), Vec::new()),
        }
        let (mut out, mut noted) = (Vec::new(), Vec::new());
        for packet in packets {
            self.packet(packet, &mut out, &mut noted);
        }
        let mut bytes = self.bytes(&out);
        bytes.extend(self.flush());
        (bytes, noted)
    }

    fn packet(&mut self, packet: Packet, out: &mut Vec<Packet>, noted: &mut Vec<Noted>) {
        match packet {
            Packet::ConnAck(connack) => self.connack(&connack, out, noted),
            Packet::PubAck(ack) => self.acked(ack, noted),
            Packet::PubRec(ack) => self.received(ack, out, noted),
            Packet::PubComp(ack) => {
                self.outbox.retain(|message| message.packet_id != Some(ack.packet_id));
            }
            Packet::PubRel(ack) => out.push(Packet::PubComp(Ack::ok(ack.packet_id))),
            Packet::SubAck(_) => self.is_subscribed = true,
            Packet::Publish(publish) => self.echo(&publish, out, noted),
            _ => {}
        }
    }

    fn connack(&mut self, connack: &ConnAck, out: &mut Vec<Packet>, noted: &mut Vec<Noted>) {
        if connack.reason.is_error() {
            return;
        }
        self.is_linked = true;
        noted.push(Noted::Connected);
        if !connack.session_present {
            for message in &mut self.outbox {
                if message.stage == Stage::Released {
                    // It was taken; the new session knows nothing of its release.
                    message.packet_id = None;
                }
                (message.packet_id, message.was_sent) = (None, false);
            }
            self.outbox.retain(|message| message.stage != Stage::Released);
        }
        for message in &self.outbox {
            if let (Stage::Released, Some(packet_id)) = (message.stage, message.packet_id) {
                out.push(Packet::PubRel(Ack::ok(packet_id)));
            }
        }
        if self.habits.keeps_session && !self.is_subscribed {
            let filter = TopicFilter::new(&format!("echo/{}", self.name));
            let filter = filter.expect("invariant: names are good levels");
            let options = SubscribeOptions { qos: QoS::ExactlyOnce, ..Default::default() };
            out.push(Packet::Subscribe(Subscribe {
                packet_id: self.packet_id(),
                subscription_id: None,
                filters: vec![(filter, options)],
            }));
        }
    }

    fn acked(&mut self, ack: Ack, noted: &mut Vec<Noted>) {
        let at = self.outbox.iter().position(|message| message.packet_id == Some(ack.packet_id));
        let Some(at) = at else { return };
        if ack.reason.is_error() {
            // Refused, not taken: it goes again as a new one.
            let message = &mut self.outbox[at];
            (message.packet_id, message.stage) = (None, Stage::Waiting);
            return;
        }
        noted.extend(self.outbox.remove(at).map(|message| Noted::Acked(message.no)));
    }

    fn received(&mut self, ack: Ack, out: &mut Vec<Packet>, noted: &mut Vec<Noted>) {
        if ack.reason.is_error() {
            return self.acked(ack, noted);
        }
        let message =
            self.outbox.iter_mut().find(|message| message.packet_id == Some(ack.packet_id));
        if let Some(message) = message {
            message.stage = Stage::Released;
            noted.push(Noted::Acked(message.no));
        }
        out.push(Packet::PubRel(Ack::ok(ack.packet_id)));
    }

    fn echo(&mut self, publish: &Publish, out: &mut Vec<Packet>, noted: &mut Vec<Noted>) {
        noted.extend(payload::number(&publish.payload).map(Noted::Echo));
        let Some(packet_id) = publish.packet_id else { return };
        match publish.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => out.push(Packet::PubAck(Ack::ok(packet_id))),
            QoS::ExactlyOnce => out.push(Packet::PubRec(Ack::ok(packet_id))),
        }
    }

    /// Sends what waits.
    fn flush(&mut self) -> Vec<u8> {
        if !self.is_linked {
            return Vec::new();
        }
        let mut packets = Vec::new();
        for at in 0..self.outbox.len() {
            if self.outbox[at].stage != Stage::Waiting {
                continue;
            }
            let needs_id = self.outbox[at].qos > QoS::AtMostOnce;
            if needs_id && self.outbox[at].packet_id.is_none() {
                let packet_id = self.packet_id();
                self.outbox[at].packet_id = Some(packet_id);
            }
            let publish = self.packet_of(&self.outbox[at]);
            self.outbox[at].stage = Stage::Sent;
            self.outbox[at].was_sent = true;
            packets.push(Packet::Publish(publish));
        }
        self.outbox.retain(|message| message.qos > QoS::AtMostOnce);
        self.bytes(&packets)
    }

    fn packet_of(&self, message: &Message) -> Publish {
        let mut properties = Properties::default();
        if self.habits.has_ids {
            properties.user = vec![
                (PROPERTY_BOOT_ID.to_owned(), format!("{:016x}", self.boot)),
                (PROPERTY_SEQUENCE.to_owned(), message.seq.to_string()),
            ];
        }
        Publish {
            dup: message.was_sent && message.qos > QoS::AtMostOnce,
            qos: message.qos,
            retain: false,
            topic: Topic::new(&message.topic).expect("invariant: a topic of the simulation"),
            packet_id: message.packet_id,
            expiry_s: None,
            subscription_ids: Vec::new(),
            properties,
            payload: message.payload.clone(),
        }
    }

    /// A packet id that no message has.
    fn packet_id(&mut self) -> PacketId {
        loop {
            self.next_packet = self.next_packet.checked_add(1).unwrap_or(1);
            let id = PacketId::new(self.next_packet).expect("invariant: never zero");
            if self.outbox.iter().all(|message| message.packet_id != Some(id)) {
                return id;
            }
        }
    }

    fn bytes(&self, packets: &[Packet]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for packet in packets {
            encode(packet, self.habits.version, &mut bytes);
        }
        bytes
    }
}
