//! Shared subscriptions: who gets a message, and what becomes of it when a member goes.

use edge_core::message::QoS;

use super::super::*;
use super::rig::{Rig, keep, message};
use crate::codec::{Ack, Connect, Packet, Version};

const ZERO: QoS = QoS::AtMostOnce;
const ONE: QoS = QoS::AtLeastOnce;
const TWO: QoS = QoS::ExactlyOnce;

const SHARE: &str = "$share/g/a";

/// A kept session that is a member of the share.
fn member(rig: &mut Rig, name: &str, qos: QoS) -> ConnId {
    let (conn, _) = rig.connect(keep(Version::V5, name));
    assert!(!rig.subscribe(conn, SHARE, qos)[0].is_error());
    conn
}

/// A member that takes one message at a time.
fn slow(rig: &mut Rig, name: &str, qos: QoS) -> ConnId {
    let (conn, _) = rig.connect(Connect { receive_max: 1, ..keep(Version::V5, name) });
    rig.subscribe(conn, SHARE, qos);
    conn
}

fn route(rig: &mut Rig, payloads: &[&str], qos: QoS) {
    payloads.iter().for_each(|payload| rig.route(message("a", payload, qos)));
}

/// Payloads received, without an ack.
fn got(rig: &mut Rig, conn: ConnId) -> Vec<String> {
    let text = |payload: &[u8]| String::from_utf8(payload.to_vec()).unwrap();
    rig.publishes(conn).iter().map(|publish| text(&publish.payload)).collect()
}

#[test]
fn one_member_gets_each_message_in_turn() {
    let mut rig = Rig::default();
    let [a, b, c] = ["a", "b", "c"].map(|name| member(&mut rig, name, ONE));
    assert_eq!(rig.broker.status().subscriptions, 3);
    route(&mut rig, &["1", "2", "3", "4"], ONE);
    assert_eq!([a, b, c].map(|conn| rig.payloads(conn)), [vec!["1", "4"], vec!["2"], vec!["3"]]);
    for conn in [a, b, c] {
        let filters = vec![super::rig::filter(SHARE)];
        let packet_id = super::rig::id(2);
        rig.send(conn, Packet::Unsubscribe(crate::codec::Unsubscribe { packet_id, filters }));
        rig.take(conn);
    }
    route(&mut rig, &["5"], ONE);
    assert!([a, b, c].iter().all(|conn| rig.take(*conn).is_empty()));
    assert_eq!(rig.broker.status().subscriptions, 0);
}

#[test]
fn who_keeps_the_quality_of_service_comes_first_and_then_who_waits_least() {
    let mut rig = Rig::default();
    let poor = member(&mut rig, "poor", ZERO);
    let good = slow(&mut rig, "good", TWO);
    let other = member(&mut rig, "other", ONE);
    route(&mut rig, &["two"], TWO);
    assert_eq!(got(&mut rig, good), ["two"]);
    route(&mut rig, &["1", "2", "3"], ONE);
    // The first waits behind the QoS 2 message; the others find that the other does not wait.
    assert_eq!(got(&mut rig, other).len(), 2);
    assert_eq!(rig.take(poor), []);
    route(&mut rig, &["0", "0", "0"], ZERO);
    assert_eq!(got(&mut rig, poor).len(), 2, "QoS 0 loses nothing with any of them");
}

#[test]
fn who_is_away_counts_only_if_nobody_is_there() {
    let mut rig = Rig::default();
    let (a, b) = (member(&mut rig, "a", ONE), member(&mut rig, "b", ONE));
    rig.drop_conn(a);
    route(&mut rig, &["1", "2"], ONE);
    assert_eq!(rig.payloads(b), ["1", "2"]);
    rig.drop_conn(b);
    route(&mut rig, &["3", "4"], ONE);
    let (a, _) = rig.connect(keep(Version::V5, "a"));
    let (b, _) = rig.connect(keep(Version::V5, "b"));
    assert_eq!([rig.payloads(a), rig.payloads(b)], [["3"], ["4"]]);
}

#[test]
fn a_broken_connection_passes_on_what_was_never_sent() {
    let mut rig = Rig::default();
    let a = slow(&mut rig, "a", ONE);
    route(&mut rig, &["1", "2", "3"], ONE);
    assert_eq!(got(&mut rig, a), ["1"], "the others wait");
    let b = member(&mut rig, "b", ONE);
    rig.drop_conn(a);
    assert_eq!(rig.payloads(b), ["2", "3"]);
    assert_eq!(rig.rows_of(BrokerTable::Messages), 1);
    rig.restart();
    let (a, _) = rig.connect(keep(Version::V5, "a"));
    let again = rig.publishes(a);
    assert_eq!(again.len(), 1);
    assert!(again[0].dup, "[MQTT-4.8.2-4]: it waited for its member");
    assert_eq!(&again[0].payload[..], b"1");
}

/// A long queue does not make a long turn.
#[test]
fn much_is_passed_on_in_slices() {
    let mut rig = Rig::default();
    let a = slow(&mut rig, "a", ONE);
    let numbers: Vec<String> = (0..701).map(|n| n.to_string()).collect();
    numbers.iter().for_each(|n| route(&mut rig, &[n], ONE));
    let (b, away) = (member(&mut rig, "b", ONE), slow(&mut rig, "away", ONE));
    rig.drop_conn(away);
    rig.drop_conn(a);
    assert_eq!(rig.payloads(b), numbers[1..257]);
    assert_eq!(rig.broker.next_deadline(), Some(rig.now.at), "the rest follows at once");
    rig.advance(0);
    assert_eq!(rig.payloads(b), numbers[257..]);
    assert_eq!(rig.rows_of(BrokerTable::Messages), 1, "what was sent waits");
}

#[test]
fn nothing_is_passed_on_to_who_would_not_keep_it() {
    let mut rig = Rig::default();
    let a = slow(&mut rig, "a", ONE);
    let away = member(&mut rig, "away", ONE);
    let poor = member(&mut rig, "poor", ZERO);
    rig.drop_conn(away);
    route(&mut rig, &["1", "2"], ONE);
    assert_eq!(got(&mut rig, a), ["1"]);
    rig.drop_conn(a);
    assert_eq!(rig.take(poor), []);
    let (a, _) = rig.connect(keep(Version::V5, "a"));
    assert_eq!(rig.payloads(a), ["1", "2"]);
}

#[test]
fn the_end_of_a_session_passes_on_what_cannot_have_arrived_for_good() {
    for (qos, passed) in [(ONE, vec!["1", "2"]), (TWO, vec!["2"])] {
        let mut rig = Rig::default();
        let a = slow(&mut rig, "a", TWO);
        route(&mut rig, &["1", "2"], qos);
        assert_eq!(got(&mut rig, a), ["1"]);
        let b = member(&mut rig, "b", TWO);
        rig.drop_conn(b);
        rig.drop_conn(a);
        // A clean start ends the session of `a`.
        let (a, present) = rig.connect(Connect::new(Version::V5, "a"));
        assert!(!present);
        assert_eq!(rig.rows_of(BrokerTable::Messages), passed.len(), "{qos:?}");
        rig.restart();
        let (b, _) = rig.connect(keep(Version::V5, "b"));
        assert_eq!(got(&mut rig, b), passed, "{qos:?} [MQTT-4.8.2-5]");
        assert_eq!(rig.take(a), []);
    }
}

#[test]
fn a_member_alone_takes_its_messages_with_it() {
    let mut rig = Rig::default();
    let a = member(&mut rig, "a", ONE);
    rig.drop_conn(a);
    route(&mut rig, &["1"], ONE);
    rig.connect(Connect::new(Version::V5, "a"));
    assert_eq!(rig.broker.status().queued_messages, 0);
    assert_eq!(rig.rows_of(BrokerTable::Messages), 0);
    route(&mut rig, &["2"], ONE);
    assert_eq!(rig.broker.status().queued_messages, 0, "the share has no member");
}

#[test]
fn a_refused_message_goes_to_nobody_else() {
    let mut rig = Rig::default();
    let (a, b) = (member(&mut rig, "a", TWO), member(&mut rig, "b", TWO));
    for qos in [ONE, TWO] {
        route(&mut rig, &["x"], qos);
        let (to, other) = if rig.wires[&a].inbox.is_empty() { (b, a) } else { (a, b) };
        let packet_id = rig.publishes(to)[0].packet_id.unwrap();
        let ack = Ack { packet_id, reason: ReasonCode::QuotaExceeded };
        rig.send(to, if qos == ONE { Packet::PubAck(ack) } else { Packet::PubRec(ack) });
        assert_eq!(rig.take(other), [], "[MQTT-4.8.2-6]");
        assert_eq!(rig.broker.status().queued_messages, 0);
    }
}

#[test]
fn every_share_and_the_own_subscription_count_for_themselves() {
    let mut rig = Rig::default();
    let a = member(&mut rig, "a", ONE);
    rig.subscribe(a, "a", ONE);
    rig.subscribe(a, "$share/h/+", ONE);
    route(&mut rig, &["x"], ONE);
    assert_eq!(rig.payloads(a), ["x", "x", "x"]);
}

#[test]
fn a_share_survives_and_gets_no_retained_message() {
    let mut rig = Rig::default();
    rig.route(edge_core::message::Message { retain: true, ..message("a", "kept", ONE) });
    let a = member(&mut rig, "a", ONE);
    assert_eq!(rig.take(a), []);
    rig.restart();
    assert_eq!(rig.broker.status().subscriptions, 1);
    route(&mut rig, &["1"], ONE);
    let (a, _) = rig.connect(keep(Version::V311, "a"));
    assert_eq!(rig.payloads(a), ["1"], "a 3.1.1 client may share as well");
}
