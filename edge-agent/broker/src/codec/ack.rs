//! PUBACK, PUBREC, PUBREL, PUBCOMP (3.4 to 3.7), SUBACK and UNSUBACK (3.9, 3.11).

use super::packet::{Ack, AckList, PacketId, Version};
use super::property::{self, skip_reason_properties};
use super::read::Reader;
use super::{DecodeError, ReasonCode, write};

/// 3.4.2.1, 3.5.2.1
pub(super) const PUBLISH_REASONS: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::NoMatchingSubscribers,
    ReasonCode::Unspecified,
    ReasonCode::ImplementationSpecific,
    ReasonCode::NotAuthorized,
    ReasonCode::TopicNameInvalid,
    ReasonCode::PacketIdentifierInUse,
    ReasonCode::QuotaExceeded,
    ReasonCode::PayloadFormatInvalid,
];

/// 3.6.2.1, 3.7.2.1
pub(super) const RELEASE_REASONS: &[ReasonCode] =
    &[ReasonCode::Success, ReasonCode::PacketIdentifierNotFound];

/// v3.1.1 3.9.3: [MQTT-3.9.3-2].
const SUBSCRIBE_REASONS_V311: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::GrantedQoS1,
    ReasonCode::GrantedQoS2,
    ReasonCode::Unspecified,
];

/// 3.9.3
const SUBSCRIBE_REASONS: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::GrantedQoS1,
    ReasonCode::GrantedQoS2,
    ReasonCode::Unspecified,
    ReasonCode::ImplementationSpecific,
    ReasonCode::NotAuthorized,
    ReasonCode::TopicFilterInvalid,
    ReasonCode::PacketIdentifierInUse,
    ReasonCode::QuotaExceeded,
    ReasonCode::SharedSubscriptionsNotSupported,
    ReasonCode::SubscriptionIdentifiersNotSupported,
    ReasonCode::WildcardSubscriptionsNotSupported,
];

/// 3.11.3
const UNSUBSCRIBE_REASONS: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::NoSubscriptionExisted,
    ReasonCode::Unspecified,
    ReasonCode::ImplementationSpecific,
    ReasonCode::NotAuthorized,
    ReasonCode::TopicFilterInvalid,
    ReasonCode::PacketIdentifierInUse,
];

/// A packet identifier, which is never zero [MQTT-2.2.1-3] [MQTT-2.2.1-4].
pub(super) fn packet_id(reader: &mut Reader) -> Result<PacketId, DecodeError> {
    PacketId::new(reader.u16()?)
        .ok_or(DecodeError::protocol("[MQTT-2.2.1-3] packet identifier is zero"))
}

pub(super) fn decode(
    mut reader: Reader,
    version: Version,
    allowed: &[ReasonCode],
) -> Result<Ack, DecodeError> {
    let packet_id = packet_id(&mut reader)?;
    // 3.4.2.1: a remaining length of 2 means success; below 4 there are no properties (3.4.2.2.1).
    if version == Version::V311 || reader.is_empty() {
        reader.finish()?;
        return Ok(Ack::ok(packet_id));
    }
    let reason = reason(reader.u8()?, |reason| allowed.contains(&reason))?;
    if !reader.is_empty() {
        skip_reason_properties(&mut reader)?;
    }
    reader.finish()?;
    Ok(Ack { packet_id, reason })
}

/// A reason code that is allowed where it stands.
pub(super) fn reason(
    value: u8,
    allowed: impl FnOnce(ReasonCode) -> bool,
) -> Result<ReasonCode, DecodeError> {
    ReasonCode::from_u8(value)
        .filter(|reason| allowed(*reason))
        .ok_or(DecodeError::malformed("2.4 reason code not valid for this packet"))
}

pub(super) fn encode(first: u8, ack: Ack, version: Version, out: &mut Vec<u8>) {
    let [high, low] = ack.packet_id.get().to_be_bytes();
    if version == Version::V311 || ack.reason == ReasonCode::Success {
        out.extend_from_slice(&[first, 2, high, low]);
    } else {
        out.extend_from_slice(&[first, 3, high, low, ack.reason.as_u8()]);
    }
}

/// Appends a PUBACK (`is_rec`: a PUBREC) of MQTT 5 with a reason string (3.4.2.2.2, 3.5.2.2.2).
pub fn encode_explained_ack(ack: Ack, is_rec: bool, text: &str, out: &mut Vec<u8>) {
    write::packet(if is_rec { 0x50 } else { 0x40 }, out, |body| {
        body.extend_from_slice(&ack.packet_id.get().to_be_bytes());
        body.push(ack.reason.as_u8());
        property::block(body, |block| {
            block.push(property::id::REASON_STRING);
            write::string(block, text);
        });
    });
}

/// Bytes that [`encode_explained_ack`] appends, at most.
#[must_use]
pub fn explained_ack_bytes(text: &str) -> usize {
    const VARINTS: usize = 2 * 4;
    1 + VARINTS + 2 + 1 + 1 + 2 + text.len()
}

/// SUBACK, as a client reads it.
pub(super) fn decode_suback(reader: Reader, version: Version) -> Result<AckList, DecodeError> {
    let allowed = match version {
        Version::V311 => SUBSCRIBE_REASONS_V311,
        Version::V5 => SUBSCRIBE_REASONS,
    };
    decode_list(reader, version, allowed)
}

/// UNSUBACK, as a client reads it: that of 3.1.1 has no reasons (v3.1.1 3.11).
pub(super) fn decode_unsuback(reader: Reader, version: Version) -> Result<AckList, DecodeError> {
    let allowed = match version {
        Version::V311 => &[],
        Version::V5 => UNSUBSCRIBE_REASONS,
    };
    decode_list(reader, version, allowed)
}

fn decode_list(
    mut reader: Reader,
    version: Version,
    allowed: &[ReasonCode],
) -> Result<AckList, DecodeError> {
    let packet_id = packet_id(&mut reader)?;
    if version == Version::V5 {
        skip_reason_properties(&mut reader)?;
    }
    let mut reasons = Vec::new();
    while !reader.is_empty() {
        reasons.push(reason(reader.u8()?, |reason| allowed.contains(&reason))?);
    }
    reader.finish()?;
    Ok(AckList { packet_id, reasons })
}

pub(super) fn encode_list(first: u8, list: &AckList, version: Version, out: &mut Vec<u8>) {
    const UNSUBACK: u8 = 0xB0;
    write::packet(first, out, |body| {
        body.extend_from_slice(&list.packet_id.get().to_be_bytes());
        match version {
            Version::V5 => {
                body.push(0);
                body.extend(list.reasons.iter().map(|reason| reason.as_u8()));
            }
            Version::V311 if first == UNSUBACK => {}
            // v3.1.1 3.9.3: every failure is 0x80 [MQTT-3.9.3-2].
            Version::V311 => body.extend(list.reasons.iter().map(|reason| {
                if reason.is_error() { ReasonCode::Unspecified.as_u8() } else { reason.as_u8() }
            })),
        }
    });
}
