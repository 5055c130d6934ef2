//! Two ends of a line that drops, changes, doubles and cuts, in virtual time.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::needless_range_loop,
    reason = "a panic is how a test says no"
)]

mod rules;

use std::collections::{BTreeSet, VecDeque};

use device_protocol::serial::{
    Deframer, Device, DeviceConfig, FromDevice, FromGateway, Heard, Refusal, State, Station,
    StationConfig, Timing, WIRE_MAX,
};
use proptest::prelude::*;

const TX: usize = 2_048;
const RX: usize = 1_500;
const TIMING: Timing = Timing::for_baud(115_200);
type End = Device<'static, TX, RX>;
type Gate = Station<TX, RX>;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ z >> 31) % sides
    }

    /// What the line makes of a frame.
    fn line(&mut self, frame: &[u8], noise: u64) -> Vec<u8> {
        let mut bytes = frame.to_vec();
        if noise == 0 || self.roll(1_000) >= noise {
            return bytes;
        }
        let at = self.roll(bytes.len() as u64) as usize;
        match self.roll(6) {
            0 => bytes.clear(),
            1 => bytes[at] ^= 1 << self.roll(8),
            2 => bytes.extend_from_slice(frame),
            3 => bytes.truncate(at),
            4 => drop(bytes.remove(at)),
            _ => bytes.splice(at..at, (0..self.roll(40)).map(|n| n as u8)).for_each(drop),
        }
        bytes
    }
}

/// A device's program: numbered messages, forgotten when durable.
struct Sender {
    end: End,
    address: Option<u8>,
    lives: u32,
    /// Not durable yet, oldest first.
    queue: VecDeque<u32>,
    /// How many of the queue were sent in this life.
    sent: usize,
    /// Down messages seen: life, number.
    seen: Vec<(u32, u32)>,
    restarts: u32,
}

const NAMES: [&str; 6] = ["d0", "d1", "d2", "d3", "d4", "d5"];

fn end(address: Option<u8>, seed: u64) -> End {
    let name = NAMES[usize::from(address.unwrap_or(0))];
    Device::new(DeviceConfig { address, name, credential: b"t", timing: TIMING, seed })
}

fn envelope(number: u32) -> Vec<u8> {
    let length = if number % 7 == 3 { 1_200 } else { 4 + number as usize % 90 };
    number.to_le_bytes().into_iter().cycle().take(length).collect()
}

fn number_of(bytes: &[u8]) -> u32 {
    let number = u32::from_le_bytes(*bytes.first_chunk().unwrap());
    assert_eq!(bytes, envelope(number), "a message came as it was sent");
    number
}

impl Sender {
    fn new(address: Option<u8>, messages: u32, seed: u64) -> Self {
        let end = end(address, seed);
        let queue = (0..messages).collect();
        Self { end, address, lives: 0, queue, sent: 0, seen: Vec::new(), restarts: 0 }
    }

    fn restart(&mut self, seed: u64) {
        self.restarts += 1;
        (self.end, self.lives, self.sent) = (end(self.address, seed), 0, 0);
    }

    fn receive(&mut self, mut bytes: &[u8], disk: &BTreeSet<u32>, now: u64) {
        loop {
            let taken = self.end.receive(bytes, now);
            bytes = &bytes[taken..];
            self.work(disk);
            if bytes.is_empty() && self.end.message().is_none() {
                return;
            }
        }
    }

    fn work(&mut self, disk: &BTreeSet<u32>) {
        let life = self.restarts << 16 | self.end.counters().lives;
        match self.end.message() {
            None => return,
            Some(Ok(FromGateway::Durable { id })) => {
                assert!(disk.contains(&id), "durable means on disk");
                if self.queue.front() == Some(&id) {
                    self.queue.pop_front();
                    self.sent -= 1;
                }
            }
            Some(Ok(FromGateway::System { down })) => self.seen.push((life, number_of(down))),
            other => panic!("{other:?}"),
        }
        self.end.take();
    }

    fn fill(&mut self) {
        if self.end.counters().lives != self.lives {
            (self.lives, self.sent) = (self.end.counters().lives, 0);
        }
        while let Some(number) = self.queue.get(self.sent) {
            let body = envelope(*number);
            let message = FromDevice::Publish { id: *number, topic: "t", envelope: &body };
            if self.end.send(&message).is_err() {
                return;
            }
            self.sent += 1;
        }
    }
}

/// The gateway's side of one device.
struct Receiver {
    gate: Gate,
    address: Option<u8>,
    life: u32,
    /// Next message of this life must have the number of the first that was not durable, or follow the one before.
    last: Option<u32>,
    disk: BTreeSet<u32>,
    /// Came in this life, not answered.
    unanswered: VecDeque<u32>,
    /// Down messages not acked by a link.
    downs: VecDeque<u32>,
    downs_sent: usize,
    /// Of each message sent in this life: whether it was a down.
    sent: VecDeque<bool>,
    acked: u32,
}

impl Receiver {
    fn new(address: Option<u8>, downs: u32, seed: u64) -> Self {
        Self {
            gate: Station::new(StationConfig { address, timing: TIMING, seed }),
            address,
            life: 0,
            last: None,
            disk: BTreeSet::new(),
            unanswered: VecDeque::new(),
            downs: (0..downs).collect(),
            downs_sent: 0,
            sent: VecDeque::new(),
            acked: 0,
        }
    }

    /// The disk stays, the process is another one.
    fn restart(&mut self, seed: u64) {
        self.gate = Station::new(StationConfig { address: self.address, timing: TIMING, seed });
        self.new_life();
    }

    fn new_life(&mut self) {
        self.life += 1;
        (self.last, self.downs_sent, self.acked) = (None, 0, 0);
        self.unanswered.clear();
        self.sent.clear();
    }

    fn frame(&mut self, header: &device_protocol::serial::Header, payload: &[u8], now: u64) {
        if let Heard::Hello(hello) = self.gate.frame(header, payload, now) {
            assert_eq!(hello.device, NAMES[usize::from(self.address.unwrap_or(0))]);
            assert_eq!(hello.credential, b"t");
            let message_max = hello.message_max as usize;
            self.gate.accept(message_max, now);
            self.new_life();
        }
        match self.gate.message() {
            None => return,
            Some(Ok(FromDevice::Publish { id, topic: "t", envelope })) => {
                assert_eq!(number_of(envelope), id);
                if let Some(last) = self.last {
                    assert_eq!(id, last + 1, "once and in order in a life");
                }
                self.last = Some(id);
                self.unanswered.push_back(id);
            }
            other => panic!("{other:?}"),
        }
        self.gate.take();
        self.gate.hold(self.unanswered.len() > 3);
    }

    fn work(&mut self, dice: &mut Dice, now: u64) {
        self.gate.close_if_lost(now);
        let acked = self.gate.messages_acked();
        if self.gate.is_up() {
            for _ in self.acked..acked {
                if self.sent.pop_front().unwrap() {
                    self.downs.pop_front();
                    self.downs_sent -= 1;
                }
            }
            self.acked = acked;
        }
        if let Some(id) = self.unanswered.front()
            && dice.roll(3) > 0
        {
            self.disk.insert(*id);
            if self.gate.send(&FromGateway::Durable { id: *id }).is_ok() {
                self.sent.push_back(false);
                self.unanswered.pop_front();
            }
        }
        self.gate.hold(self.unanswered.len() > 3);
        while let Some(number) = self.downs.get(self.downs_sent) {
            if self.gate.send(&FromGateway::System { down: &envelope(*number) }).is_err() {
                return;
            }
            self.sent.push_back(true);
            self.downs_sent += 1;
        }
    }

    fn check(&self, sender: &Sender, messages: u32, downs: u32) {
        assert!(sender.queue.is_empty() && self.downs.is_empty(), "all went through");
        assert_eq!(self.disk.len() as u32, messages);
        let numbers: BTreeSet<_> = sender.seen.iter().map(|(_, number)| *number).collect();
        assert_eq!(numbers, (0..downs).collect());
        for pair in sender.seen.windows(2) {
            let ((life, number), (next_life, next)) = (pair[0], pair[1]);
            assert!(life != next_life || next == number + 1, "once and in order in a life");
        }
    }
}

fn flush(
    mut next: impl FnMut(&mut [u8; WIRE_MAX]) -> usize,
    dice: &mut Dice,
    noise: u64,
) -> Vec<u8> {
    let (mut frame, mut bytes) = ([0; WIRE_MAX], Vec::new());
    for n in 0.. {
        let length = next(&mut frame);
        if length == 0 {
            break;
        }
        assert!(n < 64, "an end does not talk for ever");
        bytes.extend(dice.line(&frame[..length], noise));
    }
    bytes
}

/// Both ends of a line of their own. `noise` frames of a thousand are hurt, until the faults end.
fn point_to_point(seed: u64, noise: u64, restarts: u64, messages: u32, downs: u32) {
    const STEP_MS: u64 = 5;
    const FAULTS_MS: u64 = 60_000;
    let mut dice = Dice(seed);
    let mut sender = Sender::new(None, messages, dice.roll(u64::MAX));
    let mut receiver = Receiver::new(None, downs, dice.roll(u64::MAX));
    let mut deframer = Deframer::default();
    for step in 0..400_000_u64 {
        let now = step * STEP_MS;
        let noise = if now < FAULTS_MS { noise } else { 0 };
        if now < FAULTS_MS && restarts > 0 && dice.roll(20_000) < restarts {
            let new = dice.roll(u64::MAX);
            if dice.roll(2) == 0 { sender.restart(new) } else { receiver.restart(new) }
        }
        sender.fill();
        let up = flush(|out| sender.end.transmit(now, out), &mut dice, noise);
        for byte in up {
            if let Some(Ok((header, payload))) = deframer.push(byte) {
                receiver.frame(&header, payload, now);
            }
        }
        receiver.work(&mut dice, now);
        let down = flush(|out| receiver.gate.transmit(now, out), &mut dice, noise);
        sender.receive(&down, &receiver.disk, now);
        if sender.queue.is_empty() && receiver.downs.is_empty() {
            return receiver.check(&sender, messages, downs);
        }
    }
    panic!("it did not come to an end: {:?} of {:?}", sender.queue, sender.end.state());
}

/// Several devices on one bus, asked in turn.
fn shared(seed: u64, noise: u64, restarts: u64, devices: u8, messages: u32, downs: u32) {
    const FAULT_ROUNDS: u32 = 2_000;
    let mut dice = Dice(seed);
    let mut pairs: Vec<_> = (1..=devices)
        .map(|address| {
            let (one, other) = (dice.roll(u64::MAX), dice.roll(u64::MAX));
            let sender = Sender::new(Some(address), messages, one);
            (sender, Receiver::new(Some(address), downs, other))
        })
        .collect();
    let (mut deframer, mut now) = (Deframer::default(), 0);
    for round in 0..40_000_u32 {
        let noise = if round < FAULT_ROUNDS { noise } else { 0 };
        for turn in 0..pairs.len() {
            if round < FAULT_ROUNDS && restarts > 0 && dice.roll(5_000) < restarts {
                let new = dice.roll(u64::MAX);
                if dice.roll(2) == 0 {
                    pairs[turn].0.restart(new);
                } else {
                    pairs[turn].1.restart(new);
                }
            }
            pairs[turn].1.work(&mut dice, now);
            pairs[turn].1.gate.begin_turn(now);
            let gate = &mut pairs[turn].1.gate;
            let asked = flush(|out| gate.transmit(now, out), &mut dice, noise);
            now += 10;
            let (mut spoke, mut given_back) = (0, false);
            for n in 0..pairs.len() {
                let (sender, receiver) = &mut pairs[n];
                sender.fill();
                sender.receive(&asked, &receiver.disk, now);
                let said = flush(|out| sender.end.transmit(now, out), &mut dice, noise);
                spoke += usize::from(!said.is_empty());
                assert!(said.is_empty() || n == turn, "only who has the turn speaks");
                for byte in said {
                    if let Some(Ok((header, payload))) = deframer.push(byte) {
                        given_back |= header.turn;
                        receiver.frame(&header, payload, now);
                    }
                }
            }
            assert!(spoke <= 1);
            now += if given_back { 1 } else { u64::from(TIMING.turn_ms) };
        }
        if pairs
            .iter()
            .all(|(sender, receiver)| sender.queue.is_empty() && receiver.downs.is_empty())
        {
            return pairs
                .iter()
                .for_each(|(sender, receiver)| receiver.check(sender, messages, downs));
        }
    }
    panic!("it did not come to an end");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_line_of_its_own_delivers_once_in_order(
        seed in any::<u64>(), noise in 0..400_u64, restarts in 0..20_u64,
    ) {
        point_to_point(seed, noise, restarts, 120, 60);
    }

    #[test]
    fn a_shared_bus_delivers_once_in_order(
        seed in any::<u64>(), noise in 0..400_u64, restarts in 0..20_u64, devices in 1..=5_u8,
    ) {
        shared(seed, noise, restarts, devices, 40, 20);
    }

    #[test]
    fn no_bytes_make_an_end_panic(
        bytes in prop::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(0)], 0..3_000),
        up in any::<bool>(),
    ) {
        let mut sender = Sender::new(None, 3, 1);
        let mut receiver = Receiver::new(None, 3, 2);
        let mut out = [0; WIRE_MAX];
        if up {
            connect(&mut sender, &mut receiver);
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            rest = &rest[sender.end.receive(rest, 20)..];
            if sender.end.message().is_some() {
                sender.end.take();
            }
        }
        let mut deframer = Deframer::default();
        for byte in bytes {
            if let Some(Ok((header, payload))) = deframer.push(byte) {
                let _ = receiver.gate.frame(&header, payload, 20);
            }
        }
        let _ = (sender.end.transmit(30, &mut out), receiver.gate.transmit(30, &mut out));
    }

    /// Frames with right checksums and any contents, as a hostile or broken peer sends them.
    #[test]
    fn no_frames_make_an_end_panic(
        frames in prop::collection::vec(any::<([u8; 2], u32, [u8; 3], Vec<u8>, bool)>(), 0..60),
    ) {
        use device_protocol::serial::{Direction, Header, Kind};
        const KINDS: [Kind; 9] = [
            Kind::Discover, Kind::Hello, Kind::Welcome, Kind::Refused, Kind::Data, Kind::Ack, Kind::Ping,
            Kind::Nak, Kind::Reset,
        ];
        let mut sender = Sender::new(None, 3, 1);
        let mut receiver = Receiver::new(None, 3, 2);
        let (gateways, devices) = connect(&mut sender, &mut receiver);
        assert_eq!(gateways, devices);
        let mut out = [0; WIRE_MAX];
        for (now, ([kind, flags], session, [sequence, ack, credit], payload, known)) in (20..).zip(frames) {
            let mut header = Header {
                address: 0,
                direction: Direction::ToDevice,
                kind: KINDS[usize::from(kind) % KINDS.len()],
                turn: flags & 1 != 0,
                last: flags & 2 != 0,
                session: if known { gateways } else { session },
                sequence: sequence % 8,
                ack: ack % 8,
                credit,
            };
            let length = header.encode([&payload, &[]], &mut out);
            sender.end.receive(&out[..length], now);
            if sender.end.message().is_some() {
                sender.end.take();
            }
            header.direction = Direction::ToGateway;
            if let Heard::Hello(_) = receiver.gate.frame(&header, &payload, now) {
                receiver.gate.refuse(Refusal::Credential);
            }
            if receiver.gate.message().is_some() {
                receiver.gate.take();
            }
            let _ = (sender.end.transmit(now, &mut out), receiver.gate.transmit(now, &mut out));
        }
    }
}

/// Brings the link up; returns the session at both ends.
fn connect(sender: &mut Sender, receiver: &mut Receiver) -> (u32, u32) {
    let (mut dice, mut deframer) = (Dice(0), Deframer::default());
    let mut session = 0;
    for now in 0..4 {
        for byte in flush(|out| sender.end.transmit(now, out), &mut dice, 0) {
            if let Some(Ok((header, payload))) = deframer.push(byte) {
                receiver.frame(&header, payload, now);
            }
        }
        let down = flush(|out| receiver.gate.transmit(now, out), &mut dice, 0);
        let mut other = Deframer::default();
        for byte in &down {
            if let Some(Ok((header, _))) = other.push(*byte) {
                session = header.session;
            }
        }
        sender.receive(&down, &receiver.disk, now);
    }
    assert_eq!(sender.end.state(), State::Up);
    (session, session)
}
