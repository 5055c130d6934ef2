//! What lies between the MQTT client and the wire: dialling, TLS, the relay.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use edge_agent::uplink::Heard;
use edge_agent::uplink::proxy::Route;
use edge_broker::codec::Packet;
use sync_protocol::topics;
use sync_protocol::wire::{Message, Presence};

use crate::gateway::Gateway;
use crate::peer::{GATEWAY, PATIENCE, Peer};

/// Long enough never to matter here.
const CALM: Duration = Duration::from_secs(60);

/// TLS 1.3 refuses a client's certificate when the client has its handshake behind it, and the server
/// closes at once: the refusal is told, not the end.
#[test]
fn a_refused_certificate_is_the_reason() {
    let peer = Peer::distrustful();
    let gateway = Gateway::start(&peer, CALM, 0, 0);
    for _ in 0..3 {
        peer.refuse();
        let reason = gateway.wait_lost();
        assert!(reason.contains("received fatal alert"), "{reason}");
    }
    gateway.uplink.stop();
}

/// A stop says goodbye, all the way through: the control plane sends no last will.
#[test]
fn a_goodbye_arrives() {
    let peer = Peer::new();
    let gateway = Gateway::start(&peer, CALM, 0, 0);
    let (mut link, _) = peer.welcome(&[]);
    gateway.wait("the link", |heard| matches!(heard, Heard::Link { up: true, .. }).then_some(()));
    let stopping = std::thread::spawn(move || gateway.uplink.stop());
    let mut presence = None;
    loop {
        match link.next() {
            Packet::Publish(publish) => {
                if publish.topic.as_str() == topics::presence(GATEWAY) {
                    presence = Some(Presence::decode(&publish.payload).expect("a presence"));
                }
            }
            Packet::PubAck(_) => {}
            Packet::Disconnect(_) => break,
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(matches!(presence, Some(Presence::Offline)), "{presence:?}");
    link.closed();
    stopping.join().expect("it stops");
}

/// A control plane that closes: that is told, and nothing of a socket within the agent.
#[test]
fn a_control_plane_that_closes_is_told() {
    let peer = Peer::new();
    let gateway = Gateway::start(&peer, CALM, 0, 0);
    for _ in 0..3 {
        drop(peer.welcome(&[]));
        let reason = gateway.wait_lost();
        let is_told = ["closed the connection", "close_notify", "reset by peer"];
        assert!(is_told.iter().any(|part| reason.contains(part)), "{reason}");
    }
    gateway.uplink.stop();
}

/// A proxy that takes the connection and never answers costs 10 s; with a way that leads somewhere
/// the gateway would be connected.
#[test]
fn a_silent_proxy_is_given_up() {
    let peer = Peer::new();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let proxy = silent.local_addr().expect("bound").to_string().parse().expect("an address");
    let mut endpoint = peer.endpoint(CALM);
    endpoint.route = Route::Proxy(proxy);
    let expected = format!("no connection to 127.0.0.1:{} within 10 s", endpoint.port);
    let since = Instant::now();
    let gateway = Gateway::start_at(endpoint, 0, 0);
    assert_eq!(gateway.wait_lost(), expected);
    assert!(since.elapsed() < PATIENCE, "it took {:?}", since.elapsed());
    gateway.uplink.stop();
}
