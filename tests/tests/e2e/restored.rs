//! An old copy of a store is put back, on either side: shown, never silent, and nothing stalls.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use system_tests::cloud::Cloud;
use system_tests::gateway::{Gateway, Setup};
use system_tests::process::wait_for;

use crate::support::{PATIENCE, managed_gateway, publish, wait_drained};

fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to)?;
    }
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(copied.success(), "cp: {copied}");
    Ok(())
}

fn alarms(cloud: &Cloud) -> Result<Vec<String>> {
    let page = cloud.get("/v1/alarms")?;
    let codes = page["rows"].as_array().into_iter().flatten();
    let mut codes: Vec<_> =
        codes.filter_map(|row| row["code"].as_str()).map(str::to_owned).collect();
    codes.sort();
    Ok(codes)
}

/// First position, last position and kind of what the control plane holds of stream 1.
fn ledger(cloud: &Cloud, gateway: &str) -> Result<Vec<(u64, u64, String)>> {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let rows = cloud.stream(gateway, 1)?;
    let row = |row: &Value| {
        let kind = row["kind"].as_str().unwrap_or_default().to_owned();
        (number(&row["first"]), number(&row["seq"]), kind)
    };
    Ok(rows.iter().map(row).collect())
}

/// The gateway's store is an older copy, and it worked on before it came into contact again.
#[test]
fn a_gateway_with_an_older_store_goes_on_after_what_is_stored() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (cloud, mut gateway) = managed_gateway(dir.path(), "revenant")?;
    let (data, old) = (dir.path().join("gateway/data"), dir.path().join("old"));
    publish(&gateway, 1, 20)?;
    wait_drained(&gateway)?;
    gateway.stop()?;
    copy(&data, &old)?;
    gateway.start()?;
    publish(&gateway, 2, 20)?;
    wait_drained(&gateway)?;
    gateway.stop()?;
    assert_eq!(ledger(&cloud, "revenant")?.len(), 40);

    copy(&old, &data)?;
    cloud.link.cut();
    gateway.start()?;
    publish(&gateway, 3, 5)?;
    gateway.wait_idle(PATIENCE)?;
    cloud.link.mend();
    wait_drained(&gateway)?;
    publish(&gateway, 4, 5)?;
    wait_drained(&gateway)?;

    let status = gateway.status()?;
    assert_eq!(status["drops"]["outbox_skipped"], 15, "26 to 40 were passed over");
    // Where no time daemon vouches for the clock each run also tells, urgently, what time it was.
    let urgent = cloud.stream("revenant", 0)?;
    let told = urgent.iter().any(|row| row["report"] == "clock");
    let again = 5 + u64::from(told);
    assert_eq!(status["outbox"]["renumbered"], again, "what it wrote at 21 to 25 went again");
    assert_eq!(alarms(&cloud)?, ["gateway-behind", "record-conflict"]);
    let rows = ledger(&cloud, "revenant")?;
    let seqs: Vec<u64> = rows.iter().map(|(_, seq, _)| *seq).collect();
    assert_eq!(seqs, (1..=50).collect::<Vec<_>>(), "no gap");
    assert!(rows.iter().all(|(_, _, kind)| kind == "telemetry"), "of both lives, all: {rows:?}");
    let shown = cloud.get("/v1/gateways/revenant")?;
    assert_eq!(shown["conflicts"], again, "what came at stored positions is kept aside: {shown:#}");
    gateway.stop()
}

/// The control plane's store is an older copy: the gateway has deleted what it was told is stored.
#[test]
fn a_control_plane_with_an_older_store_shows_the_gap() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut cloud, mut gateway) = managed_gateway(dir.path(), "steady")?;
    let (data, old) = (dir.path().join("cloud"), dir.path().join("old"));
    publish(&gateway, 1, 20)?;
    wait_drained(&gateway)?;
    cloud.kill()?;
    copy(&data, &old)?;
    cloud.serve()?;
    publish(&gateway, 2, 20)?;
    wait_drained(&gateway)?;
    cloud.kill()?;
    copy(&old, &data)?;
    cloud.serve()?;
    publish(&gateway, 3, 5)?;
    wait_drained(&gateway)?;
    assert_eq!(alarms(&cloud)?, ["control-plane-behind"]);
    let rows = ledger(&cloud, "steady")?;
    assert_eq!(rows[20], (21, 40, "gap".to_owned()));
    let after: Vec<u64> = rows[21..].iter().map(|(_, seq, _)| *seq).collect();
    assert_eq!(after, [41, 42, 43, 44, 45]);
    let gaps = &gateway.status()?["uplink"]["gaps"];
    assert_eq!(*gaps, json!([{ "stream": 1, "to": 40 }]), "the gateway shows it as well");
    gateway.stop()
}

/// The whole machine was copied, and both are started: two with one identity. Both go on, all
/// that both wrote arrives, and an alarm names it.
#[test]
fn a_cloned_card_loses_nothing_and_is_named() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (cloud, mut gateway) = managed_gateway(dir.path(), "twin")?;
    publish(&gateway, 1, 20)?;
    wait_drained(&gateway)?;
    gateway.stop()?;
    let mut clone = Gateway::new(&dir.path().join("clone"), &Setup::open("twin"))?;
    copy(&gateway.data_dir(), &clone.data_dir())?;
    gateway.start()?;
    clone.start()?;
    for boot in [2, 3] {
        publish(&gateway, boot, 5)?;
        publish(&clone, boot, 7)?;
        wait_both_drained(&gateway, &clone)?;
    }
    wait_for(PATIENCE, "the alarm", || {
        Ok(alarms(&cloud)?.iter().any(|code| code == "two-gateways").then_some(()))
    })?;
    let rows = ledger(&cloud, "twin")?;
    let records = rows.iter().filter(|(_, _, kind)| kind == "telemetry").count();
    assert_eq!(records, 20 + 2 * (5 + 7), "{rows:?}");
    assert!(rows.iter().all(|(_, _, kind)| kind != "gap"), "{rows:?}");
    gateway.stop()?;
    clone.stop()
}

/// They push each other off the link, so each has it for a while only.
fn wait_both_drained(one: &Gateway, other: &Gateway) -> Result<()> {
    wait_drained(one)?;
    wait_drained(other)
}
