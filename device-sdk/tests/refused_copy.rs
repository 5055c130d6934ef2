//! A message whose write was given up is in two copies after the next connection: what the gateway says of one is not told of
//! the other.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

#[allow(dead_code, reason = "other tests play other parts")]
#[path = "support/played.rs"]
mod played;

use std::io;
use std::time::Duration;

use device_sdk::protocol::{DeviceName, SchemaId};
use device_sdk::{
    App, BackoffConfig, Config, Device, Dial, Memory, Overflow, RamQueue, Settled, State,
};
use embedded_io_adapters::tokio_1::FromTokio;
use embedded_io_async::{ErrorType, Read, Write};
use played::{Packet, Publish};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

const TOPIC: &str = "sensors/a";
const PAYLOAD_FORMAT_INVALID: u8 = 0x99;

/// A connection that may be stuck when a message is written.
struct Sticky {
    stream: FromTokio<TcpStream>,
    sticks: bool,
}

impl ErrorType for Sticky {
    type Error = io::Error;
}

impl Read for Sticky {
    async fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.stream.read(out).await
    }
}

impl Write for Sticky {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.sticks && bytes.windows(TOPIC.len()).any(|part| part == TOPIC.as_bytes()) {
            std::future::pending::<()>().await;
        }
        self.stream.write(bytes).await
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.stream.flush().await
    }
}

/// The first connection sticks.
struct StickyDial {
    port: u16,
    dialled: u32,
}

impl Dial for StickyDial {
    type Transport<'t> = Sticky;
    type Error = io::Error;

    async fn dial(&mut self) -> io::Result<Sticky> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        self.dialled += 1;
        Ok(Sticky { stream: FromTokio::new(stream), sticks: self.dialled == 1 })
    }
}

/// A gateway that keeps the session, and waits for both copies before it refuses the first and takes the second.
async fn gateway(listener: TcpListener) {
    let mut copies: Vec<Publish> = Vec::new();
    for connection in 0.. {
        let (mut stream, _) = listener.accept().await.unwrap();
        while let Ok(packet) = played::packet(&mut stream).await {
            let answer = match packet {
                Packet::Connect => vec![0x20, 3, u8::from(connection > 0), 0, 0],
                Packet::Publish(publish) if publish.topic == TOPIC => {
                    copies.push(publish);
                    match copies.as_slice() {
                        [first, second] => [
                            played::puback(first.id, PAYLOAD_FORMAT_INVALID),
                            played::puback(second.id, 0),
                        ]
                        .concat(),
                        [_] => vec![],
                        _ => panic!("{copies:?}"),
                    }
                }
                other => played::confirmation(&other),
            };
            stream.write_all(&answer).await.unwrap();
        }
    }
}

#[derive(Default)]
struct Ends(Vec<Settled>, Vec<State>);

impl App for Ends {
    fn settled(&mut self, settled: Settled) {
        self.0.push(settled);
    }

    fn state(&mut self, state: State) {
        self.1.push(state);
    }
}

#[tokio::test]
async fn a_refusal_of_the_copy_that_was_given_up_is_none_of_the_message() {
    let (listener, port) = played::listen().await;
    let mut config = Config::new(DeviceName::new("press-7").unwrap());
    config.answer_timeout_ms = 300;
    config.metrics_period_ms = 0;
    config.backoff = BackoffConfig { min_ms: 10, max_ms: 20 };
    let (mut memory, mut ring) = (Memory::<256, 512, 1024, 256>::new(), [0; 4096]);
    let (device, link) = Device::new(config, 9, &mut memory);
    let mut queue = RamQueue::new(&mut ring, Overflow::DropOldest);
    let mut dial = StickyDial { port, dialled: 0 };
    let mut app = Ends::default();
    let scenario = async {
        // A message is on its way only when the device is online.
        device.online().await;
        device.publish_bytes(TOPIC, SchemaId::RAW, b"something").await.unwrap();
        device.drained().await;
    };
    tokio::select! {
        ended = device.run(link, &mut queue, &mut dial, &mut app) => panic!("{ended:?}"),
        () = gateway(listener) => unreachable!("it listens for ever"),
        () = scenario => {}
        () = tokio::time::sleep(Duration::from_secs(30)) => panic!("{:?}", device.figures()),
    }
    let figures = device.figures();
    assert_eq!(app.0, [Settled::Acked], "{:?}", app.1);
    assert_eq!((figures.acked, figures.refused, figures.connects), (1, 0, 2), "{figures:?}");
}
