//! What MQTT 5 clients may count on, against the running agent: what its CONNACK offers, what
//! passes through unchanged, what expires, and what it says when it goes.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use edge_broker::codec::{
    Ack, Connect, Packet, PacketId, Publish, ReasonCode, Subscribe, SubscribeOptions, Version,
};
use edge_core::message::{Properties, QoS};
use edge_core::topic::Topic;
use system_tests::gateway::{Gateway, Setup};
use system_tests::swarm::Link;
use tokio::time::sleep;

fn gateway(dir: &std::path::Path) -> Result<Gateway> {
    let mut gateway = Gateway::new(dir, &Setup::open("barn"))?;
    gateway.start()?;
    Ok(gateway)
}

fn block_on<T>(what: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(what)
}

async fn join(gateway: &Gateway, connect: Connect) -> Result<Link> {
    Ok(Link::join(gateway.address(), None, connect).await?.0)
}

fn five(name: &str) -> Connect {
    Connect::new(Version::V5, name)
}

/// A client whose session is kept for an hour.
fn kept(name: &str) -> Connect {
    Connect { clean_start: false, session_expiry_s: 3_600, ..five(name) }
}

fn message(topic: &str, payload: &str) -> Result<Publish> {
    Ok(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: Topic::new(topic)?,
        packet_id: PacketId::new(7),
        expiry_s: None,
        subscription_ids: Vec::new(),
        properties: Properties::default(),
        payload: Bytes::from(payload.to_owned()),
    })
}

async fn publish(link: &mut Link, publish: Publish) -> Result<()> {
    link.send(&Packet::Publish(publish)).await?;
    match link.answer().await? {
        Packet::PubAck(ack) if !ack.reason.is_error() => Ok(()),
        other => bail!("not a PUBACK: {other:?}"),
    }
}

async fn subscribe(link: &mut Link, filter: &str) -> Result<()> {
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
    let packet_id = PacketId::new(1).context("1 is a packet id")?;
    let filters = vec![(filter.parse()?, options)];
    link.send(&Packet::Subscribe(Subscribe { packet_id, subscription_id: None, filters })).await?;
    match link.answer().await? {
        Packet::SubAck(_) => Ok(()),
        other => bail!("not a SUBACK: {other:?}"),
    }
}

/// The next message; acks it.
async fn received(link: &mut Link) -> Result<Publish> {
    match link.next().await? {
        Packet::Publish(publish) => {
            if let Some(id) = publish.packet_id {
                link.send(&Packet::PubAck(Ack::ok(id))).await?;
            }
            Ok(publish)
        }
        other => bail!("not a PUBLISH: {other:?}"),
    }
}

#[test]
fn the_connack_says_what_is_offered() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut gateway = gateway(dir.path())?;
    let forever = Connect { session_expiry_s: u32::MAX, ..five("") };
    let (_, connack) = block_on(Link::join(gateway.address(), None, forever))?;
    let offer = connack.properties;
    assert_eq!(offer.shared_available, Some(true));
    assert_eq!(offer.subscription_ids_available, Some(true));
    assert_eq!(offer.topic_alias_max, Some(16));
    assert_eq!(offer.receive_max, Some(32));
    assert_eq!(offer.packet_bytes_max, Some(136 << 10), "128 KiB of payload and 8 around it");
    assert_eq!(offer.session_expiry_s, Some(7 * 24 * 3_600), "cut, and said so");
    assert!(offer.assigned_client_id.is_some());
    gateway.stop()
}

#[test]
fn requests_find_their_responses_and_properties_pass() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut gateway = gateway(dir.path())?;
    block_on(async {
        let mut asks = join(&gateway, five("asks")).await?;
        let mut answers = join(&gateway, five("answers")).await?;
        subscribe(&mut asks, "reply/asks").await?;
        subscribe(&mut answers, "question/+").await?;
        let properties = Properties {
            payload_is_utf8: true,
            content_type: Some("text/plain".to_owned()),
            response_topic: Some("reply/asks".to_owned()),
            correlation_data: Some(Bytes::from_static(b"\x00\x01")),
            user: vec![("x".to_owned(), "1".to_owned()), ("x".to_owned(), "2".to_owned())],
        };
        let question = message("question/time", "what time is it?")?;
        publish(&mut asks, Publish { properties: properties.clone(), ..question }).await?;
        let question = received(&mut answers).await?;
        assert_eq!(question.properties, properties);
        let topic = question.properties.response_topic.context("no response topic")?;
        let correlation_data = question.properties.correlation_data;
        let properties = Properties { correlation_data, ..Properties::default() };
        publish(&mut answers, Publish { properties, ..message(&topic, "noon")? }).await?;
        let answer = received(&mut asks).await?;
        assert_eq!(answer.payload, "noon");
        assert_eq!(answer.properties.correlation_data.as_deref(), Some(&b"\x00\x01"[..]));
        Ok(())
    })?;
    gateway.stop()
}

/// A kept session gets what was published while it was away, but for what expired meanwhile; and
/// a client that is there when the agent stops is told so.
#[test]
fn messages_expire_and_a_stop_is_announced() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut gateway = gateway(dir.path())?;
    let io = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut link = io.block_on(async {
        let mut away = join(&gateway, kept("away")).await?;
        subscribe(&mut away, "news").await?;
        drop(away);
        let mut link = join(&gateway, five("publisher")).await?;
        publish(&mut link, Publish { expiry_s: Some(1), ..message("news", "stale")? }).await?;
        publish(&mut link, Publish { expiry_s: Some(600), ..message("news", "fresh")? }).await?;
        sleep(Duration::from_millis(2_100)).await;
        let mut back = join(&gateway, kept("away")).await?;
        let news = received(&mut back).await?;
        assert_eq!(news.payload, "fresh");
        assert!(news.expiry_s.is_some_and(|left| (590..600).contains(&left)), "{news:?}");
        anyhow::Ok(back)
    })?;
    gateway.stop()?;
    match io.block_on(link.answer())? {
        Packet::Disconnect(why) => assert_eq!(why.reason, ReasonCode::ServerShuttingDown),
        other => bail!("not a DISCONNECT: {other:?}"),
    }
    Ok(())
}
