//! MQTT packets from foreign bytes, on both sides and in both versions.

use bytes::BytesMut;
use edge_broker::codec::{Decoder, Packet, Version, encode};

use crate::bytes_reader::BytesReader;

/// Largest packet accepted.
const PACKET_BYTES_MAX: usize = 2_048;

/// However the bytes are cut into reads, the same packets and the same end come of them; and what
/// was read can be written and is read again as the same.
pub(super) fn run(bytes: &[u8]) {
    let mut reader = BytesReader::new(bytes);
    let (side, cut) = (reader.byte(), usize::from(reader.byte()) + 1);
    let stream = reader.rest();
    let whole = read(&mut decoder(side), stream, stream.len().max(1));
    let in_pieces = read(&mut decoder(side), stream, cut);
    assert_eq!(whole, in_pieces, "cut into reads of {cut} bytes the stream reads differently");
    for packet in &whole.0 {
        again(side, packet);
    }
}

fn decoder(side: u8) -> Decoder {
    match side % 3 {
        0 => Decoder::server(PACKET_BYTES_MAX),
        1 => Decoder::client(Version::V311, PACKET_BYTES_MAX),
        _ => Decoder::client(Version::V5, PACKET_BYTES_MAX),
    }
}

/// The packets, and the rule that ended the stream.
fn read(decoder: &mut Decoder, stream: &[u8], cut: usize) -> (Vec<Packet>, Option<&'static str>) {
    let (mut buf, mut packets) = (BytesMut::new(), Vec::new());
    for piece in stream.chunks(cut) {
        buf.extend_from_slice(piece);
        loop {
            let before = buf.len();
            match decoder.decode(&mut buf) {
                Ok(None) => break,
                Ok(Some(packet)) => {
                    assert!(buf.len() < before, "a packet takes bytes");
                    packets.push(packet);
                }
                Err(error) => return (packets, Some(error.rule)),
            }
        }
    }
    (packets, None)
}

fn again(side: u8, packet: &Packet) {
    let (version, mut decoder) = match (packet, side % 3) {
        (Packet::Connect(connect), _) => (connect.version, Decoder::server(usize::MAX)),
        (_, 1) => (Version::V311, Decoder::client(Version::V311, usize::MAX)),
        (_, 2) => (Version::V5, Decoder::client(Version::V5, usize::MAX)),
        // What a server read after the CONNECT: the version is not known here, and the packets of
        // clients are read by servers only.
        _ => return,
    };
    let mut written = Vec::new();
    encode(packet, version, &mut written);
    let mut buf = BytesMut::from(written.as_slice());
    match decoder.decode(&mut buf) {
        Ok(Some(read)) => assert_eq!(*packet, read, "written and read again"),
        other => panic!("{packet:?} cannot be read again: {other:?}"),
    }
    assert!(buf.is_empty(), "{packet:?} was written longer than it is");
}
