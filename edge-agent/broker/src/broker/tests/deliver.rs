//! Messages to clients: who gets what, flow control, the outgoing halves of QoS 1 and 2.

use edge_core::message::{Message, Properties, QoS};

use super::super::*;
use super::rig::{Rig, filter, id, keep, message, publish};
use crate::codec::{
    Ack, Connect, Packet, Publish, Subscribe, SubscribeOptions, Unsubscribe, Version,
};

const ZERO: QoS = QoS::AtMostOnce;
const ONE: QoS = QoS::AtLeastOnce;
const TWO: QoS = QoS::ExactlyOnce;

#[test]
fn a_publish_reaches_its_subscribers_after_its_batch() {
    for version in [Version::V311, Version::V5] {
        let mut rig = Rig::default();
        let (sub, publisher) = (rig.join(version, "s"), rig.join(version, "p"));
        assert_eq!(rig.subscribe(sub, "a/+", ONE), [ReasonCode::GrantedQoS1]);
        rig.habits.commit = false;
        rig.publish(publisher, publish("a/b", "zero", ZERO, 0));
        rig.publish(publisher, publish("a/b", "one", ONE, 1));
        rig.publish(publisher, publish("a/b", "two", TWO, 2));
        rig.publish(publisher, publish("b", "none", ONE, 3));
        assert_eq!(rig.take(sub), [], "nothing leaves before it is durable");
        rig.commit();
        let got = rig.publishes(sub);
        let qos: Vec<QoS> = got.iter().map(|publish| publish.qos).collect();
        assert_eq!(qos, [ZERO, ONE, ONE], "the lower of published and granted");
        assert!(got.iter().all(|publish| !publish.dup && !publish.retain));
    }
}

#[test]
fn properties_pass_unchanged() {
    let mut rig = Rig::default();
    let (sub, old) = (rig.join(Version::V5, "s"), rig.join(Version::V311, "o"));
    rig.subscribe(sub, "#", ONE);
    rig.subscribe(old, "#", ONE);
    let properties = Properties {
        payload_is_utf8: true,
        content_type: Some("text/plain".into()),
        response_topic: Some("reply/1".into()),
        correlation_data: Some(bytes::Bytes::from_static(b"\x00\x01")),
        user: vec![
            ("traceparent".into(), "00-ab".into()),
            ("x".into(), "1".into()),
            ("x".into(), "2".into()),
        ],
    };
    let sent = Publish { properties: properties.clone(), ..publish("a", "x", ONE, 1) };
    rig.publish(old, publish("warm", "up", ZERO, 0));
    rig.take(sub);
    rig.publish(sub, sent);
    assert_eq!(rig.publishes(sub)[0].properties, properties);
    assert_eq!(rig.publishes(old).pop().unwrap().properties, Properties::default());
}

#[test]
fn overlapping_subscriptions_give_one_copy_with_the_highest_qos() {
    let mut rig = Rig::default();
    let conn = rig.join(Version::V5, "c");
    rig.subscribe(conn, "a/#", ZERO);
    rig.subscribe(conn, "a/b", TWO);
    rig.subscribe(conn, "+/b", ONE);
    rig.route(message("a/b", "x", TWO));
    let got = rig.publishes(conn);
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].qos, TWO);
}

#[test]
fn no_local_and_retain_as_published() {
    let mut rig = Rig::default();
    let (conn, other) = (rig.join(Version::V5, "c"), rig.join(Version::V5, "o"));
    let options = SubscribeOptions { qos: ONE, no_local: true, ..Default::default() };
    rig.subscribe_with(conn, "a", options);
    rig.publish(conn, publish("a", "mine", ONE, 1));
    rig.publish(other, publish("a", "theirs", ONE, 1));
    rig.take(other);
    assert_eq!(rig.payloads(conn), ["theirs"]);

    let options = SubscribeOptions { qos: ONE, retain_as_published: true, ..Default::default() };
    rig.subscribe_with(conn, "r", options);
    rig.subscribe(other, "r", ONE);
    rig.publish(conn, Publish { retain: true, ..publish("r", "x", ONE, 2) });
    assert!(rig.publishes(conn)[0].retain);
    assert!(!rig.publishes(other)[0].retain);
}

#[test]
fn subscriptions_are_replaced_and_removed() {
    let mut rig = Rig::default();
    let conn = rig.join(Version::V5, "c");
    rig.subscribe(conn, "a", ONE);
    assert_eq!(rig.subscribe(conn, "a", ZERO), [ReasonCode::Success]);
    rig.route(message("a", "x", ONE));
    assert_eq!(rig.publishes(conn)[0].qos, ZERO);
    let filters = vec![filter("a"), filter("b")];
    rig.send(conn, Packet::Unsubscribe(Unsubscribe { packet_id: id(3), filters }));
    let Some(Packet::UnsubAck(list)) = rig.take(conn).pop() else { panic!() };
    assert_eq!(list.reasons, [ReasonCode::Success, ReasonCode::NoSubscriptionExisted]);
    rig.route(message("a", "x", ONE));
    assert_eq!(rig.take(conn), []);
    assert_eq!(rig.broker.status().subscriptions, 0);
}

#[test]
fn what_is_not_granted_is_refused_by_filter() {
    let mut rig = Rig::default();
    let connect =
        |version| Connect { username: Some("limited".into()), ..Connect::new(version, "c") };
    let (conn, _) = rig.connect(connect(Version::V5));
    let filters = ["own/a", "other", "#", "$share/g/own/a", "$share/own/#", "$share/g/#", "own/+"]
        .map(|text| (filter(text), SubscribeOptions::default()));
    let subscribe =
        Subscribe { packet_id: id(1), subscription_id: None, filters: filters.to_vec() };
    rig.send(conn, Packet::Subscribe(subscribe));
    let Some(Packet::SubAck(list)) = rig.take(conn).pop() else { panic!() };
    let expected = [
        ReasonCode::Success,
        ReasonCode::NotAuthorized,
        ReasonCode::NotAuthorized,
        ReasonCode::Success,
        ReasonCode::NotAuthorized,
        ReasonCode::NotAuthorized,
        ReasonCode::Success,
    ];
    assert_eq!(list.reasons, expected);
    let (old, _) = rig.connect(connect(Version::V311));
    assert_eq!(rig.subscribe(old, "other", ONE), [ReasonCode::Unspecified], "0x80 in 3.1.1");
}

#[test]
fn a_suback_waits_for_the_row_of_a_kept_session() {
    let mut rig = Rig::default();
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    rig.habits.commit = false;
    let filters = vec![(filter("a"), SubscribeOptions::default())];
    let subscribe = Subscribe { packet_id: id(1), subscription_id: None, filters };
    rig.send(conn, Packet::Subscribe(subscribe));
    assert_eq!(rig.take(conn), []);
    rig.commit();
    assert!(matches!(rig.take(conn)[..], [Packet::SubAck(_)]));
    assert_eq!(rig.rows_of(BrokerTable::Subscriptions), 1);
}

#[test]
fn the_client_s_receive_maximum_bounds_what_is_under_way() {
    let mut rig = Rig::default();
    let (conn, _) = rig.connect(Connect { receive_max: 2, ..Connect::new(Version::V5, "c") });
    rig.subscribe(conn, "a", ONE);
    for n in 1..=5 {
        rig.route(message("a", &n.to_string(), ONE));
    }
    let first = rig.publishes(conn);
    assert_eq!(first.len(), 2);
    rig.send(conn, Packet::PubAck(Ack::ok(first[0].packet_id.unwrap())));
    assert_eq!(rig.publishes(conn).len(), 1);
    // An ack for what is not under way changes nothing.
    rig.send(conn, Packet::PubAck(Ack::ok(id(999))));
    assert_eq!(rig.take(conn), []);
    assert_eq!(rig.broker.status().queued_messages, 4);
}

#[test]
fn unacked_messages_are_sent_again_with_dup_and_their_id() {
    for version in [Version::V311, Version::V5] {
        let mut rig = Rig::default();
        let (conn, _) = rig.connect(keep(version, "c"));
        rig.subscribe(conn, "a", TWO);
        for n in 1..=3 {
            rig.route(message("a", &n.to_string(), if n == 2 { TWO } else { ONE }));
        }
        let first = rig.publishes(conn);
        rig.send(conn, Packet::PubAck(Ack::ok(first[0].packet_id.unwrap())));
        rig.drop_conn(conn);
        rig.route(message("a", "4", ONE));
        rig.route(message("a", "offline zero", ZERO));
        let (conn, _) = rig.connect(keep(version, "c"));
        let again = rig.publishes(conn);
        let seen: Vec<_> = again.iter().map(|p| (p.dup, p.packet_id, p.payload.clone())).collect();
        let old = |at: usize| (true, first[at].packet_id, first[at].payload.clone());
        assert_eq!(seen[..2], [old(1), old(2)]);
        assert_eq!((seen.len(), seen[2].0), (3, false), "in order; QoS 0 is not kept");
    }
}

#[test]
fn qos_2_to_a_client_passes_through_its_four_packets() {
    let mut rig = Rig::default();
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    rig.subscribe(conn, "a", TWO);
    rig.route(message("a", "x", TWO));
    let packet_id = rig.publishes(conn)[0].packet_id.unwrap();
    rig.habits.commit = false;
    rig.send(conn, Packet::PubRec(Ack::ok(packet_id)));
    assert_eq!(rig.take(conn), [], "PUBREL waits for its row");
    rig.commit();
    assert_eq!(rig.take(conn), [Packet::PubRel(Ack::ok(packet_id))]);
    assert_eq!(rig.rows_of(BrokerTable::Messages), 0);
    assert_eq!(rig.rows_of(BrokerTable::Releases), 1);
    // The connection breaks: only PUBREL is sent again, also after a restart.
    rig.habits.commit = true;
    rig.drop_conn(conn);
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    assert_eq!(rig.take(conn), [Packet::PubRel(Ack::ok(packet_id))]);
    rig.restart();
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    assert_eq!(rig.take(conn), [Packet::PubRel(Ack::ok(packet_id))]);
    rig.send(conn, Packet::PubRec(Ack::ok(packet_id)));
    assert_eq!(rig.take(conn), [Packet::PubRel(Ack::ok(packet_id))], "a repeated PUBREC");
    rig.send(conn, Packet::PubComp(Ack::ok(packet_id)));
    assert_eq!(rig.rows_of(BrokerTable::Releases), 0);
    assert_eq!(rig.broker.status().queued_messages, 0);
    let unknown = Ack { packet_id, reason: ReasonCode::PacketIdentifierNotFound };
    rig.send(conn, Packet::PubRec(Ack::ok(packet_id)));
    assert_eq!(rig.take(conn), [Packet::PubRel(unknown)]);
}

#[test]
fn a_client_can_refuse_a_message() {
    let mut rig = Rig::default();
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    rig.subscribe(conn, "a", TWO);
    rig.route(message("a", "x", TWO));
    let packet_id = rig.publishes(conn)[0].packet_id.unwrap();
    rig.send(conn, Packet::PubRec(Ack { packet_id, reason: ReasonCode::QuotaExceeded }));
    assert_eq!(rig.take(conn), []);
    assert_eq!(rig.rows_of(BrokerTable::Messages), 0);
}

#[test]
fn expiry_counts_down_and_drops() {
    let mut rig = Rig::default();
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    rig.subscribe(conn, "a", ONE);
    rig.drop_conn(conn);
    let at = rig.now.at;
    let expiring = |seconds| Message { expiry_s: Some(seconds), at, ..message("a", "x", ONE) };
    rig.route(expiring(10));
    rig.route(expiring(100));
    rig.advance(30_500);
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    let got = rig.publishes(conn);
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].expiry_s, Some(70), "what is left, rounded up");
    assert_eq!(rig.dropped(DropReason::Expired), 1);
    rig.commit();
    assert_eq!(rig.rows_of(BrokerTable::Messages), 1);
}

#[test]
fn what_was_sent_does_not_expire() {
    let mut rig = Rig::default();
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    rig.subscribe(conn, "a", TWO);
    let at = rig.now.at;
    rig.route(Message { expiry_s: Some(1), at, ..message("a", "x", TWO) });
    assert_eq!(rig.publishes(conn).len(), 1);
    rig.drop_conn(conn);
    rig.advance(5_000);
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    let again = rig.publishes(conn);
    assert!(again[0].dup && again[0].expiry_s == Some(0));
}

#[test]
fn what_is_too_large_for_a_client_counts_as_delivered() {
    let mut rig = Rig::default();
    let connect = Connect { packet_bytes_max: Some(50), ..keep(Version::V5, "c") };
    let (conn, _) = rig.connect(connect);
    rig.subscribe(conn, "a", ONE);
    rig.route(message("a", &"x".repeat(50), ONE));
    rig.route(message("a", &"y".repeat(50), ZERO));
    rig.route(message("a", "fits", ONE));
    assert_eq!(rig.payloads(conn), ["fits"]);
    assert_eq!(rig.dropped(DropReason::TooLargeForClient), 2);
    assert_eq!(rig.rows_of(BrokerTable::Messages), 0);
}

/// [MQTT-3.1.2-24]: an answer that the client does not accept closes its connection, without
/// words if they make the DISCONNECT too large.
#[test]
fn an_answer_too_large_for_a_client_is_not_sent() {
    let mut rig = Rig::default();
    let connect = |max| Connect { packet_bytes_max: Some(max), ..Connect::new(Version::V5, "c") };
    let (conn, _) = rig.connect(connect(40));
    let filters = vec![(filter("a"), SubscribeOptions::default()); 40];
    let subscribe = Subscribe { packet_id: id(1), subscription_id: None, filters };
    rig.send(conn, Packet::Subscribe(subscribe));
    assert_eq!(rig.farewell(conn), ReasonCode::PacketTooLarge);
    let conn = rig.dial(connect(10));
    assert_eq!(rig.connack(conn).reason, ReasonCode::PacketTooLarge);
    assert!(rig.is_closed(conn));
    let conn = rig.dial(connect(4));
    assert!(rig.is_closed(conn));
    assert_eq!(rig.take(conn), []);
}

#[test]
fn what_cannot_be_encoded_is_not_routed() {
    let mut rig = Rig::default();
    let conn = rig.join(Version::V5, "c");
    rig.subscribe(conn, "a", ONE);
    let with = |content_type: String| Message {
        properties: Properties { content_type: Some(content_type), ..Properties::default() },
        ..message("a", "x", ONE)
    };
    rig.route(with("x".repeat(70_000)));
    rig.route(with("nul\0".to_owned()));
    rig.route(message("a", &"x".repeat(200_000), ONE));
    assert_eq!(rig.take(conn), []);
    assert_eq!(rig.dropped(DropReason::NotEncodable), 3);
}

#[test]
fn packet_ids_in_use_are_left_out() {
    let mut rig = Rig::default();
    let (conn, _) = rig.connect(Connect { receive_max: 2, ..keep(Version::V5, "c") });
    rig.subscribe(conn, "a", ONE);
    // The client leaves the first message unacked while 65,535 others pass.
    rig.route(message("a", "stuck", ONE));
    let stuck = rig.publishes(conn)[0].packet_id.unwrap();
    rig.habits.commit = false;
    for n in 0..65_600_u32 {
        rig.route(message("a", "x", ONE));
        rig.commit();
        let got = rig.publishes(conn);
        assert_eq!(got.len(), 1, "{n}");
        assert_ne!(got[0].packet_id.unwrap(), stuck, "{n}");
        rig.send(conn, Packet::PubAck(Ack::ok(got[0].packet_id.unwrap())));
    }
    rig.send(conn, Packet::PubAck(Ack::ok(stuck)));
    rig.commit();
    assert_eq!(rig.broker.status().queued_messages, 0);
}
