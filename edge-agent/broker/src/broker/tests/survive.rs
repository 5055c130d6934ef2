//! What a restart keeps.

use edge_core::message::QoS;

use super::super::*;
use super::rig::{Rig, filter, keep, message};
use crate::codec::{Connect, Version};

const ONE: QoS = QoS::AtLeastOnce;

#[test]
fn sessions_subscriptions_and_queues() {
    for version in [Version::V311, Version::V5] {
        let mut rig = Rig::default();
        let (conn, _) = rig.connect(keep(version, "c"));
        rig.subscribe(conn, "a/#", ONE);
        rig.route(message("a/1", "under way", ONE));
        assert_eq!(rig.publishes(conn).len(), 1);
        rig.drop_conn(conn);
        rig.route(message("a/2", "queued", ONE));
        rig.restart();
        rig.route(message("a/3", "after", ONE));
        let (conn, present) = rig.connect(keep(version, "c"));
        assert!(present);
        let got = rig.publishes(conn);
        let seen: Vec<_> = got.iter().map(|p| (p.dup, p.packet_id.unwrap().get())).collect();
        assert_eq!(seen, [(true, 1), (false, 2), (false, 3)], "DUP only where it may be one");
        assert_eq!(rig.broker.status().queued_messages, 3);
    }
}

#[test]
fn what_a_crash_interrupts_may_have_been_sent() {
    let mut rig = Rig::default();
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    rig.subscribe(conn, "a", ONE);
    rig.route(message("a", "x", ONE));
    let before = rig.publishes(conn);
    rig.restart();
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    let after = rig.publishes(conn);
    assert!(after[0].dup);
    assert_eq!(after[0].packet_id, before[0].packet_id);
}

#[test]
fn what_was_not_durable_is_gone_and_was_never_seen() {
    let mut rig = Rig::default();
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    rig.subscribe(conn, "a", ONE);
    rig.habits.commit = false;
    rig.route(message("a", "x", ONE));
    assert_eq!(rig.take(conn), []);
    rig.restart();
    rig.commit();
    let (conn, _) = rig.connect_after_commit(keep(Version::V5, "c"));
    assert_eq!(rig.take(conn), []);
}

#[test]
fn expiry_counts_from_the_end_of_the_connection() {
    let mut rig = Rig::default();
    let connect = Connect { session_expiry_s: 100, ..keep(Version::V5, "away") };
    let (conn, _) = rig.connect(connect.clone());
    rig.connect(Connect { client_id: "there".into(), ..connect });
    rig.drop_conn(conn);
    rig.advance(60_000);
    rig.restart();
    rig.advance(40_000);
    assert_eq!(rig.broker.status().sessions, 1, "the one that was connected goes on");
    rig.advance(60_000);
    assert_eq!(rig.broker.status().sessions, 0);
    assert!(rig.rows.is_empty());
}

#[test]
fn numbers_are_not_used_again() {
    let mut rig = Rig::default();
    rig.connect(keep(Version::V5, "a"));
    rig.restart();
    rig.connect(keep(Version::V5, "b"));
    assert_eq!(rig.rows_of(BrokerTable::Sessions), 2);
}

#[test]
fn rows_without_a_session_are_deleted() {
    let mut rig = Rig::default();
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    rig.subscribe(conn, "a", ONE);
    rig.drop_conn(conn);
    rig.route(message("a", "x", ONE));
    rig.rows.retain(|(table, _), _| *table != BrokerTable::Sessions);
    assert_eq!(rig.rows.len(), 2);
    rig.restart();
    assert!(rig.rows.is_empty());
    assert_eq!(rig.broker.status(), Status::default());
}

#[test]
fn a_lost_grant_takes_its_subscriptions() {
    let mut rig = Rig::default();
    let connect = |name: &str| Connect { username: Some(name.into()), ..keep(Version::V5, "c") };
    let (conn, _) = rig.connect(connect("limited"));
    rig.subscribe(conn, "own/a", ONE);
    // The rig's grants follow from the name, so the row plays the older, wider grant.
    let row = rig.rows.values().find(|op| op.table() == BrokerTable::Subscriptions).unwrap();
    let BrokerOp::PutSubscription { session, options, subscription_id, .. } = row.clone() else {
        panic!()
    };
    for wide in ["#", "$share/g/#"] {
        let filter = filter(wide);
        let wide = BrokerOp::PutSubscription { session, filter, options, subscription_id };
        rig.rows.insert((wide.table(), wide.key()), wide);
    }
    rig.restart();
    assert_eq!(rig.broker.status().subscriptions, 3);
    let (_, present) = rig.connect(connect("limited"));
    assert!(present);
    assert_eq!(rig.broker.status().subscriptions, 1);
    assert_eq!(rig.rows_of(BrokerTable::Subscriptions), 1);
}

#[test]
fn which_operations_are_lazy() {
    let session = SessionId(1);
    assert!(BrokerOp::DeleteMessage { session, n: 1 }.is_lazy());
    assert!(BrokerOp::DeleteRelease { session, n: 1 }.is_lazy());
    assert!(!BrokerOp::PutRelease { session, n: 1 }.is_lazy(), "PUBREL waits for it");
    let id = super::rig::id(1);
    assert!(!BrokerOp::DeleteInbound { session, packet_id: id }.is_lazy(), "so does PUBCOMP");
}
