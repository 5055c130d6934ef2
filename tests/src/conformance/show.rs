//! Packets of a server as words, to be held against what a script expects.

use std::fmt::Write;

use edge_broker::codec::{Ack, AckList, ConnAck, Packet, Publish, ReasonCode};
use edge_core::message::QoS;

/// The packet in one line: its kind, then its properties, apart by single spaces.
#[must_use]
pub fn show(packet: &Packet) -> String {
    match packet {
        Packet::ConnAck(connack) => connack_words(connack),
        Packet::Publish(publish) => publish_words(publish),
        Packet::PubAck(ack) => ack_words("puback", *ack),
        Packet::PubRec(ack) => ack_words("pubrec", *ack),
        Packet::PubRel(ack) => ack_words("pubrel", *ack),
        Packet::PubComp(ack) => ack_words("pubcomp", *ack),
        Packet::SubAck(list) => list_words("suback", list),
        Packet::UnsubAck(list) => list_words("unsuback", list),
        Packet::PingResp => "pingresp".to_owned(),
        Packet::Disconnect(disconnect) => {
            let words = if disconnect.reason_string.is_some() { " words" } else { "" };
            format!("disconnect code={}{words}", code(disconnect.reason))
        }
        other => format!("unexpected {other:?}"),
    }
}

fn code(reason: ReasonCode) -> String {
    format!("0x{:02x}", reason.as_u8())
}

fn ack_words(kind: &str, ack: Ack) -> String {
    format!("{kind} id={} code={}", ack.packet_id.get(), code(ack.reason))
}

fn list_words(kind: &str, list: &AckList) -> String {
    let codes: Vec<String> = list.reasons.iter().map(|reason| code(*reason)).collect();
    format!("{kind} id={} codes={}", list.packet_id.get(), codes.join(","))
}

/// Appends ` name=value`, where there is one.
fn add<T: std::fmt::Display>(words: &mut String, name: &str, value: Option<T>) {
    if let Some(value) = value {
        write!(words, " {name}={value}").expect("invariant: a string takes everything");
    }
}

fn connack_words(connack: &ConnAck) -> String {
    let session = if connack.session_present { "present" } else { "fresh" };
    let mut words = format!("connack code={} {session}", code(connack.reason));
    let p = &connack.properties;
    add(&mut words, "expiry", p.session_expiry_s);
    add(&mut words, "receive", p.receive_max);
    add(&mut words, "max", p.packet_bytes_max);
    add(&mut words, "assigned", p.assigned_client_id.as_ref());
    add(&mut words, "alias", p.topic_alias_max);
    add(&mut words, "retain", p.retain_available.map(u8::from));
    add(&mut words, "sids", p.subscription_ids_available.map(u8::from));
    add(&mut words, "shared", p.shared_available.map(u8::from));
    add(&mut words, "keep", p.keep_alive_s);
    if p.reason_string.is_some() {
        words.push_str(" words");
    }
    words
}

fn publish_words(publish: &Publish) -> String {
    let payload = String::from_utf8_lossy(&publish.payload);
    let qos = match publish.qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => 1,
        QoS::ExactlyOnce => 2,
    };
    let mut words = format!("publish topic={} payload={payload} qos={qos}", publish.topic);
    for (flag, set) in [("dup", publish.dup), ("retain", publish.retain)] {
        if set {
            write!(words, " {flag}").expect("invariant: a string takes everything");
        }
    }
    let p = &publish.properties;
    add(&mut words, "id", publish.packet_id.map(edge_broker::codec::PacketId::get));
    add(&mut words, "expiry", publish.expiry_s);
    let mut ids: Vec<u32> = publish.subscription_ids.iter().map(|id| id.get()).collect();
    // 3.3.4: their order has no meaning.
    ids.sort_unstable();
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    add(&mut words, "sid", Some(ids.join(",")).filter(|ids| !ids.is_empty()));
    add(&mut words, "ctype", p.content_type.as_ref());
    add(&mut words, "resp", p.response_topic.as_ref());
    let corr = p.correlation_data.as_ref().map(|data| String::from_utf8_lossy(data).into_owned());
    add(&mut words, "corr", corr);
    let user: Vec<String> = p.user.iter().map(|(k, v)| format!("{k}:{v}")).collect();
    add(&mut words, "user", Some(user.join(",")).filter(|user| !user.is_empty()));
    if p.payload_is_utf8 {
        words.push_str(" utf8");
    }
    words
}
