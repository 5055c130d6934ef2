//! The application is told how each message ended, in the order of the queue.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::time::Duration;

use device_sdk::host::TcpDial;
use device_sdk::protocol::{DeviceName, SchemaId};
use device_sdk::{App, Config, Device, Memory, Overflow, RamQueue, Settled};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PAYLOAD_FORMAT_INVALID: u8 = 0x99;

#[derive(Default)]
struct Ends(Vec<Settled>);

impl App for Ends {
    fn settled(&mut self, settled: Settled) {
        self.0.push(settled);
    }
}

/// A gateway that takes everything but what is published on `sensors/bad`.
async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let first = stream.read_u8().await?;
        // All packets of this test are shorter than 16 KiB.
        let mut length = usize::from(stream.read_u8().await?);
        if length >= 0x80 {
            length = (length & 0x7f) | usize::from(stream.read_u8().await?) << 7;
        }
        let mut rest = vec![0; length];
        stream.read_exact(&mut rest).await?;
        match first >> 4 {
            1 => stream.write_all(&[0x20, 3, 0, 0, 0]).await?,
            3 => {
                let (topic, behind) =
                    rest[2..].split_at(usize::from(u16::from_be_bytes([rest[0], rest[1]])));
                let reason = if topic == b"sensors/bad" { PAYLOAD_FORMAT_INVALID } else { 0 };
                stream.write_all(&[0x40, 4, behind[0], behind[1], reason, 0]).await?;
            }
            8 => stream.write_all(&[0x90, 4, rest[0], rest[1], 0, 1]).await?,
            12 => stream.write_all(&[0xd0, 0]).await?,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_refused_message_is_told_with_its_reason_and_the_others_as_acked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = serve(stream).await;
        }
    });
    let config = Config::new(DeviceName::new("press-7").unwrap());
    let (mut memory, mut ring) = (Memory::<256, 512, 1024, 256>::new(), [0; 4096]);
    let (device, link) = Device::new(config, 9, &mut memory);
    let mut queue = RamQueue::new(&mut ring, Overflow::DropOldest);
    let mut dial = TcpDial::new(format!("127.0.0.1:{port}"));
    let mut app = Ends::default();
    let scenario = async {
        for topic in ["sensors/a", "sensors/bad", "sensors/b", "sensors/bad", "sensors/c"] {
            device.publish_bytes(topic, SchemaId::RAW, b"something").await.unwrap();
        }
        device.drained().await;
    };
    tokio::select! {
        ended = device.run(link, &mut queue, &mut dial, &mut app) => panic!("{ended:?}"),
        () = scenario => {}
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("{:?}", device.figures()),
    }
    let refused = Settled::Refused(PAYLOAD_FORMAT_INVALID);
    let acked = Settled::Acked;
    assert_eq!(app.0, [acked, refused, acked, refused, acked]);
    let figures = device.figures();
    assert_eq!((figures.acked, figures.refused), (3, 2), "{figures:?}");
}
