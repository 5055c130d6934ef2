//! Records: each once, in order, gaps shown.

use serde_json::Value;
use sync_protocol::record::{DropReason, RecordBody, Tombstone};

use crate::gateway::{connect, enrol, record, run};
use crate::harness::Cloud;

/// The whole ledger of stream 1, page by page.
pub(crate) async fn ledger(cloud: &Cloud, gateway: &str) -> Vec<Value> {
    let (mut rows, mut from) = (Vec::new(), 1);
    loop {
        let path = format!("/v1/gateways/{gateway}/streams/1/records?from={from}&limit=1000");
        let (status, page) = cloud.get(&path).await;
        assert_eq!(status, 200, "{page}");
        rows.extend(page["rows"].as_array().unwrap().iter().cloned());
        match page["next"].as_u64() {
            Some(next) => from = next,
            None => return rows,
        }
    }
}

#[tokio::test]
async fn records_are_stored_once_whatever_order_they_come_in() {
    let cloud = Cloud::start().await;
    let identity = enrol(&cloud, "gw-a").await;
    let mut gateway = connect(&cloud, &identity).await;
    gateway.hello(7, 1, 30).await;
    gateway.send(run(1..=10)).await;
    assert_eq!(gateway.receipted(10).await, 10);
    gateway.send(run(21..=30)).await;
    gateway.send(run(5..=15)).await;
    gateway.receipted(15).await;
    gateway.send(run(1..=10)).await;
    gateway.send(run(16..=20)).await;
    assert_eq!(gateway.receipted(20).await, 30);
    let rows = ledger(&cloud, "gw-a").await;
    let payloads: Vec<u64> = rows.iter().map(|row| row["payload"].as_u64().unwrap()).collect();
    assert_eq!(payloads, (1..=30).collect::<Vec<_>>());
    let (_, alarms) = cloud.get("/v1/alarms").await;
    assert_eq!(alarms["rows"].as_array().unwrap().len(), 0, "{alarms}");
}

#[tokio::test]
async fn gaps_and_tombstones_are_shown_and_nothing_stalls() {
    let cloud = Cloud::start().await;
    let identity = enrol(&cloud, "gw-a").await;
    let mut gateway = connect(&cloud, &identity).await;
    gateway.hello(7, 1, 3).await;
    gateway.send(run(1..=3)).await;
    gateway.receipted(3).await;
    let (welcome, _) = gateway.hello(7, 6, 12).await;
    assert_eq!(welcome.stored[0].seq, 5, "the gap is passed");
    let body = RecordBody::Tombstone(Tombstone { from: 7, reason: DropReason::Expired });
    let tombstone = sync_protocol::Record { body, ..record(9) };
    gateway.send(vec![record(6), tombstone, record(10)]).await;
    assert_eq!(gateway.receipted(10).await, 10);
    let rows = ledger(&cloud, "gw-a").await;
    let shape: Vec<(u64, u64, &str)> = rows
        .iter()
        .map(|row| {
            let number = |key: &str| row[key].as_u64().unwrap();
            (number("first"), number("seq"), row["kind"].as_str().unwrap())
        })
        .collect();
    let expected = [(4, 5, "gap"), (6, 6, "telemetry"), (7, 9, "tombstone"), (10, 10, "telemetry")];
    assert_eq!(shape[3..], expected);
    assert_eq!(rows[5]["reason"], "expired");
}

#[tokio::test]
async fn telemetry_is_found_by_device_and_series() {
    let cloud = Cloud::start().await;
    let identity = enrol(&cloud, "gw-a").await;
    let mut gateway = connect(&cloud, &identity).await;
    gateway.hello(7, 1, 9).await;
    gateway.send(run(1..=9)).await;
    gateway.receipted(9).await;
    let search = async |query: &str| {
        let (status, page) = cloud.get(&format!("/v1/telemetry?{query}")).await;
        assert_eq!(status, 200, "{page}");
        let rows = page["rows"].as_array().unwrap();
        let payloads: Vec<u64> = rows.iter().map(|row| row["payload"].as_u64().unwrap()).collect();
        (payloads, page["next"].clone())
    };
    assert_eq!(search("device=d1&name=position").await.0, [1, 4, 7]);
    assert_eq!(search("order=desc&limit=2").await.0, [9, 8]);
    let (first, next) = search("gateway=gw-a&function=app/f&limit=4").await;
    assert_eq!(first, [1, 2, 3, 4]);
    assert_eq!(search(&format!("after={next}&limit=100")).await.0, [5, 6, 7, 8, 9]);
    assert_eq!(search("device=nobody").await.0, [0; 0]);
    // What looks like SQL is a name like any other.
    assert_eq!(search("name=%27%20OR%201=1%20--").await.0, [0; 0]);
}

#[tokio::test]
async fn a_restart_of_the_control_plane_loses_nothing() {
    let mut cloud = Cloud::start().await;
    let identity = enrol(&cloud, "gw-a").await;
    let mut gateway = connect(&cloud, &identity).await;
    gateway.hello(7, 1, 5).await;
    gateway.send(run(1..=5)).await;
    gateway.receipted(5).await;
    cloud.restart().await;
    let mut gateway = connect(&cloud, &identity).await;
    let (welcome, _) = gateway.hello(7, 6, 5).await;
    assert_eq!(welcome.stored[0].seq, 5);
    assert_eq!(ledger(&cloud, "gw-a").await.len(), 5);
}
