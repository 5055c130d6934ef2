//! Raw bytes that no client should send, and clients that do not play along. Whatever they do, a
//! client beside them is served.

use std::time::Duration;

use edge_broker::codec::{Connect, Packet, ReasonCode, Version};
use edge_broker::transport::{ListenConfig, Transport, TransportLimits};
use edge_broker::{Input, Limits};
use edge_core::message::QoS;
use tokio::io::AsyncReadExt;

use crate::owner::{Server, Setup, eventually};
use crate::raw::{Raw, id, publish};

/// Everything until the server closes.
async fn last_packet(raw: &mut Raw) -> Option<Packet> {
    let mut last = None;
    while let Some(packet) = raw.recv().await {
        last = Some(packet);
    }
    last
}

#[tokio::test]
async fn malformed_packets_end_their_own_connection_with_the_reason() {
    let server = Server::plain();
    let mut bystander = Raw::join(server.address, Version::V5, "bystander").await;
    bystander.subscribe("#", QoS::AtLeastOnce).await;
    let long = [&[0x30, 0x84, 0x08, 0x04, 0x01][..], &[b'x'; 1_025], &[0]].concat();
    let cases: &[(&[u8], ReasonCode)] = &[
        (&[0x30, 5, 0, 2, b'a', 0xFF, 0], ReasonCode::MalformedPacket),
        (&[0x30, 6, 0, 3, b'a', b'/', b'#', 0], ReasonCode::TopicNameInvalid),
        (&long, ReasonCode::TopicNameInvalid),
        (&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], ReasonCode::PacketTooLarge),
        (&[0x30, 0xFF, 0xFF, 0xFF, 0xFF], ReasonCode::MalformedPacket),
        (&[0x32, 6, 0, 1, b'a', 0, 0, 0], ReasonCode::ProtocolError),
        (&[0x30, 7, 0, 1, b'a', 3, 0x23, 0, 17], ReasonCode::TopicAliasInvalid),
        (&[0x82, 3, 0, 1, 0], ReasonCode::ProtocolError),
        (&[0xF0, 0], ReasonCode::ProtocolError),
        (b"GET / HTTP/1.1\r\n\r\n", ReasonCode::MalformedPacket),
    ];
    for (bytes, reason) in cases {
        let mut raw = Raw::join(server.address, Version::V5, "hostile").await;
        raw.write(bytes).await;
        match last_packet(&mut raw).await {
            Some(Packet::Disconnect(disconnect)) => assert_eq!(disconnect.reason, *reason),
            other => panic!("{bytes:x?}: {other:?}"),
        }
        // 3.1.1 has no words for it; it is closed all the same. Its bytes differ where 5 has
        // properties, so only what is wrong in both is sent.
        if bytes[0] != 0x82 && !bytes.starts_with(&[0x30, 7]) {
            let mut raw = Raw::join(server.address, Version::V311, "hostile").await;
            raw.write(bytes).await;
            assert_eq!(last_packet(&mut raw).await, None, "{bytes:x?}");
        }
    }
    bystander.send(&[Packet::Publish(publish("a", b"still here", 1))]).await;
    assert!(matches!(bystander.recv().await, Some(Packet::Publish(_) | Packet::PubAck(_))));
    server.stop().await;
}

#[tokio::test]
async fn a_connect_that_is_none_is_answered_as_far_as_possible() {
    let server = Server::plain();
    let connack = |packet: Option<Packet>| match packet {
        Some(Packet::ConnAck(connack)) => Some(connack.reason),
        None => None,
        other => panic!("{other:?}"),
    };
    let unsupported = Some(ReasonCode::UnsupportedProtocolVersion);
    let cases: &[(Version, &[u8], Option<ReasonCode>)] = &[
        (Version::V5, b"\x10\x0c\x00\x04MQTT\x06\x02\x00\x3c\x00\x00", unsupported),
        (Version::V311, b"\x10\x0c\x00\x06MQIsdp\x03\x02\x00\x3c", unsupported),
        (
            Version::V5,
            b"\x10\x0d\x00\x04MQTT\x05\x03\x00\x3c\x00\x00\x00",
            Some(ReasonCode::MalformedPacket),
        ),
        (Version::V311, b"\x10\x0c\x00\x04MQTT\x04\x03\x00\x3c\x00\x00", None),
        (Version::V5, b"\x10\x0c\x00\x04AMQP\x05\x02\x00\x3c\x00\x00", None),
        (Version::V5, b"\xc0\x00", None),
        (Version::V5, b"GET / HTTP/1.1\r\n\r\n", None),
        (Version::V5, &[0x10, 0xFF, 0xFF, 0xFF, 0x7F], None),
    ];
    for (version, bytes, expected) in cases {
        let mut raw = Raw::open(server.address, *version).await;
        raw.write(bytes).await;
        assert_eq!(connack(last_packet(&mut raw).await), *expected, "{bytes:x?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn packets_cut_anywhere_and_together_arrive() {
    let server = Server::plain();
    let mut raw = Raw::open(server.address, Version::V5).await;
    let connect = crate::raw::with_password(Connect::new(Version::V5, "c"));
    let mut bytes = Vec::new();
    let packets = [
        Packet::Connect(Box::new(connect)),
        Packet::Publish(publish("a", &[7; 3_000], 1)),
        Packet::Publish(publish("a", b"", 2)),
        Packet::PingReq,
    ];
    packets.iter().for_each(|p| edge_broker::codec::encode(p, Version::V5, &mut bytes));
    for piece in bytes.chunks(97) {
        raw.write(piece).await;
        tokio::task::yield_now().await;
    }
    assert!(matches!(raw.recv().await, Some(Packet::ConnAck(_))));
    let mut rest =
        [raw.recv().await.unwrap(), raw.recv().await.unwrap(), raw.recv().await.unwrap()];
    rest.sort_by_key(|packet| matches!(packet, Packet::PingResp));
    assert!(matches!(&rest[0], Packet::PubAck(ack) if ack.packet_id == id(1)));
    assert!(matches!(&rest[1], Packet::PubAck(ack) if ack.packet_id == id(2)));
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_never_reads_stalls_nobody() {
    let server = Server::plain();
    let mut slow = Raw::join(server.address, Version::V311, "slow").await;
    slow.subscribe("#", QoS::AtLeastOnce).await;
    let mut fast = Raw::join(server.address, Version::V311, "fast").await;
    fast.subscribe("#", QoS::AtLeastOnce).await;
    let mut publisher = Raw::join(server.address, Version::V311, "publisher").await;
    // Far more than the socket buffers of the slow one hold.
    let payload = vec![b'x'; 50_000];
    for n in 1..=400 {
        publisher.send(&[Packet::Publish(publish("a", &payload, n))]).await;
        assert!(matches!(publisher.recv().await, Some(Packet::PubAck(_))));
        assert_eq!(fast.publish().await.payload.len(), payload.len(), "{n}");
    }
    // It wakes up: the newest messages have been kept for it within its bounds.
    let first = slow.publish().await;
    assert_eq!(first.payload.len(), payload.len());
    let (status, _) = server.stop().await;
    assert!(status.queued_bytes <= Limits::default().online_bytes_max + 128 * 51_000);
}

#[tokio::test]
async fn who_sends_nothing_is_disconnected_and_holds_no_place() {
    let transport =
        TransportLimits { connect_ms_max: 300, handshakes_max: 4, ..TransportLimits::default() };
    let server = Server::start(Setup { transport, ..Setup::default() });
    let mut silent = Vec::new();
    for _ in 0..12 {
        silent.push(Raw::open(server.address, Version::V5).await);
    }
    // A good client waits for a place and gets it.
    let mut good = Raw::join(server.address, Version::V5, "good").await;
    good.ping().await;
    for mut raw in silent {
        let mut nothing = [0];
        let read = tokio::time::timeout(Duration::from_secs(10), raw.stream.read(&mut nothing));
        assert_eq!(read.await.expect("closed in time").unwrap_or(0), 0);
    }
    server.stop().await;
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_a_place() {
    let transport = TransportLimits { connections_max: 2, ..TransportLimits::default() };
    let server = Server::start(Setup { transport, ..Setup::default() });
    let first = Raw::join(server.address, Version::V5, "1").await;
    let _second = Raw::join(server.address, Version::V5, "2").await;
    let third = tokio::spawn(async move {
        Raw::join(server.address, Version::V5, "3").await;
        server
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!third.is_finished());
    drop(first);
    third.await.unwrap();
}

#[tokio::test]
async fn a_flood_of_qos_0_does_not_stall_another() {
    let server = Server::plain();
    let mut flood = Raw::join(server.address, Version::V311, "flood").await;
    let flooding = tokio::spawn(async move {
        let mut bytes = Vec::new();
        for _ in 0..1_000 {
            let packet = Packet::Publish(publish("flood", &[1; 200], 0));
            edge_broker::codec::encode(&packet, Version::V311, &mut bytes);
        }
        for _ in 0..100 {
            flood.write(&bytes).await;
        }
        flood
    });
    let mut quiet = Raw::join(server.address, Version::V311, "quiet").await;
    let mut slowest = Duration::ZERO;
    let mut pings = 0;
    while !flooding.is_finished() || pings < 20 {
        let start = std::time::Instant::now();
        quiet.ping().await;
        slowest = slowest.max(start.elapsed());
        pings += 1;
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let mut flood = flooding.await.unwrap();
    flood.ping().await;
    server.stop().await;
}

#[tokio::test]
async fn acks_under_way_survive_a_broken_connection() {
    let commit_delay = Duration::from_millis(300);
    let server = Server::start(Setup { commit_delay, ..Setup::default() });
    let keep =
        || Connect { clean_start: false, session_expiry_s: 600, ..Connect::new(Version::V5, "c") };
    let (mut raw, _) = Raw::connect(server.address, keep()).await;
    raw.send(&[Packet::Publish(publish("a", b"x", 5))]).await;
    let delivered = || server.seen.delivered.load(std::sync::atomic::Ordering::Relaxed);
    eventually("delivered", || delivered() == 1).await;
    drop(raw);
    let (mut raw, present) = Raw::connect(server.address, keep()).await;
    assert!(present);
    let again = edge_broker::codec::Publish { dup: true, ..publish("a", b"x", 5) };
    raw.send(&[Packet::Publish(again)]).await;
    assert!(matches!(raw.recv().await, Some(Packet::PubAck(ack)) if ack.packet_id == id(5)));
    assert_eq!(delivered(), 1, "the repeat found its first copy");
    server.stop().await;
}

#[tokio::test]
async fn large_packets_that_never_end_hold_up_only_large_packets_and_not_for_long() {
    let transport = TransportLimits {
        assembly_bytes_max: 130 * 1_024,
        packet_ms_max: 500,
        ..TransportLimits::default()
    };
    let server = Server::start(Setup { transport, ..Setup::default() });
    let large = vec![b'x'; 100_000];
    let mut bytes = Vec::new();
    let packet = Packet::Publish(publish("a", &large, 1));
    edge_broker::codec::encode(&packet, Version::V311, &mut bytes);
    let mut hostile = Vec::new();
    for n in 0..3 {
        let mut raw = Raw::join(server.address, Version::V311, &format!("hostile {n}")).await;
        raw.write(&bytes[..60_000.min(bytes.len())]).await;
        hostile.push(raw);
    }
    let mut small = Raw::join(server.address, Version::V311, "small").await;
    let mut honest = Raw::join(server.address, Version::V311, "honest").await;
    honest.send(&[packet]).await;
    small.send(&[Packet::Publish(publish("a", b"x", 1))]).await;
    assert!(matches!(small.recv().await, Some(Packet::PubAck(_))));
    assert!(matches!(honest.recv().await, Some(Packet::PubAck(_))));
    for mut raw in hostile {
        assert_eq!(raw.recv().await, None, "it had its time");
    }
    server.stop().await;
}

/// An owner that goes answers nobody any more: a client that waits for its CONNACK must not wait for
/// ever, whether the owner had heard of it or not.
#[tokio::test]
async fn connections_end_with_their_owner() {
    let (transport, mut port) = Transport::new(TransportLimits::default());
    let address = "127.0.0.1:0".parse().unwrap();
    let listener = transport.listen(ListenConfig { address, tls: None }).unwrap();
    let connect = || Packet::Connect(Box::new(Connect::new(Version::V5, "waits")));
    let mut heard = Raw::open(listener.local_addr(), Version::V5).await;
    heard.send(&[connect()]).await;
    assert!(matches!(port.recv().await, Some(Input::Opened { .. })));
    assert!(matches!(port.recv().await, Some(Input::Packets { .. })));
    let mut unheard = Raw::open(listener.local_addr(), Version::V5).await;
    unheard.send(&[connect()]).await;
    drop((port, listener));
    assert_eq!((heard.recv().await, unheard.recv().await), (None, None));
}
