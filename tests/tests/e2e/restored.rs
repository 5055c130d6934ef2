//! An old copy of a store is put back, on either side: shown, never silent, and nothing stalls.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::Value;
use system_tests::cloud::Cloud;

use crate::support::{managed_gateway, publish, wait_drained};

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
    gateway.wait_idle(crate::support::PATIENCE)?;
    cloud.link.mend();
    wait_drained(&gateway)?;
    publish(&gateway, 4, 5)?;
    wait_drained(&gateway)?;

    let status = gateway.status()?;
    assert_eq!(status["drops"]["outbox_skipped"], 15, "26 to 40 were passed over");
    assert_eq!(alarms(&cloud)?, ["gateway-behind", "record-conflict"]);
    let rows = ledger(&cloud, "revenant")?;
    let seqs: Vec<u64> = rows.iter().map(|(_, seq, _)| *seq).collect();
    assert_eq!(seqs, (1..=45).collect::<Vec<_>>(), "no gap, and nothing twice");
    let shown = cloud.get("/v1/gateways/revenant")?;
    assert_eq!(shown["conflicts"], 5, "what it wrote at stored positions is kept aside: {shown:#}");
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
    gateway.stop()
}
