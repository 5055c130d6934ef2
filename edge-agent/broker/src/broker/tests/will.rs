//! Wills: when they are published and when not.

use bytes::Bytes;
use edge_core::message::QoS;

use super::super::*;
use super::rig::{Rig, topic};
use crate::codec::{Connect, Disconnect, Packet, Version, Will};

fn will(delay_s: u32) -> Will {
    Will {
        topic: topic("will"),
        payload: Bytes::from_static(b"gone"),
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_s,
        expiry_s: None,
        properties: Default::default(),
    }
}

fn with_will(version: Version, delay_s: u32, expiry_s: u32) -> Connect {
    Connect {
        clean_start: false,
        session_expiry_s: expiry_s,
        will: Some(will(delay_s)),
        ..Connect::new(version, "c")
    }
}

#[test]
fn it_is_published_when_the_connection_is_lost() {
    for version in [Version::V311, Version::V5] {
        let mut rig = Rig::default();
        let sub = rig.join(version, "s");
        rig.subscribe(sub, "will", QoS::AtLeastOnce);
        let (conn, _) = rig.connect(with_will(version, 0, 0));
        assert_eq!(rig.rows_of(BrokerTable::Wills), 1, "stored with CONNECT, whatever the session");
        rig.advance(500);
        rig.drop_conn(conn);
        assert_eq!(rig.payloads(sub), ["gone"]);
        assert_eq!(rig.wills[0].at, rig.now.at);
        assert_eq!(rig.rows_of(BrokerTable::Wills), 0);
    }
}

#[test]
fn the_connack_waits_for_its_row() {
    let mut rig = Rig::default();
    rig.habits.commit = false;
    let conn = rig.dial(with_will(Version::V311, 0, 0));
    assert_eq!(rig.take(conn), []);
    rig.commit();
    assert_eq!(rig.connack(conn).reason, ReasonCode::Success);
}

#[test]
fn goodbye_takes_it_back_unless_it_asks_for_it() {
    for (reason, fired) in [(ReasonCode::Success, 0), (ReasonCode::DisconnectWithWill, 1)] {
        let mut rig = Rig::default();
        let (conn, _) = rig.connect(with_will(Version::V5, 0, 0));
        rig.send(conn, Packet::Disconnect(Disconnect::new(reason)));
        assert_eq!(rig.wills.len(), fired);
        assert_eq!(rig.rows_of(BrokerTable::Wills), 0);
    }
}

#[test]
fn its_delay_is_cut_by_the_end_of_the_session_and_by_the_client_s_return() {
    let mut rig = Rig::default();
    let (conn, _) = rig.connect(with_will(Version::V5, 10, 100));
    rig.drop_conn(conn);
    rig.advance(9_999);
    assert_eq!(rig.wills.len(), 0);
    rig.advance(1);
    assert_eq!(rig.wills.len(), 1, "after its delay");

    let (conn, _) = rig.connect(with_will(Version::V5, 100, 10));
    rig.drop_conn(conn);
    rig.advance(10_000);
    assert_eq!(rig.wills.len(), 2, "with its session");
    assert_eq!(rig.broker.status().sessions, 0);

    let (conn, _) = rig.connect(with_will(Version::V5, 10, 100));
    rig.drop_conn(conn);
    rig.advance(5_000);
    let (conn, present) = rig.connect(with_will(Version::V5, 10, 100));
    assert!(present);
    rig.advance(50_000);
    assert_eq!(rig.wills.len(), 2, "the client is back");
    rig.drop_conn(conn);
    rig.advance(5_000);
    let clean = Connect { clean_start: true, will: None, ..with_will(Version::V5, 0, 0) };
    rig.connect(clean);
    assert_eq!(rig.wills.len(), 3, "a clean start ends the session");
}

#[test]
fn a_take_over_publishes_it_unless_it_has_a_delay() {
    let mut rig = Rig::default();
    rig.connect(with_will(Version::V5, 0, 100));
    rig.connect(with_will(Version::V5, 5, 100));
    assert_eq!(rig.wills.len(), 1);
    rig.connect(with_will(Version::V5, 5, 100));
    rig.advance(60_000);
    assert_eq!(rig.wills.len(), 1);
    assert_eq!(rig.rows_of(BrokerTable::Wills), 1);
}

#[test]
fn a_malformed_packet_and_a_missing_keep_alive_publish_it() {
    let mut rig = Rig::default();
    let connect = Connect { keep_alive_s: 1, ..with_will(Version::V5, 0, 0) };
    rig.connect(connect.clone());
    rig.advance(1_500);
    assert_eq!(rig.wills.len(), 1);
    let (conn, _) = rig.connect(connect);
    let error = crate::codec::DecodeError::protocol("rule");
    rig.step(|broker, turn| broker.handle(Input::Malformed { conn, error }, turn));
    assert_eq!(rig.wills.len(), 2);
}

#[test]
fn it_must_be_granted() {
    for version in [Version::V311, Version::V5] {
        let mut rig = Rig::default();
        let connect = Connect { username: Some("limited".into()), ..with_will(version, 0, 0) };
        let conn = rig.dial(connect);
        assert_eq!(rig.connack(conn).reason, ReasonCode::NotAuthorized);
        assert!(rig.is_closed(conn));
        assert_eq!((rig.wills.len(), rig.rows.len()), (0, 0));
    }
}

#[test]
fn after_a_restart_it_waits_for_its_client() {
    for expiry_s in [0, 1_000] {
        for (delay_s, due_ms) in [(0, 60_000), (5, 60_000), (90, 90_000)] {
            let mut rig = Rig::default();
            rig.connect(with_will(Version::V5, delay_s, expiry_s));
            rig.restart();
            rig.advance(due_ms - 1);
            assert_eq!(rig.wills.len(), 0);
            rig.advance(1);
            assert_eq!(rig.wills.len(), 1);
            assert_eq!(rig.rows_of(BrokerTable::Wills), 0);
            assert_eq!(rig.broker.status().sessions, usize::from(expiry_s > 0));

            // The same, but the client is back in time, clean or not.
            for clean_start in [true, false] {
                let mut rig = Rig::default();
                rig.connect(with_will(Version::V5, delay_s, expiry_s));
                rig.restart();
                rig.advance(30_000);
                let connect = Connect { clean_start, ..Connect::new(Version::V5, "c") };
                rig.connect(connect);
                assert_eq!(rig.rows_of(BrokerTable::Wills), 0);
                rig.advance(200_000);
                assert_eq!(rig.wills.len(), 0);
            }
        }
    }
}

#[test]
fn a_graceful_stop_leaves_it_for_the_next_start() {
    let mut rig = Rig::default();
    rig.connect(with_will(Version::V5, 0, 0));
    rig.step(Broker::shutdown);
    assert_eq!(rig.wills.len(), 0);
    rig.restart();
    rig.advance(60_000);
    assert_eq!(rig.wills.len(), 1);
}

/// [MQTT-3.1.3-10]
#[test]
fn user_properties_keep_their_order() {
    let mut rig = Rig::default();
    let sub = rig.join(Version::V5, "s");
    rig.subscribe(sub, "will", QoS::AtLeastOnce);
    let user: Vec<(String, String)> =
        [("b", "1"), ("a", "2"), ("b", "0")].map(|(k, v)| (k.into(), v.into())).into();
    let properties = edge_core::message::Properties { user: user.clone(), ..Default::default() };
    let connect =
        Connect { will: Some(Will { properties, ..will(0) }), ..with_will(Version::V5, 0, 0) };
    let (conn, _) = rig.connect(connect);
    rig.drop_conn(conn);
    assert_eq!(rig.publishes(sub)[0].properties.user, user);
}

#[test]
fn it_is_bounded() {
    let mut rig = Rig::default();
    let large = Will { payload: Bytes::from(vec![b'x'; 4_100]), ..will(0) };
    let conn = rig.dial(Connect { will: Some(large), ..Connect::new(Version::V5, "c") });
    assert_eq!(rig.connack(conn).reason, ReasonCode::QuotaExceeded);
}
