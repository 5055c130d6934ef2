//! Devices: connections, publishes, repeats.

use bytes::{Bytes, BytesMut};
use edge_broker::broker::ConnId;
use edge_broker::codec::{Decoder, Version};
use edge_core::message::QoS;

use super::{Event, MILLI, Row, SECOND, Seen, Sim};
use crate::device::{Device, Habits, Noted};
use crate::payload::{self, MessageNo, Wish};
use crate::plan::{Group, Topics};
use crate::seen::{Promise, Sent};

/// Bytes of a large message beyond its head, at most.
const LARGE_MAX: u64 = 40 << 10;

/// A device in its place.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) device: Device,
    group: Group,
    habits: Habits,
    /// How slowly it reads, in microseconds.
    pub(super) slow_us: u64,
}

/// A message, to be sent again later.
#[derive(Clone, Debug)]
pub(super) struct Published {
    topic: String,
    payload: Bytes,
    seq: u64,
}

impl Sim {
    pub(super) fn new_device(&mut self, n: usize, group: Group) -> Slot {
        let has_ids = self.rng.chance(600_000);
        let v5 = has_ids || self.rng.chance(500_000);
        let habits = Habits {
            version: if v5 { Version::V5 } else { Version::V311 },
            keeps_session: self.rng.chance(600_000),
            has_ids,
            qos: if self.rng.chance(300_000) { QoS::ExactlyOnce } else { QoS::AtLeastOnce },
            keep_alive_s: 0,
        };
        let slow_us = if self.rng.chance(250_000) { self.plan.slow_us } else { 0 };
        let boot = self.rng.draw();
        Slot { device: Device::new(format!("d{n}"), habits, boot), group, habits, slow_us }
    }

    pub(super) fn connect(&mut self, n: usize) {
        if self.devices[n].device.conn().is_some() {
            return;
        }
        if !self.process.is_open() || self.stopping {
            let at = self.time.now() + self.rng.within(200 * MILLI, 2 * SECOND);
            return self.heap.put(at, Event::Connect(n));
        }
        let conn = self.network.open();
        let decoder = Decoder::client(self.devices[n].habits.version, usize::MAX);
        self.conns.insert(conn, (n, decoder, BytesMut::new()));
        let bytes = self.devices[n].device.connect(conn);
        self.hand_to_gateway(conn, bytes);
    }

    fn hand_to_gateway(&mut self, conn: ConnId, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            let at = self.later(Row::ToGateway(conn), 200, 20 * MILLI);
            self.heap.put(at, Event::ToGateway(conn, bytes));
        }
    }

    pub(super) fn hand_to_device(&mut self, n: usize, conn: ConnId, bytes: &[u8]) {
        if self.devices[n].device.conn() != Some(conn) {
            return;
        }
        let (answer, noted) = self.devices[n].device.receive(conn, bytes);
        self.network.written(conn, bytes.len());
        for noted in noted {
            match noted {
                Noted::Connected => {}
                Noted::Echo(no) => self.see(&Seen::Echo { no }),
                Noted::Acked(no) => {
                    if self.devices[n].habits.has_ids && self.chance(self.plan.ratios.repeat) {
                        let at = self.time.now() + self.rng.within(MILLI, 20 * SECOND);
                        self.heap.put(at, Event::Repeat(n, no));
                    }
                }
            }
        }
        self.hand_to_gateway(conn, answer);
    }

    /// The device learns that its connection is gone, and comes again.
    pub(super) fn closed(&mut self, n: usize, conn: ConnId) {
        if self.devices[n].device.conn() != Some(conn) {
            return;
        }
        self.devices[n].device.disconnected();
        let at = self.time.now() + self.rng.within(50 * MILLI, 4 * SECOND);
        self.heap.put(at, Event::Connect(n));
    }

    /// A connection breaks: what is on its way on it is lost, in both directions.
    pub(super) fn cut(&mut self) {
        let n = self.rng.index(self.devices.len());
        let Some(conn) = self.devices[n].device.conn() else { return };
        self.count("connection-cut");
        self.conns.remove(&conn);
        self.network.cut(conn);
        self.closed(n, conn);
    }

    pub(super) fn publish(&mut self, n: usize) {
        let Group { publish_us: mean, topics, wish, until_us, .. } = self.devices[n].group;
        if self.is_quiet || self.time.now() >= until_us {
            return;
        }
        let at = self.time.now() + self.rng.within(mean / 4, mean * 2);
        self.heap.put(at, Event::Publish(n));
        if !self.devices[n].device.has_room() {
            return;
        }
        self.next_no += 1;
        let no = self.next_no;
        let (drawn, filler) = self.contents();
        let wish = wish.unwrap_or(drawn);
        let payload = payload::encode(no, wish, filler);
        let qos =
            if self.rng.chance(100_000) { QoS::AtMostOnce } else { self.devices[n].habits.qos };
        let kind = match topics {
            Topics::Note => "note",
            Topics::Mixed if self.rng.chance(200_000) => "note",
            Topics::Mixed | Topics::Count => "in",
        };
        let slot = &mut self.devices[n];
        let topic = format!("{kind}/{}/{no}", slot.device.name());
        let promise = slot.device.promise(qos);
        let wants_echo = slot.device.wants_echo();
        let sent = Sent { no, topic: topic.clone(), promise, wants_echo };
        let seq = slot.device.next_seq();
        let bytes = slot.device.publish(no, topic.clone(), payload.clone(), qos);
        let conn = slot.device.conn();
        if promise == Promise::Once && slot.habits.has_ids {
            self.publishes.insert(no, Published { topic, payload, seq });
        }
        self.see(&Seen::Published(&sent));
        if let Some(conn) = conn {
            self.hand_to_gateway(conn, bytes);
        }
    }

    fn contents(&mut self) -> (Wish, usize) {
        let ratios = self.plan.ratios;
        let times = u8::try_from(self.rng.within(1, 4)).unwrap_or(1);
        let wish = if self.chance(ratios.retry) {
            Wish::Retry(times)
        } else if self.chance(ratios.reject) {
            Wish::Reject
        } else if self.chance(ratios.trap) {
            Wish::Trap(times)
        } else if self.chance(ratios.linger) {
            Wish::Linger
        } else {
            Wish::Work
        };
        let most = if self.chance(ratios.large) { LARGE_MAX } else { 200 };
        let filler = usize::try_from(self.rng.below(most)).unwrap_or(0);
        (wish, filler)
    }

    /// The device has forgotten that a message was acked.
    pub(super) fn repeat(&mut self, n: usize, no: MessageNo) {
        let Some(Published { topic, payload, seq }) = self.publishes.get(&no).cloned() else {
            return;
        };
        let slot = &mut self.devices[n];
        if !slot.device.has_room() {
            return;
        }
        let bytes = slot.device.repeat(no, topic, payload, seq);
        let conn = slot.device.conn();
        self.count("repeat-sent");
        if let Some(conn) = conn {
            self.hand_to_gateway(conn, bytes);
        }
    }

    /// Messages that devices still keep.
    pub(super) fn kept_by_devices(&self) -> usize {
        self.devices.iter().map(|slot| slot.device.waiting()).sum()
    }
}
