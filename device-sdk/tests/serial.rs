//! A device on a serial line, against the gateway's end of the link, on a line that breaks bytes.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::large_stack_arrays,
    reason = "a panic is how a test says no"
)]
#![cfg(feature = "serial")]

use std::collections::BTreeMap;
use std::time::Duration;

use device_protocol::serial::{
    self, Deframer, DeviceConfig, FromDevice, FromGateway, Heard, Station, StationConfig, Timing,
    WIRE_MAX,
};
use device_sdk::protocol::system::{Command, Status};
use device_sdk::protocol::{DeviceName, Down, Envelope, Schema, SchemaId, Topic, Up, message};
use device_sdk::{App, Config, Device, Memory, Overflow, RamQueue, Reply, Settled, State, Trouble};
use embedded_io_adapters::tokio_1::FromTokio;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
struct Reading {
    number: u64,
}
message!(Reading, "test-reading");

const READINGS: Topic<Reading> = Topic::new("sensors/{device}/reading");
const TIMING: Timing = Timing::for_baud(115_200);

#[derive(Default)]
struct Obey(u32, Vec<State>, Vec<Settled>);

impl App for Obey {
    fn settled(&mut self, settled: Settled) {
        self.2.push(settled);
    }

    fn state(&mut self, state: State) {
        self.1.push(state);
    }

    fn command(&mut self, command: &Command<'_>, reply: &mut Reply) -> Status {
        assert_eq!(command.name, "blink");
        self.0 += 1;
        reply.text("blinked");
        Status::Done
    }
}

/// What the gateway heard: readings with how often each came, and responses.
#[derive(Default)]
struct Gateway {
    /// The device may not publish before this.
    allowed_after: Option<Duration>,
    readings: BTreeMap<u64, u32>,
    responses: Vec<(u64, Vec<u8>)>,
    /// How often it has sent the command.
    commanded: usize,
    lives: u32,
    /// Messages that were not allowed.
    rejections: u32,
    /// Messages that it may take before it forgets all, as by a restart.
    until_restart: Option<u32>,
}

impl Gateway {
    /// Runs the gateway's end; of so many bytes one is broken, in both directions.
    async fn run(&mut self, mut line: DuplexStream, break_every: usize) {
        let mut seed = 1;
        let mut end = station(seed);
        let (mut deframer, mut buf, mut count) = (Deframer::new(), [0; 256], 0_usize);
        let mut broken = |bytes: &mut [u8]| {
            for byte in bytes {
                count += 1;
                if count.is_multiple_of(break_every) {
                    *byte ^= 8;
                }
            }
        };
        let began = std::time::Instant::now();
        let allowed_after = self.allowed_after.unwrap_or_default();
        loop {
            let now_ms = || u64::try_from(began.elapsed().as_millis()).unwrap();
            let mut frame = [0; WIRE_MAX];
            while let length @ 1.. = end.transmit(now_ms(), &mut frame) {
                broken(&mut frame[..length]);
                line.write_all(&frame[..length]).await.unwrap();
            }
            let read = tokio::time::timeout(Duration::from_millis(3), line.read(&mut buf)).await;
            let length = read.map_or(0, |read| read.unwrap());
            broken(&mut buf[..length]);
            for byte in &buf[..length] {
                let Some(Ok((header, payload))) = deframer.push(*byte) else { continue };
                if let Heard::Hello(hello) = end.frame(&header, payload, now_ms()) {
                    assert_eq!((hello.device, hello.credential), ("press-7", &b"token"[..]));
                    let message_max = usize::try_from(hello.message_max).unwrap();
                    end.accept(message_max, now_ms());
                    self.lives += 1;
                }
                self.hear(&mut end, began.elapsed() >= allowed_after);
            }
            if self.readings.len() >= 40 && self.commanded == 0 {
                self.command(&mut end);
            }
            if self.until_restart == Some(0) {
                self.until_restart = None;
                seed += 1;
                end = station(seed);
            }
        }
    }

    /// Sends the command, always the same.
    fn command(&mut self, station: &mut Station<2_048, 2_048>) {
        let command = Command { id: 9, name: "blink", schema: SchemaId::RAW, body: b"" };
        let mut down = [0; 64];
        let length = Down::Command(command).encode(&mut down).unwrap();
        let sent = station.send(&FromGateway::System { down: &down[..length] });
        self.commanded += usize::from(sent.is_ok());
    }

    fn hear(&mut self, station: &mut Station<2_048, 2_048>, is_allowed: bool) {
        let Some(message) = station.message() else { return };
        let id = match message.unwrap() {
            FromDevice::Publish { id, .. } if !is_allowed => {
                self.rejections += 1;
                station.take();
                return station
                    .send(&FromGateway::Rejected { id, reason: 0x87 })
                    .map(drop)
                    .unwrap();
            }
            FromDevice::Publish { id, topic, envelope } => {
                assert_eq!(topic, "sensors/press-7/reading");
                let envelope = Envelope::decode(envelope).unwrap();
                assert_eq!((envelope.device, envelope.boot), ("press-7", 0xb007));
                let reading: Reading = envelope.message().unwrap();
                assert_eq!(reading.number, envelope.sequence);
                *self.readings.entry(envelope.sequence).or_default() += 1;
                id
            }
            FromDevice::System { id, up } => {
                let response = match Up::decode(up).unwrap() {
                    Up::Response(response) => Some((response.id, response.body.to_vec())),
                    _ => None,
                };
                if let Some(response) = response {
                    self.responses.push(response);
                    // A copy that the device hears before it hears that its first answer is here, as a line keeps the order.
                    if self.commanded == 1 {
                        self.command(station);
                    }
                }
                id
            }
        };
        if let Some(left) = &mut self.until_restart {
            *left = left.saturating_sub(1);
        }
        station.take();
        station.send(&FromGateway::Durable { id }).unwrap();
    }
}

fn station(seed: u64) -> Station<2_048, 2_048> {
    Station::new(StationConfig { address: None, timing: TIMING, seed })
}

/// Publishes 200 readings through this gateway.
async fn scenario(break_every: usize, mut gateway: Gateway) -> (Gateway, Obey) {
    let (mut memory, mut ring) = (Memory::<256, 128, 256, 512>::new(), [0; 32 * 1024]);
    let config = Config::new(DeviceName::new("press-7").unwrap());
    let (device, link) = Device::new(config, 0xb007, &mut memory);
    let mut queue = RamQueue::new(&mut ring, Overflow::DropNewest);
    let mut line = serial::Device::<1_024, 512>::new(DeviceConfig {
        address: None,
        name: "press-7",
        credential: b"token",
        timing: TIMING,
        seed: 3,
    });
    let (near, far) = tokio::io::duplex(1_024);
    let (reader, writer) = tokio::io::split(near);
    let port = (FromTokio::new(reader), FromTokio::new(writer));
    let mut app = Obey::default();
    let publish = async {
        for number in 0..200 {
            device.publish(READINGS, &Reading { number }).await.unwrap();
        }
        device.drained().await;
        // The answers to the last commands.
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    tokio::select! {
        never = device.run_serial(link, &mut line, &mut queue, port, &mut app) => match never {},
        () = gateway.run(far, break_every) => {}
        () = publish => {}
        () = tokio::time::sleep(Duration::from_secs(100)) => panic!("{:?}", device.figures()),
    }
    let figures = device.figures();
    assert_eq!((figures.acked, figures.queued, figures.refused), (200, 0, 0), "{figures:?}");
    assert_eq!(figures.connects, gateway.lives);
    assert_eq!(app.2, [Settled::Acked; 200], "each is told once");
    (gateway, app)
}

#[tokio::test]
async fn readings_arrive_once_over_a_line_that_breaks_bytes() {
    let (gateway, app) = scenario(1_999, Gateway::default()).await;
    assert_eq!(gateway.readings.len(), 200);
    assert!(gateway.readings.values().all(|times| *times == 1), "{:?}", gateway.readings);
    assert_eq!(app.0, 1, "the command was done once");
    assert_eq!((gateway.lives, gateway.commanded), (1, 2));
    // Each copy has an answer of its own, as the second came after the first answer was sent.
    assert_eq!(gateway.responses, vec![(9, b"blinked".to_vec()); 2]);
}

#[tokio::test]
async fn a_gateway_that_forgets_the_link_gets_again_what_it_had_not_answered() {
    let gateway = Gateway { until_restart: Some(100), ..Gateway::default() };
    let (gateway, _) = scenario(usize::MAX, gateway).await;
    assert_eq!(gateway.lives, 2);
    assert_eq!(gateway.readings.len(), 200);
}

#[tokio::test]
async fn readings_that_are_not_allowed_yet_stay_and_go_when_they_are() {
    let allowed_after = Some(Duration::from_millis(2_500));
    let gateway = Gateway { allowed_after, ..Gateway::default() };
    let (gateway, app) = scenario(usize::MAX, gateway).await;
    assert_eq!(gateway.readings.len(), 200);
    // A burst at each attempt, of as many as may be in flight; not one attempt after the other.
    assert!((1..100).contains(&gateway.rejections), "{}", gateway.rejections);
    let waits: Vec<_> = app
        .1
        .iter()
        .filter_map(|state| match state {
            State::Offline { trouble: Trouble::Refused(0x87), retry_ms } => Some(*retry_ms),
            _ => None,
        })
        .collect();
    assert!((2..=4).contains(&waits.len()), "{waits:?}");
    assert!(waits[0] <= 1_000 && waits[1] >= 1_000, "they grow: {waits:?}");
    assert_eq!(app.1.last(), Some(&State::Online { resumed: false }));
}
