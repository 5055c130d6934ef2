//! PUBLISH (3.3).

use edge_core::message::{Message, Properties, QoS};
use edge_core::topic::Topic;

use super::packet::{PacketId, Publish, Version};
use super::property::{self, PropertyReader, id};
use super::read::Reader;
use super::{DecodeError, ReasonCode, USER_PROPERTIES_MAX, ack, write};

/// What a PUBLISH says beyond its message.
#[derive(Clone, Copy, Debug)]
pub struct PublishHead {
    /// Re-delivery flag.
    pub dup: bool,
    /// Quality of service of this delivery.
    pub qos: QoS,
    /// Retain flag of this delivery.
    pub retain: bool,
    /// Packet identifier; exactly for QoS 1 and 2.
    pub packet_id: Option<PacketId>,
    /// What is left of the message expiry interval, in seconds.
    pub expiry_s: Option<u32>,
}

pub(super) fn decode(
    first: u8,
    mut reader: Reader,
    version: Version,
) -> Result<Publish, DecodeError> {
    let qos = qos(first >> 1 & 0b11)?;
    // A name that is empty because an alias stands for it is told apart by the alias itself.
    let name = reader.with_str(|name| Ok(Topic::new(name).map_err(DecodeError::topic_name)))?;
    let packet_id = match qos {
        QoS::AtMostOnce => None,
        QoS::AtLeastOnce | QoS::ExactlyOnce => Some(ack::packet_id(&mut reader)?),
    };
    let (mut properties, mut expiry_s) = (Properties::default(), None);
    if version == Version::V5 {
        let mut block = PropertyReader::new(&mut reader)?;
        while let Some(id) = block.next()? {
            match id {
                id::TOPIC_ALIAS => {
                    let rule = "[MQTT-3.3.2-9] topic alias over the maximum of 0";
                    return Err(DecodeError::new(ReasonCode::TopicAliasInvalid, rule));
                }
                id::SUBSCRIPTION_ID => {
                    let rule = "[MQTT-3.3.4-6] subscription identifier in a client's publish";
                    return Err(DecodeError::protocol(rule));
                }
                id => block.message(id, &mut properties, &mut expiry_s)?,
            }
        }
    }
    Ok(Publish {
        dup: first & 0b1000 != 0,
        qos,
        retain: first & 1 != 0,
        topic: name?,
        packet_id,
        expiry_s,
        properties,
        payload: reader.rest(),
    })
}

/// 4.3
pub(super) fn qos(bits: u8) -> Result<QoS, DecodeError> {
    match bits {
        0 => Ok(QoS::AtMostOnce),
        1 => Ok(QoS::AtLeastOnce),
        2 => Ok(QoS::ExactlyOnce),
        _ => Err(DecodeError::malformed("[MQTT-3.3.1-4] QoS 3")),
    }
}

pub(super) fn encode(publish: &Publish, version: Version, out: &mut Vec<u8>) {
    let head = PublishHead {
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
        packet_id: publish.packet_id,
        expiry_s: publish.expiry_s,
    };
    encode_head(head, version, &publish.topic, &publish.properties, publish.payload.len(), out);
    out.extend_from_slice(&publish.payload);
}

/// Appends a PUBLISH of `message` but for its payload, which the caller sends after it.
pub fn encode_publish(head: PublishHead, version: Version, message: &Message, out: &mut Vec<u8>) {
    let payload_bytes = message.payload.len();
    encode_head(head, version, &message.topic, &message.properties, payload_bytes, out);
}

fn encode_head(
    head: PublishHead,
    version: Version,
    topic: &Topic,
    properties: &Properties,
    payload_bytes: usize,
    out: &mut Vec<u8>,
) {
    let flags = u8::from(head.dup) << 3 | write::qos_bits(head.qos) << 1 | u8::from(head.retain);
    out.push(0x30 | flags);
    let property_bytes = property::message_bytes(properties, head.expiry_s);
    write::varint(out, body_bytes(head, version, topic, property_bytes) + payload_bytes);
    write::string(out, topic.as_str());
    if let Some(packet_id) = head.packet_id {
        out.extend_from_slice(&packet_id.get().to_be_bytes());
    }
    if version == Version::V5 {
        write::varint(out, property_bytes);
        property::write_message(out, properties, head.expiry_s);
    }
}

/// Remaining length without the payload.
fn body_bytes(head: PublishHead, version: Version, topic: &Topic, property_bytes: usize) -> usize {
    let v5 = match version {
        Version::V5 => write::varint_bytes(property_bytes) + property_bytes,
        Version::V311 => 0,
    };
    2 + topic.as_str().len() + 2 * usize::from(head.packet_id.is_some()) + v5
}

/// Bytes of the whole PUBLISH packet, to hold against a client's maximum packet size.
#[must_use]
pub fn publish_packet_bytes(head: PublishHead, version: Version, message: &Message) -> usize {
    let property_bytes = property::message_bytes(&message.properties, head.expiry_s);
    let body = body_bytes(head, version, &message.topic, property_bytes) + message.payload.len();
    1 + write::varint_bytes(body) + body
}

/// Whether `message` fits a PUBLISH of at most `packet_bytes_max` bytes and breaks no rule of the
/// wire. What a client published does; a function's or the owner's message may not.
#[must_use]
pub fn is_encodable(message: &Message, packet_bytes_max: usize) -> bool {
    let text = |text: &str| text.len() <= usize::from(u16::MAX) && !text.contains('\0');
    let p = &message.properties;
    let head = PublishHead {
        dup: false,
        qos: message.qos,
        retain: false,
        packet_id: PacketId::new(1),
        expiry_s: message.expiry_s,
    };
    p.content_type.as_deref().is_none_or(text)
        && p.response_topic.as_deref().is_none_or(|t| text(t) && !t.contains(['+', '#']))
        && p.correlation_data.as_ref().is_none_or(|data| data.len() <= usize::from(u16::MAX))
        && p.user.len() <= USER_PROPERTIES_MAX
        && p.user.iter().all(|(key, value)| text(key) && text(value))
        && publish_packet_bytes(head, Version::V5, message) <= packet_bytes_max
}
