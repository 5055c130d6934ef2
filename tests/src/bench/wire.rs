//! MQTT 5 on a non-blocking socket, as cheap as it gets: whole reads are cut into packets in
//! place, and everything that is to be sent in a turn leaves in one write.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use edge_broker::codec::{
    Connect, Decoder, Packet, PacketId, ReasonCode, Subscribe, SubscribeOptions, Version, encode,
};
use edge_core::message::QoS;

/// How long a broker may take to answer while a connection is set up.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How long a subscriber's session outlives its connection.
const SESSION_EXPIRY_S: u32 = 3_600;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;

/// A packet that matters while a load runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A PUBACK.
    Acked {
        /// Of this packet.
        packet_id: u16,
        /// The reason is a success.
        taken: bool,
    },
    /// A PUBLISH of QoS 1.
    Message {
        /// To be acked.
        packet_id: u16,
        /// Its payload.
        payload: &'a [u8],
    },
}

/// A connection.
#[derive(Debug)]
pub struct Wire {
    /// The socket.
    pub stream: mio::net::TcpStream,
    /// The incomplete packet at the end of the last read.
    rest: Vec<u8>,
    /// To be written, from `written` on.
    pub out: Vec<u8>,
    written: usize,
}

impl Wire {
    /// Connects as an anonymous MQTT 5 client with a new session. A subscriber's outlives its
    /// connection: a broker that promises durability has to store what it is to be sent.
    ///
    /// # Errors
    /// The broker refuses, or takes less than `in_flight` unacked publishes.
    pub fn connect(
        address: SocketAddr,
        client_id: &str,
        in_flight: u16,
        filter: Option<&str>,
    ) -> Result<Self> {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        let mut connect = Connect::new(Version::V5, client_id);
        connect.clean_start = true;
        connect.keep_alive_s = 0;
        connect.session_expiry_s = filter.map_or(0, |_| SESSION_EXPIRY_S);
        let Packet::ConnAck(ack) = ask(&mut stream, &Packet::Connect(Box::new(connect)))? else {
            bail!("no CONNACK");
        };
        ensure!(ack.reason == ReasonCode::Success, "refused: {ack:?}");
        let most = ack.properties.receive_max.unwrap_or(u16::MAX);
        ensure!(most >= in_flight, "the broker takes {most} unacked publishes, not {in_flight}");
        if let Some(filter) = filter {
            let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
            let subscribe = Subscribe {
                packet_id: PacketId::new(1).context("1 is a packet id")?,
                subscription_id: None,
                filters: vec![(filter.parse()?, options)],
            };
            let Packet::SubAck(_) = ask(&mut stream, &Packet::Subscribe(subscribe))? else {
                bail!("no SUBACK");
            };
        }
        stream.set_nonblocking(true)?;
        let stream = mio::net::TcpStream::from_std(stream);
        Ok(Self { stream, rest: Vec::new(), out: Vec::new(), written: 0 })
    }

    /// Reads what is there and hands over its packets.
    ///
    /// # Errors
    /// The connection is gone, or the broker sent what has no place in a load.
    pub fn read(
        &mut self,
        scratch: &mut [u8],
        mut each: impl FnMut(Incoming<'_>, &mut Vec<u8>),
    ) -> Result<()> {
        loop {
            let kept = self.rest.len();
            scratch[..kept].copy_from_slice(&self.rest);
            let read = match self.stream.read(&mut scratch[kept..]) {
                Ok(0) => bail!("the broker closed the connection"),
                Ok(read) => read,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(err) => return Err(err.into()),
            };
            // Less than there was room for: the socket is empty.
            let drained = kept + read < scratch.len();
            let bytes = &scratch[..kept + read];
            let mut at = 0;
            while let Some(len) = packet_len(&bytes[at..])? {
                each(incoming(&bytes[at..at + len])?, &mut self.out);
                at += len;
            }
            self.rest.clear();
            self.rest.extend_from_slice(&bytes[at..]);
            if drained {
                return Ok(());
            }
        }
    }

    /// Writes as much as the socket takes.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn flush(&mut self) -> Result<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(written) => self.written += written,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(err) => return Err(err.into()),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }
}

/// Appends the PUBACK of a received message.
pub fn append_puback(packet_id: u16, out: &mut Vec<u8>) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[PUBACK << 4, 2, high, low]);
}

fn ask(stream: &mut std::net::TcpStream, packet: &Packet) -> Result<Packet> {
    let mut out = Vec::new();
    encode(packet, Version::V5, &mut out);
    stream.write_all(&out)?;
    let mut decoder = Decoder::client(Version::V5, 64 << 10);
    let mut inbound = BytesMut::new();
    loop {
        let decoded = decoder.decode(&mut inbound);
        if let Some(answer) = decoded.map_err(|err| anyhow::anyhow!("{err:?}"))? {
            ensure!(inbound.is_empty(), "the broker said more than its answer");
            return Ok(answer);
        }
        let mut chunk = [0; 1_024];
        let read = stream.read(&mut chunk).context("waiting for the broker's answer")?;
        ensure!(read > 0, "the broker closed the connection");
        inbound.extend_from_slice(&chunk[..read]);
    }
}

/// Length of the first packet, if all of it is there (2.1.4).
fn packet_len(bytes: &[u8]) -> Result<Option<usize>> {
    let Some((len, digits)) = variable(bytes.get(1..).unwrap_or_default())? else {
        return Ok(None);
    };
    let whole = 1 + digits + len;
    Ok((bytes.len() >= whole).then_some(whole))
}

/// A variable byte integer and how many bytes it has (1.5.5).
fn variable(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut value = 0;
    for (n, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return Ok(Some((value, n + 1)));
        }
    }
    ensure!(bytes.len() < 4, "a length of more than four bytes");
    Ok(None)
}

fn incoming(packet: &[u8]) -> Result<Incoming<'_>> {
    let (_, digits) = variable(&packet[1..])?.context("a packet without a length")?;
    let body = &packet[1 + digits..];
    let short = "a packet is too short";
    match packet[0] >> 4 {
        PUBACK => {
            let packet_id = body.first_chunk().copied().map(u16::from_be_bytes).context(short)?;
            // Without a reason it is a success (3.4.2.1).
            let taken = body.get(2).is_none_or(|reason| *reason < 0x80);
            Ok(Incoming::Acked { packet_id, taken })
        }
        PUBLISH => {
            ensure!(packet[0] >> 1 & 3 == 1, "an output with another QoS than 1");
            let topic = body.first_chunk().copied().map(u16::from_be_bytes).context(short)?;
            let rest = body.get(2 + usize::from(topic)..).context(short)?;
            let packet_id = rest.first_chunk().copied().map(u16::from_be_bytes).context(short)?;
            let (len, digits) = variable(&rest[2..])?.context(short)?;
            let payload = rest.get(2 + digits + len..).context(short)?;
            Ok(Incoming::Message { packet_id, payload })
        }
        other => bail!("a packet of type {other}, which has no place in a load"),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use edge_broker::codec::{Ack, Publish};
    use edge_core::message::Properties;
    use edge_core::topic::Topic;

    use super::*;

    fn encoded(packet: &Packet) -> Vec<u8> {
        let mut out = Vec::new();
        encode(packet, Version::V5, &mut out);
        out
    }

    #[test]
    fn packets_are_read_as_the_codec_writes_them() {
        let id = PacketId::new(513).unwrap();
        let publish = encoded(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: Topic::new("out/d07").unwrap(),
            packet_id: Some(id),
            expiry_s: Some(9),
            subscription_ids: Vec::new(),
            properties: Properties::default(),
            payload: Bytes::from(vec![7; 200]),
        }));
        assert_eq!(packet_len(&publish).unwrap(), Some(publish.len()));
        assert_eq!(packet_len(&publish[..publish.len() - 1]).unwrap(), None);
        let wanted = Incoming::Message { packet_id: 513, payload: &[7; 200] };
        assert_eq!(incoming(&publish).unwrap(), wanted);
        for (reason, taken) in [(ReasonCode::Success, true), (ReasonCode::QuotaExceeded, false)] {
            let ack = encoded(&Packet::PubAck(Ack { packet_id: id, reason }));
            assert_eq!(incoming(&ack).unwrap(), Incoming::Acked { packet_id: 513, taken });
        }
        let mut own = Vec::new();
        append_puback(513, &mut own);
        assert_eq!(own, encoded(&Packet::PubAck(Ack::ok(id))));
    }

    #[test]
    fn what_has_no_place_in_a_load_is_an_error() {
        assert!(incoming(&encoded(&Packet::PingResp)).is_err());
        assert!(packet_len(&[0x40, 0xff, 0xff, 0xff, 0xff, 1]).is_err());
        assert!(incoming(&[0x40, 1, 0]).is_err());
    }
}
