//! `vectors.txt`: bytes that every implementation of the protocol agrees on.
//!
//! A line is a name, `=`, and bytes in hexadecimal, or `refused:` and the reason's first word. `HOLM_BLESS=1` writes the
//! bytes of the known values anew; whoever uses it changes the protocol.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a panic is how a test says no"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use device_protocol::system::{
    Command, Level, LogLine, Metric, Response, Shadow, Status, TimeReply, TimeRequest,
};
use device_protocol::update::{Chunk, Offer, Progress, Stage, Want};
use device_protocol::{Down, Envelope, Error, Quality, SchemaId, Timestamp, Up};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors.txt");
const SCHEMA: SchemaId = SchemaId(0xbcbc_55d1_5301_02e5);
const NOW: Timestamp = Timestamp { quality: Quality::Synced, ms: 1_795_737_600_123 };
const IMAGE: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

fn envelopes() -> [(&'static str, Envelope<'static>); 2] {
    let small = Envelope {
        device: "a",
        boot: 0,
        sequence: 0,
        schema: SchemaId::RAW,
        time: Timestamp::uptime(0),
        body: &[],
    };
    let full = Envelope {
        device: "press-7",
        boot: 0x0123_4567_89ab_cdef,
        sequence: 300,
        schema: SCHEMA,
        time: NOW,
        body: &[0x8c, 0xf3, 0x02],
    };
    [("envelope-least", small), ("envelope", full)]
}

fn ups() -> [(&'static str, Up<'static>); 8] {
    let (schema, body) = (SCHEMA, &b"\x01\x02"[..]);
    let reason = &b"no such rate"[..];
    [
        ("up-response", Up::Response(Response { id: 7, status: Status::Done, schema, body })),
        (
            "up-response-failed",
            Up::Response(Response {
                id: u64::MAX,
                status: Status::BadArgument,
                schema: SchemaId::RAW,
                body: reason,
            }),
        ),
        ("up-reported", Up::Reported(Shadow { version: 4, schema, body })),
        ("up-time", Up::TimeRequest(TimeRequest { uptime_ms: 5_000 })),
        (
            "up-log",
            Up::Log(LogLine {
                level: Level::Warn,
                time: NOW,
                dropped: 3,
                text: "sensor is silent",
            }),
        ),
        (
            "up-metric",
            Up::Metric(Metric { name: "queue_records", time: Timestamp::uptime(9), value: -12 }),
        ),
        ("up-want", Up::Want(Want { image: IMAGE, offset: 65_536, length: 1_024 })),
        (
            "up-progress",
            Up::Progress(Progress {
                image: IMAGE,
                stage: Stage::Declined,
                offset: 0,
                reason: "built for another board",
            }),
        ),
    ]
}

fn downs() -> [(&'static str, Down<'static>); 6] {
    let (schema, body) = (SCHEMA, &b"\x01\x02"[..]);
    [
        ("down-command", Down::Command(Command { id: 7, name: "rate", schema, body })),
        ("down-desired", Down::Desired(Shadow { version: 4, schema, body })),
        ("down-time", Down::Time(TimeReply { uptime_ms: 5_000, now: NOW })),
        (
            "down-offer",
            Down::Offer(Offer {
                digest: [0xab; 32],
                length: 90_128,
                board: "mps2-an385",
                version: 3,
                floor: 2,
                signature: &[0xcd; 64],
            }),
        ),
        ("down-chunk", Down::Chunk(Chunk { image: IMAGE, offset: 1_024, bytes: &[0xee; 16] })),
        (
            "down-function",
            Down::Function(Offer {
                digest: [0xab; 32],
                length: 377_000,
                board: "pulley32 wasmtime 48.0.8",
                version: 300,
                floor: 2,
                signature: &[0xcd; 64],
            }),
        ),
    ]
}

/// What must be refused by every reader, and as what.
fn refusals() -> [(&'static str, &'static [u8], Error); 8] {
    [
        ("refused-empty", &[], Error::Empty),
        ("refused-version", &[2, 2, 0x88, 0x27], Error::Version(2)),
        ("refused-unknown-kind", &[1, 7, 0], Error::Malformed),
        ("refused-cut", &[1, 0, 7], Error::Malformed),
        ("refused-trailing", &[1, 2, 0x88, 0x27, 0], Error::Trailing),
        (
            "refused-varint",
            &[1, 2, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2],
            Error::Malformed,
        ),
        ("refused-metric-name", &[1, 4, 0, 0, 9, 23], Error::Malformed),
        ("refused-want-nothing", &[1, 5, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0], Error::Malformed),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn known() -> BTreeMap<&'static str, String> {
    let mut bytes = [0; 512];
    let mut known = BTreeMap::new();
    for (name, envelope) in envelopes() {
        let length = envelope.encode(&mut bytes).unwrap();
        known.insert(name, hex(&bytes[..length]));
    }
    for (name, up) in ups() {
        let length = up.encode(&mut bytes).unwrap();
        known.insert(name, hex(&bytes[..length]));
    }
    for (name, down) in downs() {
        let length = down.encode(&mut bytes).unwrap();
        known.insert(name, hex(&bytes[..length]));
    }
    for (name, bytes, _) in refusals() {
        known.insert(name, hex(bytes));
    }
    known
}

#[test]
fn every_vector_is_what_the_code_writes() {
    let known = known();
    if std::env::var_os("HOLM_BLESS").is_some() {
        let lines: String = known.iter().map(|(name, hex)| format!("{name} = {hex}\n")).collect();
        let head = "# Bytes of the device protocol, version 1: see SPEC.md. tests/vectors.rs has the values.\n\
                    # Names that begin with `refused-` are what every reader of `up` must refuse.\n";
        std::fs::write(FILE, format!("{head}{lines}")).unwrap();
    }
    let file = std::fs::read_to_string(FILE).unwrap();
    let lines = file.lines().filter(|line| !line.starts_with('#'));
    let vectors: BTreeMap<&str, String> = lines
        .map(|line| line.split_once(" = ").or(line.split_once(" =")).unwrap())
        .map(|(name, hex)| (name, hex.trim().to_owned()))
        .collect();
    assert_eq!(vectors, known);
}

#[test]
fn what_is_to_be_refused_is_refused() {
    for (name, bytes, error) in refusals() {
        assert_eq!(Up::decode(bytes), Err(error), "{name}");
    }
}

#[test]
fn the_signed_bytes_of_an_offer_are_those_of_the_specification() {
    let [.., (_, Down::Offer(offer)), _, _] = downs() else { panic!("an offer") };
    let signed = offer.signed().unwrap();
    assert_eq!(signed.len(), 90);
    assert_eq!(&signed[..13], b"holm-firmware");
    assert_eq!(signed[13..45], [0xab; 32]);
    assert_eq!(signed[45..49], 90_128u32.to_le_bytes());
    assert_eq!(signed[49..57], [3, 0, 0, 0, 2, 0, 0, 0]);
    assert_eq!(signed[57], 10);
    assert_eq!(&signed[58..68], b"mps2-an385");
    assert_eq!(signed[68..], [0; 22]);
}
