//! The property block of MQTT 5 (2.2.2).

use bytes::Bytes;
use edge_core::message::Properties;

use super::read::Reader;
use super::write;
use super::{DecodeError, ReasonCode, SubscriptionId, USER_PROPERTIES_MAX};

/// Property identifiers (2.2.2.2).
pub(super) mod id {
    pub(crate) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(crate) const CONTENT_TYPE: u8 = 0x03;
    pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
    pub(crate) const CORRELATION_DATA: u8 = 0x09;
    pub(crate) const SUBSCRIPTION_ID: u8 = 0x0B;
    pub(crate) const SESSION_EXPIRY: u8 = 0x11;
    pub(crate) const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const AUTH_METHOD: u8 = 0x15;
    pub(crate) const AUTH_DATA: u8 = 0x16;
    pub(crate) const REQUEST_PROBLEM_INFO: u8 = 0x17;
    pub(crate) const WILL_DELAY: u8 = 0x18;
    pub(crate) const REQUEST_RESPONSE_INFO: u8 = 0x19;
    pub(crate) const RESPONSE_INFO: u8 = 0x1A;
    pub(crate) const SERVER_REFERENCE: u8 = 0x1C;
    pub(crate) const REASON_STRING: u8 = 0x1F;
    pub(crate) const RECEIVE_MAX: u8 = 0x21;
    pub(crate) const TOPIC_ALIAS_MAX: u8 = 0x22;
    pub(crate) const TOPIC_ALIAS: u8 = 0x23;
    pub(crate) const MAX_QOS: u8 = 0x24;
    pub(crate) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(crate) const USER: u8 = 0x26;
    pub(crate) const PACKET_BYTES_MAX: u8 = 0x27;
    pub(crate) const WILDCARD_AVAILABLE: u8 = 0x28;
    pub(crate) const SUBSCRIPTION_IDS_AVAILABLE: u8 = 0x29;
    pub(crate) const SHARED_AVAILABLE: u8 = 0x2A;
}

/// 2.2.2.2: an identifier that is not valid for its packet type.
pub(super) const NOT_ALLOWED: DecodeError =
    DecodeError::malformed("2.2.2.2 property not valid for this packet");

/// Reads a property block: identifiers one by one, values by the caller.
pub(super) struct PropertyReader {
    block: Reader,
    seen: u64,
    users: usize,
}

impl PropertyReader {
    /// Takes the block at the reader's place.
    pub(super) fn new(reader: &mut Reader) -> Result<Self, DecodeError> {
        let len = reader.varint()?;
        let len = usize::try_from(len)
            .map_err(|_| DecodeError::malformed("2.2.2.1 property length over the packet"))?;
        Ok(Self { block: Reader::new(reader.take(len)?), seen: 0, users: 0 })
    }

    /// The next identifier; its value is at [`value`](Self::value).
    pub(super) fn next(&mut self) -> Result<Option<u8>, DecodeError> {
        if self.block.is_empty() {
            return Ok(None);
        }
        // A variable byte integer (2.2.2.2), but all identifiers fit its first byte.
        let id = self.block.u8()?;
        if id == id::USER {
            self.users += 1;
            if self.users > USER_PROPERTIES_MAX {
                let rule = "more user properties than this server accepts";
                return Err(DecodeError::new(ReasonCode::QuotaExceeded, rule));
            }
        } else if id < 64 && id != id::SUBSCRIPTION_ID {
            let bit = 1 << id;
            // 3.1.2.11, 3.3.2.3 and others: each property at most once, but for subscription
            // identifiers, which may repeat in a PUBLISH.
            if self.seen & bit != 0 {
                return Err(DecodeError::protocol("2.2.2.2 a property stands twice"));
            }
            self.seen |= bit;
        }
        Ok(Some(id))
    }

    pub(super) fn value(&mut self) -> &mut Reader {
        &mut self.block
    }

    /// A byte that is 0 or 1.
    pub(super) fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.block.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::protocol("a flag property is neither 0 nor 1")),
        }
    }

    /// A subscription identifier.
    pub(super) fn subscription_id(&mut self) -> Result<SubscriptionId, DecodeError> {
        SubscriptionId::new(self.block.varint()?)
            .ok_or(DecodeError::protocol("3.8.2.1.2 subscription identifier of zero"))
    }

    /// A user property.
    pub(super) fn user(&mut self) -> Result<(String, String), DecodeError> {
        Ok((self.block.string()?, self.block.string()?))
    }

    /// A user property for which there is no use.
    pub(super) fn skip_user(&mut self) -> Result<(), DecodeError> {
        self.block.skip_string()?;
        self.block.skip_string()
    }

    /// A property that PUBLISH and will share (3.1.3.2, 3.3.2.3).
    pub(super) fn message(
        &mut self,
        id: u8,
        properties: &mut Properties,
        expiry_s: &mut Option<u32>,
    ) -> Result<(), DecodeError> {
        match id {
            id::PAYLOAD_FORMAT => properties.payload_is_utf8 = self.flag()?,
            id::MESSAGE_EXPIRY => *expiry_s = Some(self.block.u32()?),
            id::CONTENT_TYPE => properties.content_type = Some(self.block.string()?),
            id::RESPONSE_TOPIC => {
                properties.response_topic = Some(self.block.with_str(response_topic)?);
            }
            id::CORRELATION_DATA => properties.correlation_data = Some(self.block.binary()?),
            id::USER => properties.user.push(self.user()?),
            _ => return Err(NOT_ALLOWED),
        }
        Ok(())
    }
}

fn response_topic(text: &str) -> Result<String, DecodeError> {
    if text.bytes().any(|byte| matches!(byte, b'+' | b'#')) {
        return Err(DecodeError::protocol("[MQTT-3.3.2-14] wildcard in a response topic"));
    }
    Ok(text.to_owned())
}

/// Passes over a block that may hold only a reason string and user properties.
pub(super) fn skip_reason_properties(reader: &mut Reader) -> Result<(), DecodeError> {
    let mut properties = PropertyReader::new(reader)?;
    while let Some(id) = properties.next()? {
        match id {
            id::REASON_STRING => properties.value().skip_string()?,
            id::USER => properties.skip_user()?,
            _ => return Err(NOT_ALLOWED),
        }
    }
    Ok(())
}

/// Appends a block whose properties `fill` writes.
pub(super) fn block(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut block = Vec::new();
    fill(&mut block);
    write::varint(out, block.len());
    out.extend_from_slice(&block);
}

/// Appends the properties that PUBLISH and will share.
pub(super) fn write_message(out: &mut Vec<u8>, properties: &Properties, expiry_s: Option<u32>) {
    if properties.payload_is_utf8 {
        out.extend_from_slice(&[id::PAYLOAD_FORMAT, 1]);
    }
    if let Some(expiry_s) = expiry_s {
        out.push(id::MESSAGE_EXPIRY);
        out.extend_from_slice(&expiry_s.to_be_bytes());
    }
    write_string(out, id::CONTENT_TYPE, properties.content_type.as_deref());
    write_string(out, id::RESPONSE_TOPIC, properties.response_topic.as_deref());
    if let Some(data) = &properties.correlation_data {
        out.push(id::CORRELATION_DATA);
        write::binary(out, data);
    }
    for (key, value) in &properties.user {
        out.push(id::USER);
        write::string(out, key);
        write::string(out, value);
    }
}

/// Bytes that [`write_message`] appends.
pub(super) fn message_bytes(properties: &Properties, expiry_s: Option<u32>) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, |text| 3 + text.len());
    let data = |data: &Option<Bytes>| data.as_ref().map_or(0, |data| 3 + data.len());
    let user: usize = properties.user.iter().map(|(k, v)| 5 + k.len() + v.len()).sum();
    2 * usize::from(properties.payload_is_utf8)
        + 5 * usize::from(expiry_s.is_some())
        + text(&properties.content_type)
        + text(&properties.response_topic)
        + data(&properties.correlation_data)
        + user
}

/// Appends the identifiers of subscriptions.
pub(super) fn write_subscription_ids(out: &mut Vec<u8>, ids: &[SubscriptionId]) {
    for id in ids {
        out.push(id::SUBSCRIPTION_ID);
        write::varint_u32(out, id.get());
    }
}

/// Bytes that [`write_subscription_ids`] appends.
pub(super) fn subscription_ids_bytes(ids: &[SubscriptionId]) -> usize {
    ids.iter().map(|id| 1 + write::varint_u32_bytes(id.get())).sum()
}

pub(super) fn write_string(out: &mut Vec<u8>, id: u8, text: Option<&str>) {
    if let Some(text) = text {
        out.push(id);
        write::string(out, text);
    }
}

pub(super) fn write_u32(out: &mut Vec<u8>, id: u8, value: Option<u32>) {
    if let Some(value) = value {
        out.push(id);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub(super) fn write_u16(out: &mut Vec<u8>, id: u8, value: Option<u16>) {
    if let Some(value) = value {
        out.push(id);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub(super) fn write_flag(out: &mut Vec<u8>, id: u8, value: Option<bool>) {
    if let Some(value) = value {
        out.extend_from_slice(&[id, u8::from(value)]);
    }
}
