//! Writing packets. What is written here is our own, so lengths are invariants, not inputs.

use edge_core::message::QoS;

use super::{Packet, Version, ack, connack, connect, disconnect, publish, subscribe};

/// Appends `packet` in the form of `version`.
///
/// Strings must be at most 65,535 bytes and the packet below 256 MiB: both hold for what was
/// decoded, and [`is_encodable`](super::is_encodable) tells for messages from elsewhere.
pub fn encode(packet: &Packet, version: Version, out: &mut Vec<u8>) {
    match packet {
        Packet::Connect(connect) => connect::encode(connect, out),
        Packet::ConnAck(connack) => connack::encode(connack, version, out),
        Packet::Publish(publish) => publish::encode(publish, version, out),
        Packet::PubAck(a) => ack::encode(0x40, *a, version, out),
        Packet::PubRec(a) => ack::encode(0x50, *a, version, out),
        // [MQTT-3.6.1-1]: bits 3 to 0 are 0010.
        Packet::PubRel(a) => ack::encode(0x62, *a, version, out),
        Packet::PubComp(a) => ack::encode(0x70, *a, version, out),
        Packet::Subscribe(subscribe) => subscribe::encode(subscribe, version, out),
        Packet::SubAck(list) => ack::encode_list(0x90, list, version, out),
        Packet::Unsubscribe(unsubscribe) => {
            subscribe::encode_unsubscribe(unsubscribe, version, out);
        }
        Packet::UnsubAck(list) => ack::encode_list(0xB0, list, version, out),
        Packet::PingReq => out.extend_from_slice(&[0xC0, 0]),
        Packet::PingResp => out.extend_from_slice(&[0xD0, 0]),
        Packet::Disconnect(d) => disconnect::encode(d, version, out),
    }
}

pub(super) fn qos_bits(qos: QoS) -> u8 {
    match qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => 1,
        QoS::ExactlyOnce => 2,
    }
}

/// Appends a packet whose body `fill` writes: the length in front of it is filled in after.
pub(super) fn packet(first: u8, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::with_capacity(64);
    fill(&mut body);
    out.push(first);
    varint(out, body.len());
    out.extend_from_slice(&body);
}

/// 1.5.5
pub(super) fn varint(out: &mut Vec<u8>, value: usize) {
    let mut rest = value;
    loop {
        let low = u8::try_from(rest % 128).expect("invariant: a remainder of 128");
        rest /= 128;
        if rest == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

/// 1.5.5, for a number that is no length.
pub(super) fn varint_u32(out: &mut Vec<u8>, value: u32) {
    varint(out, usize::try_from(value).expect("invariant: a usize has at least 32 bits"));
}

/// Bytes that [`varint_u32`] appends.
pub(super) fn varint_u32_bytes(value: u32) -> usize {
    varint_bytes(usize::try_from(value).expect("invariant: a usize has at least 32 bits"))
}

/// Bytes of a variable byte integer.
pub(super) fn varint_bytes(value: usize) -> usize {
    match value {
        0..128 => 1,
        128..16_384 => 2,
        16_384..2_097_152 => 3,
        _ => 4,
    }
}

/// 1.5.4
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    binary(out, text.as_bytes());
}

/// 1.5.6
pub(super) fn binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).expect("invariant: checked by who made the packet");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
}
