//! The program of the manual runs, on a board that is played, at a gateway that is played.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use device_protocol::system;
use device_protocol::{Down, Envelope, SchemaId};

use super::support::Programs;

/// Far more than anything takes, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Commands at once: far more bytes than the program or the library take in one go.
const BURST: u8 = 60;

/// Releases of messages that nobody sent, at once: each is answered with more bytes than it has, so that the program has to
/// send while it receives.
const RELEASES: u16 = 5_000;

/// The manual's program; killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A connection of the program, at the gateway's end.
struct Gateway {
    stream: TcpStream,
    /// Sequences of readings.
    readings: Vec<u64>,
    /// Commands that the device has acknowledged.
    acknowledged: u32,
    /// Releases that it has answered.
    completed: u32,
}

impl Gateway {
    fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, readings: Vec::new(), acknowledged: 0, completed: 0 }
    }

    fn byte(&mut self) -> std::io::Result<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    /// Hears a packet, and confirms it.
    fn hear(&mut self) -> std::io::Result<()> {
        let first = self.byte()?;
        // All packets of this test are shorter than 16 KiB.
        let mut length = usize::from(self.byte()?);
        if length >= 0x80 {
            length = (length & 0x7f) | usize::from(self.byte()?) << 7;
        }
        let mut rest = vec![0; length];
        self.stream.read_exact(&mut rest)?;
        match first >> 4 {
            1 => self.stream.write_all(&[0x20, 3, 0, 0, 0]),
            3 => {
                let topic = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
                let (topic, behind) = rest[2..].split_at(topic);
                if topic == b"sensors/press-7" {
                    let payload = &behind[3 + usize::from(behind[2])..];
                    self.readings.push(Envelope::decode(payload).unwrap().sequence);
                }
                self.stream.write_all(&[0x40, 2, behind[0], behind[1]])
            }
            4 => {
                self.acknowledged += 1;
                Ok(())
            }
            7 => {
                self.completed += 1;
                Ok(())
            }
            8 => self.stream.write_all(&[0x90, 4, rest[0], rest[1], 0, 1]),
            12 => self.stream.write_all(&[0xd0, 0]),
            _ => Ok(()),
        }
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            self.hear().unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    }
}

/// Commands with ids from 1 on, as packets of QoS 1, one after the other.
fn burst() -> Vec<u8> {
    let packet = |id: u8| {
        let command =
            system::Command { id: id.into(), name: "dance", schema: SchemaId::RAW, body: &[] };
        let down = Down::Command(command);
        let (mut payload, topic) = ([0; 64], down.topic("press-7").unwrap());
        let length = down.encode(&mut payload).unwrap();
        let topic_length = [0, u8::try_from(topic.len()).unwrap()];
        let parts = [&topic_length[..], topic.as_bytes(), &[0, id, 0], &payload[..length]];
        let rest = parts.concat();
        [&[0x32, u8::try_from(rest.len()).unwrap()], rest.as_slice()].concat()
    };
    (1..=BURST).flat_map(packet).collect()
}

/// PUBRELs with ids from 1 on.
fn releases() -> Vec<u8> {
    let packet = |id: u16| [&[0x62, 2], id.to_be_bytes().as_slice()].concat();
    (1..=RELEASES).flat_map(packet).collect()
}

#[test]
fn the_program_of_the_manual_gets_through_bursts_and_broken_connections() {
    let programs = Programs::new();
    let manual = include_str!("../../README.md");
    let (_, rest) = manual.split_once("```c\n").unwrap();
    let (program, _) = rest.split_once("```").unwrap();
    let source = programs.dir().join("manual.c");
    std::fs::write(&source, program).unwrap();
    let program = programs.linked_on_board(&source);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let mut command = Command::new(program);
    let _device = Running(command.env("PORT", port).stdin(Stdio::null()).spawn().unwrap());

    let mut first = Gateway::accept(&listener);
    first.until("a reading", |it| !it.readings.is_empty());
    first.stream.write_all(&burst()).unwrap();
    first.until("the burst is done", |it| it.acknowledged == u32::from(BURST));
    first.stream.write_all(&releases()).unwrap();
    first.until("the releases are answered", |it| it.completed == u32::from(RELEASES));
    let heard = first.readings.len();
    first.until("readings go on", |it| it.readings.len() > heard);

    // What is no MQTT ends the connection, wherever the program is in the bytes before and behind it.
    first.stream.write_all(&[burst(), releases(), vec![0xff; 900]].concat()).unwrap();
    while first.hear().is_ok() {}
    let mut second = Gateway::accept(&listener);
    second.until("two readings", |it| it.readings.len() == 2);
    let last = first.readings.last().unwrap();
    assert!(second.readings[0] <= last + 1, "{:?}, {:?}", first.readings, second.readings);
    assert_eq!(second.readings[1], second.readings[0] + 1);
}
