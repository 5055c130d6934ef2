//! CONNACK (3.2).

use super::packet::{ConnAck, ConnAckProperties, Version};
use super::property::{self, NOT_ALLOWED, PropertyReader, id};
use super::read::Reader;
use super::{DecodeError, ReasonCode, ack, write};

pub(super) fn encode(connack: &ConnAck, version: Version, out: &mut Vec<u8>) {
    let present = u8::from(connack.session_present);
    if version == Version::V311 {
        let code = connack.reason.connack_v311().unwrap_or(3);
        return out.extend_from_slice(&[0x20, 2, present, code]);
    }
    write::packet(0x20, out, |body| {
        body.extend_from_slice(&[present, connack.reason.as_u8()]);
        property::block(body, |block| {
            let p = &connack.properties;
            property::write_u32(block, id::SESSION_EXPIRY, p.session_expiry_s);
            property::write_u16(block, id::RECEIVE_MAX, p.receive_max);
            property::write_flag(block, id::RETAIN_AVAILABLE, p.retain_available);
            property::write_u32(block, id::PACKET_BYTES_MAX, p.packet_bytes_max);
            property::write_string(block, id::ASSIGNED_CLIENT_ID, p.assigned_client_id.as_deref());
            property::write_u16(block, id::TOPIC_ALIAS_MAX, p.topic_alias_max);
            property::write_string(block, id::REASON_STRING, p.reason_string.as_deref());
            let ids = p.subscription_ids_available;
            property::write_flag(block, id::SUBSCRIPTION_IDS_AVAILABLE, ids);
            property::write_flag(block, id::SHARED_AVAILABLE, p.shared_available);
            property::write_u16(block, id::SERVER_KEEP_ALIVE, p.keep_alive_s);
        });
    });
}

/// As a client reads it.
pub(super) fn decode(mut reader: Reader, version: Version) -> Result<ConnAck, DecodeError> {
    let session_present = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return Err(DecodeError::malformed("[MQTT-3.2.2-1] reserved acknowledge flag")),
    };
    let code = reader.u8()?;
    let mut properties = ConnAckProperties::default();
    let reason = match version {
        Version::V311 => ReasonCode::from_connack_v311(code)
            .ok_or(DecodeError::malformed("v3.1.1 3.2.2.3 reserved return code"))?,
        Version::V5 => {
            let reason = ack::reason(code, |_| true)?;
            decode_properties(&mut reader, &mut properties)?;
            reason
        }
    };
    reader.finish()?;
    Ok(ConnAck { session_present, reason, properties })
}

/// 3.2.2.3
fn decode_properties(reader: &mut Reader, to: &mut ConnAckProperties) -> Result<(), DecodeError> {
    let mut properties = PropertyReader::new(reader)?;
    while let Some(id) = properties.next()? {
        match id {
            id::SESSION_EXPIRY => to.session_expiry_s = Some(properties.value().u32()?),
            id::RECEIVE_MAX => to.receive_max = Some(properties.value().u16()?),
            id::PACKET_BYTES_MAX => to.packet_bytes_max = Some(properties.value().u32()?),
            id::ASSIGNED_CLIENT_ID => to.assigned_client_id = Some(properties.value().string()?),
            id::TOPIC_ALIAS_MAX => to.topic_alias_max = Some(properties.value().u16()?),
            id::REASON_STRING => to.reason_string = Some(properties.value().string()?),
            id::RETAIN_AVAILABLE => to.retain_available = Some(properties.flag()?),
            id::SUBSCRIPTION_IDS_AVAILABLE => {
                to.subscription_ids_available = Some(properties.flag()?);
            }
            id::SHARED_AVAILABLE => to.shared_available = Some(properties.flag()?),
            id::SERVER_KEEP_ALIVE => to.keep_alive_s = Some(properties.value().u16()?),
            // Not sent by this server; another's are passed over.
            id::MAX_QOS | id::WILDCARD_AVAILABLE => drop(properties.flag()?),
            id::RESPONSE_INFO | id::SERVER_REFERENCE | id::AUTH_METHOD => {
                properties.value().skip_string()?;
            }
            id::AUTH_DATA => drop(properties.value().binary()?),
            id::USER => properties.skip_user()?,
            _ => return Err(NOT_ALLOWED),
        }
    }
    Ok(())
}
