//! CONNECT, take-over, keep-alive, goodbye.

use bytes::Bytes;
use edge_core::message::QoS;

use super::super::*;
use super::rig::{Rig, filter, keep, publish, topic};
use crate::codec::{Connect, DecodeError, Disconnect, Packet, Publish, Version, Will};

const BOTH: [Version; 2] = [Version::V311, Version::V5];

#[test]
fn a_connack_says_what_is_offered() {
    let mut rig = Rig::default();
    let conn = rig.dial(Connect { session_expiry_s: u32::MAX, ..Connect::new(Version::V5, "") });
    let connack = rig.connack(conn);
    assert_eq!((connack.reason, connack.session_present), (ReasonCode::Success, false));
    let offer = connack.properties;
    assert_eq!(offer.receive_max, Some(32));
    assert_eq!(offer.topic_alias_max, Some(16));
    assert_eq!(offer.shared_available, Some(true));
    assert_eq!(offer.subscription_ids_available, Some(true));
    assert_eq!(offer.retain_available, None, "which means yes");
    assert_eq!(offer.packet_bytes_max, Some(136 * 1_024));
    assert_eq!(offer.session_expiry_s, Some(7 * 24 * 3_600), "cut to the limit, and said so");
    assert!(offer.assigned_client_id.unwrap().starts_with("holm-"));
    let conn = rig.dial(keep(Version::V5, "a"));
    assert_eq!(rig.connack(conn).properties.session_expiry_s, None, "granted as asked");
}

/// [MQTT-3.2.2-16]; after a restart as well, for kept sessions may have such an id.
#[test]
fn assigned_client_ids_differ() {
    let mut rig = Rig::default();
    let mut ids = std::collections::BTreeSet::new();
    for restart in [false, true] {
        if restart {
            rig.restart();
        }
        for _ in 0..3 {
            let conn = rig.dial(keep(Version::V5, ""));
            ids.insert(rig.connack(conn).properties.assigned_client_id.unwrap());
        }
    }
    assert_eq!(ids.len(), 6);
    assert_eq!(rig.broker.status().persistent_sessions, 6);
}

/// [MQTT-3.2.2-13] [MQTT-3.2.2-14]
#[test]
fn where_nothing_is_retained_the_connack_says_so_and_retaining_is_an_error() {
    let mut rig = Rig::new(Limits { retained_messages_max: 0, ..Limits::default() });
    let will = |retain| Will {
        topic: topic("gone"),
        payload: Bytes::new(),
        qos: QoS::AtMostOnce,
        retain,
        delay_s: 0,
        expiry_s: None,
        properties: Default::default(),
    };
    for version in BOTH {
        let refused = version == Version::V5;
        let conn = rig.dial(Connect { will: Some(will(false)), ..Connect::new(version, "c") });
        let connack = rig.connack(conn);
        assert_eq!(connack.properties.retain_available, refused.then_some(false));
        rig.publish(conn, Publish { retain: true, ..publish("a", "x", QoS::AtLeastOnce, 1) });
        assert_eq!(rig.is_closed(conn), refused, "a 3.1.1 client cannot be told");
        if refused {
            assert_eq!(rig.farewell(conn), ReasonCode::RetainNotSupported);
        }
        let conn = rig.dial(Connect { will: Some(will(true)), ..Connect::new(version, "w") });
        let reason = if refused { ReasonCode::RetainNotSupported } else { ReasonCode::Success };
        assert_eq!(rig.connack(conn).reason, reason);
    }
    assert_eq!(rig.broker.status().retained_messages, 0);
}

#[test]
fn refusals_have_the_code_of_their_version() {
    for version in BOTH {
        let mut rig = Rig::default();
        rig.habits.admit = false;
        for reason in [
            ReasonCode::BadUserNameOrPassword,
            ReasonCode::NotAuthorized,
            ReasonCode::ServerUnavailable,
        ] {
            let conn = rig.dial(Connect::new(version, "c"));
            let outcome = Err(reason);
            rig.step(|broker, turn| broker.handle(Input::AuthDone { conn, outcome }, turn));
            assert_eq!(rig.connack(conn).reason, reason);
            assert!(rig.is_closed(conn));
        }
    }
}

#[test]
fn what_can_be_refused_without_asking_is() {
    let mut rig = Rig::default();
    let long = "x".repeat(257);
    for version in BOTH {
        let conn = rig.dial(Connect::new(version, &long));
        assert_eq!(rig.connack(conn).reason, ReasonCode::ClientIdentifierNotValid);
    }
    let conn = rig.dial(keep(Version::V311, ""));
    assert_eq!(rig.connack(conn).reason, ReasonCode::ClientIdentifierNotValid);
    let method = Some("SCRAM".to_owned());
    let conn = rig.dial(Connect { auth_method: method, ..Connect::new(Version::V5, "c") });
    assert_eq!(rig.connack(conn).reason, ReasonCode::BadAuthenticationMethod);
}

#[test]
fn malformed_bytes_are_answered_by_stage_and_version() {
    let mut rig = Rig::default();
    let error = |reason, version| DecodeError { version, ..DecodeError::new(reason, "rule") };
    let malformed = |rig: &mut Rig, conn, error| {
        rig.step(|broker, turn| broker.handle(Input::Malformed { conn, error }, turn));
        assert!(rig.is_closed(conn));
    };
    // Before a CONNECT: a CONNACK if the version is known and has words for it.
    let unsupported = ReasonCode::UnsupportedProtocolVersion;
    let conn = rig.open_wire(Version::V311);
    malformed(&mut rig, conn, error(unsupported, Some(Version::V311)));
    assert_eq!(rig.connack(conn).reason, unsupported);
    let conn = rig.open_wire(Version::V5);
    malformed(&mut rig, conn, error(ReasonCode::MalformedPacket, Some(Version::V5)));
    assert_eq!(rig.connack(conn).reason, ReasonCode::MalformedPacket);
    for version in [Some(Version::V311), None] {
        let conn = rig.open_wire(Version::V311);
        malformed(&mut rig, conn, error(ReasonCode::MalformedPacket, version));
        assert_eq!(rig.take(conn), []);
    }
    // After it: a DISCONNECT in 5, silence in 3.1.1.
    let other = rig.join(Version::V5, "other");
    let conn = rig.join(Version::V5, "five");
    malformed(&mut rig, conn, error(ReasonCode::PacketTooLarge, Some(Version::V5)));
    assert_eq!(rig.farewell(conn), ReasonCode::PacketTooLarge);
    let conn = rig.join(Version::V311, "three");
    malformed(&mut rig, conn, error(ReasonCode::PacketTooLarge, Some(Version::V311)));
    assert_eq!(rig.take(conn), []);
    rig.send(other, Packet::PingReq);
    assert_eq!(rig.take(other), [Packet::PingResp], "nobody else notices");
}

#[test]
fn a_second_connection_takes_the_session_over() {
    let mut rig = Rig::default();
    let (first, _) = rig.connect(keep(Version::V5, "c"));
    rig.subscribe(first, "a", QoS::AtLeastOnce);
    let (second, present) = rig.connect(keep(Version::V5, "c"));
    assert!(present);
    assert_eq!(rig.farewell(first), ReasonCode::SessionTakenOver);
    let sender = rig.join(Version::V5, "s");
    rig.publish(sender, publish("a", "x", QoS::AtLeastOnce, 1));
    assert_eq!(rig.payloads(second), ["x"]);
    // What the transport says of the first one later is of no consequence.
    rig.step(|broker, turn| broker.handle(Input::Closed { conn: first }, turn));
    assert!(!rig.is_closed(second));
    // A clean start ends the session instead.
    let (_, present) = rig.connect(Connect::new(Version::V5, "c"));
    assert!(!present);
    assert_eq!(rig.rows_of(BrokerTable::Sessions), 0);
    assert_eq!(rig.rows_of(BrokerTable::Subscriptions), 0);
}

#[test]
fn a_session_belongs_to_an_identity() {
    let mut rig = Rig::default();
    let named = |name: &str| Connect { username: Some(name.to_owned()), ..keep(Version::V5, "c") };
    let (alice, _) = rig.connect(named("alice"));
    let (_, present) = rig.connect(named("bob"));
    assert!(!present && !rig.is_closed(alice), "bob's session is another");
    rig.drop_conn(alice);
    assert!(rig.connect(named("alice")).1);
}

#[test]
fn a_session_ends_with_its_connection_or_after_its_expiry() {
    for version in BOTH {
        let mut rig = Rig::default();
        let (conn, _) = rig.connect(Connect::new(version, "clean"));
        rig.drop_conn(conn);
        assert_eq!(rig.broker.status().sessions, 0);
        assert!(rig.rows.is_empty(), "no row for a session that ends with its connection");
        let expiry_s = if version == Version::V5 { 60 } else { u32::MAX };
        let connect = Connect { session_expiry_s: expiry_s, ..keep(version, "kept") };
        let (conn, _) = rig.connect(connect.clone());
        rig.subscribe(conn, "a/#", QoS::AtLeastOnce);
        rig.drop_conn(conn);
        let life_ms = if version == Version::V5 { 60_000 } else { 7 * 24 * 3_600_000 };
        rig.advance(life_ms - 1);
        assert_eq!(rig.broker.status().sessions, 1);
        rig.advance(1);
        assert_eq!(rig.broker.status().sessions, 0);
        assert!(rig.rows.is_empty());
        assert!(!rig.connect(connect).1);
    }
}

#[test]
fn a_disconnect_can_change_the_expiry_but_not_raise_it_from_zero() {
    let mut rig = Rig::default();
    let bye = |expiry| {
        let disconnect = Disconnect::new(ReasonCode::Success);
        Packet::Disconnect(Disconnect { session_expiry_s: Some(expiry), ..disconnect })
    };
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    rig.send(conn, bye(0));
    assert!(rig.is_closed(conn));
    assert!(rig.rows.is_empty(), "expiry 0 ends it at once");
    let conn = rig.join(Version::V5, "d");
    rig.send(conn, bye(10));
    assert_eq!(rig.farewell(conn), ReasonCode::ProtocolError);
}

#[test]
fn keep_alive_is_one_and_a_half_and_stands_still_while_paused() {
    let mut rig = Rig::default();
    let connect = Connect { keep_alive_s: 10, ..Connect::new(Version::V5, "c") };
    let (conn, _) = rig.connect(connect.clone());
    rig.advance(14_999);
    rig.send(conn, Packet::PingReq);
    assert_eq!(rig.take(conn), [Packet::PingResp]);
    rig.advance(14_999);
    assert!(!rig.is_closed(conn));
    rig.advance(1);
    assert_eq!(rig.farewell(conn), ReasonCode::KeepAliveTimeout);

    let limits = Limits { ingress_session_bytes_max: 1, ..Limits::default() };
    let mut rig = Rig::new(limits);
    rig.habits.accept = false;
    let (conn, _) = rig.connect(connect);
    rig.publish(conn, publish("a", "x", QoS::AtLeastOnce, 1));
    assert!(rig.is_paused(conn));
    rig.advance(100_000);
    assert!(!rig.is_closed(conn), "it could not be heard");
    rig.settle(0, Settlement::Accepted);
    assert!(!rig.is_paused(conn));
    rig.advance(14_999);
    assert!(!rig.is_closed(conn));
    rig.advance(1);
    assert!(rig.is_closed(conn));
}

#[test]
fn a_client_without_keep_alive_may_be_silent() {
    let mut rig = Rig::default();
    let conn = rig.join(Version::V311, "c");
    rig.advance(1_000_000_000);
    assert!(!rig.is_closed(conn));
}

#[test]
fn nothing_overtakes_the_connack() {
    let mut rig = Rig::default();
    rig.habits.admit = false;
    rig.habits.commit = false;
    let conn = rig.dial(keep(Version::V5, "c"));
    assert!(rig.is_paused(conn), "nothing more is read before the answer");
    rig.send(conn, Packet::PingReq);
    rig.publish(conn, publish("a", "early", QoS::AtMostOnce, 0));
    assert_eq!(rig.take(conn), []);
    let grants = vec![filter("#")];
    let principal =
        Principal { identity: DeviceId::new("d"), publish: grants.clone(), subscribe: grants };
    let outcome = Ok(Arc::new(principal));
    rig.step(|broker, turn| broker.handle(Input::AuthDone { conn, outcome }, turn));
    assert_eq!(rig.take(conn), [], "the session's row is not durable yet");
    assert!(rig.delivered.is_empty());
    assert_eq!(rig.broker.waits_for(), Some(rig.open));
    rig.commit();
    let packets = rig.take(conn);
    assert!(matches!(packets[..], [Packet::ConnAck(_), Packet::PingResp]), "{packets:?}");
    assert_eq!(rig.delivered.len(), 1);
    assert!(!rig.is_paused(conn));
}

#[test]
fn early_packets_are_bounded() {
    let mut rig = Rig::default();
    rig.habits.admit = false;
    let conn = rig.dial(Connect::new(Version::V5, "c"));
    let large = "x".repeat(20_000);
    for _ in 0..4 {
        rig.publish(conn, publish("a", &large, QoS::AtMostOnce, 0));
    }
    assert_eq!(rig.connack(conn).reason, ReasonCode::QuotaExceeded);
    assert!(rig.is_closed(conn));
}

#[test]
fn an_owner_that_does_not_answer_is_a_busy_server() {
    let mut rig = Rig::default();
    rig.habits.admit = false;
    let conn = rig.dial(Connect::new(Version::V311, "c"));
    rig.advance(60_000);
    assert!(rig.is_closed(conn));
    assert!(rig.take(conn).iter().any(|packet| matches!(packet, Packet::ConnAck(_))));
}

#[test]
fn the_first_packet_is_a_connect_and_the_only_one() {
    let mut rig = Rig::default();
    let conn = rig.open_wire(Version::V5);
    rig.send(conn, Packet::PingReq);
    assert!(rig.is_closed(conn));
    let conn = rig.join(Version::V5, "c");
    rig.send(conn, Packet::Connect(Box::new(Connect::new(Version::V5, "c"))));
    assert_eq!(rig.farewell(conn), ReasonCode::ProtocolError);
}

#[test]
fn shutdown_and_revocation_say_why() {
    let mut rig = Rig::default();
    let five = rig.join(Version::V5, "five");
    let (three, _) = rig.connect(keep(Version::V311, "three"));
    let named = |n: &str| Connect { username: Some("eve".into()), ..Connect::new(Version::V5, n) };
    let eves = [rig.connect(named("1")).0, rig.connect(named("2")).0];
    rig.step(|broker, turn| {
        let reason = ReasonCode::AdministrativeAction;
        assert_eq!(broker.disconnect(&DeviceId::new("eve"), reason, turn), 2);
    });
    for conn in eves {
        assert_eq!(rig.farewell(conn), ReasonCode::AdministrativeAction);
    }
    rig.step(Broker::shutdown);
    assert_eq!(rig.farewell(five), ReasonCode::ServerShuttingDown);
    assert!(rig.is_closed(three) && rig.take(three).is_empty());
    assert_eq!((rig.broker.status().connections, rig.broker.status().connected), (0, 0));
    rig.restart();
    assert!(rig.connect(keep(Version::V311, "three")).1, "its session is there");
    assert_eq!(rig.broker.status().connected, 1);
}
