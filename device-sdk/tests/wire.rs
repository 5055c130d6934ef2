//! A transport that is of no use after a write or a flush that was dropped, as TLS is, and slow: news never cut one off.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use device_sdk::protocol::system::Command;
use device_sdk::protocol::{DeviceName, Down, SchemaId};
use device_sdk::{Config, Device, Dial, Memory, Overflow, RamQueue};
use embedded_io_adapters::tokio_1::FromTokio;
use embedded_io_async::{ErrorType, Read, Write};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How long a flush takes: as long as an acknowledgement of TCP over a slow link.
const FLUSH: Duration = Duration::from_millis(15);
const COMMANDS: u64 = 40;

struct Fragile {
    stream: FromTokio<TcpStream>,
    /// A write is under way, or was cut off.
    is_writing: bool,
    cut_off: Rc<Cell<u32>>,
}

impl Fragile {
    fn begin(&mut self) -> io::Result<()> {
        if self.is_writing {
            self.cut_off.set(self.cut_off.get() + 1);
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.is_writing = true;
        Ok(())
    }
}

impl ErrorType for Fragile {
    type Error = io::Error;
}

impl Read for Fragile {
    async fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.stream.read(out).await
    }
}

impl Write for Fragile {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begin()?;
        let written = self.stream.write(bytes).await;
        self.is_writing = false;
        written
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.begin()?;
        tokio::time::sleep(FLUSH).await;
        let flushed = self.stream.flush().await;
        self.is_writing = false;
        flushed
    }
}

struct FragileDial {
    port: u16,
    cut_off: Rc<Cell<u32>>,
}

impl Dial for FragileDial {
    type Transport<'t> = Fragile;
    type Error = io::Error;

    async fn dial(&mut self) -> io::Result<Fragile> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        let stream = FromTokio::new(stream);
        Ok(Fragile { stream, is_writing: false, cut_off: Rc::clone(&self.cut_off) })
    }
}

fn command(id: u64) -> Vec<u8> {
    let down = Down::Command(Command { id, name: "dance", schema: SchemaId::RAW, body: &[] });
    let mut payload = [0; 64];
    let length = down.encode(&mut payload).unwrap();
    let topic = down.topic("press-7").unwrap();
    let mut rest = vec![0, u8::try_from(topic.len()).unwrap()];
    rest.extend_from_slice(topic.as_bytes());
    rest.extend_from_slice(&[0, u8::try_from(id).unwrap(), 0]);
    rest.extend_from_slice(&payload[..length]);
    [&[0x32, u8::try_from(rest.len()).unwrap()], rest.as_slice()].concat()
}

async fn packet(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let first = stream.read_u8().await?;
    let length = stream.read_u8().await?;
    let length = if length < 0x80 {
        usize::from(length)
    } else {
        usize::from(length & 0x7F) + (usize::from(stream.read_u8().await?) << 7)
    };
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    Ok((first >> 4, rest))
}

/// Confirms everything, and sends a command every few milliseconds; returns how many of them were acknowledged.
async fn gateway(stream: TcpStream) -> io::Result<u64> {
    let (mut from, mut to) = stream.into_split();
    let (mut sent, mut acked) = (0, 0);
    let mut tick = tokio::time::interval(Duration::from_millis(7));
    // Its reads may not be cut off either.
    let (said, mut heard) = tokio::sync::mpsc::channel(64);
    tokio::spawn(async move {
        while let Ok(packet) = packet(&mut from).await {
            if said.send(packet).await.is_err() {
                break;
            }
        }
    });
    let mut is_subscribed = false;
    loop {
        tokio::select! {
            packet = heard.recv() => match packet.ok_or(io::ErrorKind::UnexpectedEof)? {
                (1, _) => to.write_all(&[0x20, 3, 0, 0, 0]).await?,
                (3, rest) => {
                    let topic = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
                    to.write_all(&[0x40, 2, rest[2 + topic], rest[3 + topic]]).await?;
                }
                (4, _) => {
                    acked += 1;
                    if acked == COMMANDS {
                        return Ok(acked);
                    }
                }
                (8, rest) => {
                    is_subscribed = true;
                    to.write_all(&[0x90, 4, rest[0], rest[1], 0, 1]).await?;
                }
                (12, _) => to.write_all(&[0xD0, 0]).await?,
                _ => {}
            },
            _ = tick.tick() => if is_subscribed && sent < COMMANDS {
                sent += 1;
                to.write_all(&command(sent)).await?;
            },
        }
    }
}

#[tokio::test]
async fn news_of_the_device_cuts_off_no_write() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (mut memory, mut ring) = (Memory::<256, 512, 1024, 512>::new(), [0; 16 * 1024]);
    let config = Config::new(DeviceName::new("press-7").unwrap());
    let (device, link) = Device::new(config, 6, &mut memory);
    let mut queue = RamQueue::new(&mut ring, Overflow::DropOldest);
    let cut_off = Rc::new(Cell::new(0));
    let mut dial = FragileDial { port, cut_off: Rc::clone(&cut_off) };
    let mut app = ();
    let bell = async {
        loop {
            device.report();
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    let acked = tokio::select! {
        ended = device.run(link, &mut queue, &mut dial, &mut app) => panic!("{ended:?}"),
        () = bell => unreachable!("it rings for ever"),
        acked = async { gateway(listener.accept().await.unwrap().0).await } => acked,
        () = tokio::time::sleep(Duration::from_secs(30)) => panic!("{:?}", device.figures()),
    };
    assert_eq!(
        (cut_off.get(), device.figures().connects),
        (0, 1),
        "writes that were cut off, connections"
    );
    assert_eq!(acked.unwrap(), COMMANDS);
}
