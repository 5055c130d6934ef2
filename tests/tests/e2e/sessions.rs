//! What MQTT clients may rely on across the wire and across a SIGKILL.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use edge_broker::codec::{Packet, PacketId, Publish, Subscribe, SubscribeOptions, Will};
use edge_core::message::{Properties, QoS};
use edge_core::topic::Topic;
use system_tests::gateway::{Gateway, Setup};
use system_tests::mqtt::{Client, Login};

use crate::support::{author, deploy_counter};

const SOON: Duration = Duration::from_secs(20);

fn one() -> PacketId {
    PacketId::new(1).expect("1 is a packet id")
}

/// Publishes with packet id 1 and waits for its PUBACK.
fn publish(client: &mut Client, payload: impl Into<Bytes>, dup: bool) -> Result<()> {
    client.queue(&Packet::Publish(Publish {
        dup,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: Topic::new("sensors/press-1")?,
        packet_id: Some(one()),
        expiry_s: None,
        subscription_ids: Vec::new(),
        properties: Properties::default(),
        payload: payload.into(),
    }));
    client.flush()?;
    match client.next(SOON)? {
        Some(Packet::PubAck(ack)) if ack.packet_id == one() && !ack.reason.is_error() => Ok(()),
        other => bail!("no PUBACK: {other:?}"),
    }
}

/// Small clients do that. Once A is acked its packet id is free, whatever the DUP flag of B says
/// (MQTT 5, 4.3.2): a broker that takes B for a repeat of A loses it.
#[test]
fn a_client_that_always_uses_packet_id_1_is_served() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let setup = Setup {
        author_keys: vec![author().key()?],
        devices: vec![("press-1".to_owned(), "token".to_owned())],
        ..Setup::open("barn")
    };
    let mut gateway = Gateway::new(dir.path(), &setup)?;
    gateway.start()?;
    deploy_counter(&gateway)?;
    let login = Login {
        password: Some("token".to_owned()),
        session_expiry_s: 3_600,
        clean: false,
        ..Login::anonymous(gateway.address(), "press-1")
    };
    let counted = |gateway: &Gateway| -> Result<u64> {
        gateway.wait_idle(SOON)?;
        let state = gateway.ask(&["state", "counter/counter", "--device", "press-1"])?;
        Ok(state[0]["value"]["text"].as_str().context("no state")?.parse()?)
    };
    let mut client = Client::connect(&login)?;
    publish(&mut client, "\"A\"", false)?;
    publish(&mut client, "\"B\"", true)?;
    assert_eq!(counted(&gateway)?, 2, "in one connection");

    // The same over a new connection of the same session, and over a SIGKILL.
    drop(client);
    let mut client = Client::connect(&login)?;
    assert!(client.session_present);
    publish(&mut client, "\"C\"", true)?;
    assert_eq!(counted(&gateway)?, 3, "in the next connection");
    gateway.kill()?;
    gateway.start()?;
    let mut client = Client::connect(&login)?;
    assert!(client.session_present);
    publish(&mut client, "\"D\"", true)?;
    assert_eq!(counted(&gateway)?, 4, "after the restart");
    gateway.stop()
}

/// One message, kept for many sessions, is far longer than a segment of the journal: it must not
/// fail the store, which the device would only repeat.
#[test]
fn a_large_message_is_kept_for_each_of_many_absent_sessions() -> Result<()> {
    const SESSIONS: usize = 60;
    let dir = tempfile::tempdir()?;
    let mut gateway = Gateway::new(dir.path(), &Setup::open("barn"))?;
    gateway.start()?;
    let address = gateway.address();
    let session = |n: usize| {
        let name = format!("absent-{n}");
        let login = Login::anonymous(address, &name);
        Client::connect(&Login { session_expiry_s: 3_600, clean: false, ..login })
    };
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
    for n in 0..SESSIONS {
        let mut client = session(n)?;
        let filters = vec![("sensors/+".parse()?, options)];
        let subscribe = Subscribe { packet_id: one(), subscription_id: None, filters };
        client.queue(&Packet::Subscribe(subscribe));
        client.flush()?;
        assert!(matches!(client.next(SOON)?, Some(Packet::SubAck(_))));
    }
    let payload: Bytes =
        (0..100_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let mut device = Client::connect(&Login::anonymous(address, "press-1"))?;
    publish(&mut device, payload.clone(), false)?;
    gateway.kill()?;
    gateway.start()?;
    for n in 0..SESSIONS {
        match session(n)?.next(SOON)? {
            Some(Packet::Publish(kept)) => assert!(kept.payload == payload, "session {n}"),
            other => bail!("session {n}: {other:?}"),
        }
    }
    gateway.stop()
}

fn with_will(gateway: &Gateway, name: &'static str) -> Result<Login> {
    let will = Will {
        topic: Topic::new(&format!("gone/{name}"))?,
        payload: Bytes::from_static(name.as_bytes()),
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_s: 0,
        expiry_s: None,
        properties: Properties::default(),
    };
    Ok(Login { will: Some(will), ..Login::anonymous(gateway.address(), name) })
}

/// The gateway dies with two clients connected. One comes back in time; the will of the other fires
/// once, `will_after_restart` after the start.
#[test]
fn a_will_survives_a_sigkill_and_waits_for_its_client() -> Result<()> {
    const GRACE: Duration = Duration::from_secs(5);
    let dir = tempfile::tempdir()?;
    let setup =
        Setup { more: "[limits]\nwill_after_restart = \"5 s\"".to_owned(), ..Setup::open("barn") };
    let mut gateway = Gateway::new(dir.path(), &setup)?;
    gateway.start()?;
    let mut clients = vec![
        Client::connect(&with_will(&gateway, "lost")?)?,
        Client::connect(&with_will(&gateway, "back")?)?,
    ];
    gateway.kill()?;
    clients.clear();
    let started = Instant::now();
    gateway.start()?;
    clients.push(Client::connect(&with_will(&gateway, "back")?)?);
    let mut watcher = Client::connect(&Login::anonymous(gateway.address(), "watcher"))?;
    watcher.queue(&Packet::Subscribe(Subscribe {
        packet_id: one(),
        subscription_id: None,
        filters: vec![("gone/+".parse()?, SubscribeOptions::default())],
    }));
    watcher.flush()?;
    let mut fired = Vec::new();
    // Twice the grace from the first will on: what is not there then does not come.
    let mut until = started + SOON;
    while let left = until.saturating_duration_since(Instant::now())
        && !left.is_zero()
        && let Some(packet) = watcher.next(left)?
    {
        if let Packet::Publish(publish) = packet {
            assert!(started.elapsed() >= GRACE, "{publish:?} after {:?}", started.elapsed());
            fired.push(publish.payload);
            until = Instant::now() + GRACE;
        }
    }
    assert_eq!(fired, ["lost"]);
    gateway.stop()
}
