//! One connection: packets out of bytes and back, packet ids, pings.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use edge_broker::codec::{
    Ack, Connect, Decoder, Disconnect, Packet, PacketId, Publish, ReasonCode, Subscribe,
    SubscribeOptions, Version, Will, encode,
};
use edge_core::message::{Properties, QoS};
use edge_core::topic::{Topic, TopicFilter};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::Endpoint;

/// Publishes without an ack, at most.
const INFLIGHT_MAX: u16 = 16;
/// Of the subscription, which no publish has.
const SUBSCRIBE_ID: u16 = INFLIGHT_MAX + 1;
/// Pings for which one missing ack may keep all publishes waiting.
const STUCK_PINGS_MAX: u32 = 2;
/// How long a server may take no bytes.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// Longest packet in either direction.
const PACKET_BYTES_MAX: usize = sync_protocol::limits::MESSAGE_BYTES_MAX + 4_096;
/// Room for one read.
const READ_BYTES: usize = 16 << 10;

/// Why a connection is of no use any more.
#[derive(Debug)]
pub(super) struct Lost(pub(super) String);

impl Lost {
    pub(super) fn new(why: &str) -> Self {
        Self(why.to_owned())
    }
}

/// See the module.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    decoder: Decoder,
    inbox: BytesMut,
    /// Bytes of packets that are not written yet.
    outbox: Vec<u8>,
    ids: Ids,
    /// A ping that is not answered.
    is_pinged: bool,
    /// The id of the last publish while the next one has none, and pings since.
    stuck: Option<(u16, u32)>,
}

/// Packet ids of unacked publishes: `1..=INFLIGHT_MAX`, in order and round again.
#[derive(Debug, Default)]
struct Ids {
    /// Bit `n - 1`: `n` is not acked.
    used: u16,
    last: u16,
}

const _: () = assert!(INFLIGHT_MAX as u32 == u16::BITS, "a bit for each");

impl Ids {
    fn next(&self) -> u16 {
        self.last % INFLIGHT_MAX + 1
    }

    fn is_free(&self) -> bool {
        self.used & bit(self.next()) == 0
    }

    fn take(&mut self) -> Option<PacketId> {
        if !self.is_free() {
            return None;
        }
        self.last = self.next();
        self.used |= bit(self.last);
        PacketId::new(self.last)
    }

    /// An ack has come; `false`: for nothing.
    fn free(&mut self, id: PacketId) -> bool {
        let id = id.get();
        let is_used = id <= INFLIGHT_MAX && self.used & bit(id) != 0;
        if is_used {
            self.used &= !bit(id);
        }
        is_used
    }
}

fn bit(id: u16) -> u16 {
    1 << (id - 1)
}

fn topic(text: &str) -> Result<Topic, Lost> {
    Topic::new(text).map_err(|error| Lost(format!("{text:?}: {error}")))
}

impl Connection {
    /// Says who connects.
    pub(super) async fn begin(
        stream: TlsStream<TcpStream>,
        endpoint: &Endpoint,
    ) -> Result<Self, Lost> {
        let mut connect = Connect::new(Version::V311, &endpoint.client_id);
        connect.keep_alive_s = u16::try_from(endpoint.keep_alive.as_secs()).unwrap_or(u16::MAX);
        if let Some((user, password)) = &endpoint.login {
            connect.username = Some(user.clone());
            connect.password = Some(Bytes::from(password.clone().into_bytes()));
        }
        connect.will = endpoint.will.as_ref().map(|(at, payload)| will(at, payload)).transpose()?;
        let mut connection = Self {
            stream,
            decoder: Decoder::client(Version::V311, PACKET_BYTES_MAX),
            inbox: BytesMut::new(),
            outbox: Vec::new(),
            ids: Ids::default(),
            is_pinged: false,
            stuck: None,
        };
        connection.write(Packet::Connect(Box::new(connect))).await?;
        Ok(connection)
    }

    /// The next packet of what was read; `None` while it is not whole.
    pub(super) fn take(&mut self) -> Result<Option<Packet>, Lost> {
        let packet = self.decoder.decode(&mut self.inbox);
        packet.map_err(|error| Lost(format!("it does not speak MQTT 3.1.1: {error}")))
    }

    /// Reads once. Given up, it has read nothing.
    pub(super) async fn read(&mut self) -> Result<(), Lost> {
        self.inbox.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.inbox).await {
            Ok(0) => Err(Lost::new("the connection was closed by the other side")),
            Ok(_) => Ok(()),
            Err(error) => Err(Lost(error.to_string())),
        }
    }

    /// Asks for what is published on a topic.
    pub(super) async fn subscribe(&mut self, filter: &str) -> Result<(), Lost> {
        let packet_id = PacketId::new(SUBSCRIBE_ID).expect("invariant: it is not zero");
        let parsed: Result<TopicFilter, _> = filter.parse();
        let parsed = parsed.map_err(|error| Lost(format!("{filter:?}: {error}")))?;
        let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
        let filters = vec![(parsed, options)];
        self.write(Packet::Subscribe(Subscribe { packet_id, subscription_id: None, filters })).await
    }

    /// Whether there is a packet id for a publish.
    pub(super) fn may_publish(&self) -> bool {
        self.ids.is_free()
    }

    pub(super) async fn publish(
        &mut self,
        to: &str,
        retain: bool,
        payload: Vec<u8>,
    ) -> Result<(), Lost> {
        let packet_id = self.ids.take();
        assert!(packet_id.is_some(), "invariant: asked whether it may publish");
        self.write(Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain,
            topic: topic(to)?,
            packet_id,
            expiry_s: None,
            subscription_ids: Vec::new(),
            properties: Properties::default(),
            payload: payload.into(),
        }))
        .await
    }

    /// Asks for a sign of life, a keep-alive after the last time; an error where none has come since,
    /// or where one ack has been missing for two.
    pub(super) async fn ping(&mut self) -> Result<(), Lost> {
        if self.is_pinged {
            return Err(Lost::new("no sign of life for two keep-alives"));
        }
        self.stuck = (!self.ids.is_free()).then(|| match self.stuck {
            Some((last, pings)) if last == self.ids.last => (last, pings + 1),
            _ => (self.ids.last, 0),
        });
        if self.stuck.is_some_and(|(_, pings)| pings >= STUCK_PINGS_MAX) {
            return Err(Lost::new("it acks nothing"));
        }
        self.is_pinged = true;
        self.write(Packet::PingReq).await
    }

    /// Puts the ack of a message beside what is written next.
    pub(super) fn ack(&mut self, publish: &Publish) -> Result<(), Lost> {
        match (publish.qos, publish.packet_id) {
            (QoS::AtMostOnce, _) => Ok(()),
            (QoS::AtLeastOnce, Some(id)) => {
                encode(&Packet::PubAck(Ack::ok(id)), Version::V311, &mut self.outbox);
                Ok(())
            }
            _ => Err(Lost::new("it sends with QoS 2, which nobody asked for")),
        }
    }

    /// What concerns the connection alone.
    pub(super) fn heard(&mut self, packet: &Packet) -> Result<(), Lost> {
        match packet {
            Packet::PubAck(ack) if self.ids.free(ack.packet_id) => Ok(()),
            Packet::PubAck(_) => Err(Lost::new("it acks what was not sent")),
            Packet::PingResp => {
                self.is_pinged = false;
                Ok(())
            }
            _ => Err(Lost::new("it sends a packet that has no place there")),
        }
    }

    /// Ends in order, as far as the other side takes it.
    pub(super) async fn goodbye(&mut self) {
        let goodbye = Packet::Disconnect(Disconnect::new(ReasonCode::Success));
        if self.write(goodbye).await.is_ok() {
            let _ = timeout(WRITE_MAX, self.stream.shutdown()).await;
        }
    }

    async fn write(&mut self, packet: Packet) -> Result<(), Lost> {
        encode(&packet, Version::V311, &mut self.outbox);
        self.flush().await
    }

    /// Writes what waits.
    pub(super) async fn flush(&mut self) -> Result<(), Lost> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let writing = async {
            self.stream.write_all(&self.outbox).await?;
            self.stream.flush().await
        };
        match timeout(WRITE_MAX, writing).await {
            Ok(Ok(())) => self.outbox.clear(),
            Ok(Err(error)) => return Err(Lost(error.to_string())),
            Err(_) => return Err(Lost::new("it takes no bytes")),
        }
        Ok(())
    }
}

fn will(at: &str, payload: &[u8]) -> Result<Will, Lost> {
    Ok(Will {
        topic: topic(at)?,
        payload: Bytes::copy_from_slice(payload),
        qos: QoS::AtLeastOnce,
        retain: true,
        delay_s: 0,
        expiry_s: None,
        properties: Properties::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_round_and_wait_for_their_acks() {
        let mut ids = Ids::default();
        let take = |ids: &mut Ids| ids.take().map(PacketId::get);
        let all: Vec<_> = (0..INFLIGHT_MAX).filter_map(|_| take(&mut ids)).collect();
        assert_eq!(all, (1..=INFLIGHT_MAX).collect::<Vec<_>>());
        assert!(!ids.is_free());
        let id = |n| PacketId::new(n).unwrap();
        assert!(ids.free(id(2)) && !ids.is_free(), "1 comes first");
        assert!(ids.free(id(1)) && ids.is_free());
        assert_eq!([take(&mut ids), take(&mut ids), take(&mut ids)], [Some(1), Some(2), None]);
        assert!(!ids.free(id(SUBSCRIBE_ID)) && !ids.free(id(u16::MAX)));
        assert!(ids.free(id(3)) && !ids.free(id(3)));
    }
}
