//! Firmware and a function, offered to a device on a serial line that breaks bytes: each is fetched, verified and armed.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::large_stack_arrays,
    reason = "a panic is how a test says no"
)]
#![cfg(feature = "serial")]

#[allow(dead_code, reason = "other tests cut the power")]
#[path = "support/nor.rs"]
mod nor;

use std::time::Duration;

use device_protocol::serial::{
    self, Deframer, DeviceConfig, FromDevice, FromGateway, Heard, Station, StationConfig, Timing,
    WIRE_MAX,
};
use device_sdk::protocol::update::{Chunk, Offer, Stage};
use device_sdk::protocol::{DeviceName, Down, Up};
use device_sdk::update::{Boot, Ended, Layout, Running, Slot, Trial, UpdateConfig};
use device_sdk::{Config, Device, Memory, Overflow, RamQueue};
use ed25519_dalek::{Signer as _, SigningKey};
use embedded_io_adapters::tokio_1::FromTokio;
use nor::{Nor, PAGE};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const TIMING: Timing = Timing::for_baud(115_200);
/// Pages for the image; another two are for the notes.
const PAGES: usize = 8;
/// A byte of so many is broken, in both directions.
const BREAK_EVERY: usize = 397;

type End = Station<2_048, 2_048>;

/// The gateway's end of the line: it offers an image and answers for its bytes.
struct Gateway<'a> {
    end: End,
    offer: Down<'a>,
    image: &'a [u8],
    told: Vec<Stage>,
    broken: u32,
}

impl Gateway<'_> {
    async fn run(&mut self, mut line: DuplexStream) {
        let (mut deframer, mut buf, mut count) = (Deframer::new(), [0; 256], 0_usize);
        let broken_in_all = &mut self.broken;
        let mut broken = |bytes: &mut [u8]| {
            for byte in bytes {
                count += 1;
                let is_broken = count.is_multiple_of(BREAK_EVERY);
                *byte ^= 8 * u8::from(is_broken);
                *broken_in_all += u32::from(is_broken);
            }
        };
        let began = std::time::Instant::now();
        loop {
            let now_ms = || u64::try_from(began.elapsed().as_millis()).unwrap();
            let mut frame = [0; WIRE_MAX];
            while let length @ 1.. = self.end.transmit(now_ms(), &mut frame) {
                broken(&mut frame[..length]);
                line.write_all(&frame[..length]).await.unwrap();
            }
            let read = tokio::time::timeout(Duration::from_millis(3), line.read(&mut buf)).await;
            let length = read.map_or(0, |read| read.unwrap());
            broken(&mut buf[..length]);
            for byte in &buf[..length] {
                let Some(Ok((header, payload))) = deframer.push(*byte) else { continue };
                if let Heard::Hello(hello) = self.end.frame(&header, payload, now_ms()) {
                    let message_max = usize::try_from(hello.message_max).unwrap();
                    self.end.accept(message_max, now_ms());
                    send(&mut self.end, &self.offer);
                }
                hear(&mut self.end, self.image, &mut self.told);
            }
        }
    }
}

fn hear(end: &mut End, image: &[u8], told: &mut Vec<Stage>) {
    let Some(message) = end.message() else { return };
    let FromDevice::System { id, up } = message.unwrap() else { panic!("nothing is published") };
    let wanted = match Up::decode(up).unwrap() {
        Up::Progress(progress) => {
            told.push(progress.stage);
            None
        }
        Up::Want(want) => Some(want),
        _ => None,
    };
    end.take();
    end.send(&FromGateway::Durable { id }).unwrap();
    if let Some(want) = wanted {
        let from = want.offset as usize;
        let bytes = &image[from..from + usize::from(want.length)];
        send(end, &Down::Chunk(Chunk { image: want.image, offset: want.offset, bytes }));
    }
}

fn send(end: &mut End, down: &Down<'_>) {
    let mut bytes = [0; 1_024];
    let length = down.encode(&mut bytes).unwrap();
    end.send(&FromGateway::System { down: &bytes[..length] }).unwrap();
}

/// A boot loader that is told once.
#[derive(Default)]
struct Loader {
    is_armed: bool,
}

impl Boot for Loader {
    type Error = ();

    async fn trial(&mut self) -> Result<Trial, ()> {
        Ok(Trial::None)
    }

    async fn confirm(&mut self) -> Result<(), ()> {
        Ok(())
    }

    async fn arm(&mut self) -> Result<(), ()> {
        self.is_armed = true;
        Ok(())
    }
}

/// Offers an image of one kind: stages that the device told.
async fn update(is_function: bool) -> Vec<Stage> {
    let key = SigningKey::from_bytes(&[7; 32]);
    let author = key.verifying_key().to_bytes();
    let image: Vec<u8> = (0..5 * PAGE + 77).map(|at| (at * 31) as u8).collect();
    let digest = Sha256::digest(&image).into();
    let length = image.len() as u32;
    let mut offer = Offer { digest, length, board: "board", version: 2, floor: 0, signature: &[] };
    let signature = key.sign(&offer.signed().unwrap()).to_bytes();
    offer.signature = &signature;
    let (mut memory, mut ring) = (Memory::<256, 512, 1_024, 512>::new(), [0; 1_024]);
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
    let end = (PAGES * PAGE) as u32;
    let layout = Layout { image: 0..end, notes: end..end + 2 * PAGE as u32 };
    let mut slot = Slot::open(Nor::new(PAGES + 2, 0, 1), layout).await.unwrap();
    let own = is_function.then_some([1; 32]);
    let running = Running { board: "board", version: 1, floor: 0, author: &author, digest: own };
    let mut boot = Loader::default();
    let mut gateway = Gateway {
        end: Station::new(StationConfig { address: None, timing: TIMING, seed: 1 }),
        offer: if is_function { Down::Function(offer) } else { Down::Offer(offer) },
        image: &image,
        told: Vec::new(),
        broken: 0,
    };
    let config = UpdateConfig::default();
    let mut app = ();
    let updated = async {
        if is_function {
            device.update_function(config, &running, &mut slot, &mut boot).await
        } else {
            device.update(config, &running, &mut slot, &mut boot).await
        }
    };
    let ended = tokio::select! {
        never = device.run_serial(link, &mut line, &mut queue, port, &mut app) => match never {},
        () = gateway.run(far) => unreachable!("it listens for ever"),
        ended = updated => ended,
        () = tokio::time::sleep(Duration::from_secs(100)) => panic!("{:?}", device.figures()),
    };
    assert!(gateway.broken > 3, "{}", gateway.broken);
    assert_eq!((ended, boot.is_armed), (Ended::Restart, true));
    assert!(slot.verify().await.unwrap(), "what is armed is what was signed");
    gateway.told
}

#[tokio::test]
async fn firmware_comes_over_a_line_that_breaks_bytes() {
    assert_eq!(update(false).await, [Stage::Fetching, Stage::Verified]);
}

#[tokio::test]
async fn a_function_comes_over_a_line_that_breaks_bytes() {
    assert_eq!(update(true).await, [Stage::Fetching, Stage::Verified]);
}
