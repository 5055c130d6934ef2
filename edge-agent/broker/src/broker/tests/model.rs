//! Random scripts against a reference model.
//!
//! Two honest publishers, two honest subscribers and two members of a share (workers), all with
//! kept sessions; an owner that settles when it likes; a store that syncs when it likes; connections that break and a process that dies at
//! any moment. What must hold whatever happens:
//! - an ack, and anything a subscriber sees, stands on a durable batch;
//! - acks leave in the order of arrival;
//! - whatever was acked reaches every subscriber, in order; QoS 2 once;
//! - whatever was acked reaches one of the workers, QoS 2 one of them once;
//! - plain QoS 1 runs again only if its ack was lost on the way or the process died.

mod act;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use edge_core::message::QoS;
use proptest::prelude::*;

use self::act::{Act, act};
use super::super::*;
use super::rig::{Rig, keep, publish};
use crate::codec::{Ack, Connect, Packet, PacketId, Publish, Version};

/// A publish that a publisher has not seen the end of.
#[derive(Debug)]
struct Open {
    message: u32,
    publish: Publish,
    /// PUBREC was received: PUBREL is to be sent, or sent again.
    received: bool,
}

#[derive(Debug, Default)]
struct Publisher {
    open: VecDeque<Open>,
    next_id: u16,
    /// Packet ids of the publishes of this connection, in order, whose first ack is to come.
    owed: VecDeque<PacketId>,
    acked: BTreeSet<u32>,
    /// Acks that were handed over and lost with the connection, by message.
    acks_lost: BTreeMap<u32, usize>,
}

#[derive(Debug, Default)]
struct Subscriber {
    received: Vec<u32>,
    /// QoS 2 ids that were received and not released.
    held: BTreeSet<PacketId>,
    answers: VecDeque<Packet>,
}

struct World {
    rig: Rig,
    conns: [Option<ConnId>; CLIENTS],
    /// Whether the CONNACK of the connection was read.
    welcome: [bool; CLIENTS],
    publishers: [Publisher; 2],
    /// The last two are the workers.
    subscribers: [Subscriber; 4],
    sealed: VecDeque<(BatchSeq, Vec<BrokerOp>)>,
    synced: BatchSeq,
    /// Accepted copies in order: message and batch.
    accepted: Vec<(u32, BatchSeq)>,
    crashes: usize,
    next_message: u32,
}

const CLIENTS: usize = 6;

const NAMES: [(&str, Version); CLIENTS] = [
    ("p0", Version::V311),
    ("p1", Version::V5),
    ("s0", Version::V5),
    ("s1", Version::V311),
    ("w0", Version::V5),
    ("w1", Version::V5),
];

/// How a client connects. Workers take two messages at a time, so that others wait in their
/// queues.
fn connect(client: usize) -> Connect {
    let (name, version) = NAMES[client];
    let receive_max = if client < 4 { u16::MAX } else { 2 };
    Connect { receive_max, ..keep(version, name) }
}

impl World {
    fn new(limits: Limits) -> Self {
        let mut rig = Rig::new(limits);
        let conns = std::array::from_fn(|client| Some(rig.connect(connect(client)).0));
        rig.subscribe(conns[2].unwrap(), "#", QoS::AtLeastOnce);
        rig.subscribe(conns[3].unwrap(), "a", QoS::ExactlyOnce);
        rig.subscribe(conns[4].unwrap(), "$share/w/a", QoS::ExactlyOnce);
        rig.subscribe(conns[5].unwrap(), "$share/w/a", QoS::ExactlyOnce);
        rig.habits.accept = false;
        rig.habits.commit = false;
        let synced = BatchSeq(rig.open.0 - 1);
        Self {
            rig,
            conns,
            welcome: [true; CLIENTS],
            publishers: Default::default(),
            subscribers: Default::default(),
            sealed: VecDeque::new(),
            synced,
            accepted: Vec::new(),
            crashes: 0,
            next_message: 0,
        }
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Publish { by, to_a, qos } => self.publish(by, to_a, qos),
            Act::PublisherReads(by) => self.publisher_reads(by),
            Act::SubscriberReads(by) => self.subscriber_reads(by),
            Act::SubscriberAnswers(by, n) => self.subscriber_answers(by, n),
            Act::Break(client) => self.break_conn(client),
            Act::Dial(client) => self.dial(client),
            Act::Settle { at, accept } if !self.rig.held.is_empty() => {
                self.settle(at.index(self.rig.held.len()), accept);
            }
            Act::Settle { .. } => {}
            Act::Seal => self.sealed.push_back(self.rig.seal()),
            Act::Sync => self.sync(),
            Act::Crash => self.crash(),
            Act::Wait(ms) => self.rig.advance(ms),
        }
        self.notice_closed();
        self.check_bounds();
    }

    /// A connection that may be written to: the client is welcome and is being read.
    fn ready(&self, client: usize) -> Option<ConnId> {
        let conn = self.conns[client].filter(|_| self.welcome[client])?;
        (!self.rig.is_paused(conn)).then_some(conn)
    }

    fn publish(&mut self, by: usize, to_a: bool, qos: QoS) {
        let Some(conn) = self.ready(by) else { return };
        if self.publishers[by].open.len() >= 20 {
            return;
        }
        let message = self.next_message;
        self.next_message += 1;
        let publisher = &mut self.publishers[by];
        // Few ids, so that they are used again soon.
        loop {
            publisher.next_id = publisher.next_id % 24 + 1;
            let taken = |open: &Open| open.publish.packet_id.unwrap().get() == publisher.next_id;
            if !publisher.open.iter().any(taken) {
                break;
            }
        }
        let topic = if to_a { "a" } else { "b" };
        let publish = publish(topic, &message.to_string(), qos, publisher.next_id);
        if let Some(id) = publish.packet_id {
            publisher.owed.push_back(id);
            publisher.open.push_back(Open { message, publish: publish.clone(), received: false });
        }
        self.rig.publish(conn, publish);
    }

    fn publisher_reads(&mut self, by: usize) {
        let Some(conn) = self.conns[by] else { return };
        for packet in self.rig.take(conn) {
            match packet {
                Packet::ConnAck(connack) => self.welcome_publisher(by, conn, &connack),
                Packet::PubAck(ack) => self.publisher_acked(by, conn, ack, false),
                Packet::PubRec(ack) => self.publisher_acked(by, conn, ack, true),
                Packet::PubComp(ack) => {
                    let open = &mut self.publishers[by].open;
                    open.retain(|open| {
                        !(open.received && open.publish.packet_id == Some(ack.packet_id))
                    });
                }
                Packet::Disconnect(_) => {}
                other => panic!("unexpected: {other:?}"),
            }
        }
    }

    fn welcome_publisher(&mut self, by: usize, conn: ConnId, connack: &crate::codec::ConnAck) {
        assert!(connack.session_present, "a session that was there is there");
        self.welcome[by] = true;
        self.publishers[by].owed.clear();
        let again: Vec<(bool, Publish)> =
            self.publishers[by].open.iter().map(|o| (o.received, o.publish.clone())).collect();
        for (received, publish) in again {
            let id = publish.packet_id.unwrap();
            if received {
                self.rig.send(conn, Packet::PubRel(Ack::ok(id)));
            } else {
                self.publishers[by].owed.push_back(id);
                self.rig.publish(conn, Publish { dup: true, ..publish });
            }
        }
    }

    fn publisher_acked(&mut self, by: usize, conn: ConnId, ack: Ack, received: bool) {
        let publisher = &mut self.publishers[by];
        assert_eq!(publisher.owed.pop_front(), Some(ack.packet_id), "acks in order of arrival");
        let at = publisher
            .open
            .iter()
            .position(|open| open.publish.packet_id == Some(ack.packet_id))
            .expect("an ack for what was published");
        if ack.reason.is_error() {
            publisher.open.remove(at);
            return;
        }
        let message = publisher.open[at].message;
        publisher.acked.insert(message);
        if received {
            publisher.open[at].received = true;
            self.rig.send(conn, Packet::PubRel(Ack::ok(ack.packet_id)));
        } else {
            self.publishers[by].open.remove(at);
        }
        self.assert_durable(message);
    }

    fn assert_durable(&self, message: u32) {
        let durable = |(copy, batch): &(u32, BatchSeq)| *copy == message && *batch <= self.synced;
        assert!(self.accepted.iter().any(durable), "{message} is not durable");
    }

    fn subscriber_reads(&mut self, by: usize) {
        let client = by + 2;
        let Some(conn) = self.conns[client] else { return };
        for packet in self.rig.take(conn) {
            let subscriber = &mut self.subscribers[by];
            match packet {
                Packet::ConnAck(connack) => {
                    assert!(connack.session_present);
                    self.welcome[client] = true;
                }
                Packet::Publish(publish) => {
                    let text = std::str::from_utf8(&publish.payload).unwrap();
                    let message: u32 = text.parse().unwrap();
                    let known = match publish.packet_id {
                        Some(id) if publish.qos == QoS::ExactlyOnce => {
                            subscriber.answers.push_back(Packet::PubRec(Ack::ok(id)));
                            !subscriber.held.insert(id)
                        }
                        Some(id) => {
                            subscriber.answers.push_back(Packet::PubAck(Ack::ok(id)));
                            false
                        }
                        None => false,
                    };
                    if publish.qos > QoS::AtMostOnce && !known {
                        subscriber.received.push(message);
                    }
                    self.assert_durable(message);
                }
                Packet::PubRel(ack) => {
                    subscriber.held.remove(&ack.packet_id);
                    subscriber.answers.push_back(Packet::PubComp(Ack::ok(ack.packet_id)));
                }
                other => panic!("unexpected: {other:?}"),
            }
        }
    }

    fn subscriber_answers(&mut self, by: usize, n: usize) {
        let Some(conn) = self.ready(by + 2) else { return };
        for _ in 0..n {
            let Some(answer) = self.subscribers[by].answers.pop_front() else { return };
            self.rig.send(conn, answer);
        }
    }

    fn settle(&mut self, at: usize, accept: bool) {
        if accept {
            let text = std::str::from_utf8(&self.rig.held[at].message.payload).unwrap();
            self.accepted.push((text.parse().unwrap(), self.rig.open));
            self.rig.settle(at, Settlement::Accepted);
        } else {
            self.rig.settle(at, Settlement::Refused(ReasonCode::QuotaExceeded));
        }
    }

    fn sync(&mut self) {
        let Some((batch, ops)) = self.sealed.pop_front() else { return };
        self.synced = batch;
        self.rig.synced((batch, ops));
    }

    fn dial(&mut self, client: usize) {
        if self.conns[client].is_none() {
            self.conns[client] = Some(self.rig.dial(connect(client)));
            self.welcome[client] = false;
        }
    }

    fn break_conn(&mut self, client: usize) {
        let Some(conn) = self.conns[client] else { return };
        self.forget(client);
        self.rig.drop_conn(conn);
    }

    /// The client's end of a connection is gone, with what it has not read.
    fn forget(&mut self, client: usize) {
        let Some(conn) = self.conns[client].take() else { return };
        self.welcome[client] = false;
        let unread = self.rig.take(conn);
        if client < 2 {
            let publisher = &mut self.publishers[client];
            for packet in unread {
                let (Packet::PubAck(ack) | Packet::PubRec(ack)) = packet else { continue };
                let lost = |open: &&Open| open.publish.packet_id == Some(ack.packet_id);
                if let Some(open) = publisher.open.iter().find(lost) {
                    *publisher.acks_lost.entry(open.message).or_default() += 1;
                }
            }
        } else {
            self.subscribers[client - 2].answers.clear();
        }
    }

    fn notice_closed(&mut self) {
        for client in 0..CLIENTS {
            if self.conns[client].is_some_and(|conn| self.rig.is_closed(conn)) {
                self.forget(client);
            }
        }
    }

    fn crash(&mut self) {
        self.crashes += 1;
        self.sealed.clear();
        self.accepted.retain(|(_, batch)| *batch <= self.synced);
        self.rig.open = self.synced.next();
        self.rig.restart();
        self.notice_closed();
    }

    fn check_bounds(&self) {
        let (status, limits) = (self.rig.broker.status(), self.rig.broker.limits());
        assert!(status.queued_bytes <= limits.queued_total_bytes_max + 4_000);
        assert!(status.persistent_sessions <= limits.sessions_max);
        // One message over the bound of each session, and what its connection had sent before.
        assert!(status.ingress_bytes <= 2 * (limits.ingress_session_bytes_max + 200));
        for (session, unsent) in self.rig.unsent_by_session() {
            assert!(unsent <= limits.online_messages_max, "{session:?} has {unsent}");
        }
    }

    /// Everybody comes back and does what is left to do.
    fn drain(&mut self) {
        for _ in 0..200 {
            (0..CLIENTS).for_each(|client| self.dial(client));
            while !self.rig.held.is_empty() {
                self.settle(0, true);
            }
            self.sealed.push_back(self.rig.seal());
            while !self.sealed.is_empty() {
                self.sync();
            }
            (0..2).for_each(|by| self.publisher_reads(by));
            for by in 0..4 {
                self.subscriber_reads(by);
                self.subscriber_answers(by, 100);
            }
            self.notice_closed();
        }
        assert!(self.publishers.iter().all(|publisher| publisher.open.is_empty()), "all acked");
        assert_eq!(self.rig.broker.status().queued_messages, 0, "all delivered");
        assert_eq!(self.rig.broker.status().ingress_bytes, 0);
    }

    fn check_nothing_lost(&self, sent_as: &BTreeMap<u32, (bool, QoS)>) {
        let copies_at = |by: usize, message: &u32| {
            self.subscribers[by].received.iter().filter(|m| *m == message).count()
        };
        for message in self.publishers.iter().flat_map(|publisher| &publisher.acked) {
            let copies = copies_at(2, message) + copies_at(3, message);
            match sent_as[message] {
                (true, QoS::ExactlyOnce) => assert_eq!(copies, 1, "{message} and the workers"),
                (true, _) => assert!(copies > 0, "{message} came to no worker"),
                (false, _) => assert_eq!(copies, 0, "{message} is not theirs"),
            }
        }
        for (by, subscriber) in self.subscribers.iter().take(2).enumerate() {
            let acked = self.publishers.iter().flat_map(|publisher| &publisher.acked);
            for message in acked {
                let (to_a, qos) = sent_as[message];
                let copies = copies_at(by, message);
                if by == 0 || to_a {
                    assert!(copies > 0, "{message} was acked and never came to s{by}");
                }
                if by == 1 && to_a && qos == QoS::ExactlyOnce {
                    assert_eq!(copies, 1, "{message} came twice");
                }
            }
            self.check_order(subscriber);
        }
    }

    /// Messages accepted once come in the order of their acceptance.
    fn check_order(&self, subscriber: &Subscriber) {
        let mut last = None;
        let mut seen = BTreeSet::new();
        for message in &subscriber.received {
            let mut places =
                self.accepted.iter().enumerate().filter(|(_, (copy, _))| copy == message);
            let (Some((place, _)), None) = (places.next(), places.next()) else { continue };
            if seen.insert(*message) {
                assert!(last < Some(place), "{message} out of order");
                last = Some(place);
            }
        }
    }

    fn check_repeats(&self, sent_as: &BTreeMap<u32, (bool, QoS)>) {
        for (message, (_, qos)) in sent_as {
            let copies = self.accepted.iter().filter(|(copy, _)| copy == message).count();
            let lost: usize = self
                .publishers
                .iter()
                .map(|publisher| publisher.acks_lost.get(message).copied().unwrap_or_default())
                .sum();
            match qos {
                QoS::ExactlyOnce => assert!(copies <= 1, "QoS 2 {message} ran {copies} times"),
                QoS::AtLeastOnce => {
                    assert!(
                        copies <= 1 + lost + self.crashes,
                        "QoS 1 {message} ran {copies} times"
                    );
                }
                QoS::AtMostOnce => assert!(copies <= 1),
            }
        }
    }
}

fn run(acts: &[Act], limits: Limits) -> (World, BTreeMap<u32, (bool, QoS)>) {
    let mut world = World::new(limits);
    let mut sent_as = BTreeMap::new();
    for act in acts {
        let before = world.next_message;
        world.act(act);
        if let Act::Publish { to_a, qos, .. } = act
            && world.next_message > before
        {
            sent_as.insert(before, (*to_a, *qos));
        }
    }
    (world, sent_as)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_acked_is_lost_doubled_or_out_of_order(acts in prop::collection::vec(act(), 0..250)) {
        let (mut world, sent_as) = run(&acts, Limits::default());
        world.drain();
        world.check_nothing_lost(&sent_as);
        world.check_repeats(&sent_as);
    }

    #[test]
    fn bounds_hold_at_every_step(acts in prop::collection::vec(act(), 0..250)) {
        let limits = Limits {
            ingress_session_bytes_max: 600,
            ingress_total_bytes_max: 800,
            offline_messages_max: 3,
            offline_bytes_max: 600,
            online_messages_max: 4,
            online_bytes_max: 600,
            queued_total_bytes_max: 1_200,
            send_window_max: 2,
            repeats_expected_max: 2,
            sessions_max: CLIENTS,
            ..Limits::default()
        };
        // Messages may be dropped here; the checks after each step are the test.
        let (mut world, _) = run(&acts, limits);
        world.drain();
    }
}
