//! The rows: what hostile clients send, and how each has to end.

use std::time::Duration;

use bytes::Bytes;
use edge_broker::codec::{Connect, Packet, PacketId, Publish, ReasonCode, Version, encode};
use edge_core::message::QoS;
use edge_core::topic::Topic;

/// The last that a client hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    ConnAck(ReasonCode),
    Disconnect(ReasonCode),
    /// Closed without a word: MQTT 3.1.1 has none, and who is no client gets none.
    Closed,
}

/// Bytes that no client may send: at once after the handshake of TCP, or after a CONNACK.
pub(super) struct Malformed {
    pub(super) what: &'static str,
    pub(super) version: Version,
    pub(super) connected: bool,
    pub(super) bytes: Vec<u8>,
    pub(super) ends: Ends,
}

/// Bytes that are sent piece by piece, over and over or once, for as long as it takes.
pub(super) struct Abusive {
    pub(super) what: &'static str,
    /// Said and answered before.
    pub(super) connect: Option<Connect>,
    /// The pieces.
    pub(super) pieces: Vec<Vec<u8>>,
    /// Sent again from the start.
    pub(super) again: bool,
    pub(super) pause: Duration,
    /// `None`: it is not closed (yet), and is given up by this test after some seconds.
    pub(super) ends: Option<Ends>,
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a short string");
    [&length.to_be_bytes()[..], bytes].concat()
}

/// A packet with its length before it.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let (mut bytes, mut left) = (vec![first], body.len());
    loop {
        let low = u8::try_from(left % 128).expect("below 128");
        left /= 128;
        bytes.push(if left > 0 { low | 0x80 } else { low });
        if left == 0 {
            return [bytes, body.to_vec()].concat();
        }
    }
}

pub(super) fn connect(protocol: &[u8], level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
    packet(0x10, &[&string(protocol), &[level, flags, 0, 60][..], rest].concat())
}

fn publish(qos: QoS, topic: &str, payload: usize, id: u16) -> Vec<u8> {
    let publish = Publish {
        dup: false,
        qos,
        retain: false,
        topic: Topic::new(topic).expect("a topic"),
        packet_id: PacketId::new(id),
        expiry_s: None,
        subscription_ids: Vec::new(),
        properties: Default::default(),
        payload: Bytes::from(vec![b'x'; payload]),
    };
    let mut bytes = Vec::new();
    encode(&Packet::Publish(publish), Version::V5, &mut bytes);
    bytes
}

/// A SUBSCRIBE of 100 filters of its own.
fn subscribe(n: u16) -> Vec<u8> {
    let filters =
        (0..100).flat_map(|m| [string(format!("f/{n}/{m}").as_bytes()), vec![1]].concat());
    packet(0x82, &[&n.to_be_bytes()[..], &[0], &filters.collect::<Vec<_>>()].concat())
}

/// After a CONNACK, in both versions; what is different in 3.1.1 is only that it has no words.
pub(super) fn malformed_when_connected() -> Vec<Malformed> {
    use ReasonCode as R;
    let topic = |name: &[u8]| [string(name), vec![0]].concat();
    let both: Vec<(&str, Vec<u8>, R)> = vec![
        ("a topic that is no UTF-8", packet(0x30, &topic(b"a\xff")), R::MalformedPacket),
        ("a topic with NUL", packet(0x30, &topic(b"a\0")), R::MalformedPacket),
        ("a topic with a surrogate", packet(0x30, &topic(b"\xed\xa0\x80")), R::MalformedPacket),
        ("a topic with a wildcard", packet(0x30, &topic(b"a/#")), R::TopicNameInvalid),
        ("an empty topic", packet(0x30, &topic(b"")), R::ProtocolError),
        ("an oversized topic", packet(0x30, &topic(&[b'x'; 1_025])), R::TopicNameInvalid),
        ("a topic longer than its packet", packet(0x30, &[0, 9, b'a']), R::MalformedPacket),
        ("QoS 3", packet(0x36, &[0, 1, b'a', 0, 1, 0]), R::MalformedPacket),
        ("DUP with QoS 0", packet(0x38, &topic(b"a")), R::MalformedPacket),
        ("packet id 0", packet(0x32, &[0, 1, b'a', 0, 0, 0]), R::ProtocolError),
        ("256 MiB announced", vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F], R::PacketTooLarge),
        ("a length without end", vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF], R::MalformedPacket),
        ("packet type 0", vec![0x00, 0], R::MalformedPacket),
        ("SUBSCRIBE with wrong flags", packet(0x80, &[0, 1]), R::MalformedPacket),
        ("a second CONNECT", connect(b"MQTT", 5, 2, &[0, 0, 1, b'c']), R::ProtocolError),
        ("a packet of the server", packet(0xD0, &[]), R::ProtocolError),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), R::MalformedPacket),
    ];
    let only_5: Vec<(&str, Vec<u8>, R)> = vec![
        ("a topic alias of 17", packet(0x30, &[0, 1, b'a', 3, 0x23, 0, 17]), R::TopicAliasInvalid),
        ("an alias for nothing", packet(0x30, &[0, 0, 3, 0x23, 0, 1]), R::ProtocolError),
        (
            "no local on a shared subscription",
            packet(0x82, &[&[0, 1, 0, 0, 10][..], b"$share/g/a", &[4]].concat()),
            R::ProtocolError,
        ),
        ("a property twice", packet(0x30, &[0, 1, b'a', 4, 1, 0, 1, 0]), R::ProtocolError),
        (
            "a property of another packet",
            packet(0x30, &[0, 1, b'a', 5, 0x27, 0, 0, 1, 0]),
            R::MalformedPacket,
        ),
        (
            "a payload over the limit",
            publish(QoS::AtMostOnce, "a", (128 << 10) + 1, 0),
            R::PacketTooLarge,
        ),
        ("SUBSCRIBE for nothing", packet(0x82, &[0, 1, 0]), R::ProtocolError),
        ("AUTH out of the blue", packet(0xF0, &[]), R::ProtocolError),
        (
            "more under way than the receive maximum",
            (1..=33).flat_map(|id| publish(QoS::ExactlyOnce, "a", 1, id)).collect(),
            R::ReceiveMaximumExceeded,
        ),
    ];
    let row = |version, ends: fn(R) -> Ends| {
        move |(what, bytes, reason): (&'static str, Vec<u8>, R)| Malformed {
            what,
            version,
            connected: true,
            bytes,
            ends: ends(reason),
        }
    };
    let of_311 = both.clone().into_iter().map(row(Version::V311, |_| Ends::Closed));
    both.into_iter().chain(only_5).map(row(Version::V5, Ends::Disconnect)).chain(of_311).collect()
}

/// In the place of a CONNECT.
pub(super) fn malformed_connects() -> Vec<Malformed> {
    use Version::{V5, V311};
    let refused = Ends::ConnAck;
    let (unsupported, login, name) = (
        refused(ReasonCode::UnsupportedProtocolVersion),
        refused(ReasonCode::BadUserNameOrPassword),
        refused(ReasonCode::ClientIdentifierNotValid),
    );
    let user = |user: &[u8], password: &[u8]| {
        [&[0], &string(b"c")[..], &string(user), &string(password)].concat()
    };
    let rows: Vec<(&'static str, Version, Vec<u8>, Ends)> = vec![
        ("MQTT 6", V5, connect(b"MQTT", 6, 2, &[0, 0, 0]), unsupported),
        ("MQTT 3.1", V311, connect(b"MQIsdp", 3, 2, &string(b"c")), unsupported),
        ("another protocol", V5, connect(b"AMQP", 5, 2, &[0, 0, 0]), Ends::Closed),
        (
            "a reserved flag, 5",
            V5,
            connect(b"MQTT", 5, 3, &[0, 0, 0]),
            refused(ReasonCode::MalformedPacket),
        ),
        ("a reserved flag, 3.1.1", V311, connect(b"MQTT", 4, 3, &string(b"c")), Ends::Closed),
        (
            "will QoS 3",
            V5,
            connect(b"MQTT", 5, 0x1E, &[0; 8]),
            refused(ReasonCode::MalformedPacket),
        ),
        (
            "a name that is no UTF-8",
            V5,
            connect(b"MQTT", 5, 2, &[&[0][..], &string(b"\xff")].concat()),
            refused(ReasonCode::MalformedPacket),
        ),
        (
            "a name of 300 bytes",
            V5,
            connect(b"MQTT", 5, 2, &[&[0][..], &string(&[b'n'; 300])].concat()),
            name,
        ),
        ("no name for a kept session", V311, connect(b"MQTT", 4, 0, &string(b"")), name),
        ("an unknown account", V5, connect(b"MQTT", 5, 0xC2, &user(b"nobody", b"x")), login),
        ("a wrong token", V5, connect(b"MQTT", 5, 0xC2, &user(b"press-1", b"x")), login),
        (
            "a wrong token, 3.1.1",
            V311,
            connect(b"MQTT", 4, 0xC2, &user(b"press-1", b"x")[1..]),
            login,
        ),
        (
            "a method of authentication",
            V5,
            connect(b"MQTT", 5, 2, &[&[4, 0x15, 0, 1, b'm'][..], &string(b"c")].concat()),
            refused(ReasonCode::BadAuthenticationMethod),
        ),
        ("a ping first", V5, vec![0xC0, 0], Ends::Closed),
        ("HTTP", V5, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), Ends::Closed),
        ("TLS", V5, vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3], Ends::Closed),
        ("256 MiB announced", V5, vec![0x10, 0xFF, 0xFF, 0xFF, 0x7F], Ends::Closed),
    ];
    let rows = rows.into_iter();
    rows.map(|(what, version, bytes, ends)| Malformed {
        what,
        version,
        connected: false,
        bytes,
        ends,
    })
    .collect()
}

pub(super) fn abusive() -> Vec<Abusive> {
    let bytewise = |bytes: Vec<u8>| bytes.into_iter().map(|byte| vec![byte]).collect::<Vec<_>>();
    let named = |name| Some(Connect::new(Version::V5, name));
    let second = Duration::from_secs(1);
    let everything = packet(0x82, &[&[0, 1, 0][..], &string(b"#"), &[1]].concat());
    let to_itself = (1..=32).map(|id| publish(QoS::AtLeastOnce, "flood/b", 50_000, id));
    vec![
        Abusive {
            what: "a CONNECT of one byte a second",
            connect: None,
            pieces: bytewise(connect(b"MQTT", 5, 2, &[&[0][..], &string(&[b's'; 40])].concat())),
            again: false,
            pause: second,
            ends: Some(Ends::Closed),
        },
        Abusive {
            what: "a PUBLISH of one byte a second, past its keep-alive",
            connect: Some(Connect { keep_alive_s: 2, ..Connect::new(Version::V5, "slow") }),
            pieces: bytewise(publish(QoS::AtLeastOnce, "slow/a", 100, 1)),
            again: false,
            pause: second,
            ends: Some(Ends::Disconnect(ReasonCode::KeepAliveTimeout)),
        },
        Abusive {
            what: "SUBSCRIBE without end",
            connect: named("subscribes"),
            pieces: (1..=500).map(subscribe).collect(),
            again: true,
            pause: Duration::ZERO,
            ends: None,
        },
        Abusive {
            what: "it subscribes to everything, publishes and never reads",
            connect: named("never reads"),
            pieces: [everything].into_iter().chain(to_itself).collect(),
            again: true,
            pause: Duration::ZERO,
            ends: None,
        },
        Abusive {
            what: "QoS 0 without end",
            connect: named("floods"),
            pieces: vec![publish(QoS::AtMostOnce, "flood/a", 200, 0).repeat(200)],
            again: true,
            pause: Duration::ZERO,
            ends: None,
        },
        Abusive {
            what: "pings without end, answers not read",
            connect: named("pings"),
            pieces: vec![[0xC0, 0].repeat(10_000)],
            again: true,
            pause: Duration::ZERO,
            ends: None,
        },
    ]
}
