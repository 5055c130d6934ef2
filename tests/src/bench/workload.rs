//! The benchmark's messages: 200 bytes of JSON at QoS 1, one in ten of them too cold to be passed
//! on, and what has to come out for each.
//!
//! Every field that differs has a fixed width, so that a message is made by copying a packet and
//! writing digits into it.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use edge_broker::codec::{Packet, PacketId, Publish, Version, encode};
use edge_core::message::{Properties, QoS};
use edge_core::topic::Topic;
use serde_json::Value;

use super::ledger::Id;

/// Bytes of a payload.
pub const PAYLOAD_BYTES: usize = 200;
/// Filter of the outputs.
pub const OUTPUTS: &str = "out/#";
/// Devices that the connections speak for.
const DEVICES: usize = 50;
/// `seq` of the first message of the first connection: ten digits, whatever is added.
const FIRST: u64 = 1_000_000_000;
/// Messages of one connection at most.
const PER_CONNECTION: u64 = 10_000_000;
/// One message in so many is cold.
const COLD_EVERY: u32 = 10;

/// Whether a message has an output.
#[must_use]
pub fn has_output(n: u32) -> bool {
    !n.is_multiple_of(COLD_EVERY)
}

/// Temperature of a message in tenths of a degree, 10.0 to 99.9.
fn tenths(n: u32) -> u32 {
    100 + n.wrapping_mul(7) % 900
}

fn temp(n: u32) -> String {
    if has_output(n) { format!("{}.{}", tenths(n) / 10, tenths(n) % 10) } else { "9.25".to_owned() }
}

/// `temp_f` of an output, in whole tenths and so without any doubt about rounding.
fn fahrenheit(n: u32) -> String {
    let tenths = (18 * tenths(n) + 3_200 + 5) / 10;
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn seq(id: Id) -> u64 {
    FIRST + u64::from(id.connection) * PER_CONNECTION + u64::from(id.n)
}

fn payload(id: Id) -> String {
    let device = usize::from(id.connection) % DEVICES;
    let (temp, seq) = (temp(id.n), seq(id));
    let head = format!(
        "{{\"device\":\"d{device:02}\",\"temp\":{temp},\"hum\":41.5,\"seq\":{seq},\
         \"ts\":1764163200000,\"site\":\"plant-3/line-2\",\"fw\":\"1.4.2\",\"pad\":\""
    );
    let pad = "x".repeat(PAYLOAD_BYTES - head.len() - 2);
    format!("{head}{pad}\"}}")
}

/// The PUBLISH packets of one connection.
#[derive(Debug)]
pub struct Template {
    connection: u16,
    packet: Vec<u8>,
    packet_id_at: usize,
    temp_at: usize,
    seq_at: usize,
}

impl Template {
    /// Of one connection, numbered from 0.
    ///
    /// # Errors
    /// Never on a device number that makes a topic.
    pub fn new(connection: u16) -> Result<Self> {
        let payload = payload(Id { connection, n: 1 });
        let topic = format!("in/d{:02}", usize::from(connection) % DEVICES);
        let payload_at = |field: &str| payload.find(field).map(|at| at + field.len());
        let (temp, seq) = (payload_at("\"temp\":"), payload_at("\"seq\":"));
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: Topic::new(&topic)?,
            packet_id: PacketId::new(1),
            expiry_s: None,
            subscription_ids: Vec::new(),
            properties: Properties::default(),
            payload: Bytes::from(payload.clone()),
        };
        let mut packet = Vec::new();
        encode(&Packet::Publish(publish), Version::V5, &mut packet);
        let from = packet.len() - payload.len();
        // Before the payload stands the empty block of properties, before that the packet id.
        let packet_id_at = from - 3;
        ensure!(packet[packet_id_at..from] == [0, 1, 0], "a PUBLISH is laid out otherwise");
        Ok(Self {
            connection,
            packet,
            packet_id_at,
            temp_at: from + temp.context("no temp")?,
            seq_at: from + seq.context("no seq")?,
        })
    }

    /// Appends message `n` under a packet id.
    pub fn append(&self, n: u32, packet_id: u16, out: &mut Vec<u8>) {
        let from = out.len();
        out.extend_from_slice(&self.packet);
        let packet = &mut out[from..];
        packet[self.packet_id_at..self.packet_id_at + 2].copy_from_slice(&packet_id.to_be_bytes());
        if has_output(n) {
            let t = u64::from(tenths(n));
            for (at, digit) in [(0, t / 100), (1, t / 10 % 10), (3, t % 10)] {
                packet[self.temp_at + at] = ascii(digit);
            }
        } else {
            packet[self.temp_at..self.temp_at + 4].copy_from_slice(b"9.25");
        }
        let mut rest = seq(Id { connection: self.connection, n });
        for at in (self.seq_at..self.seq_at + 10).rev() {
            packet[at] = ascii(rest % 10);
            rest /= 10;
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a digit")]
fn ascii(digit: u64) -> u8 {
    b'0' + digit as u8
}

/// Which message an output belongs to, and whether its conversion is right.
#[must_use]
pub fn judge_output(payload: &[u8]) -> Option<(Id, bool)> {
    let digits = after(payload, b"\"seq\":")?.get(..10)?;
    let seq: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let number = seq.checked_sub(FIRST)?;
    let connection = u16::try_from(number / PER_CONNECTION).ok()?;
    let n = u32::try_from(number % PER_CONNECTION).ok()?;
    let given = after(payload, b"\"temp_f\":")?;
    let wanted = fahrenheit(n);
    let right = has_output(n)
        && given.starts_with(wanted.as_bytes())
        && matches!(given.get(wanted.len()), Some(b',' | b'}'));
    Some((Id { connection, n }, right))
}

fn after<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(key.len()).position(|window| window == key)?;
    Some(&text[at + key.len()..])
}

/// Whether an output has every field of its input, `temp_f` and `v`, and nothing else. Slower
/// than [`judge_output`]: for a sample.
#[must_use]
pub fn is_whole(id: Id, output: &[u8]) -> bool {
    let Ok(Value::Object(mut output)) = serde_json::from_slice(output) else { return false };
    let (Some(_), Some(v)) = (output.remove("temp_f"), output.remove("v")) else { return false };
    let input = serde_json::from_str::<Value>(&payload(id));
    v == 1 && input.is_ok_and(|input| input == Value::Object(output))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(id: Id, packet_id: u16) -> Publish {
        let mut bytes = Vec::new();
        Template::new(id.connection).unwrap().append(id.n, packet_id, &mut bytes);
        let mut decoder = edge_broker::codec::Decoder::client(Version::V5, 1 << 20);
        let mut bytes = bytes::BytesMut::from(&bytes[..]);
        match decoder.decode(&mut bytes) {
            Ok(Some(Packet::Publish(publish))) if bytes.is_empty() => publish,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_written_over_template_is_the_message() {
        for n in [0, 1, 9, 10, 11, 899, 123_456, 9_999_999] {
            for connection in [0, 49, 99] {
                let id = Id { connection, n };
                let publish = published(id, 50);
                assert_eq!(publish.payload.len(), PAYLOAD_BYTES);
                assert_eq!(publish.payload, payload(id).as_bytes());
                assert_eq!(publish.packet_id, PacketId::new(50));
            }
        }
    }

    #[test]
    fn what_the_handlers_compute_is_what_is_expected() {
        for n in 0..2_000 {
            let id = Id { connection: 7, n };
            let input = serde_json::from_slice(&published(id, 1).payload).unwrap();
            let output = pipeline_model::convert(input).unwrap();
            assert_eq!(output.is_some(), has_output(n));
            let Some((topic, output)) = output else { continue };
            assert_eq!(topic, "out/d07");
            let output = serde_json::to_vec(&output).unwrap();
            assert_eq!(judge_output(&output), Some((id, true)));
            assert!(is_whole(id, &output));
        }
    }

    #[test]
    fn a_wrong_output_is_seen() {
        let id = Id { connection: 0, n: 1 };
        let input = serde_json::from_str(&payload(id)).unwrap();
        let (_, mut output) = pipeline_model::convert(input).unwrap().unwrap();
        output.insert("temp_f".to_owned(), 1.0.into());
        let wrong = serde_json::to_vec(&output).unwrap();
        assert_eq!(judge_output(&wrong), Some((id, false)));
        output.remove("site");
        assert!(!is_whole(id, &serde_json::to_vec(&output).unwrap()));
        assert_eq!(judge_output(b"{}"), None);
    }
}
