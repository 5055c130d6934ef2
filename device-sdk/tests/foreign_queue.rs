//! A queue whose flash was written by another firmware: the device says so, goes on, and touches nothing until it is told to.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a panic is how a test says no"
)]

#[allow(dead_code, reason = "other tests cut the power")]
#[path = "support/nor.rs"]
mod nor;
#[allow(dead_code, reason = "other tests play other parts")]
#[path = "support/played.rs"]
mod played;

use std::cell::RefCell;
use std::time::Duration;

use device_sdk::host::TcpDial;
use device_sdk::protocol::system::{Command, Status};
use device_sdk::protocol::{DeviceName, Down, SchemaId, Up};
use device_sdk::queue::{FlashQueue, Queue as _};
use device_sdk::{App, Config, Device, Figures, Memory, Overflow, PublishError, Reply};
use nor::{Nor, PAGE};
use played::Packet;

const PAGES: usize = 6;
const REGION: std::ops::Range<u32> = 0..(PAGES * PAGE) as u32;

/// Flash in which a queue of another layout keeps a record.
async fn foreign() -> Nor {
    let chip = Nor::new(PAGES, 0xff, 5);
    let mut buffer = [0; 128];
    let smaller = 0..REGION.end - PAGE as u32;
    let mut other =
        FlashQueue::new(chip.clone(), smaller, &mut buffer, Overflow::DropOldest).unwrap();
    other.push(b"of the former firmware").await.unwrap();
    chip
}

/// What the gateway heard.
#[derive(Debug, Default)]
struct Heard {
    lines: Vec<String>,
    metrics: Vec<(String, i64)>,
    commanded: Vec<Status>,
    readings: usize,
}

impl Heard {
    fn hear(&mut self, packet: &Packet) -> Vec<Vec<u8>> {
        match packet {
            Packet::Subscribe(_) => {
                let command = Command { id: 1, name: "rate", schema: SchemaId::RAW, body: &[] };
                return vec![played::publish("press-7", &Down::Command(command))];
            }
            Packet::Publish(publish) if publish.topic.starts_with('$') => {
                match Up::decode(&publish.payload).unwrap() {
                    Up::Log(line) => self.lines.push(line.text.into()),
                    Up::Metric(metric) => self.metrics.push((metric.name.into(), metric.value)),
                    Up::Response(response) => self.commanded.push(response.status),
                    _ => {}
                }
            }
            Packet::Publish(_) => self.readings += 1,
            _ => {}
        }
        vec![]
    }
}

/// Answers commands.
struct Obey;

impl App for Obey {
    fn command(&mut self, _: &Command<'_>, _: &mut Reply) -> Status {
        Status::Done
    }
}

/// Waits until it is so.
async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs a device with this flash beside a scenario, which is given what the gateway hears.
async fn with_device(
    chip: &Nor,
    scenario: impl AsyncFnOnce(&Device<'_>, &RefCell<Heard>),
) -> Figures {
    let (listener, port) = played::listen().await;
    let heard = RefCell::new(Heard::default());
    let mut config = Config::new(DeviceName::new("press-7").unwrap());
    config.metrics_period_ms = 50;
    let mut memory = Memory::<256, 512, 1024, 512>::new();
    let (device, link) = Device::new(config, 9, &mut memory);
    let mut buffer = [0; 128];
    let mut queue =
        FlashQueue::new(chip.clone(), REGION, &mut buffer, Overflow::DropOldest).unwrap();
    let (mut dial, mut app) = (TcpDial::new(format!("127.0.0.1:{port}")), Obey);
    let gateway = async {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = played::serve(stream, |packet| heard.borrow_mut().hear(packet)).await;
        }
    };
    tokio::select! {
        // The scenario begins before the device has looked at its flash.
        biased;
        () = scenario(&device, &heard) => {}
        ended = device.run(link, &mut queue, &mut dial, &mut app) => panic!("{ended:?}"),
        () = gateway => unreachable!("it listens for ever"),
        () = tokio::time::sleep(Duration::from_secs(30)) => panic!("{:?} {heard:?}", device.figures()),
    }
    device.figures()
}

#[tokio::test]
async fn the_device_says_so_refuses_with_a_reason_and_goes_on() {
    let chip = foreign().await;
    let before = chip.bytes();
    let figures = with_device(&chip, async |device, heard| {
        for _ in 0..5 {
            let published = device.publish_bytes("sensors/a", SchemaId::RAW, b"a reading").await;
            assert_eq!(published, Err(PublishError::Foreign));
        }
        until(|| heard.borrow().commanded == [Status::Done]).await;
        until(|| !heard.borrow().lines.is_empty()).await;
        until(|| heard.borrow().metrics.contains(&("queue_foreign".into(), 1))).await;
        assert!(heard.borrow().lines[0].contains("format the queue"), "{heard:?}");
        assert_eq!((heard.borrow().lines.len(), heard.borrow().readings), (1, 0));
    })
    .await;
    assert!(figures.is_queue_foreign && figures.queue_failures >= 5, "{figures:?}");
    assert_eq!((figures.connects, figures.published), (1, 0));
    assert_eq!(chip.bytes(), before, "what the other one keeps is as it was");
}

#[tokio::test]
async fn the_queue_takes_the_flash_when_it_is_told_to_and_only_what_is_foreign() {
    let chip = foreign().await;
    with_device(&chip, async |device, heard| {
        assert!(!device.format_queue(), "nothing is known of it yet");
        let first = device.publish_bytes("sensors/a", SchemaId::RAW, b"a reading").await;
        assert_eq!(first, Err(PublishError::Foreign));
        assert!(device.format_queue());
        until(|| !device.figures().is_queue_foreign).await;
        device.publish_bytes("sensors/a", SchemaId::RAW, b"a reading").await.unwrap();
        device.drained().await;
        assert_eq!((heard.borrow().readings, device.figures().acked), (1, 1));
        assert!(!device.format_queue(), "it is the queue's own now");
    })
    .await;
    let kept = chip.bytes();
    with_device(&chip, async |device, _| {
        device.online().await;
        assert!(!device.format_queue() && !device.figures().is_queue_foreign);
        tokio::time::sleep(Duration::from_millis(50)).await;
    })
    .await;
    assert_eq!(chip.bytes(), kept);
}
