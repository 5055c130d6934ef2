//! Clients that break the rules, and clients that keep them in bad faith. Each is a row: what it
//! sends, and how it has to end. Beside all of them a well-behaved client publishes at a steady
//! rate and must notice nothing.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use edge_broker::codec::{Connect, Packet, PacketId, Publish, ReasonCode, Version, encode};
use edge_core::message::QoS;
use edge_core::topic::Topic;
use system_tests::connections::Latency;
use system_tests::gateway::{Gateway, Setup};
use system_tests::mqtt::Login;
use system_tests::pki;
use system_tests::swarm::Link;
use system_tests::watchers::Watchers;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Patience with a connection that has to be closed.
const CLOSED_MAX: Duration = Duration::from_secs(20);
/// What the well-behaved client may notice while other tests run on the same machine.
const P99_MAX_MS: f64 = 250.0;

/// The last that a client hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    ConnAck(ReasonCode),
    Disconnect(ReasonCode),
    /// Closed without a word: MQTT 3.1.1 has none, and who is no client gets none.
    Closed,
}

/// Bytes that no client may send: at once after the handshake of TCP, or after a CONNACK.
struct Malformed {
    what: &'static str,
    version: Version,
    connected: bool,
    bytes: Vec<u8>,
    ends: Ends,
}

/// Bytes that are sent piece by piece, over and over or once, for as long as it takes.
struct Abusive {
    what: &'static str,
    /// Said and answered before.
    connect: Option<Connect>,
    /// The pieces.
    pieces: Vec<Vec<u8>>,
    /// Sent again from the start.
    again: bool,
    pause: Duration,
    /// `None`: it is not closed (yet), and is given up by this test after some seconds.
    ends: Option<Ends>,
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

fn connect(protocol: &[u8], level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
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
fn malformed_when_connected() -> Vec<Malformed> {
    use ReasonCode as R;
    let topic = |name: &[u8]| [string(name), vec![0]].concat();
    let both: Vec<(&str, Vec<u8>, R)> = vec![
        ("a topic that is no UTF-8", packet(0x30, &topic(b"a\xff")), R::MalformedPacket),
        ("a topic with NUL", packet(0x30, &topic(b"a\0")), R::MalformedPacket),
        ("a topic with a surrogate", packet(0x30, &topic(b"\xed\xa0\x80")), R::MalformedPacket),
        ("a topic with a wildcard", packet(0x30, &topic(b"a/#")), R::TopicNameInvalid),
        ("an empty topic", packet(0x30, &topic(b"")), R::TopicNameInvalid),
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
        ("a topic alias", packet(0x30, &[0, 1, b'a', 3, 0x23, 0, 1]), R::TopicAliasInvalid),
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
fn malformed_connects() -> Vec<Malformed> {
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

fn abusive() -> Vec<Abusive> {
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

/// Everything until the server closes.
async fn end(link: &mut Link) -> Ends {
    let mut last = Ends::Closed;
    while let Ok(packet) = link.next().await {
        last = match packet {
            Packet::ConnAck(ack) => Ends::ConnAck(ack.reason),
            Packet::Disconnect(why) => Ends::Disconnect(why.reason),
            _ => last,
        };
    }
    last
}

impl Malformed {
    async fn check(self, address: SocketAddr) -> Result<()> {
        let Self { what, version, connected, bytes, ends } = self;
        let mut link = if connected {
            Link::join(address, None, Connect::new(version, "hostile")).await?.0
        } else {
            Link::open(address, None, version).await?
        };
        // It may be closed before all of it is written.
        let _ = link.write(&bytes).await;
        let ended = timeout(CLOSED_MAX, end(&mut link)).await;
        let ended = ended.with_context(|| format!("{what} ({version:?}): not closed"))?;
        assert_eq!(ended, ends, "{what} ({version:?})");
        Ok(())
    }
}

impl Abusive {
    async fn check(self, address: SocketAddr) -> Result<()> {
        let mut link = match &self.connect {
            Some(connect) => Link::join(address, None, connect.clone()).await?.0,
            None => Link::open(address, None, Version::V5).await?,
        };
        let Some(ends) = self.ends else {
            // It never reads; it is stopped by its own socket, or by a closed connection.
            let abusing = self.send(&mut link);
            let _ = timeout(Duration::from_secs(6), abusing).await;
            return Ok(());
        };
        let begin = Instant::now();
        let _ = timeout(CLOSED_MAX, self.send(&mut link)).await;
        let left = CLOSED_MAX.saturating_sub(begin.elapsed());
        let ended = timeout(left, end(&mut link)).await;
        assert_eq!(
            ended.with_context(|| format!("{}: not closed", self.what))?,
            ends,
            "{}",
            self.what
        );
        Ok(())
    }

    /// Until the connection breaks, or the pieces are sent.
    async fn send(&self, link: &mut Link) {
        loop {
            for piece in &self.pieces {
                if link.write(piece).await.is_err() {
                    return;
                }
                sleep(self.pause).await;
            }
            if !self.again {
                return;
            }
        }
    }
}

fn gateway(dir: &std::path::Path) -> Result<Gateway> {
    let more = format!(
        "[[devices]]\nname = \"press-1\"\ntoken_sha256 = \"{}\"\n",
        system_tests::ledger::hash(b"token")
    );
    let mut gateway = Gateway::new(dir, &Setup { more, ..Setup::open("besieged") })?;
    gateway.start()?;
    Ok(gateway)
}

/// A well-behaved client beside what `attack` does; it has to be served as ever.
fn beside_a_good_client(login: Login, attack: impl Future<Output = Result<()>>) -> Result<Latency> {
    let good = Watchers::start(vec![login], Duration::from_millis(10))?;
    let io = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    io.block_on(attack)?;
    let seen = good.stop()?.remove(0);
    assert_eq!(seen.lost, None, "the good client was lost");
    let latency = Latency::of(seen.samples.iter().map(|sample| sample.took).collect());
    assert!(latency.samples >= 20, "too short: {latency}");
    assert!(latency.p99_ms <= P99_MAX_MS, "the good client noticed: {latency}");
    Ok(latency)
}

#[test]
fn malformed_packets_end_their_own_connection_with_the_reason() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut gateway = gateway(dir.path())?;
    let address = gateway.address();
    let latency = beside_a_good_client(Login::anonymous(address, "good"), async {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(2) {
            for case in malformed_when_connected().into_iter().chain(malformed_connects()) {
                case.check(address).await?;
            }
        }
        Ok(())
    })?;
    println!("the good client, publish to PUBACK: {latency}");
    gateway.stop()
}

#[test]
fn slow_deaf_and_flooding_clients_disturb_nobody() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut gateway = gateway(dir.path())?;
    let address = gateway.address();
    let latency = beside_a_good_client(Login::anonymous(address, "good"), async {
        let all: Vec<_> =
            abusive().into_iter().map(|case| tokio::spawn(case.check(address))).collect();
        for case in all {
            case.await??;
        }
        Ok(())
    })?;
    println!("the good client, publish to PUBACK: {latency}");
    gateway.stop()
}

/// What the TLS port says to bytes that are no TLS.
async fn garbage(address: SocketAddr, bytes: Vec<u8>) -> Result<Vec<u8>> {
    let mut socket = TcpStream::connect(address).await?;
    let _ = socket.write_all(&bytes).await;
    let mut answer = Vec::new();
    // A reset is as good as an end.
    let _ = timeout(CLOSED_MAX, socket.read_to_end(&mut answer)).await.context("not closed")?;
    Ok(answer)
}

#[test]
fn garbage_on_the_tls_port_is_closed() -> Result<()> {
    const ALERT: u8 = 0x15;
    let dir = tempfile::tempdir()?;
    let identity = pki::server_identity(&dir.path().join("pki"))?;
    let setup = Setup::open("besieged").with_tls(&identity);
    let mut gateway = Gateway::new(&dir.path().join("gateway"), &setup)?;
    gateway.start()?;
    let address = gateway.address();
    let login = Login { ca: Some(identity.ca), ..Login::anonymous(address, "good") };
    let cases: [(&str, Vec<u8>); 6] = [
        ("MQTT without TLS", connect(b"MQTT", 5, 2, &[0, 0, 0])),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("zeros", vec![0; 10_000]),
        (
            "a record longer than records are",
            [&[0x16, 3, 1, 0xFF, 0xFF][..], &vec![0; 20_000]].concat(),
        ),
        ("a hello cut short", vec![0x16, 3, 1, 0, 4, 1, 0, 0, 0]),
        ("the first byte of a hello, then nothing", vec![0x16]),
    ];
    let latency = beside_a_good_client(login, async {
        let all: Vec<_> = cases
            .into_iter()
            .map(|(what, bytes)| (what, tokio::spawn(garbage(address, bytes))))
            .collect();
        for (what, answer) in all {
            let answer = answer.await?.context(what)?;
            let is_alert = answer.first().is_none_or(|first| *first == ALERT);
            assert!(is_alert, "{what}: {answer:x?}");
        }
        Ok(())
    })?;
    println!("the good client, publish to PUBACK: {latency}");
    gateway.stop()
}
