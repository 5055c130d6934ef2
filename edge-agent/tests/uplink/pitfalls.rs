//! Pitfalls of the MQTT client, each met by the real client on a real socket.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use edge_agent::uplink::mqtt::INBOUND_MAX;
use edge_agent::uplink::{Heard, Say};
use edge_broker::codec::{Packet, Version};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use sync_protocol::id::{Digest, InstanceId};
use sync_protocol::topics;
use sync_protocol::wire::{Chunk, Command, Desired, Down, Message, Request, StreamMark, Up};

use crate::gateway::{EPOCH, Gateway, STREAM, receipt};
use crate::peer::{GATEWAY, Link, PATIENCE, Peer};

/// Long enough never to matter in a test that is about something else.
const CALM: Duration = Duration::from_secs(60);
/// Short, but no shorter than a busy machine may take to answer.
const SHORT: Duration = Duration::from_secs(3);
/// Publishes that the client sends without an ack.
const INFLIGHT_MAX: usize = 16;
/// Unacked answers that bring the uplink to a halt: more than client and channel hold.
const BEFORE_THE_HALT: usize = 200;

fn command(id: u64) -> Down {
    Down::Command(Command { id, request: Request::Status })
}

fn desired() -> Down {
    Down::Desired(Desired { instance: InstanceId([1; 16]), generation: 1, apps: Vec::new() })
}

/// The client drops what is in flight when the server does not know its session: the outbox is the
/// only buffer.
#[test]
fn p1_a_lost_session_is_sent_everything_again() {
    let peer = Peer::new();
    let gateway = Gateway::start(&peer, CALM, 12, 50_000);
    let mut first = peer.accept();
    first.take_session(false);
    first.hello();
    first.say_welcome(&[]);
    // Three messages are on their way, none is acked; then the connection is gone.
    let sent: Vec<u64> = (0..3).flat_map(|_| positions(&first.publish().1.payload)).collect();
    assert_eq!(sent.first(), Some(&1));
    drop(first);
    let (mut second, hello) = peer.welcome(&[]);
    assert_eq!((hello.streams[0].first, hello.streams[0].last), (1, 12));
    let mut got = Vec::new();
    while got.last() != Some(&12) {
        got.extend(second.records().records.iter().map(|record| record.seq));
        second.say(&receipt(*got.last().expect("records")));
    }
    assert_eq!(got, (1..=12).collect::<Vec<_>>(), "all, once, in order");
    gateway.wait_receipt(12);
    gateway.uplink.stop();
}

fn positions(payload: &[u8]) -> Vec<u64> {
    match Up::decode(payload).expect("the sync protocol") {
        Up::Records(records) => records.records.iter().map(|record| record.seq).collect(),
        other => panic!("no records: {other:?}"),
    }
}

/// The control plane sends thousands of commands at once, and neither reads nor acks the answers:
/// a connection on which nothing moves is given up, and the next one works.
#[test]
fn p2_a_flood_in_both_directions_stalls_nothing() {
    let peer = Peer::new();
    let mut gateway = Gateway::start(&peer, SHORT, 0, 0);
    let (mut link, _) = peer.welcome(&[]);
    let since = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for id in 0..5 * INBOUND_MAX as u64 {
                if link.try_say(&command(id)).is_err() {
                    break;
                }
            }
            link.closed();
        });
        // Each command is answered until the uplink gives the connection up.
        loop {
            match gateway.heard() {
                Heard::Command(Command { id, .. }) => {
                    let reply = sync_protocol::wire::Reply { id, result: Ok("x".repeat(1_000)) };
                    gateway.uplink.say(Say::Reply(reply));
                }
                Heard::Link { up: false, .. } => break,
                _ => {}
            }
        }
    });
    let (mut link, _) = peer.welcome(&[]);
    gateway.write(10);
    loop {
        match link.up() {
            Up::Records(records) => break assert_eq!(records.records[0].seq, 1),
            Up::Reply(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(since.elapsed() < PATIENCE, "it took {:?}", since.elapsed());
    gateway.uplink.stop();
}

/// With its window full of unacked publishes the client reads no request; an ack by hand would wait
/// behind them.
#[test]
fn p3_unacked_publishes_hold_up_no_ack() {
    let peer = Peer::new();
    let gateway = Gateway::start(&peer, CALM, 0, 0);
    let (mut link, _) = peer.welcome(&[]);
    let commands = INFLIGHT_MAX + 10;
    for id in 0..commands as u64 {
        link.say(&command(id));
    }
    gateway.reply(commands);
    for _ in 0..INFLIGHT_MAX {
        let (_, publish) = link.publish();
        assert_eq!(publish.topic.as_str(), topics::up(GATEWAY));
    }
    let packet_id = link.say(&desired());
    loop {
        match link.next() {
            Packet::PubAck(ack) if ack.packet_id == packet_id => break,
            Packet::PubAck(_) => {}
            other => panic!("over the window: {other:?}"),
        }
    }
    gateway.wait("the statement", |heard| matches!(heard, Heard::Desired(_)).then_some(()));
    gateway.uplink.stop();
}

/// Sends commands until the client meets the packet id that is not acked, and waits for that ack.
/// Returns how many answers came.
fn answers_but_one_acked(
    link: &mut Link,
    gateway: &Gateway,
) -> (edge_broker::codec::PacketId, u64) {
    let commands = 3 * INFLIGHT_MAX;
    for id in 0..commands as u64 {
        link.say(&command(id));
    }
    gateway.reply(commands);
    let (held, _) = link.publish();
    let mut answers = 1;
    // The packet ids come round: one that is still in use stops the client.
    while answers < INFLIGHT_MAX as u64 {
        let (packet_id, _) = link.publish();
        link.ack(packet_id);
        answers += 1;
    }
    (held, answers)
}

/// Acks out of order make the client wait for the one that is missing; when it comes all goes on.
#[test]
fn p4_an_ack_out_of_order_delays_and_loses_nothing() {
    let peer = Peer::new();
    let gateway = Gateway::start(&peer, CALM, 0, 0);
    let (mut link, _) = peer.welcome(&[]);
    let (held, mut answers) = answers_but_one_acked(&mut link, &gateway);
    link.ack(held);
    while answers < 3 * INFLIGHT_MAX as u64 {
        assert!(matches!(link.up(), Up::Reply(_)));
        answers += 1;
    }
    gateway.uplink.stop();
}

/// An ack that never comes costs the connection, and the next one works. (The client would keep the
/// publish that waits for it, and send nothing at all on any later connection.)
#[test]
fn p4_an_ack_that_never_comes_costs_one_connection() {
    let peer = Peer::new();
    let mut gateway = Gateway::start(&peer, SHORT, 0, 0);
    let (mut link, _) = peer.welcome(&[]);
    answers_but_one_acked(&mut link, &gateway);
    link.closed();
    gateway.wait_lost();
    let (mut link, _) = peer.welcome(&[]);
    gateway.write(10);
    assert_eq!(link.records().records[0].seq, 1);
    gateway.uplink.stop();
}

/// Whatever the server says of a session, the client subscribes again; a server that does not
/// answer that is given up.
#[test]
fn p5_each_connack_is_followed_by_a_subscription() {
    let peer = Peer::new();
    let gateway = Gateway::start(&peer, SHORT, 0, 0);
    for session_present in [false, true, false] {
        let mut link = peer.accept();
        link.take_session(session_present);
        link.hello();
    }
    let mut silent = peer.accept();
    silent.accept_client(true);
    silent.subscription();
    silent.closed();
    while !gateway.wait_lost().contains("subscription was not answered") {}
    let mut link = peer.accept();
    link.take_session(false);
    link.hello();
    gateway.uplink.stop();
}

/// A peer that is there for TCP but says nothing any more is given up after two keep-alives.
#[test]
fn p6_a_half_open_link_is_found_out() {
    let peer = Peer::new();
    let mut gateway = Gateway::start(&peer, SHORT, 0, 0);
    let (silent, _) = peer.welcome(&[]);
    assert_eq!(silent.connect().keep_alive_s, 3);
    gateway.wait("the link", |heard| matches!(heard, Heard::Link { up: true, .. }).then_some(()));
    let since = Instant::now();
    let reason = gateway.wait_lost();
    let took = since.elapsed();
    // Two keep-alives, and what a busy machine adds.
    assert!(took < 2 * SHORT + Duration::from_secs(10), "{took:?}: {reason}");
    let (mut link, _) = peer.welcome(&[]);
    gateway.write(10);
    assert_eq!(link.records().records[0].seq, 1);
    drop(silent);
    gateway.uplink.stop();
}

/// Small packets must not wait for each other's acks.
#[test]
fn p7_tcp_nodelay_is_on() {
    let peer = Peer::new();
    let gateway = Gateway::start(&peer, CALM, 0, 0);
    let port = peer.endpoint(CALM).port;
    let (link, _) = peer.welcome(&[]);
    let own = pidfd_open(getpid(), PidfdFlags::empty()).expect("this process");
    let mut found = 0;
    for entry in std::fs::read_dir("/proc/self/fd").expect("a folder") {
        let name = entry.expect("an entry").file_name();
        let number = name.to_str().and_then(|name| name.parse().ok()).expect("a number");
        // A copy of the descriptor shares the socket and its options.
        let copy = pidfd_getfd(&own, number, PidfdGetfdFlags::empty());
        let Ok(copy): Result<OwnedFd, _> = copy else { continue };
        let socket = std::net::TcpStream::from(copy);
        if socket.peer_addr().is_ok_and(|address| address.port() == port) {
            assert!(socket.nodelay().expect("an option"));
            found += 1;
        }
    }
    assert_eq!(found, 1, "the gateway's end of the connection");
    drop(link);
    gateway.uplink.stop();
}

/// Nothing upstream needs MQTT 5: hello, welcome, records, receipts, statements, chunks and commands
/// with a peer of 3.1.1. That has no flow control, so what waits inside is bounded by hand.
#[test]
fn p8_mqtt_3_1_1_is_enough_and_its_inbound_is_bounded() {
    let peer = Peer::new();
    let gateway = Gateway::start(&peer, CALM, 3, 10);
    let mark = StreamMark { stream: STREAM, seq: 1, epoch: EPOCH };
    let (mut link, hello) = peer.welcome(&[mark]);
    assert_eq!(link.connect().version, Version::V311);
    assert_eq!(hello.epoch, EPOCH);
    assert_eq!(link.records().records.len(), 2);
    link.say(&receipt(3));
    gateway.wait_receipt(3);
    link.say(&desired());
    gateway.wait("the statement", |heard| matches!(heard, Heard::Desired(_)).then_some(()));
    let digest = Digest::of(b"artifact");
    gateway.uplink.say(Say::Fetch { digest, bytes_max: 100 });
    let Up::ChunkRequest(request) = link.up() else { panic!("no request for a chunk") };
    let bytes = b"artifact".to_vec();
    link.say(&Down::Chunk(Chunk { digest, offset: request.offset, total: 8, bytes }));
    let fetched = gateway.wait("the artifact", |heard| match heard {
        Heard::Fetched { result, .. } => Some(result),
        _ => None,
    });
    assert_eq!(std::fs::read(fetched.expect("a file")).expect("readable"), b"artifact");

    // Nobody acks the answers, so the uplink comes to a halt; the flood goes on.
    let sent = flood(&mut link, &gateway);
    assert!(sent > INBOUND_MAX as u64, "the bound was not reached: {sent}");
    link.closed();
    let (reason, heard) = gateway.wait_lost_counting();
    assert!(reason.contains("faster than"), "{reason}");
    assert!(heard <= INBOUND_MAX + BEFORE_THE_HALT, "{heard} commands were held");
    gateway.uplink.stop();
}

/// Sends commands until the gateway gives the connection up; its answers are not acked.
fn flood(link: &mut Link, gateway: &Gateway) -> u64 {
    for id in 0..BEFORE_THE_HALT as u64 {
        link.say(&command(id));
    }
    gateway.reply(BEFORE_THE_HALT);
    let since = Instant::now();
    for id in BEFORE_THE_HALT as u64.. {
        if link.try_say(&command(id)).is_err() {
            return id;
        }
        assert!(since.elapsed() < PATIENCE, "{id} commands and no end");
    }
    unreachable!("ids do not end");
}
