//! A client of packets and bytes, for what proper clients do not do.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use edge_broker::codec::{
    Ack, Connect, Decoder, Packet, PacketId, Publish, Subscribe, SubscribeOptions, Version, encode,
};
use edge_core::message::QoS;
use edge_core::topic::{Topic, TopicFilter};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::owner::PASSWORD;

const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    version: Version,
    decoder: Decoder,
    buf: BytesMut,
}

impl Raw {
    pub(crate) async fn open(address: SocketAddr, version: Version) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let decoder = Decoder::client(version, 16 << 20);
        Self { stream, version, decoder, buf: BytesMut::new() }
    }

    /// Connects and expects to be welcome; tells whether there was a session.
    pub(crate) async fn connect(address: SocketAddr, connect: Connect) -> (Self, bool) {
        let mut raw = Self::open(address, connect.version).await;
        raw.send(&[Packet::Connect(Box::new(with_password(connect)))]).await;
        match raw.recv().await {
            Some(Packet::ConnAck(connack)) if !connack.reason.is_error() => {
                (raw, connack.session_present)
            }
            other => panic!("not welcome: {other:?}"),
        }
    }

    /// Connects with a clean start.
    pub(crate) async fn join(address: SocketAddr, version: Version, client_id: &str) -> Self {
        Self::connect(address, Connect::new(version, client_id)).await.0
    }

    pub(crate) async fn send(&mut self, packets: &[Packet]) {
        let mut bytes = Vec::new();
        packets.iter().for_each(|packet| encode(packet, self.version, &mut bytes));
        self.write(&bytes).await;
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.unwrap().unwrap();
    }

    /// The next packet; `None` when the connection is closed.
    pub(crate) async fn recv(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.buf).unwrap() {
                return Some(packet);
            }
            let read = self.stream.read_buf(&mut self.buf);
            match timeout(PATIENCE, read).await.expect("no packet and no end") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub(crate) async fn subscribe(&mut self, filter: &str, qos: QoS) {
        let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
        let filters = vec![(TopicFilter::new(filter).unwrap(), options)];
        let packet_id = id(1);
        let subscribe = Subscribe { packet_id, subscription_id: None, filters };
        self.send(&[Packet::Subscribe(subscribe)]).await;
        assert!(matches!(self.recv().await, Some(Packet::SubAck(_))));
    }

    /// The next publish; acks it if it is QoS 1.
    pub(crate) async fn publish(&mut self) -> Publish {
        match self.recv().await {
            Some(Packet::Publish(publish)) => {
                if let Some(id) = publish.packet_id {
                    self.send(&[Packet::PubAck(Ack::ok(id))]).await;
                }
                publish
            }
            other => panic!("not a publish: {other:?}"),
        }
    }

    /// Whether the connection answers.
    pub(crate) async fn ping(&mut self) {
        self.send(&[Packet::PingReq]).await;
        assert_eq!(self.recv().await, Some(Packet::PingResp));
    }
}

pub(crate) fn with_password(connect: Connect) -> Connect {
    Connect {
        username: Some("dev".to_owned()),
        password: Some(PASSWORD.as_bytes().into()),
        ..connect
    }
}

pub(crate) fn id(n: u16) -> PacketId {
    PacketId::new(n).unwrap()
}

pub(crate) fn publish(topic: &str, payload: &[u8], n: u16) -> Publish {
    Publish {
        dup: false,
        qos: if n == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce },
        retain: false,
        topic: Topic::new(topic).unwrap(),
        packet_id: PacketId::new(n),
        expiry_s: None,
        subscription_ids: Vec::new(),
        properties: Default::default(),
        payload: payload.to_vec().into(),
    }
}
