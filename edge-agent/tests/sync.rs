//! Goal: every ack's batch is at or below the last synced one, for the whole gateway: sockets,
//! broker, core, loop, store thread, journal.
//! Method: the agent runs in this process over a disk that notes what was synced; at every PUBACK
//! that arrives at a client, the message's payload must be among the synced bytes.
#![expect(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use edge_agent::agent::{Agent, RunError, Stopper};
use edge_agent::control::Request;
use edge_agent::settings::Settings;
use edge_agent::store::sync_check::{DiskFault, MarkedId, SyncLog};
use edge_broker::codec::{
    Connect, Decoder, Packet, PacketId, Publish, Subscribe, SubscribeOptions, Version, encode,
};
use edge_core::message::{Properties, QoS};
use edge_core::topic::Topic;
use sync_protocol::wire::Request as Ask;

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
    /// Tries until it is let in.
    fn connect(address: SocketAddr, id: &str, session_expiry_s: u32) -> Self {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Self::try_connect(address, id, session_expiry_s) {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < deadline, "{id}: {error}"),
            }
            // Each try takes a port for a while.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn try_connect(address: SocketAddr, id: &str, session_expiry_s: u32) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let decoder = Decoder::client(Version::V5, 1 << 20);
        let mut client = Self { socket, decoder, inbound: BytesMut::new() };
        let connect =
            Connect { session_expiry_s, clean_start: false, ..Connect::new(Version::V5, id) };
        client.try_send(&Packet::Connect(Box::new(connect)))?;
        match client.try_next()? {
            Packet::ConnAck(ack) if !ack.reason.is_error() => Ok(client),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }

    fn send(&mut self, packet: &Packet) {
        self.try_send(packet).unwrap();
    }

    fn try_send(&mut self, packet: &Packet) -> io::Result<()> {
        let mut out = Vec::new();
        encode(packet, Version::V5, &mut out);
        self.socket.write_all(&out)
    }

    fn next(&mut self) -> Packet {
        self.try_next().unwrap()
    }

    fn try_next(&mut self) -> io::Result<Packet> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.inbound).unwrap() {
                return Ok(packet);
            }
            let n = self.socket.read(&mut chunk)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.inbound.extend_from_slice(&chunk[..n]);
        }
    }

    fn subscribe(&mut self, filter: &str, qos: QoS) {
        self.send(&Packet::Subscribe(Subscribe {
            packet_id: PacketId::new(1).unwrap(),
            subscription_id: None,
            filters: vec![(
                filter.parse().unwrap(),
                SubscribeOptions { qos, ..SubscribeOptions::default() },
            )],
        }));
        assert!(matches!(self.next(), Packet::SubAck(_)));
    }
}

fn publish(topic: &str, packet_id: u16, retain: bool, payload: Vec<u8>) -> Packet {
    let packet_id = PacketId::new(packet_id);
    Packet::Publish(Publish {
        dup: false,
        qos: if packet_id.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce },
        retain,
        topic: Topic::new(topic).unwrap(),
        packet_id,
        expiry_s: None,
        subscription_ids: Vec::new(),
        properties: Properties::default(),
        payload: Bytes::from(payload),
    })
}

/// An agent in this process, over a watched disk.
struct Running {
    dir: tempfile::TempDir,
    address: SocketAddr,
    log: SyncLog,
    stopper: Stopper,
    running: JoinHandle<Result<(), RunError>>,
    _io: tokio::runtime::Runtime,
}

impl Running {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            "name = \"barn\"\ndata_dir = {:?}\n[[listeners]]\nbind = \"{address}\"\n\
             [anonymous]\npublish = [\"#\"]\nsubscribe = [\"#\"]",
            dir.path()
        );
        let settings = Settings::parse(&text).unwrap();
        let mut io = tokio::runtime::Builder::new_multi_thread();
        let io = io.worker_threads(2).enable_all().build().unwrap();
        let log = SyncLog::with_mark(MARK);
        let exe = std::env::current_exe().unwrap();
        let mut agent = Agent::new(settings, exe, io.handle().clone()).unwrap();
        agent.watch_syncs(log.clone());
        let stopper = agent.stopper();
        let running = std::thread::spawn(move || agent.run());
        Self { dir, address, log, stopper, running, _io: io }
    }

    /// The reasons that `edge-agent status` gives.
    fn degraded(&self) -> String {
        let socket = self.dir.path().join("control.sock");
        let status = edge_agent::control::request(&socket, &Request::Ask(Ask::Status));
        status.unwrap()["degraded"].to_string()
    }

    fn stop(self) {
        self.stopper.stop();
        self.running.join().unwrap().unwrap();
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
            let (topic, payload) = (format!("kept/{client}"), [MARK, &id].concat());
            socket.send(&publish(&topic, sent, sent % 7 == 0, payload));
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
    let agent = Running::start();
    let (address, log) = (agent.address, agent.log.clone());
    // A session that is not there: every message must be kept for it.
    let mut absent = Client::connect(address, "absent", 3_600);
    absent.subscribe("kept/#", QoS::AtLeastOnce);
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
    agent.stop();
}

/// A disk that is read-only, or whose syncs fail: nothing is acked, it is said why, what needs no
/// disk goes on, and it heals without help.
#[test]
fn a_disk_that_fails_stops_acks_only_and_heals_without_help() {
    for fault in [DiskFault::ReadOnly, DiskFault::SyncFails] {
        let agent = Running::start();
        let (address, log) = (agent.address, agent.log.clone());
        let id = |n: u64| n.to_be_bytes();
        let kept = |n: u16| publish("kept/1", n, false, [MARK, &id(n.into())].concat());
        let mut device = Client::connect(address, "device", 3_600);
        device.subscribe("kept/#", QoS::AtLeastOnce);
        device.send(&kept(1));
        while !matches!(device.next(), Packet::PubAck(_)) {}
        log.set_fault(Some(fault));
        device.send(&kept(2));
        let gone = std::iter::from_fn(|| device.try_next().ok());
        let acked = gone.filter(|packet| matches!(packet, Packet::PubAck(_))).count();
        assert_eq!(acked, 0, "{fault:?}: it could not be stored");

        let mut watcher = Client::connect(address, "watcher", 0);
        watcher.subscribe("ping", QoS::AtLeastOnce);
        let mut sender = Client::connect(address, "sender", 0);
        sender.send(&publish("ping", 0, false, b"there".to_vec()));
        let Packet::Publish(passed) = watcher.next() else { panic!("not passed on") };
        assert_eq!(&*passed.payload, b"there");
        sender.send(&kept(3));
        sender.socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        assert!(sender.try_next().is_err(), "{fault:?}: acked without a store");
        assert!(Client::try_connect(address, "device", 3_600).is_err(), "its session is not here");
        let why = agent.degraded();
        assert!(why.contains("store cannot be used") && why.contains("1 messages wait"), "{why}");

        log.set_fault(None);
        let mut device = Client::connect(address, "device", 3_600);
        device.send(&kept(2));
        while !matches!(device.next(), Packet::PubAck(_)) {}
        assert!(log.has_synced(&id(1)) && log.has_synced(&id(2)));
        assert!(!agent.degraded().contains("store"), "{}", agent.degraded());
        agent.stop();
    }
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
