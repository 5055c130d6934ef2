//! Goal: every ack's batch is at or below the last synced one, for the whole gateway: sockets,
//! broker, core, loop, store thread, journal.
//! Method: the agent runs in this process over a disk that notes what was synced; at every PUBACK
//! that arrives at a client, the message's payload must be among the synced bytes.
#![expect(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use edge_agent::agent::Agent;
use edge_agent::settings::Settings;
use edge_agent::store::sync_check::{MarkedId, SyncLog};
use edge_broker::codec::{
    Connect, Decoder, Packet, PacketId, Publish, Subscribe, SubscribeOptions, Version, encode,
};
use edge_core::message::{Properties, QoS};
use edge_core::topic::Topic;

const MARK: &[u8] = b"marked:";
const CLIENTS: u16 = 4;
const MESSAGES: u16 = 250;
const WINDOW: usize = 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// A client of few words.
struct Client {
    socket: TcpStream,
    decoder: Decoder,
    inbound: BytesMut,
}

impl Client {
    fn connect(address: SocketAddr, id: &str, session_expiry_s: u32) -> Self {
        let deadline = Instant::now() + PATIENCE;
        let socket = loop {
            match TcpStream::connect(address) {
                Ok(socket) => break socket,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::yield_now();
        };
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let decoder = Decoder::client(Version::V5, 1 << 20);
        let mut client = Self { socket, decoder, inbound: BytesMut::new() };
        let connect =
            Connect { session_expiry_s, clean_start: false, ..Connect::new(Version::V5, id) };
        client.send(&Packet::Connect(Box::new(connect)));
        assert!(matches!(client.next(), Packet::ConnAck(ack) if !ack.reason.is_error()));
        client
    }

    fn send(&mut self, packet: &Packet) {
        let mut out = Vec::new();
        encode(packet, Version::V5, &mut out);
        self.socket.write_all(&out).unwrap();
    }

    fn next(&mut self) -> Packet {
        let mut chunk = [0; 4096];
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.inbound).unwrap() {
                return packet;
            }
            let n = self.socket.read(&mut chunk).unwrap();
            assert!(n > 0, "the gateway closed the connection");
            self.inbound.extend_from_slice(&chunk[..n]);
        }
    }
}

/// Publishes everything; each PUBACK is compared at once.
fn publish_all(address: SocketAddr, client: u16, log: &SyncLog) {
    let mut socket = Client::connect(address, &format!("device-{client}"), 0);
    let mut open: BTreeMap<u16, MarkedId> = BTreeMap::new();
    let mut sent = 0;
    while sent < MESSAGES || !open.is_empty() {
        while sent < MESSAGES && open.len() < WINDOW {
            sent += 1;
            let id: MarkedId = (u64::from(client) << 32 | u64::from(sent)).to_be_bytes();
            open.insert(sent, id);
            socket.send(&Packet::Publish(Publish {
                dup: false,
                qos: QoS::AtLeastOnce,
                retain: sent % 7 == 0,
                topic: Topic::new(&format!("kept/{client}")).unwrap(),
                packet_id: PacketId::new(sent),
                expiry_s: None,
                subscription_ids: Vec::new(),
                properties: Properties::default(),
                payload: Bytes::from([MARK, &id].concat()),
            }));
        }
        let Packet::PubAck(ack) = socket.next() else { panic!("no PUBACK") };
        assert!(!ack.reason.is_error(), "{ack:?}");
        let id = open.remove(&ack.packet_id.get()).unwrap();
        let number = ack.packet_id.get();
        assert!(log.has_synced(&id), "device-{client}/{number} was acked before it was synced");
    }
}

#[test]
fn no_ack_leaves_before_its_batch_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        "name = \"barn\"\ndata_dir = {:?}\n[[listeners]]\nbind = \"{address}\"\n\
         [anonymous]\npublish = [\"#\"]\nsubscribe = [\"#\"]",
        dir.path()
    );
    let settings = Settings::parse(&text).unwrap();
    let io = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let io = io.unwrap();
    let log = SyncLog::with_mark(MARK);
    let exe = std::env::current_exe().unwrap();
    let mut agent = Agent::new(settings, exe, io.handle().clone()).unwrap();
    agent.watch_syncs(log.clone());
    let stopper = agent.stopper();
    let running = std::thread::spawn(move || agent.run());
    // A session that is not there: every message must be kept for it.
    let mut absent = Client::connect(address, "absent", 3_600);
    absent.send(&Packet::Subscribe(Subscribe {
        packet_id: PacketId::new(1).unwrap(),
        subscription_id: None,
        filters: vec![(
            "kept/#".parse().unwrap(),
            SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() },
        )],
    }));
    assert!(matches!(absent.next(), Packet::SubAck(_)));
    drop(absent);
    let before = log.syncs();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (1..=CLIENTS)
            .map(|client| {
                scope.spawn({
                    let log = &log;
                    move || publish_all(address, client, log)
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
    });
    assert!(log.syncs() > before, "nothing was synced: that shows nothing");
    stopper.stop();
    running.join().unwrap().unwrap();
}

/// The planted bug makes the test above fail, so it can.
#[cfg(feature = "plant")]
#[test]
fn a_planted_early_ack_is_found() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "no_ack_leaves_before_its_batch_is_synced", "--nocapture"])
        .env("HOLM_PLANT", "ack-before-commit")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{printed}");
    assert!(printed.contains("was acked before it was synced"), "{printed}");
}
