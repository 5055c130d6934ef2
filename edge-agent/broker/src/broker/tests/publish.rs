//! Publishes from clients: acks, their order and their batches, repeats, refusals.

use edge_core::message::{Properties, QoS};

use super::super::*;
use super::rig::{Rig, id, keep, publish};
use crate::codec::{Ack, Connect, Packet, Publish, Version};

const BOTH: [Version; 2] = [Version::V311, Version::V5];
const ONE: QoS = QoS::AtLeastOnce;
const TWO: QoS = QoS::ExactlyOnce;

fn acks(packets: &[Packet]) -> Vec<u16> {
    packets
        .iter()
        .map(|packet| match packet {
            Packet::PubAck(ack) | Packet::PubRec(ack) => ack.packet_id.get(),
            other => panic!("not an ack: {other:?}"),
        })
        .collect()
}

fn repeat(of: Publish) -> Publish {
    Publish { dup: true, ..of }
}

#[test]
fn an_ack_means_durable() {
    for version in BOTH {
        let mut rig = Rig::default();
        let conn = rig.join(version, "c");
        rig.habits.commit = false;
        rig.publish(conn, publish("a", "x", ONE, 1));
        rig.publish(conn, publish("a", "y", TWO, 2));
        let first = rig.seal();
        rig.publish(conn, publish("a", "z", ONE, 3));
        assert_eq!(rig.take(conn), []);
        rig.synced(first);
        assert_eq!(acks(&rig.take(conn)), [1, 2]);
        assert_eq!(rig.broker.waits_for(), Some(rig.open));
        rig.commit();
        assert_eq!(acks(&rig.take(conn)), [3]);
        assert_eq!(rig.broker.waits_for(), None);
        assert_eq!(rig.broker.status().ingress_bytes, 0);
    }
}

#[test]
fn acks_leave_in_order_of_arrival_whatever_the_owner_says_first() {
    let mut rig = Rig::default();
    let conn = rig.join(Version::V5, "c");
    rig.habits.accept = false;
    for n in 1..=4 {
        rig.publish(conn, publish("a", "x", if n == 3 { TWO } else { ONE }, n));
    }
    rig.settle(3, Settlement::Accepted);
    rig.settle(1, Settlement::Accepted);
    assert_eq!(rig.take(conn), []);
    rig.settle(0, Settlement::Accepted);
    assert_eq!(acks(&rig.take(conn)), [1, 2]);
    rig.settle(0, Settlement::Refused(ReasonCode::QuotaExceeded));
    let rest = rig.take(conn);
    assert_eq!(acks(&rest), [3, 4]);
    let refused = Ack { packet_id: id(3), reason: ReasonCode::QuotaExceeded };
    assert_eq!(rest[0], Packet::PubRec(refused));
}

#[test]
fn one_send_for_all_packets_of_a_turn() {
    let mut rig = Rig::default();
    let conn = rig.join(Version::V5, "c");
    let before = rig.wires[&conn].sends;
    let many = (1..=30).map(|n| Packet::Publish(publish("a", "x", ONE, n))).collect();
    rig.send_all(conn, many);
    assert_eq!(acks(&rig.take(conn)).len(), 30);
    assert_eq!(rig.wires[&conn].sends, before + 1);
}

/// The client of the issue: it always uses packet id 1. Once A is acked, B is a new message even
/// if it comes with DUP, and A itself would be.
#[test]
fn after_the_ack_the_same_packet_id_is_a_new_message() {
    for version in BOTH {
        let mut rig = Rig::default();
        let conn = rig.join(version, "c");
        rig.publish(conn, publish("a", "A", ONE, 1));
        assert_eq!(acks(&rig.take(conn)), [1]);
        rig.publish(conn, repeat(publish("a", "B", ONE, 1)));
        rig.publish(conn, repeat(publish("a", "B", ONE, 1)));
        assert_eq!(rig.delivered.len(), 3);
        assert_eq!(acks(&rig.take(conn)), [1, 1]);
    }
}

#[test]
fn a_repeat_before_the_ack_runs_once_and_is_acked_once() {
    let mut rig = Rig::default();
    let conn = rig.join(Version::V311, "c");
    rig.habits.commit = false;
    rig.publish(conn, publish("a", "A", ONE, 1));
    rig.publish(conn, repeat(publish("a", "A", ONE, 1)));
    assert_eq!(rig.delivered.len(), 1);
    assert_eq!(rig.dropped(DropReason::Repeat), 1);
    // Another content under the same id is another message, whatever its flag says.
    rig.publish(conn, repeat(publish("a", "B", ONE, 1)));
    rig.publish(conn, publish("a", "B", ONE, 1));
    assert_eq!(rig.delivered.len(), 3);
    rig.commit();
    assert_eq!(acks(&rig.take(conn)), [1, 1, 1]);
}

#[test]
fn a_resumed_session_attaches_a_repeat_to_its_first_copy() {
    for version in BOTH {
        // The connection breaks before the owner has spoken, before the commit, or after it.
        for stage in 0..3 {
            let mut rig = Rig::default();
            let (conn, _) = rig.connect(keep(version, "c"));
            rig.habits.commit = false;
            rig.habits.accept = false;
            rig.publish(conn, publish("a", "A", ONE, 5));
            if stage == 0 {
                rig.drop_conn(conn);
            }
            rig.settle(0, Settlement::Accepted);
            if stage == 1 {
                rig.drop_conn(conn);
            }
            if stage == 2 {
                // Durable, but the bytes never leave: the broken connection is noticed first.
                rig.drop_conn(conn);
                rig.commit();
            }
            rig.habits.commit = true;
            let (conn, present) = rig.connect(keep(version, "c"));
            assert!(present);
            assert_eq!(rig.take(conn), [], "no ack for what this connection has not seen");
            rig.publish(conn, repeat(publish("a", "A", ONE, 5)));
            assert_eq!(rig.delivered.len(), 1, "stage {stage}");
            assert_eq!(acks(&rig.take(conn)), [5]);
            rig.habits.accept = true;
            rig.publish(conn, repeat(publish("a", "A", ONE, 5)));
            assert_eq!(rig.delivered.len(), 2, "handed over now: a new message");
        }
    }
}

#[test]
fn an_expected_repeat_does_not_swallow_another_message() {
    let mut rig = Rig::default();
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    rig.habits.commit = false;
    rig.publish(conn, publish("a", "A", ONE, 1));
    rig.publish(conn, publish("a", "A2", ONE, 2));
    rig.drop_conn(conn);
    rig.habits.commit = true;
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    // The client has forgotten its session and begins anew with the same ids.
    rig.publish(conn, publish("a", "B", ONE, 1));
    rig.publish(conn, repeat(publish("a", "C", ONE, 2)));
    assert_eq!(rig.delivered.len(), 4);
    rig.publish(conn, repeat(publish("a", "A", ONE, 1)));
    assert_eq!(rig.delivered.len(), 5, "the first copy is forgotten with its id");
    assert_eq!(acks(&rig.take(conn)), [1, 2, 1]);
}

#[test]
fn acks_on_a_new_connection_follow_its_own_order() {
    let mut rig = Rig::default();
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    rig.habits.accept = false;
    for n in 1..=3 {
        rig.publish(conn, publish("a", &n.to_string(), ONE, n));
    }
    rig.drop_conn(conn);
    rig.settle(0, Settlement::Accepted);
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    for n in [2, 1, 3] {
        rig.publish(conn, repeat(publish("a", &n.to_string(), ONE, n)));
    }
    assert_eq!(rig.delivered.len(), 3);
    assert_eq!(rig.take(conn), [], "2 comes first here and waits");
    rig.settle(1, Settlement::Accepted);
    rig.settle(0, Settlement::Accepted);
    assert_eq!(acks(&rig.take(conn)), [2, 1, 3]);
}

#[test]
fn the_token_of_an_ended_session_does_nothing() {
    let mut rig = Rig::default();
    let conn = rig.join(Version::V5, "c");
    rig.habits.accept = false;
    rig.publish(conn, publish("a", "x", TWO, 1));
    rig.drop_conn(conn);
    let conn = rig.join(Version::V5, "c");
    rig.settle(0, Settlement::Accepted);
    assert_eq!(rig.take(conn), []);
    assert_eq!(rig.broker.status().ingress_bytes, 0);
    assert!(rig.rows.is_empty());
}

#[test]
fn qos_2_runs_once_across_connections_and_restarts() {
    for version in BOTH {
        let mut rig = Rig::default();
        let (conn, _) = rig.connect(keep(version, "c"));
        rig.publish(conn, publish("a", "x", TWO, 7));
        assert_eq!(rig.take(conn), [Packet::PubRec(Ack::ok(id(7)))]);
        assert_eq!(rig.rows_of(BrokerTable::Inbound), 1, "stored in the batch of admission");
        rig.publish(conn, repeat(publish("a", "x", TWO, 7)));
        assert_eq!(rig.take(conn), [Packet::PubRec(Ack::ok(id(7)))]);
        rig.drop_conn(conn);
        let (conn, _) = rig.connect(keep(version, "c"));
        rig.publish(conn, repeat(publish("a", "x", TWO, 7)));
        assert_eq!(rig.take(conn), [Packet::PubRec(Ack::ok(id(7)))]);
        rig.restart();
        let (conn, present) = rig.connect(keep(version, "c"));
        assert!(present);
        rig.publish(conn, repeat(publish("a", "x", TWO, 7)));
        assert_eq!(rig.take(conn), [Packet::PubRec(Ack::ok(id(7)))]);
        assert_eq!(rig.delivered.len(), 1);

        rig.habits.commit = false;
        rig.send(conn, Packet::PubRel(Ack::ok(id(7))));
        assert_eq!(rig.take(conn), [], "PUBCOMP waits for the batch that frees the id");
        rig.commit();
        assert_eq!(rig.take(conn), [Packet::PubComp(Ack::ok(id(7)))]);
        assert_eq!(rig.rows_of(BrokerTable::Inbound), 0);
        rig.publish(conn, publish("a", "y", TWO, 7));
        assert_eq!(rig.delivered.len(), 2, "a new message under the freed id");
    }
}

#[test]
fn pubrec_waits_for_the_batch_of_admission() {
    let mut rig = Rig::default();
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    rig.habits.commit = false;
    rig.publish(conn, publish("a", "x", TWO, 7));
    rig.publish(conn, repeat(publish("a", "x", TWO, 7)));
    assert_eq!(rig.take(conn), []);
    // It breaks before the commit: id and message are lost together, and the repeat runs.
    rig.restart();
    rig.commit();
    let (conn, _) = rig.connect_after_commit(keep(Version::V5, "c"));
    rig.publish(conn, repeat(publish("a", "x", TWO, 7)));
    assert_eq!(rig.delivered.len(), 2);
    rig.commit();
    assert_eq!(rig.take(conn), [Packet::PubRec(Ack::ok(id(7)))]);
}

#[test]
fn a_pubrel_repeated_before_the_commit_does_not_hurry_pubcomp() {
    let mut rig = Rig::default();
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    rig.publish(conn, publish("a", "x", TWO, 7));
    rig.take(conn);
    rig.habits.commit = false;
    rig.send(conn, Packet::PubRel(Ack::ok(id(7))));
    rig.send(conn, Packet::PubRel(Ack::ok(id(7))));
    assert_eq!(rig.take(conn), []);
    rig.commit();
    let packets = rig.take(conn);
    assert_eq!(packets.len(), 2);
    let unknown = Ack { packet_id: id(7), reason: ReasonCode::PacketIdentifierNotFound };
    assert_eq!(packets[1], Packet::PubComp(unknown));
}

#[test]
fn what_is_not_granted_is_refused_as_the_version_allows() {
    let limited = |version| Connect {
        username: Some("limited".to_owned()),
        password: None,
        ..Connect::new(version, "c")
    };
    let mut rig = Rig::default();
    let (conn, _) = rig.connect(limited(Version::V5));
    rig.publish(conn, publish("own/x", "ok", ONE, 1));
    rig.publish(conn, publish("other", "no", ONE, 2));
    rig.publish(conn, publish("other", "no", TWO, 3));
    rig.publish(conn, publish("other", "no", QoS::AtMostOnce, 0));
    let no = |n| Ack { packet_id: id(n), reason: ReasonCode::NotAuthorized };
    let expected = [Packet::PubAck(Ack::ok(id(1))), Packet::PubAck(no(2)), Packet::PubRec(no(3))];
    assert_eq!(rig.take(conn), expected);
    assert_eq!(rig.delivered.len(), 1);
    assert_eq!(rig.dropped(DropReason::NotAuthorized), 1);
    assert!(!rig.is_closed(conn));

    // 3.1.1 cannot be told, and a PUBACK would be a lie.
    let (conn, _) = rig.connect(limited(Version::V311));
    rig.publish(conn, publish("other", "no", QoS::AtMostOnce, 0));
    assert!(!rig.is_closed(conn));
    rig.publish(conn, publish("other", "no", ONE, 1));
    assert!(rig.is_closed(conn));
    assert_eq!(rig.take(conn), []);
    assert_eq!(rig.delivered.len(), 1);
}

#[test]
fn a_refusal_by_the_owner_leaves_no_trace() {
    let mut rig = Rig::default();
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    rig.habits.accept = false;
    rig.publish(conn, publish("a", "x", TWO, 1));
    rig.settle(0, Settlement::Refused(ReasonCode::QuotaExceeded));
    let refused = Ack { packet_id: id(1), reason: ReasonCode::QuotaExceeded };
    assert_eq!(rig.take(conn), [Packet::PubRec(refused)]);
    assert_eq!(rig.rows_of(BrokerTable::Inbound), 0);
    rig.publish(conn, publish("a", "x", TWO, 1));
    assert_eq!(rig.delivered.len(), 2, "the id is free: judged anew");
    // Refused while away: the repeat is judged anew as well.
    rig.drop_conn(conn);
    rig.settle(0, Settlement::Refused(ReasonCode::QuotaExceeded));
    let (conn, _) = rig.connect(keep(Version::V5, "c"));
    rig.publish(conn, repeat(publish("a", "x", TWO, 1)));
    assert_eq!(rig.delivered.len(), 3);
    let _ = conn;
}

/// [MQTT-4.3.3-13]
#[test]
fn an_expired_message_is_still_acked_to_the_end() {
    let mut rig = Rig::default();
    let (sub, conn) = (rig.join(Version::V5, "s"), rig.join(Version::V5, "c"));
    rig.subscribe(sub, "a", TWO);
    rig.habits.accept = false;
    rig.publish(conn, Publish { expiry_s: Some(1), ..publish("a", "x", TWO, 1) });
    rig.advance(5_000);
    rig.settle(0, Settlement::Accepted);
    assert_eq!(rig.take(sub), [], "expired");
    assert_eq!(rig.take(conn), [Packet::PubRec(Ack::ok(id(1)))]);
    rig.send(conn, Packet::PubRel(Ack::ok(id(1))));
    assert_eq!(rig.take(conn), [Packet::PubComp(Ack::ok(id(1)))]);
}

#[test]
fn the_receive_maximum_is_enforced_in_5() {
    let mut rig = Rig::new(Limits { receive_max: 3, ..Limits::default() });
    rig.habits.accept = false;
    let conn = rig.join(Version::V5, "c");
    for n in 1..=3 {
        rig.publish(conn, publish("a", "x", ONE, n));
    }
    rig.settle(0, Settlement::Accepted);
    rig.publish(conn, publish("a", "x", ONE, 4));
    assert!(!rig.is_closed(conn), "one was acked");
    rig.publish(conn, publish("a", "x", ONE, 5));
    assert_eq!(rig.farewell(conn), ReasonCode::ReceiveMaximumExceeded);
    // QoS 2 counts until PUBCOMP.
    rig.habits.accept = true;
    let conn = rig.join(Version::V5, "d");
    for n in 1..=3 {
        rig.publish(conn, publish("a", "x", TWO, n));
    }
    rig.send(conn, Packet::PubRel(Ack::ok(id(1))));
    rig.publish(conn, publish("a", "x", TWO, 4));
    assert!(!rig.is_closed(conn));
    rig.publish(conn, publish("a", "x", TWO, 5));
    assert_eq!(rig.farewell(conn), ReasonCode::ReceiveMaximumExceeded);
}

#[test]
fn payloads_are_checked_for_size_and_format() {
    let mut rig = Rig::new(Limits { message_bytes_max: 10, ..Limits::default() });
    let conn = rig.join(Version::V5, "c");
    rig.publish(conn, publish("a", "0123456789", ONE, 1));
    assert_eq!(acks(&rig.take(conn)), [1]);
    let said = Properties { payload_is_utf8: true, ..Properties::default() };
    let mut broken = publish("a", "", ONE, 2);
    broken.payload = bytes::Bytes::from_static(b"\xff");
    broken.properties = said;
    rig.publish(conn, broken);
    let invalid = Ack { packet_id: id(2), reason: ReasonCode::PayloadFormatInvalid };
    assert_eq!(rig.take(conn), [Packet::PubAck(invalid)]);
    rig.publish(conn, publish("a", "0123456789A", ONE, 3));
    assert_eq!(rig.farewell(conn), ReasonCode::PacketTooLarge);
}

#[test]
fn a_message_knows_who_sent_it() {
    let mut rig = Rig::default();
    let connect = Connect { username: Some("dev".into()), ..Connect::new(Version::V5, "c") };
    let (conn, _) = rig.connect(connect);
    rig.publish(conn, publish("a", "x", ONE, 1));
    let message = &rig.delivered[0];
    assert_eq!(message.device, Some(DeviceId::new("dev")));
    let origin = edge_core::message::Origin::Client {
        identity: DeviceId::new("dev"),
        client_id: "c".to_owned(),
    };
    assert_eq!(message.origin, origin);
    assert_eq!(message.at, rig.now.at);
}

/// 3.4.2.2.2, 3.1.2.11.7, [MQTT-3.4.2-2]
#[test]
fn a_refusal_is_explained_to_who_takes_words() {
    const WHY: &str = "envelope: bytes behind its end";
    let plain = 5;
    let explained = plain + 1 + 1 + 2 + WHY.len();
    let silent = |connect: &mut Connect| connect.request_problem_info = false;
    let small = |connect: &mut Connect| connect.packet_bytes_max = Some(24);
    let wants = |_: &mut Connect| {};
    type Bend<'a> = &'a dyn Fn(&mut Connect);
    let cases: [(Bend<'_>, usize); 3] = [(&wants, explained), (&silent, plain), (&small, plain)];
    for (bend, bytes) in cases {
        for qos in [ONE, TWO] {
            let mut rig = Rig::default();
            let mut connect = keep(Version::V5, "c");
            bend(&mut connect);
            let (conn, _) = rig.connect(connect);
            rig.habits.accept = false;
            rig.wires.get_mut(&conn).unwrap().reads = false;
            rig.publish(conn, publish("a", "x", qos, 1));
            rig.settle(0, Settlement::Explained(ReasonCode::PayloadFormatInvalid, WHY));
            assert_eq!(rig.wires[&conn].unwritten, bytes, "{qos:?}");
            let ack = Ack { packet_id: id(1), reason: ReasonCode::PayloadFormatInvalid };
            let expected = if qos == TWO { Packet::PubRec(ack) } else { Packet::PubAck(ack) };
            assert_eq!(rig.take(conn), [expected]);
        }
    }
}
