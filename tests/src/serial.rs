//! Devices on a serial line, simulated: the same link as in firmware, over TCP or a pseudo-terminal, on a line that hurts
//! frames.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use device_protocol::serial::{Device, DeviceConfig, FromDevice, FromGateway, Timing, WIRE_MAX};
use device_protocol::system::{Response, Status};
use device_protocol::{Down, Envelope, SchemaId, Timestamp, Up};

use crate::random::Random;

/// How long a read waits.
const READ_MAX: Duration = Duration::from_millis(4);

/// A port of the devices' end.
pub trait Port: Read + Write + Send {}

impl<T: Read + Write + Send> Port for T {}

/// Connects to a gateway's `tcp_listen`.
///
/// # Errors
/// Nobody listens.
pub fn connect(address: SocketAddr) -> Result<Box<dyn Port>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(READ_MAX))?;
    Ok(Box::new(stream))
}

/// What devices on a line have done so far; read by whoever watches them.
#[derive(Debug, Default)]
pub struct Progress {
    /// Readings that the gateway said are durable.
    pub durable: AtomicU32,
    /// Readings that it rejected.
    pub rejected: AtomicU32,
    /// Lives of links.
    pub lives: AtomicU32,
    /// Commands that came, by name.
    pub commands: Mutex<Vec<String>>,
    /// The devices end, though they have no readings left to send.
    pub stop: AtomicBool,
}

/// A device with readings to send.
struct Member {
    name: &'static str,
    device: Device<'static, 2_048, 1_500>,
    boot: u64,
    queue: VecDeque<u32>,
    sent: usize,
    life: u32,
    /// Encoded answers to commands.
    answers: VecDeque<Vec<u8>>,
}

/// A device to simulate.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Its address on a shared bus.
    pub address: Option<u8>,
    /// Its token; empty on a trusted line.
    pub token: String,
    /// Readings to send, on `sensors/NAME`.
    pub readings: u32,
}

/// Runs devices on one line until [`Progress::stop`]. Of a thousand frames so many are hurt, in both directions.
///
/// # Errors
/// The gateway says what it must not.
pub fn run(
    mut open: impl FnMut() -> Result<Box<dyn Port>>,
    plans: &[Plan],
    hurt: usize,
    seed: u64,
    progress: &Progress,
) -> Result<()> {
    let mut random = Random::new(seed);
    let mut members: Vec<_> = plans.iter().map(|plan| Member::new(plan, &mut random)).collect();
    let began = Instant::now();
    let mut port: Option<Box<dyn Port>> = None;
    let mut buf = [0; 512];
    while !progress.stop.load(Ordering::Relaxed) {
        let Some(line) = &mut port else {
            std::thread::sleep(Duration::from_millis(50));
            port = open().ok();
            continue;
        };
        let now = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut out = Vec::new();
        for member in &mut members {
            member.fill(progress);
            let mut frame = [0; WIRE_MAX];
            while let length @ 1.. = member.device.transmit(now(), &mut frame) {
                out.extend(damaged(&frame[..length], hurt, &mut random));
            }
        }
        if line.write_all(&out).is_err() {
            port = None;
            continue;
        }
        match line.read(&mut buf) {
            Ok(length @ 1..) => {
                let bytes = damaged(&buf[..length], hurt, &mut random);
                for member in &mut members {
                    member.receive(&bytes, now(), progress)?;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Ok(_) | Err(_) => port = None,
        }
    }
    Ok(())
}

fn damaged(bytes: &[u8], hurt: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if random.below(1_000) < hurt && !bytes.is_empty() {
        let at = random.below(bytes.len());
        match random.below(3) {
            0 => bytes[at] ^= 0x10,
            1 => drop(bytes.remove(at)),
            _ => bytes.insert(at, 0x55),
        }
    }
    bytes
}

impl Member {
    fn new(plan: &Plan, random: &mut Random) -> Self {
        // Firmware has these in its flash: they live as long as the process.
        let name: &'static str = plan.name.clone().leak();
        let credential = plan.token.clone().leak().as_bytes();
        let config = DeviceConfig {
            address: plan.address,
            name,
            credential,
            timing: Timing::for_baud(115_200),
            seed: random.bits(),
        };
        Self {
            name,
            device: Device::new(config),
            boot: random.bits(),
            queue: (0..plan.readings).collect(),
            sent: 0,
            life: 0,
            answers: VecDeque::new(),
        }
    }

    /// Hands to the link what it takes.
    fn fill(&mut self, progress: &Progress) {
        let life = self.device.counters().lives;
        if life != self.life {
            (self.life, self.sent) = (life, 0);
            progress.lives.fetch_add(1, Ordering::Relaxed);
        }
        while let Some(answer) = self.answers.front() {
            if self.device.send(&FromDevice::System { id: u32::MAX, up: answer }).is_err() {
                return;
            }
            self.answers.pop_front();
        }
        while let Some(reading) = self.queue.get(self.sent) {
            let body = format!("{{\"device\":\"{}\",\"n\":{reading}}}", self.name);
            let mut envelope = [0; 256];
            let length = Envelope {
                device: self.name,
                boot: self.boot,
                sequence: u64::from(*reading),
                schema: SchemaId::RAW,
                time: Timestamp::uptime(u64::from(*reading)),
                body: body.as_bytes(),
            }
            .encode(&mut envelope)
            .expect("invariant: it fits");
            let topic = format!("sensors/{}", self.name);
            let envelope = &envelope[..length];
            let publish = FromDevice::Publish { id: *reading, topic: &topic, envelope };
            if self.device.send(&publish).is_err() {
                return;
            }
            self.sent += 1;
        }
    }

    fn receive(&mut self, mut bytes: &[u8], now_ms: u64, progress: &Progress) -> Result<()> {
        loop {
            bytes = &bytes[self.device.receive(bytes, now_ms)..];
            let Some(message) = self.device.message() else { return Ok(()) };
            match message.context("a message that is none")? {
                FromGateway::Durable { id: u32::MAX } => {}
                FromGateway::Durable { id } => {
                    if self.queue.front() != Some(&id) || self.sent == 0 {
                        bail!("{}: {id} is durable, but not the next: {:?}", self.name, self.queue);
                    }
                    self.queue.pop_front();
                    self.sent -= 1;
                    progress.durable.fetch_add(1, Ordering::Relaxed);
                }
                FromGateway::Rejected { id, reason } => {
                    progress.rejected.fetch_add(1, Ordering::Relaxed);
                    bail!("{}: {id} was rejected with 0x{reason:02x}", self.name);
                }
                FromGateway::System { down } => {
                    if let Ok(Down::Command(command)) = Down::decode(down) {
                        progress.commands.lock().expect("no panic").push(command.name.to_owned());
                        let answer = Response {
                            id: command.id,
                            status: Status::Done,
                            schema: SchemaId::RAW,
                            body: b"ok",
                        };
                        let mut up = [0; 64];
                        let length = Up::Response(answer).encode(&mut up)?;
                        self.answers.push_back(up[..length].to_vec());
                    }
                }
            }
            self.device.take();
        }
    }
}
