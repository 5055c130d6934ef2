//! The session of one device that is here: what is on its way between link and MQTT client. Without I/O and clocks.

use std::collections::VecDeque;

use bytes::Bytes;
use device_protocol::serial::{FromDevice, FromGateway, SendError};
use device_protocol::{CONTENT_TYPE, Down, Envelope, Up};
use edge_broker::codec::{PacketId, ReasonCode};
use edge_core::message::{PROPERTY_BOOT_ID, PROPERTY_SEQUENCE, Properties};
use edge_core::topic::{Topic, TopicFilter};

use super::client::{Client, IN_FLIGHT_MAX, Outgoing, TooLarge};
use super::member::{Figures, Gate};

/// With so few places left the device is asked to wait: what is under way still comes.
const PLACES_LEFT: usize = 4;
/// Messages for a device that wait here; further ones of QoS 0 are dropped.
const DOWNS_MAX: usize = 16;

/// One session; it ends with the link or with the connection to the broker.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) device: String,
    /// The longest message that the device receives.
    pub(super) message_max: usize,
    /// The longest payload that the broker takes.
    payload_bytes_max: usize,
    pub(super) client: Client,
    /// Answers that the link had no room for.
    pub(super) answers: VecDeque<(u32, ReasonCode)>,
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

impl Session {
    /// A session that connects to the broker.
    pub(super) fn new(
        device: &str,
        filter: TopicFilter,
        message_max: usize,
        payload_bytes_max: usize,
    ) -> Self {
        Self {
            device: device.to_owned(),
            message_max,
            payload_bytes_max,
            client: Client::new(device, filter, message_max),
            answers: VecDeque::new(),
            downs: VecDeque::new(),
            under_way: VecDeque::new(),
            acked: 0,
        }
    }

    /// Takes a message of the broker for the device.
    pub(super) fn down(
        &mut self,
        packet: Option<PacketId>,
        retained: bool,
        topic: &Topic,
        payload: Bytes,
        figures: &mut Figures,
    ) {
        let is_sound = Down::decode(&payload).is_ok_and(|down| {
            // Who may send what is granted by topic; and this session may have subscriptions of other days.
            let is_its_topic =
                down.topic(&self.device).is_ok_and(|expected| expected == topic.as_str());
            // A command that is kept would be done again at each connection.
            is_its_topic && !(retained && matches!(down, Down::Command(_)))
        });
        if is_sound && (packet.is_some() || self.downs.len() < DOWNS_MAX) {
            self.downs.push_back((packet, payload));
        } else {
            figures.undelivered += 1;
            packet.into_iter().for_each(|packet| self.client.ack(packet));
        }
    }

    /// Moves what can be moved, in both directions.
    pub(super) fn work(&mut self, station: &mut Gate, figures: &mut Figures) {
        self.downward(station, figures);
        while self.has_room()
            && let Some(message) = station.message()
        {
            let upward = message.map_or(Upward::Unreadable, |message| self.upward(&message));
            let answer = match upward {
                Upward::Publish(publish) => {
                    let id = publish.id;
                    let sent = self.client.publish(publish);
                    sent.err().map(|TooLarge| (id, ReasonCode::PacketTooLarge))
                }
                Upward::AtMostOnce(publish) => {
                    let id = publish.id;
                    let sent = self.client.publish_at_most_once(publish);
                    let too_large = |TooLarge| ReasonCode::PacketTooLarge;
                    Some((id, sent.map_or_else(too_large, |()| ReasonCode::Success)))
                }
                Upward::Reject(id, reason) => Some((id, reason)),
                Upward::Unreadable => {
                    figures.rejected += 1;
                    None
                }
            };
            if let Some((id, reason)) = answer {
                figures.rejected += u64::from(reason.is_error());
                self.answers.push_back((id, reason));
            }
            station.take();
            self.downward(station, figures);
        }
        let waiting = self.client.in_flight() + self.answers.len();
        station.hold(waiting + PLACES_LEFT > IN_FLIGHT_MAX);
    }

    fn has_room(&self) -> bool {
        self.client.has_room() && self.client.in_flight() + self.answers.len() < IN_FLIGHT_MAX
    }

    /// Towards the device.
    fn downward(&mut self, station: &mut Gate, figures: &mut Figures) {
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
                if envelope.len() > self.payload_bytes_max {
                    return Upward::Reject(id, ReasonCode::PacketTooLarge);
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
                if up.len() > self.payload_bytes_max {
                    return Upward::Reject(id, ReasonCode::PacketTooLarge);
                }
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
