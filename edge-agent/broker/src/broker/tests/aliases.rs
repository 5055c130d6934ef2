//! Topic aliases to clients (3.3.2.3.4); those from clients are the decoder's.

use edge_core::message::QoS;

use super::super::*;
use super::rig::{Rig, keep, message};
use crate::codec::{Connect, Version};

const ONE: QoS = QoS::AtLeastOnce;

fn accepting(topic_alias_max: u16) -> Connect {
    Connect { topic_alias_max, ..keep(Version::V5, "c") }
}

/// Bytes sent to the client for one message; its decoder resolves the topic.
fn bytes_of(rig: &mut Rig, conn: ConnId, name: &str, qos: QoS) -> usize {
    let reads = |rig: &mut Rig, reads: bool| rig.wires.get_mut(&conn).unwrap().reads = reads;
    reads(rig, false);
    rig.route(message(name, "", qos));
    reads(rig, true);
    let wire = rig.wires.get_mut(&conn).unwrap();
    let bytes = std::mem::take(&mut wire.unwritten);
    rig.step(|broker, turn| broker.handle(Input::Written { conn, bytes }, turn));
    let got = rig.publishes(conn);
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].topic.as_str(), name);
    bytes
}

#[test]
fn they_are_given_only_to_who_accepts_them_and_only_so_many() {
    let mut rig = Rig::default();
    let (plain, _) = rig.connect(keep(Version::V5, "plain"));
    rig.subscribe(plain, "#", QoS::AtMostOnce);
    // Head 2, length of the name 2, length of the properties 1, and the name.
    let full = |name: &str| 5 + name.len();
    for _ in 0..2 {
        assert_eq!(bytes_of(&mut rig, plain, "farm/barn", QoS::AtMostOnce), full("farm/barn"));
    }
    let (conn, _) = rig.connect(accepting(1));
    rig.subscribe(conn, "#", QoS::AtMostOnce);
    let mut sent = |name: &str| {
        let bytes = bytes_of(&mut rig, conn, name, QoS::AtMostOnce);
        rig.take(plain);
        bytes
    };
    assert_eq!(sent("farm/barn"), full("farm/barn") + 3, "[MQTT-3.1.2-26]: alias 1 is given");
    assert_eq!(sent("farm/barn"), full("") + 3);
    assert_eq!(sent("farm/shed"), full("farm/shed"), "no second alias");
    assert_eq!(sent("farm/barn"), full("") + 3);
    drop(rig);
    let mut rig = Rig::new(Limits { topic_alias_max: 0, ..Limits::default() });
    let (conn, _) = rig.connect(accepting(9));
    rig.subscribe(conn, "#", QoS::AtMostOnce);
    assert_eq!(bytes_of(&mut rig, conn, "farm/barn", QoS::AtMostOnce), full("farm/barn"));
}

#[test]
fn a_repeat_on_a_new_connection_does_not_rest_on_an_old_alias() {
    let mut rig = Rig::default();
    let (conn, _) = rig.connect(accepting(4));
    rig.subscribe(conn, "#", QoS::ExactlyOnce);
    for qos in [ONE, QoS::ExactlyOnce, ONE] {
        bytes_of(&mut rig, conn, "farm/barn", qos);
    }
    for alias_max in [4, 0] {
        rig.drop_conn(conn);
        // The decoder of a new connection knows no alias: it would refuse one.
        let (conn, _) = rig.connect(accepting(alias_max));
        let got = rig.publishes(conn);
        assert_eq!(got.len(), 3);
        assert!(got.iter().all(|publish| publish.dup && publish.topic.as_str() == "farm/barn"));
        rig.drop_conn(conn);
    }
}

#[test]
fn an_alias_that_makes_the_packet_too_large_is_not_given() {
    let mut rig = Rig::default();
    let name = "a/name/of/thirty-one/characters";
    let max = u32::try_from(5 + name.len() + 1).unwrap();
    let connect = Connect { packet_bytes_max: Some(max), ..accepting(4) };
    let (conn, _) = rig.connect(connect);
    rig.subscribe(conn, "#", QoS::AtMostOnce);
    for _ in 0..2 {
        assert_eq!(bytes_of(&mut rig, conn, name, QoS::AtMostOnce), 5 + name.len());
    }
}

#[test]
fn the_bytes_behind_them_are_bounded() {
    let mut rig = Rig::new(Limits { topic_alias_bytes_max: 12, ..Limits::default() });
    let (conn, _) = rig.connect(accepting(4));
    rig.subscribe(conn, "#", QoS::AtMostOnce);
    let mut sent = |name: &str| bytes_of(&mut rig, conn, name, QoS::AtMostOnce);
    assert_eq!(sent("farm/barn"), 5 + 9 + 3);
    assert_eq!(sent("farm"), 5 + 4, "there is no room for its name");
    assert_eq!(sent("farm/barn"), 5 + 3);
}
