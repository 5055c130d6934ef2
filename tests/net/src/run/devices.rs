//! Devices: the simulator's, over connections of the simulated network. They look at their
//! connections at each beat, keep themselves alive, and give up a gateway that is silent.

use std::collections::BTreeMap;

use edge_agent::settings::Settings;
use edge_broker::broker::ConnId;
use edge_broker::codec::Version;
use edge_core::message::QoS;
use simulator::device::{Device, Habits, Noted, token};
use simulator::payload::{self, MessageNo, Wish};
use simulator::plan::Bounds;
use simulator::seen::Sent;
use simulator::time::{MILLI, SECOND};
use sync_protocol::id::Digest;

use super::{Event, GATEWAY_ADDRESS, Seen, Sim};
use crate::net::{LinkId, SimStream};
use crate::scenario::DEVICE_KEEP_ALIVE_S;

/// How often a device says that it lives, and in one and a half of it wants an answer.
const KEEP_ALIVE_US: u64 = DEVICE_KEEP_ALIVE_S as u64 * SECOND;
/// Mean time between two publishes of a device.
const PUBLISH_US: u64 = 700 * MILLI;
/// Bytes of a large message beyond its head, at most: more than one read of the transport.
const LARGE_MAX: u64 = 40 << 10;
/// Longest time from a publish to its ack where no fault concerns the device or the gateway.
const ACK_WAIT_US_MAX: u64 = 5 * SECOND;

/// A device in its place.
pub(super) struct Slot {
    pub(super) device: Device,
    habits: Habits,
    stream: Option<SimStream>,
    conn: ConnId,
    /// Bytes that did not fit the window yet.
    out: Vec<u8>,
    heard_us: u64,
    sent_us: u64,
    /// It does not connect before this.
    pub(super) away_until_us: u64,
    /// When what is not acked was published, on this connection.
    waits: BTreeMap<MessageNo, u64>,
}

/// Settings of the gateway: its devices, and one that listens to all of them.
pub(super) fn settings(devices: usize) -> Settings {
    let bounds = Bounds::default();
    let mut text = format!(
        "name = \"simulated\"\n[limits]\nqueue_jobs = {}\noutbox = \"{} KiB\"\n",
        bounds.queue_jobs_max,
        bounds.outbox_bytes_max >> 10
    );
    let mut account = |name: &str, publish: &str, subscribe: &str| {
        let hash = Digest::of(token(name).as_bytes());
        text.push_str(&format!(
            "[[devices]]\nname = \"{name}\"\ntoken_sha256 = \"{hash}\"\n\
             publish = [{publish}]\nsubscribe = [\"{subscribe}\"]\n"
        ));
    };
    for n in 0..devices {
        let publish = "\"in/{device}/#\", \"note/{device}/#\"";
        account(&format!("d{n}"), publish, "echo/{device}");
    }
    account(super::strangers::DEAF, "", "in/#");
    Settings::parse(&text).unwrap_or_else(|problems| panic!("invariant: {problems:?}"))
}

impl Sim {
    pub(super) fn new_device(&mut self, n: usize) -> Slot {
        let has_ids = self.rng.chance(600_000);
        let v5 = has_ids || self.rng.chance(500_000);
        let habits = Habits {
            version: if v5 { Version::V5 } else { Version::V311 },
            keeps_session: self.rng.chance(600_000),
            has_ids,
            qos: if self.rng.chance(300_000) { QoS::ExactlyOnce } else { QoS::AtLeastOnce },
            keep_alive_s: self.scenario.device_keep_alive_s,
        };
        Slot {
            device: Device::new(format!("d{n}"), habits, self.rng.draw()),
            habits,
            stream: None,
            conn: ConnId(0),
            out: Vec::new(),
            heard_us: 0,
            sent_us: 0,
            away_until_us: 0,
            waits: BTreeMap::new(),
        }
    }

    pub(super) fn dial(&mut self, n: usize) {
        let now = self.now_us;
        let slot = &mut self.devices[n];
        if slot.stream.is_some() {
            return;
        }
        if slot.away_until_us > now {
            let at = slot.away_until_us;
            return self.put(at, Event::Dial(n));
        }
        self.next_conn += 1;
        slot.conn = ConnId(self.next_conn);
        slot.out = slot.device.connect(slot.conn);
        (slot.heard_us, slot.sent_us) = (now, now);
        slot.stream = Some(self.net.dial(LinkId::Device(n), GATEWAY_ADDRESS.into()));
    }

    /// Takes what came, sends what waits, and looks whether the gateway is still there.
    pub(super) fn step_device(&mut self, n: usize) {
        let now = self.now_us;
        let slot = &mut self.devices[n];
        let Some(stream) = &mut slot.stream else { return };
        let mut noted = Vec::new();
        let mut is_lost = false;
        loop {
            match stream.take() {
                Ok(None) => break,
                Ok(Some(bytes)) if !bytes.is_empty() => {
                    let (answer, news) = slot.device.receive(slot.conn, &bytes);
                    slot.out.extend(answer);
                    noted.extend(news);
                    slot.heard_us = now;
                }
                Ok(Some(_)) | Err(_) => {
                    is_lost = true;
                    break;
                }
            }
        }
        if slot.out.is_empty() && now >= slot.sent_us + KEEP_ALIVE_US && slot.device.is_linked() {
            slot.out = slot.device.ping();
        }
        if !slot.out.is_empty() {
            match stream.send(&slot.out) {
                Ok(0) => {}
                Ok(sent) => {
                    slot.out.drain(..sent);
                    slot.sent_us = now;
                }
                Err(_) => is_lost = true,
            }
        }
        let is_silent = now > slot.heard_us + KEEP_ALIVE_US * 3 / 2;
        self.note(n, noted);
        if is_silent && !is_lost {
            self.count("device-gave-up-a-silent-gateway");
        }
        if is_lost || is_silent {
            self.lost(n);
        }
    }

    fn note(&mut self, n: usize, noted: Vec<Noted>) {
        for noted in noted {
            match noted {
                Noted::Connected => {}
                Noted::Echo(no) => self.see(&Seen::Echo { no }),
                Noted::Acked(no) => {
                    self.acked += 1;
                    let is_durable = self.disk.has_durable(no);
                    self.see(&Seen::Acked { no, is_durable });
                    self.judge_wait(n, no);
                }
            }
        }
    }

    fn judge_wait(&mut self, n: usize, no: MessageNo) {
        let Some(since) = self.devices[n].waits.remove(&no) else { return };
        let wait = self.now_us - since;
        self.ack_wait_us_max = self.ack_wait_us_max.max(wait);
        if self.scenario.is_prompt && wait > ACK_WAIT_US_MAX {
            let text = format!("message {no} of d{n} was acked {wait} us after it was published");
            self.fail("prompt", text);
        }
    }

    /// The device has no connection any more, and comes again.
    pub(super) fn lost(&mut self, n: usize) {
        let slot = &mut self.devices[n];
        slot.stream = None;
        slot.forget();
        let at = self.now_us + self.rng.within(50 * MILLI, 4 * SECOND);
        self.put(at, Event::Dial(n));
    }

    /// Its host vanishes with all it had under way; it comes again after so long.
    pub(super) fn vanish(&mut self, n: usize, away_us: u64) {
        let slot = &mut self.devices[n];
        slot.away_until_us = slot.away_until_us.max(self.now_us + away_us);
        if let Some(stream) = slot.stream.take() {
            stream.vanish();
        }
        slot.forget();
        let at = slot.away_until_us;
        self.put(at, Event::Dial(n));
    }

    pub(super) fn publish(&mut self, n: usize) {
        if self.is_quiet {
            return;
        }
        let at = self.now_us + self.load.within(PUBLISH_US / 4, PUBLISH_US * 2);
        self.put(at, Event::Publish(n));
        let most = if self.load.chance(150_000) { LARGE_MAX } else { 200 };
        let filler = usize::try_from(self.load.below(most)).unwrap_or(0);
        let qos =
            if self.load.chance(100_000) { QoS::AtMostOnce } else { self.devices[n].habits.qos };
        let kind = if self.load.chance(200_000) { "note" } else { "in" };
        // Drawn in any case: what is published later does not depend on what was acked by now.
        if !self.devices[n].device.has_room() {
            return;
        }
        self.next_no += 1;
        let no = self.next_no;
        let payload = payload::encode(no, Wish::Work, filler);
        let now = self.now_us;
        let slot = &mut self.devices[n];
        let topic = format!("{kind}/{}/{no}", slot.device.name());
        let promise = slot.device.promise(qos);
        let wants_echo = slot.device.wants_echo();
        let sent = Sent { no, topic: topic.clone(), promise, wants_echo };
        let bytes = slot.device.publish(no, topic, payload, qos);
        slot.out.extend(bytes);
        if slot.device.is_linked() && qos > QoS::AtMostOnce {
            slot.waits.insert(no, now);
        }
        self.see(&Seen::Published(&sent));
    }

    /// Messages that devices still keep.
    pub(super) fn kept_by_devices(&self) -> usize {
        self.devices.iter().map(|slot| slot.device.waiting()).sum()
    }
}

impl Slot {
    fn forget(&mut self) {
        self.device.disconnected();
        self.out.clear();
        self.waits.clear();
    }
}
