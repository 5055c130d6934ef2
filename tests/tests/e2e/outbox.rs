//! What waits for the control plane: policies of record series, and a bound on how fast it leaves.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use system_tests::author::{Author, fixture};
use system_tests::cloud::Cloud;
use system_tests::gateway::Setup;
use system_tests::process::wait_for;

use crate::support::{
    PATIENCE, managed_gateway, managed_gateway_with, publish, wait_drained, wait_live,
};

/// Positions of a stream at the control plane, by kind.
fn positions(cloud: &Cloud, gateway: &str, stream: u8, kind: &str) -> Result<u64> {
    let number = |row: &Value, key: &str| row[key].as_u64().unwrap_or_default();
    let rows = cloud.stream(gateway, stream)?;
    let rows = rows.iter().filter(|row| row["kind"] == kind);
    Ok(rows.map(|row| number(row, "seq") - number(row, "first") + 1).sum())
}

/// While the link is cut last values are replaced and short-lived records go, each is counted by
/// reason and series, and the control plane learns which positions are missing and why.
#[test]
fn what_is_dropped_is_counted_and_told() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (cloud, mut gateway) = managed_gateway(dir.path(), "shedding")?;
    let author = Author::at(&dir.path().join("author"));
    for app in ["latest", "brief"] {
        let path = fixture("apps").join(app);
        author.holm(&["deploy", path.to_str().context("UTF-8")?, "--all"])?;
        wait_live(&gateway, app)?;
    }
    wait_drained(&gateway)?;
    cloud.link.cut();
    publish(&gateway, 1, 30)?;
    gateway.wait_idle(PATIENCE)?;
    let status = wait_for(PATIENCE, "short-lived records to expire", || {
        let status = gateway.status()?;
        Ok((status["drops"]["outbox_expired"] == 30).then_some(status))
    })?;
    assert_eq!(status["drops"]["outbox_replaced"], 29);
    let expected = json!([
        { "reason": "expired", "series": "brief/counter/count", "records": 30 },
        { "reason": "replaced", "series": "latest/counter/count", "records": 29 },
    ]);
    assert_eq!(status["outbox"]["dropped"], expected);

    // A kill could undo drops that were not durable yet, and they would be sent.
    gateway.stop()?;
    gateway.start()?;
    cloud.link.mend();
    wait_drained(&gateway)?;
    assert_eq!(positions(&cloud, "shedding", 3, "telemetry")?, 1);
    assert_eq!(positions(&cloud, "shedding", 3, "tombstone")?, 29);
    assert_eq!(positions(&cloud, "shedding", 1, "telemetry")?, 30, "those of the plain counter");
    assert_eq!(positions(&cloud, "shedding", 1, "tombstone")?, 30);
    let alarms = cloud.get("/v1/alarms")?;
    assert_eq!(alarms["rows"], json!([]), "nothing of that is an alarm");
    gateway.stop()
}

/// A metered link: records leave no faster than told, and answers do not wait behind them.
#[test]
fn records_leave_no_faster_than_told() -> Result<()> {
    const RECORDS: usize = 200;
    let dir = tempfile::tempdir()?;
    let setup = Setup {
        more: "[limits]\ndrain = \"2 KiB\"\ndrain_burst = \"4 KiB\"".to_owned(),
        ..Setup::open("metered")
    };
    let (cloud, mut gateway) = managed_gateway_with(dir.path(), &setup)?;
    wait_drained(&gateway)?;
    let begun = Instant::now();
    publish(&gateway, 1, RECORDS)?;
    let author = Author::at(&dir.path().join("author"));
    author.holm(&["state", "list", "counter/counter", "-g", "metered", "--json"])?;
    let waiting = gateway.status()?["outbox"]["records"].as_u64();
    assert!(waiting > Some(0), "an answer came while records wait");
    wait_drained(&gateway)?;
    let took = begun.elapsed();
    assert_eq!(positions(&cloud, "metered", 1, "telemetry")?, RECORDS as u64);
    // A record of this app takes more than 60 bytes; the burst is out at once.
    let least = (RECORDS as u64 * 60 - 4_096) / 2_048;
    assert!(took >= Duration::from_secs(least), "{RECORDS} records left in {took:?}");
    gateway.stop()
}
