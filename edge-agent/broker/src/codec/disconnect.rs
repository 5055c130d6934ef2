//! DISCONNECT (3.14).

use super::packet::{Disconnect, Version};
use super::property::{self, NOT_ALLOWED, PropertyReader, id};
use super::read::Reader;
use super::{DecodeError, ReasonCode, Side, ack, write};

/// 3.14.2.1, the reasons a client may give.
const CLIENT_REASONS: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::DisconnectWithWill,
    ReasonCode::Unspecified,
    ReasonCode::MalformedPacket,
    ReasonCode::ProtocolError,
    ReasonCode::ImplementationSpecific,
    ReasonCode::TopicNameInvalid,
    ReasonCode::ReceiveMaximumExceeded,
    ReasonCode::TopicAliasInvalid,
    ReasonCode::PacketTooLarge,
    ReasonCode::MessageRateTooHigh,
    ReasonCode::QuotaExceeded,
    ReasonCode::AdministrativeAction,
    ReasonCode::PayloadFormatInvalid,
];

pub(super) fn decode(
    mut reader: Reader,
    version: Version,
    side: Side,
) -> Result<Disconnect, DecodeError> {
    let mut disconnect = Disconnect::new(ReasonCode::Success);
    // 3.14.2.1: below 1 byte it is normal; below 2 there are no properties (3.14.2.2.1).
    if version == Version::V311 || reader.is_empty() {
        reader.finish()?;
        return Ok(disconnect);
    }
    let from_server = |reason: ReasonCode| reason.is_error() || reason == ReasonCode::Success;
    disconnect.reason = ack::reason(reader.u8()?, |reason| match side {
        Side::Server => CLIENT_REASONS.contains(&reason),
        Side::Client => from_server(reason),
    })?;
    if !reader.is_empty() {
        let mut properties = PropertyReader::new(&mut reader)?;
        while let Some(id) = properties.next()? {
            match id {
                // [MQTT-3.14.2-2]: a server must not send it.
                id::SESSION_EXPIRY if side == Side::Server => {
                    disconnect.session_expiry_s = Some(properties.value().u32()?);
                }
                id::REASON_STRING => disconnect.reason_string = Some(properties.value().string()?),
                id::SERVER_REFERENCE if side == Side::Client => properties.value().skip_string()?,
                id::USER => properties.skip_user()?,
                _ => return Err(NOT_ALLOWED),
            }
        }
    }
    reader.finish()?;
    Ok(disconnect)
}

pub(super) fn encode(disconnect: &Disconnect, version: Version, out: &mut Vec<u8>) {
    if version == Version::V311 {
        return out.extend_from_slice(&[0xE0, 0]);
    }
    write::packet(0xE0, out, |body| {
        body.push(disconnect.reason.as_u8());
        property::block(body, |block| {
            property::write_u32(block, id::SESSION_EXPIRY, disconnect.session_expiry_s);
            property::write_string(block, id::REASON_STRING, disconnect.reason_string.as_deref());
        });
    });
}
