//! A device that replays readings and keeps its ledger.
//!
//! It keeps up to `window` publishes unacked. After a lost connection it connects again and sends
//! everything unacked once more, in order: with the same message ids, or (`ids = false`) as plain
//! QoS 1.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use edge_broker::codec::{Packet, PacketId, Publish};
use edge_core::message::{PROPERTY_BOOT_ID, PROPERTY_SEQUENCE, Properties, QoS};
use edge_core::topic::Topic;

use crate::ledger::{self, Fact, Ledger, wall_ms};
use crate::mqtt::{Client, Login};
use crate::readings::Reading;

/// What a device does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where and as whom; the client id is the device's name.
    pub login: Login,
    /// Topic of the readings.
    pub topic: String,
    /// Unacked publishes at most, or as many as the server takes.
    pub window: usize,
    /// Readings a second; `None`: as fast as the window allows.
    pub rate_per_s: Option<f64>,
    /// Whether messages carry ids.
    pub ids: bool,
    /// How long it may go without any ack before it gives up.
    pub patience: Duration,
    /// Once set it sends nothing new, and returns when all it sent is acked.
    pub stop: Option<Arc<AtomicBool>>,
}

impl Plan {
    fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed))
    }
}

struct Device<'a> {
    plan: &'a Plan,
    ledger: &'a mut Ledger,
    boot: u64,
    unacked: VecDeque<u64>,
    by_packet: BTreeMap<u16, u64>,
    next_packet: u16,
    readings: &'a [Reading],
}

/// Replays all readings, or until it is stopped; returns when all that was sent is acked.
///
/// # Errors
/// The server cannot be reached, or acks nothing for `patience`.
pub fn run(plan: &Plan, readings: &[Reading], boot: u64, ledger: &mut Ledger) -> Result<()> {
    let mut device = Device {
        plan,
        ledger,
        boot,
        unacked: VecDeque::new(),
        by_packet: BTreeMap::new(),
        next_packet: 1,
        readings,
    };
    let (mut sent, mut last_ack) = (0, Instant::now());
    while (sent < readings.len() as u64 && !plan.is_stopped()) || !device.unacked.is_empty() {
        let progress = sent;
        let acked_before = device.unacked.len();
        if let Err(err) = device.connection(&mut sent, &mut last_ack) {
            if last_ack.elapsed() > plan.patience {
                let name = &plan.login.client_id;
                bail!("{name}: no ack for {:?}: {err:#}", plan.patience);
            }
            if sent == progress && device.unacked.len() == acked_before {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        device.ledger.flush()?;
    }
    Ok(())
}

impl Device<'_> {
    /// One connection, until everything is acked or it is lost.
    fn connection(&mut self, sent: &mut u64, last_ack: &mut Instant) -> Result<()> {
        let mut client = Client::connect(&self.plan.login)?;
        let window = self.plan.window.min(usize::from(client.receive_max));
        self.by_packet.clear();
        for seq in self.unacked.clone() {
            self.publish(&mut client, seq, true)?;
        }
        client.flush()?;
        let (begin, first) = (Instant::now(), *sent);
        loop {
            let due = match self.plan.rate_per_s {
                Some(rate) => {
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "small"
                    )]
                    let due = (begin.elapsed().as_secs_f64() * rate) as u64;
                    first + due
                }
                None => u64::MAX,
            };
            let mut queued = false;
            let stopped = self.plan.is_stopped();
            let end = if stopped { *sent } else { self.readings.len() as u64 };
            while *sent < end.min(due) && self.unacked.len() < window {
                let seq = *sent;
                self.unacked.push_back(seq);
                *sent += 1;
                self.publish(&mut client, seq, false)?;
                queued = true;
            }
            if queued {
                client.flush()?;
            }
            if *sent == end && self.unacked.is_empty() {
                return Ok(());
            }
            let wait =
                Duration::from_millis(if self.plan.rate_per_s.is_some() { 5 } else { 1_000 });
            if let Some(packet) = client.next(wait)? {
                self.received(packet, last_ack)?;
            } else if !self.unacked.is_empty() && last_ack.elapsed() > self.plan.patience {
                bail!("{} unacked", self.unacked.len());
            }
        }
    }

    fn publish(&mut self, client: &mut Client, seq: u64, again: bool) -> Result<()> {
        let name = &self.plan.login.client_id;
        let index = usize::try_from(seq)?;
        let payload = payload(name, seq, self.readings[index]);
        let packet_id = loop {
            self.next_packet = self.next_packet.checked_add(1).unwrap_or(1);
            if !self.by_packet.contains_key(&self.next_packet) {
                break self.next_packet;
            }
        };
        self.by_packet.insert(packet_id, seq);
        let mut properties = Properties::default();
        if self.plan.ids {
            properties.user = vec![
                (PROPERTY_BOOT_ID.to_owned(), format!("{:016x}", self.boot)),
                (PROPERTY_SEQUENCE.to_owned(), seq.to_string()),
            ];
        }
        let device = name.clone();
        self.ledger.note(&if again {
            Fact::Resent { device, seq, at_ms: wall_ms() }
        } else {
            Fact::Sent { device, seq, hash: ledger::hash(payload.as_bytes()), at_ms: wall_ms() }
        })?;
        client.queue(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: Topic::new(&self.plan.topic)?,
            packet_id: PacketId::new(packet_id),
            expiry_s: None,
            subscription_ids: Vec::new(),
            properties,
            payload: Bytes::from(payload),
        }));
        Ok(())
    }

    fn received(&mut self, packet: Packet, last_ack: &mut Instant) -> Result<()> {
        match packet {
            Packet::PubAck(ack) => {
                let Some(seq) = self.by_packet.remove(&ack.packet_id.get()) else {
                    bail!("a PUBACK for a packet that was not sent: {ack:?}");
                };
                if ack.reason.is_error() {
                    bail!("reading {seq} was refused: {ack:?}");
                }
                self.unacked.retain(|open| *open != seq);
                *last_ack = Instant::now();
                let device = self.plan.login.client_id.clone();
                self.ledger.note(&Fact::Acked { device, seq, at_ms: wall_ms() })
            }
            Packet::Disconnect(why) => bail!("the server said goodbye: {why:?}"),
            _ => Ok(()),
        }
    }
}

/// The message of a reading; the same text for the same reading, so that its hash proves it.
#[must_use]
pub fn payload(device: &str, seq: u64, reading: Reading) -> String {
    serde_json::json!({ "device": device, "seq": seq, "value": reading.value }).to_string()
}
