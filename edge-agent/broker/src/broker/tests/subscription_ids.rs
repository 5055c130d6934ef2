//! Subscription identifiers (3.8.2.1.2, 3.3.4).

use edge_core::message::{Message, QoS};

use super::super::*;
use super::rig::{Rig, filter, id, keep, message};
use crate::codec::{Packet, Subscribe, SubscribeOptions, SubscriptionId, Version};

const ONE: QoS = QoS::AtLeastOnce;

fn subscribe(rig: &mut Rig, conn: ConnId, text: &str, number: u32) {
    let options = SubscribeOptions { qos: ONE, ..SubscribeOptions::default() };
    rig.send(
        conn,
        Packet::Subscribe(Subscribe {
            packet_id: id(1),
            subscription_id: SubscriptionId::new(number),
            filters: vec![(filter(text), options)],
        }),
    );
}

/// Identifiers of the publishes received, in order.
fn ids(rig: &mut Rig, conn: ConnId) -> Vec<Vec<u32>> {
    let numbers = |ids: &[SubscriptionId]| {
        let mut numbers: Vec<u32> = ids.iter().map(|id| id.get()).collect();
        numbers.sort_unstable();
        numbers
    };
    rig.publishes(conn).iter().map(|publish| numbers(&publish.subscription_ids)).collect()
}

#[test]
fn a_message_carries_those_of_all_its_subscriptions() {
    let mut rig = Rig::default();
    let conn = rig.join(Version::V5, "c");
    subscribe(&mut rig, conn, "a/+", 7);
    subscribe(&mut rig, conn, "a/#", 268_435_455);
    subscribe(&mut rig, conn, "+/b", 7);
    subscribe(&mut rig, conn, "c", 9);
    rig.subscribe(conn, "#", ONE);
    rig.route(message("a/b", "x", ONE));
    rig.route(message("d", "x", QoS::AtMostOnce));
    assert_eq!(ids(&mut rig, conn), [vec![7, 7, 268_435_455], vec![]]);
    // A new subscription to the same filter replaces the identifier too.
    subscribe(&mut rig, conn, "a/#", 1);
    rig.subscribe(conn, "a/+", ONE);
    rig.route(message("a/b", "x", ONE));
    assert_eq!(ids(&mut rig, conn), [vec![1, 7]]);
}

#[test]
fn shares_and_retained_messages_have_their_own() {
    let mut rig = Rig::default();
    let conn = rig.join(Version::V5, "c");
    rig.route(Message { retain: true, ..message("a", "kept", ONE) });
    subscribe(&mut rig, conn, "a", 2);
    subscribe(&mut rig, conn, "$share/g/a", 3);
    assert_eq!(ids(&mut rig, conn), [[2]]);
    rig.route(message("a", "x", ONE));
    assert_eq!(ids(&mut rig, conn), [[2], [3]]);
}

#[test]
fn they_survive_with_the_session_and_its_queue() {
    let mut rig = Rig::default();
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    subscribe(&mut rig, conn, "a", 5);
    rig.drop_conn(conn);
    rig.route(message("a", "1", ONE));
    rig.restart();
    rig.route(message("a", "2", ONE));
    // An unsubscribe does not change what is queued.
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    assert_eq!(ids(&mut rig, conn), [[5], [5]]);
    rig.drop_conn(conn);
    let (conn, _) = rig.connect(keep(Version::V311, "c"));
    assert_eq!(ids(&mut rig, conn), [Vec::<u32>::new(), Vec::new()], "3.1.1 has none");
}
