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
fn publish(client: &mut Client, payload: &'static str, dup: bool) -> Result<()> {
    client.queue(&Packet::Publish(Publish {
        dup,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: Topic::new("sensors/press-1")?,
        packet_id: Some(one()),
        expiry_s: None,
        properties: Properties::default(),
        payload: Bytes::from_static(payload.as_bytes()),
    }));
    client.flush()?;
    match client.next(SOON)? {
        Some(Packet::PubAck(ack)) if ack.packet_id == one() && !ack.reason.is_error() => Ok(()),
        other => bail!("{payload}: {other:?}"),
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
