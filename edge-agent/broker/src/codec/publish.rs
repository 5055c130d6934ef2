//! PUBLISH (3.3).

use edge_core::message::{Message, Properties, QoS};
use edge_core::topic::Topic;

use super::packet::{PacketId, Publish, SubscriptionId, Version};
use super::property::{self, PropertyReader, id};
use super::read::Reader;
use super::{DecodeError, Side, TopicForm, USER_PROPERTIES_MAX, ack, alias, write};

/// What a PUBLISH says beyond its message.
#[derive(Clone, Copy, Debug)]
pub struct PublishHead<'a> {
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
    /// How the topic is named.
    pub topic_form: TopicForm,
    /// Identifiers of the subscriptions it is sent for.
    pub subscription_ids: &'a [SubscriptionId],
}

pub(super) fn decode(
    first: u8,
    mut reader: Reader,
    version: Version,
    side: Side,
    aliases: &mut alias::Received,
) -> Result<Publish, DecodeError> {
    let qos = qos(first >> 1 & 0b11)?;
    // A name may be empty where an alias stands for it.
    let name = reader.with_str(|name| match name {
        "" if version == Version::V5 => Ok(None),
        name => Topic::new(name).map(Some).map_err(DecodeError::topic_name),
    })?;
    let packet_id = match qos {
        QoS::AtMostOnce => None,
        QoS::AtLeastOnce | QoS::ExactlyOnce => Some(ack::packet_id(&mut reader)?),
    };
    let (mut properties, mut expiry_s) = (Properties::default(), None);
    let (mut alias, mut subscription_ids) = (None, Vec::new());
    if version == Version::V5 {
        let mut block = PropertyReader::new(&mut reader)?;
        while let Some(id) = block.next()? {
            match id {
                id::TOPIC_ALIAS => alias = Some(block.value().u16()?),
                id::SUBSCRIPTION_ID if side == Side::Server => {
                    let rule = "[MQTT-3.3.4-6] subscription identifier in a client's publish";
                    return Err(DecodeError::protocol(rule));
                }
                id::SUBSCRIPTION_ID => subscription_ids.push(block.subscription_id()?),
                id => block.message(id, &mut properties, &mut expiry_s)?,
            }
        }
    }
    Ok(Publish {
        dup: first & 0b1000 != 0,
        qos,
        retain: first & 1 != 0,
        topic: aliases.resolve(name, alias)?,
        packet_id,
        expiry_s,
        subscription_ids,
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
        topic_form: TopicForm::Name,
        subscription_ids: &publish.subscription_ids,
    };
    encode_head(head, version, &publish.topic, &publish.properties, publish.payload.len(), out);
    out.extend_from_slice(&publish.payload);
}

/// Appends a PUBLISH of `message` but for its payload, which the caller sends after it.
pub fn encode_publish(
    head: PublishHead<'_>,
    version: Version,
    message: &Message,
    out: &mut Vec<u8>,
) {
    let payload_bytes = message.payload.len();
    encode_head(head, version, &message.topic, &message.properties, payload_bytes, out);
}

fn encode_head(
    head: PublishHead<'_>,
    version: Version,
    topic: &Topic,
    properties: &Properties,
    payload_bytes: usize,
    out: &mut Vec<u8>,
) {
    let flags = u8::from(head.dup) << 3 | write::qos_bits(head.qos) << 1 | u8::from(head.retain);
    out.push(0x30 | flags);
    let property_bytes = property_bytes(head, properties);
    write::varint(out, body_bytes(head, version, topic, property_bytes) + payload_bytes);
    write::string(out, name(head, topic));
    if let Some(packet_id) = head.packet_id {
        out.extend_from_slice(&packet_id.get().to_be_bytes());
    }
    if version == Version::V5 {
        write::varint(out, property_bytes);
        property::write_message(out, properties, head.expiry_s);
        property::write_u16(out, id::TOPIC_ALIAS, head.topic_form.alias());
        property::write_subscription_ids(out, head.subscription_ids);
    }
}

/// The topic as it stands in the packet: empty where an alias stands for it.
fn name<'t>(head: PublishHead<'_>, topic: &'t Topic) -> &'t str {
    match head.topic_form {
        TopicForm::Name | TopicForm::Gives(_) => topic.as_str(),
        TopicForm::Alias(_) => "",
    }
}

/// Bytes of the property block without its length.
fn property_bytes(head: PublishHead<'_>, properties: &Properties) -> usize {
    property::message_bytes(properties, head.expiry_s)
        + head.topic_form.alias().map_or(0, |_| alias::PROPERTY_BYTES)
        + property::subscription_ids_bytes(head.subscription_ids)
}

/// Remaining length without the payload.
fn body_bytes(
    head: PublishHead<'_>,
    version: Version,
    topic: &Topic,
    property_bytes: usize,
) -> usize {
    let v5 = match version {
        Version::V5 => write::varint_bytes(property_bytes) + property_bytes,
        Version::V311 => 0,
    };
    2 + name(head, topic).len() + 2 * usize::from(head.packet_id.is_some()) + v5
}

/// Bytes of the whole PUBLISH packet, to hold against a client's maximum packet size.
#[must_use]
pub fn publish_packet_bytes(head: PublishHead<'_>, version: Version, message: &Message) -> usize {
    let property_bytes = property_bytes(head, &message.properties);
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
        topic_form: TopicForm::Name,
        subscription_ids: &[],
    };
    p.content_type.as_deref().is_none_or(text)
        && p.response_topic.as_deref().is_none_or(|t| text(t) && !t.contains(['+', '#']))
        && p.correlation_data.as_ref().is_none_or(|data| data.len() <= usize::from(u16::MAX))
        && p.user.len() <= USER_PROPERTIES_MAX
        && p.user.iter().all(|(key, value)| text(key) && text(value))
        && publish_packet_bytes(head, Version::V5, message) <= packet_bytes_max
}
