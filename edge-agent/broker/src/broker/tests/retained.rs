//! Retained messages.

use edge_core::message::{Message, QoS};

use super::super::*;
use super::rig::{Rig, keep, message, publish};
use crate::codec::{Packet, Publish, RetainHandling, SubscribeOptions, Version};

const ONE: QoS = QoS::AtLeastOnce;

fn retained(name: &str, payload: &str) -> Message {
    Message { retain: true, ..message(name, payload, ONE) }
}

#[test]
fn the_last_retained_message_greets_a_subscriber() {
    for version in [Version::V311, Version::V5] {
        let mut rig = Rig::default();
        let publisher = rig.join(version, "p");
        for payload in ["old", "new"] {
            rig.publish(publisher, Publish { retain: true, ..publish("a/b", payload, ONE, 1) });
        }
        assert_eq!(rig.rows_of(BrokerTable::Retained), 1);
        rig.restart();
        let conn = rig.join(version, "c");
        rig.subscribe(conn, "a/#", ONE);
        let got = rig.publishes(conn);
        assert_eq!(got.len(), 1);
        assert!(got[0].retain && &got[0].payload[..] == b"new");
        let publisher = rig.join(version, "p");
        rig.publish(publisher, Publish { retain: true, ..publish("a/b", "", ONE, 1) });
        assert_eq!(rig.rows_of(BrokerTable::Retained), 0);
        assert_eq!(rig.publishes(conn).len(), 1, "the deletion itself is a message");
        rig.subscribe(conn, "a/#", ONE);
        assert_eq!(rig.publishes(conn), []);
    }
}

#[test]
fn what_is_retained_can_be_listed_by_the_beginning_of_its_topic() {
    let mut rig = Rig::default();
    for topic in ["a", "a/1", "a/2", "ab", "b"] {
        rig.route(retained(topic, topic));
    }
    rig.restart();
    let topics: Vec<_> = rig.broker.retained("a/").map(|it| it.topic.as_str()).collect();
    assert_eq!(topics, ["a/1", "a/2"]);
    assert_eq!(rig.broker.retained("").count(), 5);
}

/// v3.1.1 [MQTT-3.3.1-7]
#[test]
fn a_message_of_qos_0_is_retained_too() {
    let mut rig = Rig::default();
    for (payload, qos) in [("old", QoS::AtLeastOnce), ("new", QoS::AtMostOnce)] {
        rig.route(Message { retain: true, ..message("a", payload, qos) });
    }
    let conn = rig.join(Version::V311, "c");
    rig.subscribe(conn, "a", QoS::AtLeastOnce);
    assert_eq!(rig.payloads(conn), ["new"]);
    rig.restart();
    let conn = rig.join(Version::V311, "c");
    rig.subscribe(conn, "a", QoS::AtLeastOnce);
    assert_eq!(rig.payloads(conn), ["new"], "and stored");
}

#[test]
fn it_is_not_shown_before_it_is_durable() {
    let mut rig = Rig::default();
    let conn = rig.join(Version::V5, "c");
    rig.habits.commit = false;
    rig.route(retained("a", "x"));
    rig.subscribe(conn, "a", QoS::AtMostOnce);
    assert_eq!(rig.publishes(conn), []);
    rig.commit();
    assert_eq!(rig.publishes(conn).len(), 1);
}

#[test]
fn retain_handling_says_when() {
    let mut rig = Rig::default();
    let conn = rig.join(Version::V5, "c");
    rig.route(retained("a", "x"));
    let count = |rig: &mut Rig, retain_handling| {
        let options = SubscribeOptions { qos: ONE, retain_handling, ..Default::default() };
        rig.subscribe_with(conn, "a", options);
        rig.payloads(conn).len()
    };
    assert_eq!(count(&mut rig, RetainHandling::Never), 0);
    assert_eq!(count(&mut rig, RetainHandling::SendIfNew), 0, "not new any more");
    assert_eq!(count(&mut rig, RetainHandling::Send), 1);
    let options = SubscribeOptions {
        qos: ONE,
        retain_handling: RetainHandling::SendIfNew,
        ..Default::default()
    };
    rig.subscribe_with(conn, "+", options);
    assert_eq!(rig.payloads(conn).len(), 1, "a new subscription");
}

#[test]
fn filters_find_what_they_match() {
    let mut rig = Rig::default();
    for name in ["a", "a/", "a/b", "a/b/c", "ab", "b", "$holm/x", "a-b"] {
        rig.route(retained(name, name));
    }
    for (filter, expected) in [
        ("a/#", vec!["a", "a/", "a/b", "a/b/c"]),
        ("a/+", vec!["a/", "a/b"]),
        ("+/b", vec!["a/b"]),
        ("#", vec!["a", "a-b", "a/", "a/b", "a/b/c", "ab", "b"]),
        ("$holm/+", vec!["$holm/x"]),
        ("ab", vec!["ab"]),
        ("zz", vec![]),
    ] {
        let conn = rig.join(Version::V5, "c");
        rig.subscribe(conn, filter, ONE);
        let mut got = rig.payloads(conn);
        rig.advance(0);
        got.extend(rig.payloads(conn));
        got.sort();
        assert_eq!(got, expected, "{filter}");
    }
}

#[test]
fn thousands_come_in_slices_and_are_not_dropped() {
    for (version, connect) in [(Version::V5, true), (Version::V311, false), (Version::V5, false)] {
        let mut rig = Rig::default();
        for n in 0..3_000 {
            rig.route(retained(&format!("a/{n}"), "x"));
            rig.route(retained(&format!("b/{n}"), "y"));
        }
        let conn = if connect { rig.connect(keep(version, "c")).0 } else { rig.join(version, "c") };
        rig.subscribe(conn, "+/#", ONE);
        let mut got = 0;
        for _ in 0..10_000 {
            got += rig.payloads(conn).len();
            assert!(rig.broker.status().queued_messages <= 32 + 128);
            if got == 6_000 {
                break;
            }
            rig.advance(0);
            rig.commit();
        }
        assert_eq!(got, 6_000);
        assert_eq!(rig.dropped(DropReason::QueueFull), 0);
        rig.advance(0);
        assert!(rig.broker.next_deadline().is_none_or(|at| at > rig.now.at), "no work is left");
    }
}

#[test]
fn qos_0_subscribers_get_them_all_at_their_own_pace() {
    let limits = Limits { egress_bytes_max: 64 * 1_024, ..Limits::default() };
    let mut rig = Rig::new(limits);
    for n in 0..100 {
        rig.route(retained(&format!("a/{n}"), &"x".repeat(10_000)));
    }
    let conn = rig.join(Version::V311, "c");
    rig.wires.get_mut(&conn).unwrap().reads = false;
    rig.subscribe(conn, "#", QoS::AtMostOnce);
    let mut got = 0;
    while got < 100 {
        let some = rig.publishes(conn).len();
        assert!(some > 0 && some <= 8, "{some}");
        got += some;
        let bytes = std::mem::take(&mut rig.wires.get_mut(&conn).unwrap().unwritten);
        rig.step(|broker, turn| broker.handle(Input::Written { conn, bytes }, turn));
    }
    assert_eq!(rig.dropped(DropReason::SlowConsumer), 0);
}

#[test]
fn retained_max_refuses_new_topics_and_never_keeps_an_old_value() {
    let cost = retained("a", "x").cost_bytes();
    let limits =
        Limits { retained_messages_max: 3, retained_bytes_max: 3 * cost, ..Limits::default() };
    let mut rig = Rig::new(limits);
    let conn = rig.join(Version::V5, "c");
    rig.subscribe(conn, "#", QoS::AtMostOnce);
    for name in ["a", "b", "c", "d"] {
        rig.route(retained(name, "x"));
    }
    assert_eq!(rig.publishes(conn).len(), 4, "delivered all the same");
    assert_eq!(rig.dropped(DropReason::RetainedFull), 1);
    rig.route(retained("a", "y"));
    rig.route(retained("b", &"z".repeat(100)));
    assert_eq!(rig.dropped(DropReason::RetainedFull), 2);
    assert_eq!(rig.rows_of(BrokerTable::Retained), 2, "a and c: b has no value rather than an old");
    assert_eq!(rig.broker.status().retained_messages, 2);
}

#[test]
fn a_retained_message_expires() {
    let mut rig = Rig::default();
    let at = rig.now.at;
    rig.route(Message { expiry_s: Some(10), at, ..retained("a", "x") });
    rig.route(retained("b", "y"));
    rig.advance(9_000);
    let conn = rig.join(Version::V5, "c");
    rig.subscribe(conn, "a", ONE);
    assert_eq!(rig.publishes(conn)[0].expiry_s, Some(1));
    rig.advance(1_000);
    assert_eq!(rig.rows_of(BrokerTable::Retained), 1);
    rig.subscribe(conn, "#", ONE);
    assert_eq!(rig.publishes(conn).len(), 1);
    let _ = rig.take(conn).iter().any(|packet| matches!(packet, Packet::PingResp));
}
