//! From a stream of bytes to packets (2.1).

use bytes::{Buf, BytesMut};

use super::packet::{Packet, Version};
use super::read::{Reader, varint};
use super::{
    DecodeError, ReasonCode, ack, alias, connack, connect, disconnect, publish, subscribe,
};

/// Which side of a connection decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Reads what clients send.
    Server,
    /// Reads what servers send.
    Client,
}

/// Decodes one direction of one connection.
#[derive(Debug)]
pub struct Decoder {
    side: Side,
    /// Known from the CONNECT on; a client knows it from the start.
    version: Option<Version>,
    packet_bytes_max: usize,
    aliases: alias::Received,
}

const TOO_LARGE: DecodeError =
    DecodeError::new(ReasonCode::PacketTooLarge, "[MQTT-3.1.2-24] packet over the maximum size");

impl Decoder {
    /// For a server: the first packet must be a CONNECT [MQTT-3.1.0-1] of at most
    /// `connect_bytes_max` bytes.
    #[must_use]
    pub fn server(connect_bytes_max: usize) -> Self {
        Self {
            side: Side::Server,
            version: None,
            packet_bytes_max: connect_bytes_max,
            aliases: alias::Received::default(),
        }
    }

    /// For a client that has sent a CONNECT of this version.
    #[must_use]
    pub fn client(version: Version, packet_bytes_max: usize) -> Self {
        Self {
            side: Side::Client,
            version: Some(version),
            packet_bytes_max,
            aliases: alias::Received::default(),
        }
    }

    /// The version of the connection, once it is known.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Sets the largest packet accepted from now on, in bytes with its header.
    pub fn set_packet_bytes_max(&mut self, packet_bytes_max: usize) {
        self.packet_bytes_max = packet_bytes_max;
    }

    /// Accepts topic aliases up to `alias_max`, with at most `bytes_max` bytes of names behind
    /// them: what this side has told the other. Before, none are accepted.
    pub fn accept_topic_aliases(&mut self, alias_max: u16, bytes_max: usize) {
        self.aliases = alias::Received::new(alias_max, bytes_max);
    }

    /// Takes the next packet from the front of `buf`; `None` if it is not complete yet.
    ///
    /// # Errors
    /// The rule that the bytes break. The connection cannot be read further.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Packet>, DecodeError> {
        let version = self.version;
        self.decode_next(buf).map_err(|error| DecodeError {
            // An error inside a CONNECT may know the version that the decoder does not yet.
            version: error.version.or(version),
            ..error
        })
    }

    /// Bytes of the packet at the front of `buf`, header included, once they are known.
    #[must_use]
    pub fn packet_bytes(&self, buf: &[u8]) -> Option<usize> {
        let (body, head) = varint(buf.get(1..)?, false).ok()??;
        usize::try_from(body).ok()?.checked_add(head + 1)
    }

    fn decode_next(&mut self, buf: &mut BytesMut) -> Result<Option<Packet>, DecodeError> {
        let Some(&first) = buf.first() else { return Ok(None) };
        self.check_first(first)?;
        let minimal = self.version == Some(Version::V5);
        let Some((body, head)) = varint(&buf[1..], minimal)? else { return Ok(None) };
        let (body, head) = (usize::try_from(body).map_err(|_| TOO_LARGE)?, head + 1);
        if head + body > self.packet_bytes_max {
            return Err(TOO_LARGE);
        }
        if buf.len() < head + body {
            return Ok(None);
        }
        buf.advance(head);
        let packet = self.body(first, Reader::new(buf.split_to(body).freeze()))?;
        if let Packet::Connect(connect) = &packet {
            self.version = Some(connect.version);
        }
        Ok(Some(packet))
    }

    /// Type and flags (2.1.2, 2.1.3), before anything else of the packet is there.
    fn check_first(&self, first: u8) -> Result<(), DecodeError> {
        let flags_ok = match first >> 4 {
            0 => return Err(DecodeError::malformed("2.1.2 packet type 0 is reserved")),
            3 => {
                // [MQTT-3.3.1-4], [MQTT-3.3.1-2]
                let (qos, dup) = (first >> 1 & 0b11, first & 0b1000 != 0);
                qos != 3 && !(qos == 0 && dup)
            }
            6 | 8 | 10 => first & 0x0F == 0b0010,
            _ => first & 0x0F == 0,
        };
        if !flags_ok {
            return Err(DecodeError::malformed("[MQTT-2.1.3-1] wrong flags for the packet type"));
        }
        let from_client = match first >> 4 {
            1 | 8 | 10 | 12 => Some(true),
            2 | 9 | 11 | 13 => Some(false),
            // Every authentication method is refused with the CONNECT that names it.
            15 => return Err(DecodeError::protocol("3.15 AUTH without an authentication method")),
            _ => None,
        };
        match (self.side, self.version) {
            (Side::Server, None) if first >> 4 != 1 => {
                Err(DecodeError::protocol("[MQTT-3.1.0-1] the first packet is not a CONNECT"))
            }
            (Side::Server, Some(_)) if first >> 4 == 1 => {
                Err(DecodeError::protocol("[MQTT-3.1.0-2] a second CONNECT"))
            }
            (side, _) if from_client.is_some_and(|client| client != (side == Side::Server)) => {
                Err(DecodeError::protocol("2.1.2 packet type of the other direction"))
            }
            _ => Ok(()),
        }
    }

    fn body(&mut self, first: u8, reader: Reader) -> Result<Packet, DecodeError> {
        let Some(version) = self.version else {
            return connect::decode(reader).map(|connect| Packet::Connect(Box::new(connect)));
        };
        Ok(match first >> 4 {
            2 => Packet::ConnAck(Box::new(connack::decode(reader, version)?)),
            3 => {
                let (side, aliases) = (self.side, &mut self.aliases);
                Packet::Publish(publish::decode(first, reader, version, side, aliases)?)
            }
            4 => Packet::PubAck(ack::decode(reader, version, ack::PUBLISH_REASONS)?),
            5 => Packet::PubRec(ack::decode(reader, version, ack::PUBLISH_REASONS)?),
            6 => Packet::PubRel(ack::decode(reader, version, ack::RELEASE_REASONS)?),
            7 => Packet::PubComp(ack::decode(reader, version, ack::RELEASE_REASONS)?),
            8 => Packet::Subscribe(subscribe::decode(reader, version)?),
            9 => Packet::SubAck(ack::decode_suback(reader, version)?),
            10 => Packet::Unsubscribe(subscribe::decode_unsubscribe(reader, version)?),
            11 => Packet::UnsubAck(ack::decode_unsuback(reader, version)?),
            12 => reader.finish().map(|()| Packet::PingReq)?,
            13 => reader.finish().map(|()| Packet::PingResp)?,
            14 => Packet::Disconnect(disconnect::decode(reader, version, self.side)?),
            _ => return Err(DecodeError::malformed("2.1.2 unknown packet type")),
        })
    }
}
