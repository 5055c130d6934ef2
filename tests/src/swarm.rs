//! Many MQTT 5 connections on one thread: the load of tests and benchmarks about connections.
//!
//! A latency counts from the moment a publish was due, not from when it was sent: a late answer
//! does not hide those that wait behind it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use edge_broker::codec::{
    ConnAck, Connect, Decoder, Packet, PacketId, Publish, ReasonCode, Version, encode,
};
use edge_core::message::{Properties, QoS};
use edge_core::topic::Topic;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;

use crate::mqtt::Login;

/// Longest packet taken.
const PACKET_BYTES_MAX: usize = 2 << 20;

/// Patience with any single answer.
pub const ANSWER_MAX: Duration = Duration::from_secs(60);

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// A connection.
pub struct Link {
    wire: Box<dyn Wire>,
    version: Version,
    decoder: Decoder,
    inbound: BytesMut,
}

impl Link {
    /// A connection on which nothing was said yet.
    ///
    /// # Errors
    /// Nobody listens, or the handshake fails.
    pub async fn open(
        address: SocketAddr,
        tls: Option<Arc<ClientConfig>>,
        version: Version,
    ) -> Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let wire: Box<dyn Wire> = match tls {
            None => Box::new(socket),
            Some(config) => {
                let name = ServerName::try_from("localhost")?;
                Box::new(TlsConnector::from(config).connect(name, socket).await?)
            }
        };
        let decoder = Decoder::client(version, PACKET_BYTES_MAX);
        Ok(Self { wire, version, decoder, inbound: BytesMut::new() })
    }

    /// Connects and waits for the CONNACK; `tls` is [`Login::tls`], made once for many.
    ///
    /// # Errors
    /// The server is not there, refuses or does not answer in time.
    pub async fn connect(login: &Login, tls: Option<Arc<ClientConfig>>) -> Result<Self> {
        Ok(Self::join(login.address, tls, login.connect()).await?.0)
    }

    /// Connects with this CONNECT and waits for the CONNACK.
    ///
    /// # Errors
    /// The server is not there, refuses or does not answer in time.
    pub async fn join(
        address: SocketAddr,
        tls: Option<Arc<ClientConfig>>,
        connect: Connect,
    ) -> Result<(Self, ConnAck)> {
        let connecting = async {
            let mut link = Self::open(address, tls, connect.version).await?;
            link.send(&Packet::Connect(Box::new(connect))).await?;
            match link.next().await? {
                Packet::ConnAck(ack) if ack.reason == ReasonCode::Success => Ok((link, *ack)),
                other => bail!("refused: {other:?}"),
            }
        };
        timeout(ANSWER_MAX, connecting).await.context("no CONNACK")?
    }

    /// Writes one packet.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&mut self, packet: &Packet) -> Result<()> {
        let mut bytes = Vec::new();
        encode(packet, self.version, &mut bytes);
        self.write(&bytes).await
    }

    /// Writes bytes, whatever they are.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.wire.write_all(bytes).await?;
        Ok(self.wire.flush().await?)
    }

    /// The next packet. Cancel safe.
    ///
    /// # Errors
    /// The connection is gone, or what came is no packet.
    pub async fn next(&mut self) -> Result<Packet> {
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.inbound)? {
                return Ok(packet);
            }
            if self.wire.read_buf(&mut self.inbound).await? == 0 {
                bail!("the server closed the connection");
            }
        }
    }

    /// The next packet, or an error if it takes too long.
    ///
    /// # Errors
    /// As [`Link::next`].
    pub async fn answer(&mut self) -> Result<Packet> {
        timeout(ANSWER_MAX, self.next()).await.context("no answer")?
    }
}

/// What an idle connection saw.
#[derive(Clone, Debug, Default)]
pub struct Idle {
    /// Pings sent.
    pub pings: u64,
    /// Pings answered.
    pub answered: u64,
    /// Slowest answer.
    pub slowest: Duration,
    /// Why it was lost, if it was.
    pub lost: Option<String>,
}

/// Sends nothing but a ping every so often, the first after `first`, and a last one when told to
/// stop.
pub async fn idle(
    mut link: Link,
    first: Duration,
    every: Duration,
    mut stop: watch::Receiver<bool>,
) -> Idle {
    let mut seen = Idle::default();
    let mut wait = first;
    loop {
        let last = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => true,
            () = sleep(wait) => false,
            packet = link.next() => {
                seen.lost = Some(format!("instead of silence: {packet:?}"));
                return seen;
            }
        };
        if let Err(error) = ping(&mut link, &mut seen).await {
            seen.lost = Some(format!("{error:#}"));
            return seen;
        }
        if last {
            return seen;
        }
        wait = every;
    }
}

async fn ping(link: &mut Link, seen: &mut Idle) -> Result<()> {
    let asked = Instant::now();
    link.send(&Packet::PingReq).await?;
    seen.pings += 1;
    match link.answer().await? {
        Packet::PingResp => {
            seen.answered += 1;
            seen.slowest = seen.slowest.max(asked.elapsed());
            Ok(())
        }
        other => bail!("not a PINGRESP: {other:?}"),
    }
}

/// One publish and its PUBACK.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When it was due.
    pub due: Instant,
    /// From then to its PUBACK.
    pub took: Duration,
}

/// What a publisher saw.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// Publishes sent.
    pub sent: u64,
    /// Those acked.
    pub samples: Vec<Sample>,
    /// Why it was lost, if it was.
    pub lost: Option<String>,
}

/// Publishes QoS 1 at a steady rate, the first after `first`, until told to stop; the last one is
/// waited for. Returns the connection too, if it is still there.
pub async fn publish(
    mut link: Link,
    topic: Topic,
    first: Duration,
    every: Duration,
    stop: watch::Receiver<bool>,
) -> (Published, Option<Link>) {
    let mut seen = Published::default();
    let mut due = Instant::now() + first;
    loop {
        sleep_until(due).await;
        if *stop.borrow() {
            return (seen, Some(link));
        }
        if let Err(error) = publish_one(&mut link, &topic, &mut seen).await {
            seen.lost = Some(format!("{error:#}"));
            return (seen, None);
        }
        seen.samples.push(Sample { due, took: due.elapsed() });
        due += every;
    }
}

async fn publish_one(link: &mut Link, topic: &Topic, seen: &mut Published) -> Result<()> {
    let packet_id = u16::try_from(seen.sent % 60_000)? + 1;
    let publish = Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: topic.clone(),
        packet_id: PacketId::new(packet_id),
        expiry_s: None,
        subscription_ids: Vec::new(),
        properties: Properties::default(),
        payload: Bytes::from_static(&[b'x'; 200]),
    };
    link.send(&Packet::Publish(publish)).await?;
    seen.sent += 1;
    match link.answer().await? {
        Packet::PubAck(ack) if ack.packet_id.get() == packet_id && !ack.reason.is_error() => Ok(()),
        other => bail!("not its PUBACK: {other:?}"),
    }
}

/// The `n`-th of `count` moments spread evenly over `every`.
#[must_use]
pub fn spread(every: Duration, n: usize, count: usize) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "counts of connections are small")]
    let part = n as f64 / count as f64;
    every.mul_f64(part)
}
