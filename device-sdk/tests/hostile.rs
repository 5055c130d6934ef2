//! A gateway that lies, stammers and falls silent: the device stays alive, and gets its messages to an honest one.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a panic is how a test says no"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use device_sdk::host::TcpDial;
use device_sdk::protocol::system::{Command, Shadow, TimeReply};
use device_sdk::protocol::{DeviceName, Down, Quality, SchemaId, Timestamp};
use device_sdk::{App, BackoffConfig, Config, Device, Memory, Overflow, RamQueue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Connections before the gateway becomes honest.
const HOSTILE: u64 = 3_000;

/// A firmware that knows no command.
struct Idle;

impl App for Idle {}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

const CONNACK: [u8; 5] = [0x20, 3, 0, 0, 0];

/// A PUBLISH of QoS 1 that carries a message for the device.
fn publish(random: &mut Random) -> Vec<u8> {
    let body = random.bytes(40);
    let (id, version) = (random.below(20), u32::try_from(random.below(9)).unwrap());
    let down = match random.below(4) {
        0 => Down::Command(Command { id, name: "do", schema: SchemaId::RAW, body: &body }),
        1 => Down::Desired(Shadow { version, schema: SchemaId::RAW, body: &body }),
        2 => {
            let now = Timestamp { quality: Quality::Synced, ms: random.next() };
            Down::Time(TimeReply { uptime_ms: random.below(3_000), now })
        }
        _ => Down::Command(Command { id, name: "other", schema: SchemaId(7), body: &[] }),
    };
    let mut payload = vec![0; 200];
    let length = down.encode(&mut payload).unwrap();
    let topic = down.topic("press-7").unwrap();
    let mut rest = vec![0, u8::try_from(topic.len()).unwrap()];
    rest.extend_from_slice(topic.as_bytes());
    rest.extend_from_slice(&u16::try_from(1 + random.below(9)).unwrap().to_be_bytes());
    rest.push(0);
    rest.extend_from_slice(&payload[..length]);
    let mut packet = vec![0x32, u8::try_from(rest.len()).unwrap_or(127)];
    packet.append(&mut rest);
    packet
}

/// A packet that is right as such, if not now.
fn packet(random: &mut Random) -> Vec<u8> {
    let id = u8::try_from(random.below(12)).unwrap();
    let reason = [0, 0x10, 0x80, 0x87, 0x97, 0x99][usize::try_from(random.below(6)).unwrap()];
    match random.below(9) {
        0 => vec![0x40, 2, 0, id],
        1 => vec![0x40, 3, 0, id, reason],
        2 => vec![0x90, 4, 0, id, 0, [0, 1, reason][usize::try_from(random.below(3)).unwrap()]],
        3 => vec![0xd0, 0],
        4 => vec![0x50, 3, 0, id, reason],
        5 => vec![0x62, 2, 0, id],
        6 => vec![0xe0, 1, reason],
        _ => publish(random),
    }
}

/// One hostile connection.
async fn lie(mut stream: TcpStream, random: &mut Random) {
    let mut heard = [0; 512];
    if random.below(8) > 0 {
        let _ = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut heard)).await;
    }
    let mut said = Vec::new();
    match random.below(10) {
        0 => said = random.bytes(64),
        1 => said.extend([
            0x20,
            3,
            0,
            [0x80, 0x87, 0x97][usize::try_from(random.below(3)).unwrap()],
            0,
        ]),
        // Session present, with properties that are none.
        2 => {
            let noise = random.bytes(30);
            said.extend([0x20, u8::try_from(noise.len()).unwrap() + 3, 1, 0]);
            said.push(u8::try_from(noise.len()).unwrap());
            said.extend(noise);
        }
        3 => said.extend([0x20, 0xff, 0xff, 0xff, 0x7f]),
        _ => {
            let flag = u8::from(random.below(2) == 0);
            said.extend([0x20, 3, flag, 0, 0]);
            for _ in 0..random.below(12) {
                said.extend(packet(random));
            }
        }
    }
    if random.below(2) == 0 && !said.is_empty() {
        for _ in 0..=random.below(3) {
            let at = usize::try_from(random.below(said.len() as u64)).unwrap();
            said[at] ^= 1 << random.below(8);
        }
    }
    if random.below(5) == 0 {
        said.truncate(usize::try_from(random.below(said.len() as u64 + 1)).unwrap());
    }
    let _ = stream.write_all(&said).await;
    let silence_ms = if random.below(40) == 0 { 150 } else { random.below(4) };
    tokio::time::sleep(Duration::from_millis(silence_ms)).await;
}

/// An honest gateway, as far as a device needs one: it confirms everything.
async fn serve(mut stream: TcpStream, acked: &AtomicU64) -> std::io::Result<()> {
    loop {
        let first = stream.read_u8().await?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = usize::from(stream.read_u8().await?);
            length |= (byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut rest = vec![0; length];
        stream.read_exact(&mut rest).await?;
        match first >> 4 {
            1 => stream.write_all(&CONNACK).await?,
            3 => {
                let topic = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
                stream.write_all(&[0x40, 2, rest[2 + topic], rest[3 + topic]]).await?;
                acked.fetch_add(1, Ordering::Relaxed);
            }
            8 => stream.write_all(&[0x90, 4, rest[0], rest[1], 0, 1]).await?,
            12 => stream.write_all(&[0xd0, 0]).await?,
            _ => {}
        }
    }
}

#[tokio::test]
async fn nothing_that_a_gateway_says_stops_a_device() {
    let seed = 0x5eed_0001;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicU64::new(0));
    let acked = Arc::new(AtomicU64::new(0));
    let (counted, confirmed) = (Arc::clone(&connections), Arc::clone(&acked));
    tokio::spawn(async move {
        let mut random = Random(seed);
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if counted.fetch_add(1, Ordering::Relaxed) < HOSTILE {
                lie(stream, &mut random).await;
            } else {
                let _ = serve(stream, &confirmed).await;
            }
        }
    });

    let mut config = Config::new(DeviceName::new("press-7").unwrap());
    config.backoff = BackoffConfig { min_ms: 1, max_ms: 2 };
    config.answer_timeout_ms = 100;
    config.metrics_period_ms = 50;
    let (mut memory, mut ring) = (Memory::<256, 512, 1024, 256>::new(), [0; 4096]);
    let (device, link) = Device::new(config, 9, &mut memory);
    let mut queue = RamQueue::new(&mut ring, Overflow::DropOldest);
    let mut dial = TcpDial::new(format!("127.0.0.1:{port}"));
    let mut app = Idle;
    let scenario = async {
        while connections.load(Ordering::Relaxed) <= HOSTILE {
            let _ = device.try_publish_bytes("sensors/a", SchemaId::RAW, b"something");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        device.online().await;
        for _ in 0..50 {
            device.publish_bytes("sensors/a", SchemaId::RAW, b"something").await.unwrap();
        }
        device.drained().await;
    };
    tokio::select! {
        ended = device.run(link, &mut queue, &mut dial, &mut app) => panic!("{ended:?}"),
        () = scenario => {}
        () = tokio::time::sleep(Duration::from_secs(150)) => {
            panic!("{} connections, {:?}, {:?}", connections.load(Ordering::Relaxed), device.state(), device.figures());
        }
    }
    let figures = device.figures();
    println!("{figures:?}");
    assert!(figures.connects > 500 && figures.ignored > 100, "{figures:?}");
    assert!(acked.load(Ordering::Relaxed) >= 50 && figures.queued == 0);
}
