//! Every rule that a client can break on the wire, and the reason code it is answered with. Each
//! case is also cut at every byte: a prefix is either incomplete or already wrong, never accepted.

use ReasonCode as R;

use super::*;

fn refused(decoder: impl Fn() -> Decoder, packet: &[u8], reason: ReasonCode, what: &str) {
    let outcome = decoder().decode(&mut BytesMut::from(packet));
    let Err(error) = outcome else { panic!("{what}: {outcome:?}") };
    assert_eq!(error.reason, reason, "{what}: {error}");
    for end in 0..packet.len() {
        let outcome = decoder().decode(&mut BytesMut::from(&packet[..end]));
        assert!(!matches!(outcome, Ok(Some(_))), "{what}, cut at {end}: {outcome:?}");
    }
}

fn accepted(decoder: impl Fn() -> Decoder, packet: &[u8], what: &str) -> Packet {
    let mut buf = BytesMut::from(packet);
    let outcome = decoder().decode(&mut buf);
    let Ok(Some(packet)) = outcome else { panic!("{what}: {outcome:?}") };
    assert!(buf.is_empty(), "{what}");
    packet
}

#[test]
fn framing() {
    let v5 = || connected(Version::V5);
    let cases: &[(&str, &[u8], R)] = &[
        ("remaining length of five bytes", &[0x30, 0x80, 0x80, 0x80, 0x80, 1], R::MalformedPacket),
        ("overlong remaining length", &[0xC0, 0x80, 0], R::MalformedPacket),
        ("packet type 0", &[0x00, 0], R::MalformedPacket),
        ("PINGREQ with flags", &[0xC1, 0], R::MalformedPacket),
        ("PINGREQ with a body", &[0xC0, 1, 0], R::MalformedPacket),
        ("AUTH without a method", &[0xF0, 0], R::ProtocolError),
        ("AUTH with flags", &[0xF1, 0], R::MalformedPacket),
        ("CONNACK from a client", &[0x20, 3, 0, 0, 0], R::ProtocolError),
        ("SUBACK from a client", &[0x90, 4, 0, 1, 0, 0], R::ProtocolError),
        ("UNSUBACK from a client", &[0xB0, 4, 0, 1, 0, 0], R::ProtocolError),
        ("PINGRESP from a client", &[0xD0, 0], R::ProtocolError),
        ("second CONNECT", &[0x10, 0], R::ProtocolError),
    ];
    for (what, packet, reason) in cases {
        refused(v5, packet, *reason, what);
    }
    refused(|| Decoder::server(1_024), &[0xC0, 0], R::ProtocolError, "PINGREQ before CONNECT");
    refused(|| Decoder::server(1_024), b"GET / HTTP/1.1\r\n", R::MalformedPacket, "HTTP");
    // v3.1.1 does not ask for the shortest form.
    accepted(|| connected(Version::V311), &[0xC0, 0x80, 0], "overlong length in 3.1.1");
}

#[test]
fn a_large_packet_is_refused_before_its_body_is_there() {
    let header = [0x30, 0xFF, 0xFF, 0xFF, 0x7F];
    refused(|| connected(Version::V5), &header, R::PacketTooLarge, "PUBLISH of 256 MiB");
    let header = [0x10, 0xFF, 0xFF, 0xFF, 0x7F];
    refused(|| Decoder::server(1_024), &header, R::PacketTooLarge, "CONNECT of 256 MiB");
    let mut decoder = connected(Version::V5);
    decoder.set_packet_bytes_max(8);
    let fits = frame(0x30, &[&field("a"), &[0], b"xx"]);
    assert_eq!(fits.len(), 8);
    assert!(decoder.decode(&mut BytesMut::from(&fits[..])).unwrap().is_some());
    let over = frame(0x30, &[&field("a"), &[0], b"xxx"]);
    let error = decoder.decode(&mut BytesMut::from(&over[..2])).unwrap_err();
    assert_eq!(error.reason, R::PacketTooLarge);
    assert_eq!(error.version, Some(Version::V5));
}

#[test]
fn connect() {
    let server = || Decoder::server(1_024);
    let id = field("c");
    let will = |flags: u8, topic: &str| {
        connect_packet(5, 0x04 | flags, &[&[0], &id, &[0], &field(topic), &field("m")])
    };
    let with = |properties: &[u8]| {
        let len = u8::try_from(properties.len()).unwrap();
        connect_packet(5, 2, &[&[len], properties, &id])
    };
    let name = |name: &str, level: u8| frame(0x10, &[&field(name), &[level, 2, 0, 60, 0], &id]);
    let cases = [
        ("wrong protocol name", name("MQTX", 5), R::ProtocolError),
        ("MQTT 3.1", name("MQIsdp", 3), R::UnsupportedProtocolVersion),
        ("level 6", name("MQTT", 6), R::UnsupportedProtocolVersion),
        ("level 3 of MQTT", name("MQTT", 3), R::UnsupportedProtocolVersion),
        ("reserved flag", connect_packet(5, 3, &[&[0], &id]), R::MalformedPacket),
        ("will QoS 3", will(0x18, "t"), R::MalformedPacket),
        ("will QoS without will", connect_packet(5, 0x0A, &[&[0], &id]), R::MalformedPacket),
        ("will retain without will", connect_packet(5, 0x22, &[&[0], &id]), R::MalformedPacket),
        ("wildcard in a will topic", will(0, "t/+"), R::TopicNameInvalid),
        ("empty will topic", will(0, ""), R::TopicNameInvalid),
        ("bytes after the end", connect_packet(5, 2, &[&[0], &id, b"zz"]), R::MalformedPacket),
        ("no user name", connect_packet(5, 0x82, &[&[0], &id]), R::MalformedPacket),
        ("receive maximum 0", with(&[0x21, 0, 0]), R::ProtocolError),
        ("packet size 0", with(&[0x27, 0, 0, 0, 0]), R::ProtocolError),
        ("expiry twice", with(&[0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1]), R::ProtocolError),
        ("problem info 2", with(&[0x17, 2]), R::ProtocolError),
        ("auth data alone", with(&[0x16, 0, 1, 1]), R::ProtocolError),
        ("property of PUBLISH", with(&[0x01, 1]), R::MalformedPacket),
        ("null in the client id", connect_packet(5, 2, &[&[0], &field("\0")]), R::MalformedPacket),
        ("client id not UTF-8", connect_packet(5, 2, &[&[0], &field(b"\xff")]), R::MalformedPacket),
        ("header flags", [&[0x11], &with(&[])[1..]].concat(), R::MalformedPacket),
        (
            "3.1.1 password without user name",
            connect_packet(4, 0x42, &[&id, &field("p")]),
            R::MalformedPacket,
        ),
    ];
    for (what, packet, reason) in cases {
        refused(server, &packet, reason, what);
    }
    accepted(server, &with(&[0x19, 1, 0x22, 0, 9]), "properties without use");
    accepted(server, &connect_packet(5, 0x42, &[&[0], &id, &field("p")]), "password alone in 5");
}

#[test]
fn a_connect_of_an_unknown_version_says_how_to_answer() {
    let version = |packet: &[u8]| {
        Decoder::server(99).decode(&mut BytesMut::from(packet)).unwrap_err().version
    };
    assert_eq!(version(&connect_packet(6, 2, &[&field("")])), Some(Version::V5));
    assert_eq!(version(&connect_packet(3, 2, &[&field("")])), Some(Version::V311));
    assert_eq!(version(&frame(0x10, &[&field("MQIsdp"), &[3]])), Some(Version::V311));
    assert_eq!(version(&frame(0x10, &[&field("AMQP"), &[0]])), None);
    assert_eq!(version(&connect_packet(5, 3, &[&[0], &field("")])), Some(Version::V5));
}

#[test]
fn publish() {
    let v5 = || connected(Version::V5);
    let with = |properties: &[u8], payload: &[u8]| {
        let len = u8::try_from(properties.len()).unwrap();
        frame(0x30, &[&field("a"), &[len], properties, payload])
    };
    let topic = |topic: &[u8]| frame(0x30, &[&field(topic), &[0]]);
    let long = vec![b'x'; edge_core::topic::TOPIC_BYTES_MAX + 1];
    let users = [0x26, 0, 0, 0, 0].repeat(USER_PROPERTIES_MAX + 1);
    let many = frame(0x30, &[&field("a"), &[0xC5, 0x02], &users]);
    assert_eq!(users.len(), 0x145);
    let cases = [
        ("topic not UTF-8", topic(b"a\xff"), R::MalformedPacket),
        ("surrogate in a topic", topic(b"\xed\xa0\x80"), R::MalformedPacket),
        ("null in a topic", topic(b"a\0"), R::MalformedPacket),
        ("wildcard in a topic", topic(b"a/#"), R::TopicNameInvalid),
        ("neither topic nor alias", topic(b""), R::ProtocolError),
        ("QoS 3", frame(0x36, &[&field("a"), &[0, 1, 0]]), R::MalformedPacket),
        ("DUP with QoS 0", frame(0x38, &[&field("a"), &[0]]), R::MalformedPacket),
        ("packet id 0", frame(0x32, &[&field("a"), &[0, 0, 0]]), R::ProtocolError),
        ("no packet id", frame(0x32, &[&field("a")]), R::MalformedPacket),
        ("no topic", frame(0x30, &[&[0]]), R::MalformedPacket),
        ("topic longer than the packet", frame(0x30, &[&[0, 9, b'a']]), R::MalformedPacket),
        ("property block too long", frame(0x30, &[&field("a"), &[5, 2, 0]]), R::MalformedPacket),
        ("property cut", with(&[2, 0, 0], b""), R::MalformedPacket),
        ("overlong block length", frame(0x30, &[&field("a"), &[0x80, 0]]), R::MalformedPacket),
        ("expiry twice", with(&[2, 0, 0, 0, 1, 2, 0, 0, 0, 1], b""), R::ProtocolError),
        ("unknown property", with(&[0x7F, 0], b""), R::MalformedPacket),
        ("property of CONNECT", with(&[0x11, 0, 0, 0, 1], b""), R::MalformedPacket),
        ("payload format 2", with(&[1, 2], b""), R::ProtocolError),
        ("subscription id", with(&[0x0B, 1], b""), R::ProtocolError),
        ("wildcard in the response topic", with(&[8, 0, 1, b'#'], b""), R::ProtocolError),
        ("topic alias, and none accepted", with(&[0x23, 0, 1], b""), R::TopicAliasInvalid),
        ("two aliases", with(&[0x23, 0, 1, 0x23, 0, 1], b""), R::ProtocolError),
        ("user properties", many, R::QuotaExceeded),
    ];
    for (what, packet, reason) in cases {
        refused(v5, &packet, reason, what);
    }
    let mut roomy = connected(Version::V5);
    roomy.set_packet_bytes_max(100_000);
    let error = roomy.decode(&mut BytesMut::from(&topic(&long)[..])).unwrap_err();
    assert_eq!(error.reason, R::TopicNameInvalid, "oversized topic");
    accepted(v5, &with(&[2, 0, 0, 0, 0], b"x"), "an expiry of zero is allowed");
    let aliases = || {
        let mut decoder = connected(Version::V5);
        decoder.accept_topic_aliases(2, 64);
        decoder
    };
    let alias = |alias: u8| frame(0x30, &[&field(""), &[3, 0x23, 0, alias]]);
    refused(aliases, &alias(1), R::ProtocolError, "alias that stands for nothing");
    refused(aliases, &alias(0), R::TopicAliasInvalid, "alias 0");
    refused(aliases, &alias(3), R::TopicAliasInvalid, "alias over the maximum");
    let v3 = || connected(Version::V311);
    refused(v3, &frame(0x30, &[&field("")]), R::TopicNameInvalid, "3.1.1 empty topic");
    refused(v3, &frame(0x30, &[&field("a/+")]), R::TopicNameInvalid, "3.1.1 wildcard");
    refused(v3, &frame(0x32, &[&field("a"), &[0, 0]]), R::ProtocolError, "3.1.1 packet id 0");
    let Packet::Publish(publish) = accepted(v3, &frame(0x30, &[&field("a"), b"xyz"]), "3.1.1")
    else {
        panic!()
    };
    assert_eq!(&publish.payload[..], b"xyz");
}

#[test]
fn subscribe() {
    let v5 = || connected(Version::V5);
    let one = |filter: &str, options: u8| frame(0x82, &[&[0, 1, 0], &field(filter), &[options]]);
    let cases = [
        ("flags 0", frame(0x80, &[&[0, 1, 0], &field("a"), &[0]]), R::MalformedPacket),
        ("no filter", frame(0x82, &[&[0, 1, 0]]), R::ProtocolError),
        ("packet id 0", frame(0x82, &[&[0, 0, 0], &field("a"), &[0]]), R::ProtocolError),
        ("reserved option", one("a", 0xC0), R::MalformedPacket),
        ("QoS 3", one("a", 3), R::MalformedPacket),
        ("retain handling 3", one("a", 0x30), R::ProtocolError),
        ("misplaced #", one("a/#/b", 0), R::TopicFilterInvalid),
        ("misplaced +", one("a+", 0), R::TopicFilterInvalid),
        ("empty filter", one("", 0), R::TopicFilterInvalid),
        ("filter cut", frame(0x82, &[&[0, 1, 0], &[0, 9, b'a']]), R::MalformedPacket),
        ("no options", frame(0x82, &[&[0, 1, 0], &field("a")]), R::MalformedPacket),
        ("share without a name", one("$share//a", 0), R::TopicFilterInvalid),
        ("share without a filter", one("$share/g/", 0), R::TopicFilterInvalid),
        ("wildcard in a share's name", one("$share/g+/a", 0), R::TopicFilterInvalid),
        ("no local on a share", one("$share/g/a", 4), R::ProtocolError),
        (
            "two identifiers",
            frame(0x82, &[&[0, 1, 4, 0x0B, 1, 0x0B, 1], &field("a"), &[0]]),
            R::ProtocolError,
        ),
        ("identifier 0", frame(0x82, &[&[0, 1, 2, 0x0B, 0], &field("a"), &[0]]), R::ProtocolError),
        ("UNSUBSCRIBE flags", frame(0xA0, &[&[0, 1, 0], &field("a")]), R::MalformedPacket),
        ("UNSUBSCRIBE of nothing", frame(0xA2, &[&[0, 1, 0]]), R::ProtocolError),
    ];
    for (what, packet, reason) in cases {
        refused(v5, &packet, reason, what);
    }
    let v3 = || connected(Version::V311);
    let options = frame(0x82, &[&[0, 1], &field("a"), &[4]]);
    refused(v3, &options, R::MalformedPacket, "3.1.1 options of 5");
    let mut roomy = connected(Version::V5);
    roomy.set_packet_bytes_max(100_000);
    let filters = [&field("a")[..], &[0]].concat().repeat(FILTERS_MAX + 1);
    let many = frame(0x82, &[&[0, 1, 0], &filters]);
    let error = roomy.decode(&mut BytesMut::from(&many[..])).unwrap_err();
    assert_eq!(error.reason, R::QuotaExceeded);
}

#[test]
fn acks_and_disconnect() {
    let v5 = || connected(Version::V5);
    let cases: &[(&str, &[u8], R)] = &[
        ("PUBREL flags 0", &[0x60, 2, 0, 1], R::MalformedPacket),
        ("PUBACK of 0", &[0x40, 2, 0, 0], R::ProtocolError),
        ("PUBACK too long", &[0x40, 6, 0, 1, 0, 0, 9, 9], R::MalformedPacket),
        ("PUBACK too short", &[0x40, 1, 0], R::MalformedPacket),
        ("PUBACK unknown reason", &[0x40, 3, 0, 1, 0x42], R::MalformedPacket),
        ("PUBREL with a reason of PUBACK", &[0x62, 3, 0, 1, 0x87], R::MalformedPacket),
        ("DISCONNECT flags", &[0xE1, 0], R::MalformedPacket),
        ("DISCONNECT unknown reason", &[0xE0, 1, 0x42], R::MalformedPacket),
        ("DISCONNECT with a server's reason", &[0xE0, 1, 0x8B], R::MalformedPacket),
        ("DISCONNECT too long", &[0xE0, 3, 0, 0, 1], R::MalformedPacket),
    ];
    for (what, packet, reason) in cases {
        refused(v5, packet, *reason, what);
    }
    let v3 = || connected(Version::V311);
    refused(v3, &[0x40, 3, 0, 1, 0], R::MalformedPacket, "3.1.1 PUBACK with a reason");
    refused(v3, &[0xE0, 1, 0], R::MalformedPacket, "3.1.1 DISCONNECT with a body");
    assert_eq!(
        accepted(v3, &[0xE0, 0], "DISCONNECT"),
        Packet::Disconnect(Disconnect::new(R::Success))
    );
    let short = accepted(v5, &[0x40, 3, 0, 7, 0x10], "PUBACK without properties");
    let ack = Ack { packet_id: PacketId::new(7).unwrap(), reason: R::NoMatchingSubscribers };
    assert_eq!(short, Packet::PubAck(ack));
}

/// [MQTT-1.5.7-1]
#[test]
fn user_properties_are_two_strings() {
    let v5 = || connected(Version::V5);
    let with = |name: &[u8], value: &[u8]| {
        let pair = [&[0x26][..], &field(name), &field(value)].concat();
        let len = u8::try_from(pair.len()).unwrap();
        frame(0x30, &[&field("a"), &[len], &pair])
    };
    refused(v5, &with(b"\xff", b"v"), R::MalformedPacket, "name not UTF-8");
    refused(v5, &with(b"n", b"\xed\xa0\x80"), R::MalformedPacket, "surrogate in a value");
    refused(v5, &with(b"n", b"\0"), R::MalformedPacket, "null in a value");
    accepted(v5, &with(b"", b""), "empty strings are strings");
}

/// [MQTT-3.1.3-12], v3.1.1 [MQTT-3.1.3-11]
#[test]
fn user_name_is_a_string() {
    let server = || Decoder::server(1_024);
    for name in [&b"\xff"[..], b"a\0"] {
        let five = connect_packet(5, 0x82, &[&[0], &field("c"), &field(name)]);
        refused(server, &five, R::MalformedPacket, "user name in 5");
        let old = connect_packet(4, 0x82, &[&field("c"), &field(name)]);
        refused(server, &old, R::MalformedPacket, "user name in 3.1.1");
    }
}

/// [MQTT-3.14.2-2]: a client's decoder takes none, and the server's encoder writes none.
#[test]
fn a_server_s_disconnect_has_no_expiry() {
    let packet = [0xE0, 7, 0x8B, 5, 0x11, 0, 0, 0, 1];
    let client = || Decoder::client(Version::V5, 64);
    refused(client, &packet, R::MalformedPacket, "session expiry from a server");
    let mut bytes = Vec::new();
    encode(&Packet::Disconnect(Disconnect::new(R::ServerShuttingDown)), Version::V5, &mut bytes);
    assert_eq!(bytes, [0xE0, 2, 0x8B, 0]);
}
