//! Real sockets against a stand-in.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::{Bytes, BytesMut};
use edge_broker::codec::{
    Connect, Decoder, Packet, PacketId, Publish, Subscribe, SubscribeOptions, Version, encode,
};
use edge_broker::transport::{ListenConfig, Transport, TransportLimits};
use edge_core::message::Properties;
use edge_core::topic::Topic;
use tokio::sync::oneshot;

use super::super::inbox::inbox;
use super::super::machine::SystemClocks;
use super::*;
use crate::auth::Accounts;
use crate::auth::thread::AuthThread;
use crate::settings::Settings;

const PATIENCE: Duration = Duration::from_secs(20);

struct Client {
    socket: TcpStream,
    decoder: Decoder,
    inbound: BytesMut,
}

impl Client {
    fn connect(address: SocketAddr, id: &str, session_expiry_s: u32) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let decoder = Decoder::client(Version::V5, 1 << 20);
        let mut client = Self { socket, decoder, inbound: BytesMut::new() };
        let connect = Connect { session_expiry_s, ..Connect::new(Version::V5, id) };
        client.send(&Packet::Connect(Box::new(connect)));
        match client.next()? {
            Packet::ConnAck(ack) if !ack.reason.is_error() => Ok(client),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }

    fn send(&mut self, packet: &Packet) {
        let mut out = Vec::new();
        encode(packet, Version::V5, &mut out);
        self.socket.write_all(&out).expect("a socket");
    }

    fn next(&mut self) -> io::Result<Packet> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.inbound).expect("MQTT") {
                return Ok(packet);
            }
            match self.socket.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.inbound.extend_from_slice(&chunk[..n]),
            }
        }
    }
}

fn publish(packet_id: u16, retain: bool) -> Packet {
    let packet_id = PacketId::new(packet_id);
    Packet::Publish(Publish {
        dup: false,
        qos: if packet_id.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce },
        retain,
        topic: Topic::new("ping").expect("a topic"),
        packet_id,
        expiry_s: None,
        subscription_ids: Vec::new(),
        properties: Properties::default(),
        payload: Bytes::from_static(b"there"),
    })
}

#[test]
fn it_acks_nothing_and_passes_on_what_needs_no_store() {
    let io = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let io = io.expect("a runtime");
    let settings = "name = \"barn\"\n[anonymous]\npublish = [\"#\"]\nsubscribe = [\"#\"]";
    let accounts = Accounts::new(&Settings::parse(settings).expect("settings")).expect("accounts");
    let (outlet, mut told) = inbox();
    let (transport, port) = Transport::new(TransportLimits::default());
    let address = "127.0.0.1:0".parse().expect("an address");
    let entered = io.enter();
    let listener = transport.listen(ListenConfig { address, tls: None }).expect("a port");
    drop(entered);
    let address = listener.local_addr();
    let answers = outlet.clone();
    let serving = std::thread::spawn(move || {
        let passwords = AuthThread::spawn(Access::answer(answers)).expect("a thread");
        let access = Access::new(accounts, Box::new(passwords));
        let clock = Clock::start(Millis(0), Box::new(SystemClocks::new()));
        let (limits, network) = (BrokerLimits::default(), Box::new(port));
        let errors = LastErrors::default();
        let mut stand_in =
            StandIn::new("barn", &limits, network, access, clock, &[address], errors);
        let own = tokio::runtime::Builder::new_current_thread().enable_time().build();
        own.expect("a runtime").block_on(stand_in.serve(
            PATIENCE * 6,
            "EIO",
            &mut told,
            &mut crate::supervisor::Supervisor::nobody(),
        ))
    });

    assert!(Client::connect(address, "kept", 3_600).is_err(), "it would lose its session");
    let mut watcher = Client::connect(address, "watcher", 0).expect("let in");
    watcher.send(&Packet::Subscribe(Subscribe {
        packet_id: PacketId::new(1).expect("an id"),
        subscription_id: None,
        filters: vec![("#".parse().expect("a filter"), SubscribeOptions::default())],
    }));
    assert!(matches!(watcher.next(), Ok(Packet::SubAck(_))));
    let mut sender = Client::connect(address, "sender", 0).expect("let in");
    for (packet_id, retain) in [(7, false), (0, true), (0, false)] {
        sender.send(&publish(packet_id, retain));
    }
    let Ok(Packet::Publish(passed)) = watcher.next() else { panic!("not passed on") };
    assert_eq!((passed.qos, passed.retain), (QoS::AtMostOnce, false));
    // What was sent before that has been judged.
    let (answer, answered) = oneshot::channel();
    outlet.tell(Inbound::Asked(Asked { request: Request::Ask(Ask::Status), answer }));
    let status = answered.blocking_recv().expect("an answer").expect("a status");
    let why = status["degraded"].to_string();
    assert!(why.contains("EIO") && why.contains("1 messages wait"), "{why}");
    sender.socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
    assert!(sender.next().is_err(), "acked without a store");
    outlet.tell(Inbound::Stop);
    assert!(serving.join().expect("it ends"), "a stop was asked for");
}
