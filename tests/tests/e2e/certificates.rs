//! A device with a certificate instead of a password, on the agent's own TLS listener.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use edge_broker::codec::{Packet, PacketId, Publish, ReasonCode};
use edge_core::message::QoS;
use edge_core::topic::Topic;
use system_tests::gateway::{Gateway, Setup};
use system_tests::mqtt::{Client, Login};
use system_tests::pki;

use crate::support::{author, bundle};

const ACCOUNTS: &str = "
[[devices]]
name = \"press-1\"
certificate = true
publish = [\"sensors/{device}\"]
[[devices]]
name = \"press-2\"
token_sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"
";

/// The reason of the PUBACK.
fn publish(client: &mut Client, topic: &str) -> Result<ReasonCode> {
    client.queue(&Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: Topic::new(topic)?,
        packet_id: PacketId::new(1),
        expiry_s: None,
        subscription_ids: Vec::new(),
        properties: Default::default(),
        payload: Bytes::new(),
    }));
    client.flush()?;
    match client.next(Duration::from_secs(10))? {
        Some(Packet::PubAck(ack)) => Ok(ack.reason),
        other => panic!("not a PUBACK: {other:?}"),
    }
}

#[test]
fn a_device_certificate_is_an_identity_with_its_grants() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ours = pki::server_identity(&dir.path().join("pki"))?;
    let setup = Setup {
        name: "barn".to_owned(),
        author_keys: vec![author().key()?],
        client_ca: Some(ours.ca.clone()),
        more: ACCOUNTS.to_owned(),
        ..Setup::default()
    };
    let mut gateway = Gateway::new(&dir.path().join("gateway"), &setup.with_tls(&ours))?;
    gateway.start()?;
    gateway.deploy(&bundle("counter"))?;
    let login = |certificate| Login {
        ca: Some(ours.ca.clone()),
        certificate,
        // The identity is the certificate's, whatever the client calls itself.
        ..Login::anonymous(gateway.address(), "some client")
    };
    let refused = |certificate, why: &str| {
        let error = Client::connect(&login(certificate)).err().expect(why);
        format!("{error:#}")
    };

    let mut client = Client::connect(&login(Some(ours.device("press-1")?)))?;
    assert_eq!(publish(&mut client, "sensors/press-1")?, ReasonCode::Success);
    assert_eq!(publish(&mut client, "sensors/press-2")?, ReasonCode::NotAuthorized);
    gateway.wait_idle(Duration::from_secs(30))?;
    let state = gateway.ask(&["state", "counter/counter", "--device", "press-1"])?;
    assert_eq!(state[0]["value"]["text"], "1");

    let bad = "BadUserNameOrPassword";
    let error = refused(None, "it shows nothing");
    assert!(error.contains(bad), "{error}");
    let error = refused(Some(ours.device("press-9")?), "no such account");
    assert!(error.contains(bad), "{error}");
    let error = refused(Some(ours.device("press-2")?), "this account has a token");
    assert!(error.contains(bad), "{error}");
    let theirs = pki::server_identity(&dir.path().join("theirs"))?;
    let error = refused(Some(theirs.device("press-1")?), "another CA");
    assert!(!error.contains(bad), "the handshake fails, not the login: {error}");
    // None of this has disturbed the first.
    assert_eq!(publish(&mut client, "sensors/press-1")?, ReasonCode::Success);
    gateway.stop()
}
