//! A device that speaks the device protocol, and the gateway that it talks with.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use device_protocol::{CONTENT_TYPE, Down, Envelope, Message, Timestamp, Up, limits};
use edge_broker::codec::{Packet, PacketId, Publish, ReasonCode, Subscribe, SubscribeOptions};
use edge_core::message::{Properties, QoS};
use edge_core::topic::Topic;
use system_tests::gateway::{Gateway, Setup};
use system_tests::ledger;
use system_tests::mqtt::{Client, Login};

use crate::support::author;

pub(super) const LONG: Duration = Duration::from_secs(30);
/// The device of these tests, and an operator who may talk with all devices.
pub(super) const DEVICE: &str = "press-7";
pub(super) const BOSS: &str = "boss";
const TOKEN: &str = "token of everybody";

/// A gateway with the device, the operator, and anonymous listeners.
pub(super) fn gateway(dir: &Path) -> Result<Gateway> {
    let hash = ledger::hash(TOKEN.as_bytes());
    let setup = Setup {
        author_keys: vec![author().key()?],
        devices: vec![(DEVICE.to_owned(), TOKEN.to_owned())],
        more: format!(
            "[[devices]]\nname = {BOSS:?}\ntoken_sha256 = {hash:?}\n\
             publish = [\"sensors/#\", \"$holm/#\"]\nsubscribe = [\"#\", \"$holm/#\"]"
        ),
        ..Setup::open("barn")
    };
    let mut gateway = Gateway::new(&dir.join("gateway"), &setup)?;
    std::fs::write(dir.join("token"), TOKEN)?;
    gateway.start()?;
    Ok(gateway)
}

/// Words of `holm device ...` as the operator.
pub(super) fn as_boss<'a>(broker: &'a str, token: &'a str, words: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["device"];
    all.extend_from_slice(words);
    all.extend(["-b", broker, "-u", BOSS, "--password-file", token]);
    all
}

/// A client with QoS 1.
pub(super) struct Peer {
    client: Client,
    next_id: u16,
    boot: u64,
    sequence: u64,
    /// Publishes that came while something else was waited for.
    pub(super) inbox: Vec<Publish>,
}

impl Peer {
    /// Connects under an account.
    pub(super) fn connect(gateway: &Gateway, name: &str) -> Result<Self> {
        Self::with(&Login {
            password: Some(TOKEN.to_owned()),
            ..Login::anonymous(gateway.address(), name)
        })
    }

    /// Connects with a session that outlives the connection.
    pub(super) fn resume(gateway: &Gateway, name: &str) -> Result<Self> {
        Self::with(&Login {
            password: Some(TOKEN.to_owned()),
            clean: false,
            session_expiry_s: 3_600,
            ..Login::anonymous(gateway.address(), name)
        })
    }

    /// Connects without an account.
    pub(super) fn anonymous(gateway: &Gateway, name: &str) -> Result<Self> {
        Self::with(&Login::anonymous(gateway.address(), name))
    }

    fn with(login: &Login) -> Result<Self> {
        let client = Client::connect(login)?;
        Ok(Self { client, next_id: 0, boot: 0xb007, sequence: 0, inbox: Vec::new() })
    }

    /// Publishes, and gives the reason of the ack, with its words as they stand in the packet.
    pub(super) fn publish(
        &mut self,
        topic: &str,
        payload: &[u8],
        retain: bool,
        content_type: Option<&str>,
    ) -> Result<ReasonCode> {
        self.next_id += 1;
        let content_type = content_type.map(str::to_owned);
        let properties = Properties { content_type, ..Properties::default() };
        self.queue(topic, payload, QoS::AtLeastOnce, retain, properties)?;
        self.client.flush()?;
        let deadline = Instant::now() + LONG;
        loop {
            match self.client.next(deadline.saturating_duration_since(Instant::now()))? {
                Some(Packet::PubAck(ack)) => return Ok(ack.reason),
                Some(Packet::Publish(publish)) => self.take(publish)?,
                other => bail!("not a PUBACK: {other:?}"),
            }
        }
    }

    fn queue(
        &mut self,
        topic: &str,
        payload: &[u8],
        qos: QoS,
        retain: bool,
        properties: Properties,
    ) -> Result<()> {
        let packet_id = if qos == QoS::AtMostOnce { None } else { PacketId::new(self.next_id) };
        self.client.queue(&Packet::Publish(Publish {
            dup: false,
            qos,
            retain,
            topic: Topic::new(topic)?,
            packet_id,
            expiry_s: None,
            subscription_ids: Vec::new(),
            properties,
            payload: Bytes::copy_from_slice(payload),
        }));
        Ok(())
    }

    /// Publishes bytes that say they are an envelope.
    pub(super) fn envelope(&mut self, topic: &str, payload: &[u8]) -> Result<ReasonCode> {
        self.publish(topic, payload, false, Some(CONTENT_TYPE))
    }

    /// Publishes a message in an envelope, and returns its bytes.
    pub(super) fn say<T: Message>(&mut self, topic: &str, message: &T) -> Result<Vec<u8>> {
        self.sequence += 1;
        let bytes = enveloped(DEVICE, self.boot, self.sequence, message)?;
        match self.envelope(topic, &bytes)? {
            ReasonCode::Success => Ok(bytes),
            other => bail!("refused: {other:?}"),
        }
    }

    /// Tells the gateway something.
    pub(super) fn up(&mut self, up: &Up<'_>) -> Result<ReasonCode> {
        let (topic, bytes) = encoded(up)?;
        self.publish(&topic, &bytes, up.is_retained(), None)
    }

    /// The same with QoS 0.
    pub(super) fn up_at_most_once(&mut self, up: &Up<'_>) -> Result<()> {
        let (topic, bytes) = encoded(up)?;
        self.queue(&topic, &bytes, QoS::AtMostOnce, false, Properties::default())?;
        self.client.flush()
    }

    pub(super) fn subscribe(&mut self, filter: &str) -> Result<ReasonCode> {
        let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
        self.client.queue(&Packet::Subscribe(Subscribe {
            packet_id: PacketId::new(60_000).context("a packet id")?,
            subscription_id: None,
            filters: vec![(filter.parse()?, options)],
        }));
        self.client.flush()?;
        loop {
            match self.client.next(LONG)? {
                Some(Packet::SubAck(ack)) => return ack.reasons.first().copied().context("empty"),
                Some(Packet::Publish(publish)) => self.take(publish)?,
                other => bail!("not a SUBACK: {other:?}"),
            }
        }
    }

    /// Subscribes to all that a device is told.
    pub(super) fn listen(&mut self) -> Result<()> {
        let filter = device_protocol::system::down_filter(DEVICE).map_err(anyhow::Error::msg)?;
        let granted = self.subscribe(&filter)?;
        if granted.is_error() { bail!("not granted: {granted:?}") } else { Ok(()) }
    }

    /// The next message, at most `within` from now.
    pub(super) fn next(&mut self, within: Duration) -> Result<Option<Publish>> {
        if !self.inbox.is_empty() {
            return Ok(Some(self.inbox.remove(0)));
        }
        match self.client.next(within)? {
            Some(Packet::Publish(publish)) => {
                self.take(publish)?;
                Ok(Some(self.inbox.remove(0)))
            }
            Some(other) => bail!("not a PUBLISH: {other:?}"),
            None => Ok(None),
        }
    }

    /// The text of the next message.
    pub(super) fn next_text(&mut self) -> Result<String> {
        let publish = self.next(LONG)?.context("no message came")?;
        Ok(String::from_utf8(publish.payload.to_vec())?)
    }

    /// The next thing that the device is told.
    pub(super) fn told<T>(&mut self, read: impl FnOnce(&Publish, Down<'_>) -> T) -> Result<T> {
        let publish = self.next(LONG)?.context("the device was told nothing")?;
        let down = Down::decode(&publish.payload).map_err(anyhow::Error::msg)?;
        Ok(read(&publish, down))
    }

    fn take(&mut self, publish: Publish) -> Result<()> {
        if let Some(id) = publish.packet_id {
            self.client.queue(&Packet::PubAck(edge_broker::codec::Ack::ok(id)));
            self.client.flush()?;
        }
        self.inbox.push(publish);
        Ok(())
    }
}

fn encoded(up: &Up<'_>) -> Result<(String, Vec<u8>)> {
    let mut bytes = vec![0; limits::BODY_MAX + 64];
    let length = up.encode(&mut bytes).map_err(anyhow::Error::msg)?;
    bytes.truncate(length);
    Ok((up.topic(DEVICE).map_err(anyhow::Error::msg)?.as_str().to_owned(), bytes))
}

/// A message in an envelope.
pub(super) fn enveloped<T: Message>(
    device: &str,
    boot: u64,
    sequence: u64,
    message: &T,
) -> Result<Vec<u8>> {
    let mut body = [0; 64];
    let length = message.encode(&mut body).map_err(anyhow::Error::msg)?;
    let envelope = Envelope {
        device,
        boot,
        sequence,
        schema: T::ID,
        time: Timestamp::uptime(7),
        body: &body[..length],
    };
    let mut bytes = vec![0; 64 + limits::ENVELOPE_OVERHEAD_MAX];
    let length = envelope.encode(&mut bytes).map_err(anyhow::Error::msg)?;
    bytes.truncate(length);
    Ok(bytes)
}
