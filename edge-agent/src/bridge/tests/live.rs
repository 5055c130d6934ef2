//! Whole buses: real ports, real time, and a real broker whose owner takes everything at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use device_protocol::serial::{Device, DeviceConfig, FromDevice, FromGateway, Timing, WIRE_MAX};
use device_protocol::{Envelope, SchemaId, Timestamp};
use edge_broker::broker::{
    AuthRequest, Broker, Effect, Input, Limits, Principal, Settlement, Turn,
};
use edge_broker::codec::ReasonCode;
use edge_broker::transport::{Port, Transport, TransportLimits};
use edge_core::id::{BatchSeq, DeviceId};
use edge_core::time::{Millis, Now, WallTime};
use edge_core::topic::TopicFilter;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bridge::{ADDRESS, Dial, start};
use crate::settings::Settings;

/// Message ids by device, as often as they came.
type Got = Arc<Mutex<BTreeMap<String, Vec<u64>>>>;

/// A broker until it is aborted.
fn broker(dial: &Dial, got: &Got) -> tokio::task::JoinHandle<()> {
    let (transport, port) = Transport::new(TransportLimits::default());
    let lobby = dial.answer();
    let (got, began) = (Arc::clone(got), Instant::now());
    tokio::spawn(async move {
        let _listener = transport.serve(lobby, ADDRESS, None);
        let broker = Broker::new(Limits::default(), 1);
        Owner { broker, port, open: BatchSeq(1), began, got }.run().await;
    })
}

struct Owner {
    broker: Broker,
    port: Port,
    open: BatchSeq,
    began: Instant,
    got: Got,
}

impl Owner {
    async fn run(mut self) {
        while let Some(input) = self.port.recv().await {
            let mut effects = Vec::new();
            self.turn(&mut effects, |broker, turn| broker.handle(input, turn));
            self.carry_out(effects);
            let sealed = self.open;
            self.open = self.open.next();
            let mut effects = Vec::new();
            self.turn(&mut effects, |broker, turn| broker.durable(sealed, turn));
            self.carry_out(effects);
        }
    }

    fn turn(&mut self, effects: &mut Vec<Effect>, act: impl FnOnce(&mut Broker, &mut Turn<'_>)) {
        let at = Millis(u64::try_from(self.began.elapsed().as_millis()).expect("not so long"));
        let now = Now { at, wall: WallTime::default() };
        act(&mut self.broker, &mut Turn { now, open: self.open, effects });
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut work = VecDeque::from(effects);
        while let Some(effect) = work.pop_front() {
            let Some(effect) = self.port.apply(effect) else { continue };
            let mut more = Vec::new();
            match effect {
                Effect::Authenticate { conn, request } => {
                    let outcome = vouched(&request);
                    let input = Input::AuthDone { conn, outcome };
                    self.turn(&mut more, |broker, turn| broker.handle(input, turn));
                }
                Effect::Deliver(delivery) => {
                    let id = delivery.message.message_id().expect("the bridge numbers messages");
                    let mut got = self.got.lock().expect("no panic");
                    got.entry(id.device.as_str().to_owned()).or_default().push(id.seq);
                    drop(got);
                    self.turn(&mut more, |broker, turn| {
                        broker.settle(delivery.token, Settlement::Accepted, turn);
                    });
                }
                _ => {}
            }
            work.extend(more);
        }
        let mut effects = Vec::new();
        self.broker.flush(&mut effects);
        for effect in effects {
            self.port.apply(effect);
        }
    }
}

fn vouched(request: &AuthRequest) -> Result<Arc<Principal>, ReasonCode> {
    let name = request.peer.vouched.as_deref().ok_or(ReasonCode::NotAuthorized)?;
    let all = || vec!["#".parse::<TopicFilter>().expect("a filter")];
    let (publish, subscribe) = (all(), vec!["$holm/#".parse().expect("a filter")]);
    Ok(Arc::new(Principal { identity: DeviceId::new(name), publish, subscribe }))
}

/// A device with readings to send, and how many bytes it leaves between two that it breaks.
struct Sender {
    name: &'static str,
    end: Device<'static, 2_048, 1_024>,
    queue: VecDeque<u32>,
    sent: usize,
    life: u32,
}

impl Sender {
    fn new(name: &'static str, address: Option<u8>, readings: u32) -> Self {
        let (credential, timing) = (&b"test"[..], Timing::for_baud(115_200));
        let seed = 77 + u64::from(address.unwrap_or_default());
        let end = Device::new(DeviceConfig { address, name, credential, timing, seed });
        Self { name, end, queue: (0..readings).collect(), sent: 0, life: 0 }
    }

    fn fill(&mut self) {
        if self.life != self.end.counters().lives {
            (self.life, self.sent) = (self.end.counters().lives, 0);
        }
        while let Some(id) = self.queue.get(self.sent).copied() {
            let mut envelope = [0; 256];
            let length = Envelope {
                device: self.name,
                boot: 5,
                sequence: u64::from(id),
                schema: SchemaId::RAW,
                time: Timestamp::uptime(1),
                body: &[7; 60],
            }
            .encode(&mut envelope)
            .expect("it fits");
            let publish = FromDevice::Publish { id, topic: "t", envelope: &envelope[..length] };
            if self.end.send(&publish).is_err() {
                return;
            }
            self.sent += 1;
        }
    }

    fn receive(&mut self, mut bytes: &[u8], now_ms: u64) {
        loop {
            bytes = &bytes[self.end.receive(bytes, now_ms)..];
            match self.end.message() {
                None => return,
                Some(Ok(FromGateway::Durable { id })) => {
                    assert_eq!(self.queue.pop_front(), Some(id), "in order, each once");
                    self.sent -= 1;
                }
                other => panic!("{}: {other:?}", self.name),
            }
            self.end.take();
        }
    }
}

/// Runs the devices until they have at most so many readings left, or the line ends.
async fn drive(
    port: &mut (impl AsyncRead + AsyncWrite + Unpin),
    devices: &mut [Sender],
    left: usize,
    break_every: usize,
    began: Instant,
) {
    let (mut frame, mut buf, mut count) = ([0; WIRE_MAX], [0; 512], 0_usize);
    let mut broken = |bytes: &mut [u8]| {
        for byte in bytes {
            count += 1;
            if count.is_multiple_of(break_every) {
                *byte ^= 4;
            }
        }
    };
    while devices.iter().map(|device| device.queue.len()).sum::<usize>() > left {
        let now_ms = || u64::try_from(began.elapsed().as_millis()).expect("not so long");
        for device in &mut *devices {
            device.fill();
            while let length @ 1.. = device.end.transmit(now_ms(), &mut frame) {
                broken(&mut frame[..length]);
                if port.write_all(&frame[..length]).await.is_err() {
                    return;
                }
            }
        }
        let read = tokio::time::timeout(Duration::from_millis(5), port.read(&mut buf)).await;
        match read {
            Err(_) => {}
            Ok(Ok(length @ 1..)) => {
                broken(&mut buf[..length]);
                devices.iter_mut().for_each(|device| device.receive(&buf[..length], now_ms()));
            }
            Ok(_) => return,
        }
    }
}

fn settings(names: &[&str], bus: &str) -> Settings {
    let mut text = format!("name = \"g\"\n[[buses]]\nname = \"line\"\n{bus}\n");
    for name in names {
        text += &format!(
            "[[devices]]\nname = {name:?}\ntoken_sha256 = \
             \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"\n"
        );
    }
    Settings::parse(&text).expect("valid")
}

fn free_address() -> String {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("bound").to_string()
}

async fn connect(address: &str) -> TcpStream {
    for _ in 0..1_000 {
        if let Ok(stream) = TcpStream::connect(address).await {
            return stream;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the bus does not listen");
}

fn check(got: &Got, devices: &[Sender], readings: u64) {
    let got = got.lock().expect("no panic");
    for device in devices {
        let all: BTreeSet<_> = got[device.name].iter().copied().collect();
        assert_eq!(all, (0..readings).collect(), "{}", device.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_breaks_bytes_and_a_broker_that_is_replaced_lose_nothing() {
    let address = free_address();
    let settings = settings(&["press"], &format!("tcp_listen = \"{address}\""));
    let (dial, board) = start(&settings, &tokio::runtime::Handle::current());
    let (got, began) = (Got::default(), Instant::now());
    let first = broker(&dial, &got);
    let mut devices = [Sender::new("press", None, 300)];
    let mut port = connect(&address).await;
    drive(&mut port, &mut devices, 150, 997, began).await;
    first.abort();
    dial.hang_up();
    let _second = broker(&dial, &got);
    drive(&mut port, &mut devices, 80, 997, began).await;
    // The line is cut as well.
    drop(port);
    let mut port = connect(&address).await;
    drive(&mut port, &mut devices, 0, 997, began).await;
    check(&got, &devices, 300);
    assert!(devices[0].end.counters().lives >= 2);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let shown = board.json();
    assert_eq!(shown[0]["bus"], "line");
    assert!(shown[0]["broken_frames"].as_u64() > Some(0), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_devices_on_a_bus_and_one_that_comes_later() {
    let address = free_address();
    let names = ["a", "b", "c", "d", "e"];
    let bus = format!("tcp_listen = \"{address}\"\nmode = \"rs485\"\naddresses = [1, 2, 3, 4, 5]");
    let (dial, _board) = start(&settings(&names, &bus), &tokio::runtime::Handle::current());
    let (got, began) = (Got::default(), Instant::now());
    let _broker = broker(&dial, &got);
    let mut port = connect(&address).await;
    let mut devices: Vec<_> =
        (1..5).zip(names).map(|(n, name)| Sender::new(name, Some(n), 50)).collect();
    drive(&mut port, &mut devices, 100, 1_499, began).await;
    devices.push(Sender::new("e", Some(5), 50));
    drive(&mut port, &mut devices, 0, 1_499, began).await;
    check(&got, &devices, 50);
}
