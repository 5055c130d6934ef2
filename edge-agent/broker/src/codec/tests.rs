//! The codec against malformed packets, one rule each, and against itself.

mod malformed;
mod round_trip;

use bytes::BytesMut;

use super::*;

/// A packet from its first byte and its body.
pub(super) fn frame(first: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let mut packet = vec![first];
    write::varint(&mut packet, body.len());
    packet.extend_from_slice(&body);
    packet
}

/// A string or binary field.
pub(super) fn field(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let mut field = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    field.extend_from_slice(bytes);
    field
}

pub(super) fn connect_packet(level: u8, flags: u8, rest: &[&[u8]]) -> Vec<u8> {
    frame(0x10, &[&field("MQTT"), &[level, flags, 0, 60], &rest.concat()])
}

/// A server's decoder after a CONNECT of this version.
pub(super) fn connected(version: Version) -> Decoder {
    let mut decoder = Decoder::server(1_024);
    let connect = match version {
        Version::V5 => connect_packet(5, 2, &[&[0], &field("c")]),
        Version::V311 => connect_packet(4, 2, &[&field("c")]),
    };
    let packet = decoder.decode(&mut BytesMut::from(&connect[..])).unwrap();
    assert!(matches!(packet, Some(Packet::Connect(_))));
    decoder
}
