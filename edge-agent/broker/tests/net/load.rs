//! Many connections at once.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use edge_broker::codec::Version;
use edge_core::message::QoS;

use crate::owner::{Server, eventually};
use crate::raw::Raw;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_at_once_do_not_disturb_the_others() {
    let server = Server::plain();
    let mut calm = Raw::join(server.address, Version::V5, "calm").await;
    let address = server.address;
    let crowd = tokio::spawn(async move {
        let mut arriving = tokio::task::JoinSet::new();
        for n in 0..1_000 {
            let name = format!("c{n}");
            arriving.spawn(async move { Raw::join(address, Version::V5, &name).await });
        }
        arriving.join_all().await
    });
    let mut slowest = Duration::ZERO;
    while !crowd.is_finished() {
        let start = Instant::now();
        calm.ping().await;
        slowest = slowest.max(start.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut crowd = crowd.await.unwrap();
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert_eq!(server.seen.connected.load(Ordering::Relaxed), 1_001);
    // They are all there: one message reaches each.
    for raw in &mut crowd {
        raw.subscribe("all", QoS::AtMostOnce).await;
    }
    calm.send(&[edge_broker::codec::Packet::Publish(crate::raw::publish("all", b"x", 0))]).await;
    for raw in &mut crowd {
        raw.publish().await;
    }
    let all_gone = server.stop();
    drop(crowd);
    assert_eq!(all_gone.await.0.connections, 0);
}

#[tokio::test]
async fn a_graceful_stop_tells_everybody() {
    let server = Server::plain();
    let mut five = Raw::join(server.address, Version::V5, "five").await;
    let mut three = Raw::join(server.address, Version::V311, "three").await;
    eventually("both", || server.seen.connected.load(Ordering::Relaxed) == 2).await;
    let (status, _) = server.stop().await;
    assert_eq!(status.connections, 0);
    let bye = five.recv().await;
    let Some(edge_broker::codec::Packet::Disconnect(bye)) = bye else { panic!("{bye:?}") };
    assert_eq!(bye.reason, edge_broker::codec::ReasonCode::ServerShuttingDown);
    assert_eq!(five.recv().await, None);
    assert_eq!(three.recv().await, None);
}
