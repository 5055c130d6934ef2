//! Every bound of `Limits`, and what happens at it.

use edge_core::message::QoS;

use super::super::*;
use super::rig::{Rig, filter, id, keep, message, publish};
use crate::codec::{Ack, Connect, Packet, Subscribe, SubscribeOptions, Version};

const ONE: QoS = QoS::AtLeastOnce;

#[test]
fn connections_max() {
    let mut rig = Rig::new(Limits { connections_max: 2, ..Limits::default() });
    let first = rig.join(Version::V5, "1");
    rig.join(Version::V5, "2");
    let third = rig.open_wire(Version::V5);
    assert!(rig.is_closed(third));
    rig.drop_conn(first);
    rig.join(Version::V5, "3");
}

#[test]
fn sessions_max() {
    let mut rig = Rig::new(Limits { sessions_max: 1, ..Limits::default() });
    let (first, _) = rig.connect(keep(Version::V5, "1"));
    for (version, reason) in
        [(Version::V5, ReasonCode::QuotaExceeded), (Version::V311, ReasonCode::ServerUnavailable)]
    {
        let second = rig.dial(keep(version, "2"));
        assert_eq!(rig.connack(second).reason, reason);
    }
    rig.join(Version::V5, "a session that ends with its connection does not count");
    rig.drop_conn(first);
    assert!(rig.connect(keep(Version::V5, "1")).1, "an old session goes on");
    rig.advance(0);
    assert_eq!(rig.broker.status().persistent_sessions, 1);
}

#[test]
fn sessions_per_identity_max() {
    let mut rig = Rig::new(Limits { sessions_per_identity_max: 2, ..Limits::default() });
    let named = |name: &str, client: &str| Connect {
        username: Some(name.to_owned()),
        ..keep(Version::V5, client)
    };
    rig.connect(named("eve", "1"));
    rig.connect(named("eve", "2"));
    let third = rig.dial(named("eve", "3"));
    assert_eq!(rig.connack(third).reason, ReasonCode::QuotaExceeded);
    rig.connect(named("alice", "1"));
    rig.connect(named("eve", "2"));
}

#[test]
fn session_expiry_max_of_zero_keeps_nothing() {
    let mut rig = Rig::new(Limits { session_expiry_s_max: 0, ..Limits::default() });
    for version in [Version::V311, Version::V5] {
        let (conn, _) = rig.connect(keep(version, "c"));
        rig.subscribe(conn, "a", ONE);
        rig.route(message("a", "x", ONE));
        assert!(rig.rows.is_empty());
        rig.drop_conn(conn);
        assert_eq!(rig.broker.status().sessions, 0);
    }
}

#[test]
fn subscriptions_max() {
    let mut rig = Rig::new(Limits { subscriptions_max: 2, ..Limits::default() });
    let conn = rig.join(Version::V5, "c");
    rig.subscribe(conn, "1", ONE);
    rig.subscribe(conn, "2", ONE);
    assert_eq!(rig.subscribe(conn, "3", ONE), [ReasonCode::QuotaExceeded]);
    assert_eq!(rig.subscribe(conn, "2", QoS::AtMostOnce), [ReasonCode::Success]);
    assert_eq!(rig.broker.status().subscriptions, 2);
}

#[test]
fn share_members_max() {
    let mut rig = Rig::new(Limits { share_members_max: 2, ..Limits::default() });
    let members = ["a", "b", "c"].map(|name| rig.join(Version::V5, name));
    let mut join = |n: usize| rig.subscribe(members[n], "$share/g/a", QoS::AtLeastOnce);
    assert_eq!(join(0), [ReasonCode::GrantedQoS1]);
    assert_eq!(join(1), [ReasonCode::GrantedQoS1]);
    assert_eq!(join(2), [ReasonCode::QuotaExceeded]);
    assert_eq!(join(1), [ReasonCode::GrantedQoS1], "a member may change its subscription");
    rig.drop_conn(members[0]);
    assert_eq!(rig.subscribe(members[2], "$share/g/a", ONE), [ReasonCode::GrantedQoS1]);
}

#[test]
fn offline_messages_and_bytes_max_drop_the_oldest() {
    let large = "x".repeat(400);
    let cost = message("a", &large, ONE).cost_bytes();
    let by_count = Limits { offline_messages_max: 3, ..Limits::default() };
    let by_bytes = Limits { offline_bytes_max: 3 * cost, ..Limits::default() };
    for limits in [by_count, by_bytes] {
        let mut rig = Rig::new(limits);
        let (conn, _) = rig.connect(keep(Version::V5, "c"));
        rig.subscribe(conn, "a", ONE);
        rig.drop_conn(conn);
        for n in 1..=5 {
            rig.route(message("a", &format!("{n}{large}")[..400], ONE));
        }
        assert_eq!(rig.dropped(DropReason::QueueFull), 2);
        assert_eq!(rig.rows_of(BrokerTable::Messages), 3);
        assert_eq!(rig.broker.status().queued_bytes, 3 * cost);
        let told = rig.events.iter().filter(|event| {
            matches!(event, BrokerEvent::Dropped { reason: DropReason::QueueFull, messages: 1 })
        });
        assert_eq!(told.count(), 2);
        let (conn, _) = rig.connect(keep(Version::V5, "c"));
        let first: Vec<char> =
            rig.payloads(conn).iter().map(|payload| payload.chars().next().unwrap()).collect();
        assert_eq!(first, ['3', '4', '5']);
    }
}

#[test]
fn online_messages_max_spares_what_was_sent() {
    let mut rig = Rig::new(Limits { online_messages_max: 2, ..Limits::default() });
    let (conn, _) = rig.connect(Connect { receive_max: 1, ..keep(Version::V5, "c") });
    rig.subscribe(conn, "a", ONE);
    for n in 1..=5 {
        rig.route(message("a", &n.to_string(), ONE));
    }
    assert_eq!(rig.dropped(DropReason::QueueFull), 2);
    assert_eq!(rig.payloads(conn), ["1", "4", "5"]);
}

#[test]
fn queued_total_bytes_max_takes_from_the_longest_queue() {
    let cost = message("a", &"x".repeat(1_000), ONE).cost_bytes();
    let limits = Limits { queued_total_bytes_max: 20 * cost, ..Limits::default() };
    let mut rig = Rig::new(limits);
    for (client, topic, messages) in [("small", "s", 2), ("large", "l", 17)] {
        let (conn, _) = rig.connect(keep(Version::V5, client));
        rig.subscribe(conn, topic, ONE);
        rig.drop_conn(conn);
        for _ in 0..messages {
            rig.route(message(topic, &"x".repeat(1_000), ONE));
        }
    }
    for _ in 0..20 {
        rig.route(message("s", &"x".repeat(1_000), ONE));
        assert!(rig.broker.status().queued_bytes <= 20 * cost);
    }
    assert!(rig.dropped(DropReason::QueueTotalFull) >= 19);
    let count = |rig: &mut Rig, client| {
        let (conn, _) = rig.connect(keep(Version::V5, client));
        rig.payloads(conn).len()
    };
    let (small, large) = (count(&mut rig, "small"), count(&mut rig, "large"));
    assert!(small.abs_diff(large) <= 2, "{small} and {large}: both give");
}

#[test]
fn ingress_session_bytes_max_stops_reading_and_drops_qos_0() {
    let limits = Limits { ingress_session_bytes_max: 1_000, ..Limits::default() };
    let mut rig = Rig::new(limits);
    rig.habits.accept = false;
    let (conn, other) = (rig.join(Version::V311, "c"), rig.join(Version::V311, "o"));
    let mut n = 0;
    while !rig.is_paused(conn) {
        n += 1;
        rig.publish(conn, publish("a", &"x".repeat(200), ONE, n));
    }
    assert!((3..=5).contains(&n), "{n}");
    // What was read before the pause took effect still counts: at QoS 1 it is kept, at 0 not.
    rig.publish(conn, publish("a", "zero", QoS::AtMostOnce, 0));
    assert_eq!(rig.dropped(DropReason::IngressBudget), 1);
    rig.publish(conn, publish("a", "one", ONE, 99));
    assert_eq!(rig.delivered.len(), usize::from(n) + 1);
    rig.publish(other, publish("a", "zero", QoS::AtMostOnce, 0));
    assert!(!rig.is_paused(other));
    rig.settle(0, Settlement::Accepted);
    assert!(rig.is_paused(conn), "above half of it");
    while !rig.held.is_empty() {
        rig.settle(0, Settlement::Accepted);
    }
    assert!(!rig.is_paused(conn));
    assert_eq!(rig.broker.status().ingress_bytes, 0);
}

#[test]
fn ingress_total_bytes_max_stops_who_publishes() {
    let limits = Limits { ingress_total_bytes_max: 50 * 1_024, ..Limits::default() };
    let mut rig = Rig::new(limits);
    rig.habits.accept = false;
    let conns: Vec<ConnId> = (0..5).map(|n| rig.join(Version::V311, &n.to_string())).collect();
    for conn in &conns[..4] {
        rig.publish(*conn, publish("a", &"x".repeat(15_000), ONE, 1));
    }
    let paused = |rig: &Rig| conns.iter().filter(|conn| rig.is_paused(**conn)).count();
    assert_eq!(paused(&rig), 1, "the one that went over");
    rig.publish(conns[0], publish("a", "more", ONE, 2));
    rig.publish(conns[0], publish("a", "zero", QoS::AtMostOnce, 0));
    assert_eq!(paused(&rig), 2);
    assert_eq!(rig.dropped(DropReason::IngressBudget), 1);
    rig.send(conns[4], Packet::PingReq);
    assert_eq!(rig.take(conns[4]), [Packet::PingResp], "who does not publish is heard");
    rig.settle(0, Settlement::Accepted);
    assert_eq!(paused(&rig), 2, "above three quarters");
    rig.settle(0, Settlement::Accepted);
    assert_eq!(paused(&rig), 1, "as many as there is room for");
    rig.advance(100);
    assert_eq!(paused(&rig), 0, "and the next soon after");
}

#[test]
fn a_session_that_ends_gives_its_ingress_back() {
    let limits = Limits { ingress_total_bytes_max: 1_000, ..Limits::default() };
    let mut rig = Rig::new(limits);
    rig.habits.accept = false;
    let (gone, conn) = (rig.join(Version::V5, "g"), rig.join(Version::V5, "c"));
    rig.publish(gone, publish("a", &"x".repeat(2_000), ONE, 1));
    rig.publish(conn, publish("a", "x", ONE, 1));
    assert!(rig.is_paused(conn));
    rig.drop_conn(gone);
    assert!(!rig.is_paused(conn));
}

#[test]
fn repeats_expected_max_forgets_the_oldest() {
    let mut rig = Rig::new(Limits { repeats_expected_max: 2, ..Limits::default() });
    let (conn, _) = rig.connect(keep(Version::V311, "c"));
    rig.habits.commit = false;
    for n in 1..=3 {
        rig.publish(conn, publish("a", "x", ONE, n));
    }
    rig.drop_conn(conn);
    assert_eq!(rig.broker.status().ingress_bytes, 0);
    let (conn, _) = rig.connect_after_commit(keep(Version::V311, "c"));
    for n in 1..=3 {
        let repeat = crate::codec::Publish { dup: true, ..publish("a", "x", ONE, n) };
        rig.publish(conn, repeat);
    }
    assert_eq!(rig.delivered.len(), 4, "1 runs again, 2 and 3 do not");
}

#[test]
fn egress_bytes_max_holds_qos_1_and_drops_qos_0_and_stalls_nobody_else() {
    let limits = Limits { egress_bytes_max: 64 * 1_024, ..Limits::default() };
    let mut rig = Rig::new(limits);
    let (slow, fast) = (rig.join(Version::V311, "slow"), rig.join(Version::V311, "fast"));
    rig.subscribe(slow, "#", ONE);
    rig.subscribe(fast, "#", ONE);
    rig.wires.get_mut(&slow).unwrap().reads = false;
    let large = "x".repeat(20_000);
    for n in 0..20 {
        rig.route(message("a", &large, ONE));
        rig.route(message("a", &large, QoS::AtMostOnce));
        assert_eq!(rig.payloads(fast).len(), 2, "{n}");
    }
    assert!(rig.wires[&slow].unwritten < 64 * 1_024 + 21_000);
    assert!(rig.dropped(DropReason::SlowConsumer) >= 17);
    let before = rig.payloads(slow).len();
    assert!(before <= 5);
    // It reads again: what waited arrives, in order, without loss of QoS 1.
    rig.wires.get_mut(&slow).unwrap().reads = true;
    let bytes = std::mem::take(&mut rig.wires.get_mut(&slow).unwrap().unwritten);
    rig.step(|broker, turn| broker.handle(Input::Written { conn: slow, bytes }, turn));
    let after = rig.publishes(slow);
    let ones = after.iter().filter(|publish| publish.qos == ONE).count();
    assert!(ones + before >= 20, "{ones} {before}");
    assert!(!rig.is_closed(slow));
}

#[test]
fn egress_total_bytes_max_sends_only_to_who_reads() {
    let limits = Limits { egress_total_bytes_max: 10_000, ..Limits::default() };
    let mut rig = Rig::new(limits);
    let (slow, fast) = (rig.join(Version::V311, "slow"), rig.join(Version::V311, "fast"));
    rig.subscribe(slow, "#", ONE);
    rig.subscribe(fast, "#", ONE);
    rig.wires.get_mut(&slow).unwrap().reads = false;
    for _ in 0..5 {
        rig.route(message("a", &"x".repeat(6_000), ONE));
        assert_eq!(rig.payloads(fast).len(), 1);
    }
    assert!(rig.wires[&slow].unwritten <= 12_100);
    assert_eq!(rig.broker.status().egress_bytes, rig.wires[&slow].unwritten);
}

#[test]
fn a_client_that_sends_but_never_reads_is_not_read_and_then_closed() {
    let limits =
        Limits { egress_bytes_max: 1_000, egress_stall_ms_max: 5_000, ..Limits::default() };
    let mut rig = Rig::new(limits);
    let conn = rig.join(Version::V5, "c");
    rig.wires.get_mut(&conn).unwrap().reads = false;
    for _ in 0..1_000 {
        rig.send(conn, Packet::PingReq);
        if rig.is_paused(conn) {
            break;
        }
    }
    assert!(rig.is_paused(conn));
    assert_eq!(rig.wires[&conn].unwritten, 2_000);
    rig.advance(4_000);
    // Some progress: it gets more time.
    rig.step(|broker, turn| broker.handle(Input::Written { conn, bytes: 1 }, turn));
    rig.advance(4_999);
    assert!(!rig.is_closed(conn));
    rig.advance(1);
    assert_eq!(rig.farewell(conn), ReasonCode::QuotaExceeded);
    assert_eq!(rig.broker.status().egress_bytes, 0);
}

#[test]
fn send_window_max_bounds_clients_without_a_receive_maximum() {
    let mut rig = Rig::new(Limits { send_window_max: 3, ..Limits::default() });
    let conn = rig.join(Version::V311, "c");
    rig.subscribe(conn, "a", ONE);
    for _ in 0..10 {
        rig.route(message("a", "x", ONE));
    }
    assert_eq!(rig.publishes(conn).len(), 3);
}

#[test]
fn send_window_bytes_max_lets_one_large_message_through() {
    let mut rig = Rig::new(Limits { send_window_bytes_max: 1_000, ..Limits::default() });
    let conn = rig.join(Version::V311, "c");
    rig.subscribe(conn, "a", QoS::ExactlyOnce);
    for _ in 0..10 {
        rig.route(message("a", &"x".repeat(400), ONE));
    }
    assert_eq!(rig.publishes(conn).len(), 2);
    rig.send(conn, Packet::PubAck(Ack::ok(id(1))));
    assert_eq!(rig.publishes(conn).len(), 1);
    for n in 2..=10 {
        rig.send(conn, Packet::PubAck(Ack::ok(id(n))));
    }
    rig.route(message("a", &"x".repeat(9_000), QoS::ExactlyOnce));
    rig.route(message("a", "next", ONE));
    rig.take(conn);
    rig.send(conn, Packet::PubRec(Ack::ok(id(11))));
    let next = rig.take(conn);
    assert_eq!(next[0], Packet::PubRel(Ack::ok(id(11))));
    assert_eq!(rig.broker.status().queued_messages, 1);
}

#[test]
fn taken_ids_max_refuses_further_qos_2() {
    let mut rig = Rig::new(Limits { taken_ids_max: 2, ..Limits::default() });
    let conn = rig.join(Version::V5, "c");
    for n in 1..=3 {
        rig.publish(conn, publish("a", "x", QoS::ExactlyOnce, n));
    }
    let refused = Ack { packet_id: id(3), reason: ReasonCode::QuotaExceeded };
    assert_eq!(rig.take(conn).pop(), Some(Packet::PubRec(refused)));
    rig.publish(conn, publish("a", "x", ONE, 4));
    rig.send(conn, Packet::PubRel(Ack::ok(id(1))));
    rig.publish(conn, publish("a", "x", QoS::ExactlyOnce, 3));
    assert_eq!(rig.take(conn).pop(), Some(Packet::PubRec(Ack::ok(id(3)))));
    assert_eq!(rig.delivered.len(), 4);
}

#[test]
fn parked_max_stops_reading() {
    let mut rig = Rig::new(Limits { parked_max: 4, ..Limits::default() });
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    rig.habits.commit = false;
    for _ in 0..4 {
        assert!(!rig.is_paused(conn));
        let filters = vec![(filter("a"), SubscribeOptions::default())];
        let subscribe = Subscribe { packet_id: id(1), subscription_id: None, filters };
        rig.send(conn, Packet::Subscribe(subscribe));
    }
    assert!(rig.is_paused(conn));
    rig.commit();
    assert!(!rig.is_paused(conn));
    assert_eq!(rig.take(conn).len(), 4);
}

#[test]
fn qos_0_is_dropped_when_all_queues_are_full() {
    let mut rig = Rig::new(Limits { queued_total_bytes_max: 1_000, ..Limits::default() });
    let conn = rig.join(Version::V5, "c");
    rig.subscribe(conn, "a", ONE);
    rig.habits.commit = false;
    for _ in 0..20 {
        rig.route(message("a", &"x".repeat(100), QoS::AtMostOnce));
        assert!(rig.broker.status().queued_bytes <= 1_000 + 230);
    }
    assert!(rig.dropped(DropReason::QueueTotalFull) >= 14);
}

#[test]
fn subscription_bytes_max() {
    let deep = |n: u32| format!("{n}/{}", "x/".repeat(30));
    let mut rig = Rig::new(Limits { subscription_bytes_max: 30_000, ..Limits::default() });
    let conn = rig.join(Version::V5, "c");
    let granted = (0..10)
        .filter(|n| rig.subscribe(conn, &deep(*n), ONE) == [ReasonCode::GrantedQoS1])
        .count();
    assert!((3..5).contains(&granted), "{granted}");
    assert_eq!(rig.subscribe(conn, &deep(0), ONE), [ReasonCode::GrantedQoS1], "replaced");
    let other = rig.join(Version::V5, "o");
    assert_eq!(rig.subscribe(other, &deep(9), ONE), [ReasonCode::QuotaExceeded]);
    rig.drop_conn(conn);
    assert_eq!(rig.subscribe(other, &deep(9), ONE), [ReasonCode::GrantedQoS1]);
}
