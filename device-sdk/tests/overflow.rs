//! A message that the full queue drops while it is on its way, and that arrives, is not counted as dropped in the end.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

#[allow(dead_code, reason = "other tests play other parts")]
#[path = "support/played.rs"]
mod played;

use std::time::Duration;

use device_sdk::host::TcpDial;
use device_sdk::protocol::{DeviceName, SchemaId};
use device_sdk::{Config, Device, Memory, Overflow, RamQueue};
use played::Packet;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

const MESSAGES: u32 = 40;

/// Confirms all that a device sends, but what it publishes only when `may_ack`. Tells of each publish.
async fn serve(stream: TcpStream, mut may_ack: watch::Receiver<bool>, heard: mpsc::Sender<()>) {
    let (mut reader, mut writer) = stream.into_split();
    let (packets, mut waiting) = mpsc::channel::<Packet>(64);
    tokio::spawn(async move {
        while let Ok(packet) = played::packet(&mut reader).await {
            if matches!(packet, Packet::Publish(_)) {
                heard.send(()).await.unwrap();
            }
            packets.send(packet).await.unwrap();
        }
    });
    while let Some(packet) = waiting.recv().await {
        if matches!(packet, Packet::Publish(_)) {
            may_ack.wait_for(|may| *may).await.unwrap();
        }
        writer.write_all(&played::confirmation(&packet)).await.unwrap();
    }
}

#[tokio::test]
async fn what_arrives_after_it_was_dropped_counts_as_acked_alone() {
    let (listener, port) = played::listen().await;
    let (allow, may_ack) = watch::channel(false);
    let (heard, mut hears) = mpsc::channel(64);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream, may_ack, heard).await;
    });
    let config = Config::new(DeviceName::new("press-7").unwrap());
    // Room for a few records.
    let (mut memory, mut ring) = (Memory::<256, 1024, 1024, 256>::new(), [0; 256]);
    let (device, link) = Device::new(config, 9, &mut memory);
    let mut queue = RamQueue::new(&mut ring, Overflow::DropOldest);
    let mut dial = TcpDial::new(format!("127.0.0.1:{port}"));
    let mut app = ();
    let scenario = async {
        let publish = async || device.publish_bytes("sensors/a", SchemaId::RAW, b"12345678").await;
        publish().await.unwrap();
        hears.recv().await.unwrap();
        // The first one is on its way, and the queue drops it for the others.
        for _ in 1..MESSAGES {
            publish().await.unwrap();
        }
        let full = device.figures();
        assert_eq!((full.published, full.acked), (MESSAGES, 0), "{full:?}");
        assert_eq!(full.overflowed + full.queued, MESSAGES, "{full:?}");
        allow.send(true).unwrap();
        device.drained().await;
        full
    };
    let full = tokio::select! {
        ended = device.run(link, &mut queue, &mut dial, &mut app) => panic!("{ended:?}"),
        full = scenario => full,
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("{:?}", device.figures()),
    };
    let end = device.figures();
    assert!(end.overflowed < full.overflowed, "{full:?} {end:?}");
    assert_eq!(end.acked + end.overflowed, MESSAGES, "{end:?}");
}
