//! The clients of the recorded gateway: devices that send as fast as they are acked, and one
//! subscriber with a persistent session. Each notes what it saw before it goes on.
//!
//! A client begins from what it had [`Seen`]: all zeros at the record, what the witness tells at a
//! cut when it comes back afterwards.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use edge_broker::codec::{Ack, Packet, PacketId, Publish, ReasonCode, Subscribe, SubscribeOptions};
use edge_core::message::{PROPERTY_BOOT_ID, PROPERTY_SEQUENCE, Properties, QoS};
use edge_core::topic::Topic;
use serde::{Deserialize, Serialize};

use crate::interrupt::Interrupt;
use crate::mqtt::{Client, Login};
use crate::readings::Reading;

use super::witness::{Kind, Mark, Notes, Seen};

/// A device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Device {
    pub(super) name: &'static str,
    /// QoS 2 without message ids; else QoS 1 with them.
    pub(super) exactly_once: bool,
}

/// All devices; a mark names one by its place here.
pub(super) const DEVICES: [Device; 5] = [
    Device { name: "press-1", exactly_once: false },
    Device { name: "press-2", exactly_once: false },
    Device { name: "press-3", exactly_once: false },
    Device { name: "press-4", exactly_once: false },
    Device { name: "exact-1", exactly_once: true },
];
/// The subscriber.
pub(super) const SUBSCRIBER: &str = "watch";
/// Most messages of a device: each has its own packet id.
pub(super) const MESSAGES_MAX: u32 = 60_000;

const WINDOW: u32 = 16;
/// Bytes that make messages as large as those of a talkative sensor; with them the journal comes
/// to its checkpoint within a short record.
const PAD_BYTES: usize = 1_500;
const BOOT: u64 = 0x1d5e_a5ed;
const SESSION_EXPIRY_S: u32 = 3_600;
/// Longest time without any answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a client needs beside its own part.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) address: SocketAddr,
    /// CA of the listener; `None` is plaintext.
    pub(super) ca: Option<&'a Path>,
    pub(super) readings: &'a [Reading],
    /// Messages of each device.
    pub(super) upto: u32,
    pub(super) interrupt: &'a Interrupt,
}

/// A message of a device.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Payload<'a> {
    device: &'a str,
    pub(super) seq: u64,
    value: f64,
    pad: &'a str,
}

/// What a device logs in with.
pub(super) fn token(name: &str) -> String {
    format!("token-of-{name}")
}

fn login(scene: &Scene, name: &str, persistent: bool) -> Login {
    Login {
        ca: scene.ca.map(Path::to_owned),
        password: Some(token(name)),
        clean: !persistent,
        session_expiry_s: if persistent { SESSION_EXPIRY_S } else { 0 },
        ..Login::anonymous(scene.address, name)
    }
}

/// The packets that are there, at least one.
fn packets(client: &mut Client, interrupt: &Interrupt) -> Result<Vec<Packet>> {
    let begun = Instant::now();
    loop {
        interrupt.check()?;
        let mut packets: Vec<Packet> =
            client.next(Duration::from_millis(200))?.into_iter().collect();
        while let Some(packet) = client.next(Duration::ZERO)? {
            packets.push(packet);
        }
        if !packets.is_empty() {
            return Ok(packets);
        }
        ensure!(begun.elapsed() < PATIENCE, "the gateway says nothing for {PATIENCE:?}");
    }
}

/// Takes `client` as far as the device's last message; all are acked when it returns.
pub(super) fn send(scene: &Scene, place: usize, seen: Seen, notes: &mut dyn Notes) -> Result<()> {
    let device = DEVICES[place];
    let context = || format!("device {}", device.name);
    let mut client =
        Client::connect(&login(scene, device.name, device.exactly_once)).with_context(context)?;
    if device.exactly_once && seen.acked > 0 {
        ensure!(client.session_present, "the session of {} is gone", device.name);
    }
    let mark = u8::try_from(place)?;
    let mut sender = Sender { scene, device, mark, seen, before: seen, sent: seen.acked };
    sender.release(&mut client, seen.completed, notes)?;
    while !sender.is_done() {
        sender.fill(&mut client)?;
        client.flush()?;
        for packet in packets(&mut client, scene.interrupt).with_context(context)? {
            sender.received(packet).with_context(context)?;
        }
        sender.note(notes)?;
        if device.exactly_once {
            let from = sender.seen.releasing;
            sender.release(&mut client, from, notes)?;
        }
    }
    Ok(())
}

struct Sender<'a> {
    scene: &'a Scene<'a>,
    device: Device,
    mark: u8,
    seen: Seen,
    /// What it had seen when it began.
    before: Seen,
    sent: u32,
}

impl Sender<'_> {
    /// Messages that need nothing more.
    fn over(&self) -> u32 {
        if self.device.exactly_once { self.seen.completed } else { self.seen.acked }
    }

    fn is_done(&self) -> bool {
        self.over() >= self.scene.upto
    }

    fn fill(&mut self, client: &mut Client) -> Result<()> {
        while self.sent < self.scene.upto && self.sent - self.over() < WINDOW {
            client.queue(&Packet::Publish(self.publish(self.sent)?));
            self.sent += 1;
        }
        Ok(())
    }

    fn publish(&self, seq: u32) -> Result<Publish> {
        let Device { name, exactly_once } = self.device;
        let mut properties = Properties::default();
        if !exactly_once {
            properties.user = vec![
                (PROPERTY_BOOT_ID.to_owned(), format!("{BOOT:016x}")),
                (PROPERTY_SEQUENCE.to_owned(), seq.to_string()),
            ];
        }
        let value = self.scene.readings[seq as usize % self.scene.readings.len()].value;
        let pad = "x".repeat(PAD_BYTES);
        let payload = Payload { device: name, seq: u64::from(seq), value, pad: &pad };
        Ok(Publish {
            dup: exactly_once && self.before != Seen::default(),
            qos: if exactly_once { QoS::ExactlyOnce } else { QoS::AtLeastOnce },
            retain: false,
            topic: Topic::new(&format!("sensors/{name}"))?,
            packet_id: Some(packet_id(seq)?),
            expiry_s: None,
            subscription_ids: Vec::new(),
            properties,
            payload: Bytes::from(serde_json::to_vec(&payload)?),
        })
    }

    fn received(&mut self, packet: Packet) -> Result<()> {
        let (ack, count) = match packet {
            Packet::PubAck(ack) if !self.device.exactly_once => (ack, &mut self.seen.acked),
            Packet::PubRec(ack) if self.device.exactly_once => (ack, &mut self.seen.acked),
            Packet::PubComp(ack) if self.device.exactly_once => (ack, &mut self.seen.completed),
            other => bail!("not an ack: {other:?}"),
        };
        let due = packet_id(*count)?;
        ensure!(ack.packet_id == due, "out of order: {ack:?} where {due:?} is due");
        // A PUBREL that is sent again after the cut may have been worked off before it.
        let is_known = *count < self.before.releasing;
        let is_gone = ack.reason == ReasonCode::PacketIdentifierNotFound && is_known;
        ensure!(!ack.reason.is_error() || is_gone, "refused: {ack:?}");
        *count += 1;
        Ok(())
    }

    fn note(&self, notes: &mut dyn Notes) -> Result<()> {
        let mark = |kind, upto| Mark { kind, device: self.mark, upto };
        let acked = mark(Kind::Acked, self.seen.acked);
        notes.note(&[acked, mark(Kind::Completed, self.seen.completed)])
    }

    /// Sends the PUBREL of the messages from `from` on that have their PUBREC.
    fn release(&mut self, client: &mut Client, from: u32, notes: &mut dyn Notes) -> Result<()> {
        if !self.device.exactly_once || from >= self.seen.acked {
            return Ok(());
        }
        let upto = self.seen.acked;
        notes.note(&[Mark { kind: Kind::Releasing, device: self.mark, upto }])?;
        self.seen.releasing = upto;
        for seq in from..upto {
            client.queue(&Packet::PubRel(Ack::ok(packet_id(seq)?)));
        }
        client.flush()
    }
}

fn packet_id(seq: u32) -> Result<PacketId> {
    PacketId::new(u16::try_from(seq + 1)?).context("a packet id")
}

/// All clients from their first message to their last, each with notes of its own: `notes` is given the
/// place of a device, or behind all of them that of the subscriber.
pub(super) fn run<N: Notes>(
    scene: &Scene,
    mut notes: impl FnMut(usize) -> Result<N>,
) -> Result<()> {
    let subscriber = subscribe(scene)?;
    std::thread::scope(|scope| {
        let mut clients = Vec::new();
        for place in 0..DEVICES.len() {
            let mut notes = notes(place)?;
            clients.push(scope.spawn(move || send(scene, place, Seen::default(), &mut notes)));
        }
        let mut notes = notes(DEVICES.len())?;
        let mut heard = [Seen::default(); DEVICES.len()];
        clients.push(scope.spawn(move || listen(scene, subscriber, &mut heard, &mut notes)));
        let ends = clients.into_iter().map(|client| client.join().expect("a client panicked"));
        // All of them have ended before any failure is told.
        ends.collect::<Vec<_>>().into_iter().collect()
    })
}

/// Subscribes for the first time; the devices may begin when it returns.
pub(super) fn subscribe(scene: &Scene) -> Result<Client> {
    let mut client = Client::connect(&login(scene, SUBSCRIBER, true))?;
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
    client.queue(&Packet::Subscribe(Subscribe {
        packet_id: PacketId::new(1).context("1 is a packet id")?,
        subscription_id: None,
        filters: vec![("sensors/+".parse()?, options), ("smooth/+".parse()?, options)],
    }));
    client.flush()?;
    match &packets(&mut client, scene.interrupt)?[..] {
        [Packet::SubAck(ack)] if ack.reasons.iter().all(|reason| !reason.is_error()) => Ok(client),
        other => bail!("not a SUBACK: {other:?}"),
    }
}

/// The subscriber comes back to its session.
pub(super) fn resubscribe(scene: &Scene) -> Result<Client> {
    let client = Client::connect(&login(scene, SUBSCRIBER, true))?;
    ensure!(client.session_present, "the session of the subscriber is gone");
    Ok(client)
}

/// Listens until everything was heard: each message of the devices and of the function.
pub(super) fn listen(
    scene: &Scene,
    mut client: Client,
    heard: &mut [Seen],
    notes: &mut dyn Notes,
) -> Result<()> {
    let upto = scene.upto;
    while heard.iter().any(|seen| seen.heard_raw < upto || seen.heard_smooth < upto) {
        let mut acks = Vec::new();
        for packet in packets(&mut client, scene.interrupt).context("the subscriber")? {
            let Packet::Publish(publish) = packet else { bail!("not a message: {packet:?}") };
            hear(&publish, heard)?;
            acks.push(Ack::ok(publish.packet_id.context("it is QoS 1")?));
        }
        let marks = (0..).zip(&*heard).flat_map(|(device, seen)| {
            let raw = Mark { kind: Kind::HeardRaw, device, upto: seen.heard_raw };
            [raw, Mark { kind: Kind::HeardSmooth, device, upto: seen.heard_smooth }]
        });
        notes.note(&marks.collect::<Vec<_>>())?;
        acks.into_iter().for_each(|ack| client.queue(&Packet::PubAck(ack)));
        client.flush()?;
    }
    Ok(())
}

/// The place of the device whose name ends the topic, and whether the topic is its own.
pub(super) fn place_of(topic: &str) -> Option<(usize, bool)> {
    let (stem, name) = topic.split_once('/')?;
    let place = DEVICES.iter().position(|device| device.name == name)?;
    match stem {
        "sensors" => Some((place, true)),
        "smooth" => Some((place, false)),
        _ => None,
    }
}

/// Number of a message, of a device or of the function.
pub(super) fn seq_of(payload: &[u8]) -> Result<u64> {
    #[derive(Deserialize)]
    struct Numbered {
        seq: u64,
    }
    Ok(serde_json::from_slice::<Numbered>(payload)?.seq)
}

/// A message comes in order, or was heard before.
fn hear(publish: &Publish, heard: &mut [Seen]) -> Result<()> {
    let topic = publish.topic.as_str();
    let (place, is_raw) = place_of(topic).with_context(|| format!("a message on {topic}"))?;
    let seen = &mut heard[place];
    let count = if is_raw { &mut seen.heard_raw } else { &mut seen.heard_smooth };
    let seq = u32::try_from(seq_of(&publish.payload)?)?;
    ensure!(seq <= *count, "{topic}: message {seq} where {count} is due: one is missing");
    *count = (*count).max(seq + 1);
    Ok(())
}
