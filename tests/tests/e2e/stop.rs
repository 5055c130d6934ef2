//! SIGTERM: stop taking, finish or persist, sync, exit 0 within a bound.

use std::time::{Duration, Instant};

use anyhow::Result;
use edge_broker::codec::{Packet, PacketId, Publish};
use edge_core::message::{Properties, QoS};
use edge_core::topic::Topic;
use serde_json::Value;
use system_tests::gateway::{Gateway, Setup};
use system_tests::mqtt::{Client, Login};
use system_tests::process::wait_for;

use crate::gateway::{counts_once, gateway_with_counter};
use crate::support::{
    PATIENCE, author, bundle, managed_gateway, publish, records_of, wait_drained, wait_live,
};

const READINGS: usize = 300;
const STOPS: usize = 3;
/// What a stop may take: attempts have ten seconds, the goodbye to the control plane one, and this
/// machine is busy.
const STOP_MAX: Duration = Duration::from_secs(20);

/// SIGTERM; it must end with exit code 0 within the bound.
fn stop(gateway: &mut Gateway) -> Result<Duration> {
    let since = Instant::now();
    gateway.stop()?;
    let took = since.elapsed();
    assert!(took < STOP_MAX, "the stop took {took:?}");
    Ok(took)
}

/// Stopped three times under load: what was acked is worked on once.
#[test]
fn a_stop_under_load_loses_nothing_acked() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut gateway = gateway_with_counter(&dir.path().join("gateway"))?;
    counts_once(dir.path(), &mut gateway, READINGS, |gateway| {
        for _ in 0..STOPS {
            wait_for(PATIENCE, "messages to come", || {
                let accepted = gateway.status()?["core"]["counters"]["accepted"].as_u64();
                Ok(accepted.filter(|accepted| *accepted > 20))
            })?;
            stop(gateway)?;
            gateway.start()?;
        }
        Ok(())
    })?;
    stop(&mut gateway).map(drop)
}

/// The control plane cannot be reached: the records stay in the outbox, over the stop too.
#[test]
fn a_stop_without_a_control_plane_keeps_the_outbox() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (cloud, mut gateway) = managed_gateway(dir.path(), "cut-off")?;
    publish(&gateway, 1, 20)?;
    wait_drained(&gateway)?;
    cloud.link.cut();
    publish(&gateway, 2, 30)?;
    gateway.wait_idle(PATIENCE)?;
    stop(&mut gateway)?;
    gateway.start()?;
    let status = gateway.status()?;
    assert_eq!(records_of(&status, 1), 30, "{:#}", status["outbox"]);
    let degraded = status["degraded"].to_string();
    assert!(degraded.contains("no control plane"), "{degraded}");
    // While it is connecting, too.
    stop(&mut gateway)?;
    gateway.start()?;
    cloud.link.mend();
    wait_drained(&gateway)?;
    let rows = cloud.stream("cut-off", 1)?;
    assert_eq!(rows.len(), 50);
    assert!(rows.iter().all(|row| row["kind"] == "telemetry"));
    stop(&mut gateway).map(drop)
}

/// A function that loops (its time limit is five minutes) is not waited for. Its event stays, and
/// neither its retries nor its crashes are spent by any number of stops.
#[test]
fn a_stop_does_not_wait_for_a_function_that_loops() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let setup = Setup { author_keys: vec![author().key()?], ..Setup::open("looping") };
    let mut gateway = Gateway::new(&dir.path().join("gateway"), &setup)?;
    gateway.start()?;
    gateway.hand_over(&bundle("stubborn"))?;
    wait_live(&gateway, "stubborn")?;
    let mut client = Client::connect(&Login::anonymous(gateway.address(), "press"))?;
    client.queue(&Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: Topic::new("rogue/loop")?,
        packet_id: PacketId::new(1),
        expiry_s: None,
        subscription_ids: Vec::new(),
        properties: Properties::default(),
        payload: bytes::Bytes::new(),
    }));
    client.flush()?;
    assert!(matches!(client.next(PATIENCE)?, Some(Packet::PubAck(_))));
    for _ in 0..STOPS {
        wait_for(PATIENCE, "the function to loop", || {
            Ok((gateway.status()?["queue"]["running"] == 1).then_some(()))
        })?;
        let took = stop(&mut gateway)?;
        assert!(took > Duration::from_secs(5), "{took:?}: attempts have some time to end");
        gateway.start()?;
    }
    let status = gateway.status()?;
    assert_eq!(status["queue"]["jobs"], 1);
    assert_eq!(status["core"]["functions"][0]["faults_in_row"], 0);
    assert_eq!(gateway.ask(&["dead-letters"])?, Value::Array(Vec::new()));
    stop(&mut gateway).map(drop)
}
