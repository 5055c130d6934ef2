//! SIGKILL between a record and its receipt: every record once.

use std::time::Duration;

use rusqlite::Connection;

use crate::gateway::{connect, enrol, run};
use crate::harness::Cloud;
use crate::records::ledger;

const TOTAL: u64 = 12_000;
const RUN: u64 = 20;

/// Records stored, read past the server.
fn stored(cloud: &Cloud) -> u64 {
    let db = Connection::open(cloud.dir().join("cloud.db")).unwrap();
    db.busy_timeout(Duration::from_secs(10)).unwrap();
    let count = db.query_row("SELECT COUNT(*) FROM records", [], |row| row.get::<_, i64>(0));
    u64::try_from(count.unwrap()).unwrap()
}

#[tokio::test]
async fn a_killed_server_has_every_record_once_after_they_are_sent_again() {
    let mut cloud = Cloud::spawn();
    let identity = enrol(&cloud, "gw-a").await;
    let mut unreceipted = 0;
    for life in 0_u64..5 {
        let mut gateway = connect(&cloud, &identity).await;
        let before = stored(&cloud);
        let (welcome, _) = gateway.hello(7, 1, TOTAL).await;
        assert_eq!(welcome.stored[0].seq, before, "what was stored is known");
        // From further back than needed: the gateway saw no receipt of it.
        let mut from = before.saturating_sub(life * 30) + 1;
        while from <= TOTAL {
            let to = (from + RUN - 1).min(TOTAL);
            gateway.send(run(from..=to)).await;
            from = to + 1;
        }
        // Nobody reads receipts; the process dies when something new is stored.
        while stored(&cloud) <= before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        cloud.kill();
        let after = stored(&cloud);
        let receipted = gateway.receipts_so_far().await;
        assert!(receipted <= after, "receipt {receipted} came before its records were stored");
        // Whatever came of receipts, the gateway acts on none of them.
        unreceipted += after - before;
        cloud.kill_and_spawn();
        if after == TOTAL {
            break;
        }
    }
    assert!(unreceipted > 0, "something was stored whose receipt was not seen");

    let mut gateway = connect(&cloud, &identity).await;
    gateway.hello(7, 1, TOTAL).await;
    for from in (1..=TOTAL).step_by(usize::try_from(RUN).unwrap()) {
        gateway.send(run(from..=from + RUN - 1)).await;
    }
    gateway.receipted(TOTAL).await;
    let rows = ledger(&cloud, "gw-a").await;
    let payloads: Vec<u64> = rows.iter().map(|row| row["payload"].as_u64().unwrap()).collect();
    assert_eq!(payloads, (1..=TOTAL).collect::<Vec<_>>());
    let (_, view) = cloud.get("/v1/gateways/gw-a").await;
    assert_eq!((view["alarms"].as_array().unwrap().len(), &view["conflicts"]), (0, &0.into()));
}
