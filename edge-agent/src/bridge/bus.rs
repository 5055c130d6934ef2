//! The task of one bus: the only one that touches its port.
//!
//! # Limits
//! - A port that cannot be opened, or that vanishes, is opened again, after at most [`REOPEN_MAX`]; the wait starts again at
//!   [`REOPEN_MIN`] only after a device was heard on it, or it lived for long.
//! - What a device's connection says waits in one channel of [`EVENTS_MAX`]; the broker waits beyond that.
//! - A write that takes longer than [`WRITE_MAX`] ends the port.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use device_protocol::serial::{ADDRESS_POINT_TO_POINT, Deframer, Direction, Timing, WIRE_MAX};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::board::{Board, BusStatus, DeviceStatus};
use super::call::{Said, carry};
use super::dial::Dial;
use super::member::{Member, MemberConfig};
use super::port::{Opener, Port};
use super::roster::Roster;
use super::rota::{Next, Rota};
use crate::settings::{Bus, BusPort};

const REOPEN_MIN: Duration = Duration::from_millis(100);
const REOPEN_MAX: Duration = Duration::from_secs(5);
const WRITE_MAX: Duration = Duration::from_secs(5);
const EVENTS_MAX: usize = 256;
/// Packets for the broker of one device; it has fewer under way.
const PACKETS_MAX: usize = 64;
const READ_BYTES: usize = 1_024;
/// The status is written at most so often.
const SHOW_EVERY_MS: u64 = 200;
const IDLE_MS: u64 = 1_000;

/// What a bus is made of.
pub(super) struct Parts {
    pub(super) bus: Bus,
    pub(super) roster: Roster,
    pub(super) dial: Dial,
    pub(super) board: Board,
    /// The longest payload that the broker takes.
    pub(super) payload_bytes_max: usize,
}

struct Line {
    bus: Bus,
    timing: Timing,
    roster: Roster,
    dial: Dial,
    board: Board,
    payload_bytes_max: usize,
    began: Instant,
    members: BTreeMap<u8, Member>,
    calls: BTreeMap<u8, (u32, mpsc::Sender<Vec<u8>>)>,
    rota: Option<Rota>,
    deframer: Deframer,
    broken_frames: u64,
    /// A device has been heard since the port was opened.
    is_proven: bool,
    opened: u64,
    said: mpsc::Sender<Said>,
    shown_ms: u64,
}

/// Runs a bus for ever.
pub(super) async fn run(parts: Parts) {
    let Parts { bus, roster, dial, board, payload_bytes_max } = parts;
    let (said, mut heard) = mpsc::channel(EVENTS_MAX);
    let mut line = Line {
        timing: Timing::for_baud(bus.baud),
        rota: bus.addresses.clone().map(Rota::new),
        bus,
        roster,
        dial,
        board,
        payload_bytes_max,
        began: Instant::now(),
        members: BTreeMap::new(),
        calls: BTreeMap::new(),
        deframer: Deframer::new(),
        broken_frames: 0,
        is_proven: false,
        opened: 0,
        said,
        shown_ms: 0,
    };
    let (mut opener, mut wait) = (Opener::default(), REOPEN_MIN);
    loop {
        let waits = matches!(line.bus.port, BusPort::Listen(_));
        line.show(false, if waits { "nobody has connected" } else { "" });
        let bus = line.bus.clone();
        let why = match line.meanwhile(opener.open(&bus), &mut heard).await {
            Ok(port) => {
                tracing::info!(bus = bus.name, port = line.port_name(), "bus is open");
                line.opened += 1;
                let opened = Instant::now();
                let why = line.serve(port, &mut opener, &mut heard).await;
                if line.is_proven || opened.elapsed() >= REOPEN_MAX {
                    wait = REOPEN_MIN;
                }
                why
            }
            Err(error) => error,
        };
        tracing::warn!(bus = bus.name, port = line.port_name(), error = %why, "bus is not open");
        line.show(false, &why.to_string());
        line.meanwhile(tokio::time::sleep(wait), &mut heard).await;
        line.work();
        wait = (wait * 2).min(REOPEN_MAX);
    }
}

impl Line {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Waits while the port is closed; devices that are not heard meanwhile are gone after a while.
    async fn meanwhile<T>(
        &mut self,
        wait: impl Future<Output = T>,
        heard: &mut mpsc::Receiver<Said>,
    ) -> T {
        let mut wait = std::pin::pin!(wait);
        loop {
            tokio::select! {
                done = &mut wait => return done,
                Some(said) = heard.recv() => self.hear_broker(&said),
                () = tokio::time::sleep(Duration::from_millis(IDLE_MS)) => self.work(),
            }
        }
    }

    /// Speaks with the devices until the port fails.
    async fn serve(
        &mut self,
        port: Port,
        opener: &mut Opener,
        heard: &mut mpsc::Receiver<Said>,
    ) -> io::Error {
        let (mut reader, mut writer) = tokio::io::split(port);
        let mut buf = [0; READ_BYTES];
        self.deframer.reset();
        self.is_proven = false;
        if self.rota.is_none() {
            self.member(ADDRESS_POINT_TO_POINT);
        }
        loop {
            self.work();
            let (out, next_ms) = self.due();
            if !out.is_empty() {
                let write = async {
                    writer.write_all(&out).await?;
                    writer.flush().await
                };
                match tokio::time::timeout(WRITE_MAX, write).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return error,
                    Err(_) => return io::Error::from(io::ErrorKind::TimedOut),
                }
            }
            let wait = Duration::from_millis(next_ms.saturating_sub(self.now_ms()));
            tokio::select! {
                read = reader.read(&mut buf) => match read {
                    Ok(0) => return io::Error::from(io::ErrorKind::UnexpectedEof),
                    Ok(length) => self.receive(&buf[..length]),
                    Err(error) => return error,
                },
                why = opener.replaced() => return why,
                Some(said) = heard.recv() => self.hear_broker(&said),
                () = tokio::time::sleep(wait) => {}
            }
            self.show_sometimes();
        }
    }

    fn member(&mut self, address: u8) -> &mut Member {
        let (timing, payload_bytes_max) = (self.timing, self.payload_bytes_max);
        let bus = &self.bus.name;
        self.members.entry(address).or_insert_with(|| {
            Member::new(MemberConfig {
                bus: bus.clone(),
                address: (address != ADDRESS_POINT_TO_POINT).then_some(address),
                timing,
                seed: seed(),
                payload_bytes_max,
            })
        })
    }

    /// Frames to write now, and when to look again.
    fn due(&mut self) -> (Vec<u8>, u64) {
        let now = self.now_ms();
        let (mut bytes, mut frame) = (Vec::new(), [0; WIRE_MAX]);
        let Some(rota) = &mut self.rota else {
            let member = self.member(ADDRESS_POINT_TO_POINT);
            fill(member, now, &mut frame, &mut bytes);
            return (bytes, member.deadline_ms().min(now + IDLE_MS));
        };
        let silent = rota.turn();
        let members = &self.members;
        let next = rota.next(now, |address| members.get(&address).is_some_and(Member::is_up));
        if silent.is_some() && rota.turn().is_none() {
            self.forget(silent.unwrap_or_default());
        }
        match next {
            Next::Wait(until) => (bytes, until.min(now + IDLE_MS)),
            Next::Ask(address) => {
                let member = self.member(address);
                member.begin_turn(now);
                fill(member, now, &mut frame, &mut bytes);
                // A port returns from a write before the bytes are out.
                let bits = u64::try_from(bytes.len() * 10_000).unwrap_or(u64::MAX);
                let until = now + bits / u64::from(self.bus.baud) + u64::from(self.timing.turn_ms);
                if let Some(rota) = &mut self.rota {
                    rota.given(address, until);
                }
                (bytes, until)
            }
        }
    }

    /// An address that did not answer, and where nobody was, takes no memory.
    fn forget(&mut self, address: u8) {
        let never_heard = |member: &Member| member.is_silent() && member.counters().lives == 0;
        if self.members.get(&address).is_some_and(never_heard) {
            self.members.remove(&address);
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        let now = self.now_ms();
        if let Some(rota) = &mut self.rota {
            rota.heard(now + u64::from(self.timing.turn_ms));
        }
        for byte in bytes {
            match self.deframer.push(*byte) {
                None => {}
                Some(Err(_)) => self.broken_frames += 1,
                // On two wires the gateway hears itself.
                Some(Ok((header, _))) if header.direction != Direction::ToGateway => {}
                Some(Ok((header, payload))) => {
                    self.is_proven = true;
                    if let Some(member) = self.members.get_mut(&header.address) {
                        member.frame(&header, payload, &self.roster, now);
                    }
                    if let Some(rota) = &mut self.rota {
                        if !payload.is_empty() {
                            rota.said_something();
                        }
                        if header.turn {
                            rota.given_back(header.address);
                        }
                    }
                }
            }
        }
    }

    fn hear_broker(&mut self, said: &Said) {
        let now = self.now_ms();
        let Some(member) = self.members.get_mut(&said.address) else { return };
        if !member.is_call(said.call) {
            return;
        }
        match &said.bytes {
            Some(bytes) => member.hear_broker(bytes, now),
            None => member.hung_up("the broker ended its connection", now),
        }
        if let Some(rota) = &mut self.rota {
            rota.said_something();
        }
    }

    /// Moves what can be moved, and makes connections.
    fn work(&mut self) {
        let now = self.now_ms();
        for (address, member) in &mut self.members {
            member.work(now);
            if let Some((call, device)) = member.call() {
                match self.dial.connect(device) {
                    Some(stream) => {
                        let (to, from) = mpsc::channel(PACKETS_MAX);
                        self.calls.insert(*address, (call, to));
                        tokio::spawn(carry(stream, *address, call, from, self.said.clone()));
                    }
                    None => member.hung_up("the broker is not there yet", now),
                }
            }
            let bytes = member.take_bytes();
            if member.is_silent() {
                self.calls.remove(address);
            } else if !bytes.is_empty()
                && let Some((_, to)) = self.calls.get(address)
                && to.try_send(bytes).is_err()
            {
                member.hung_up("the broker does not take what it has asked for", now);
            }
        }
    }

    fn port_name(&self) -> String {
        match &self.bus.port {
            BusPort::Device(path) => path.display().to_string(),
            BusPort::Connect(address) => format!("tcp to {address}"),
            BusPort::Listen(address) => format!("tcp at {address}"),
        }
    }

    fn show_sometimes(&mut self) {
        let now = self.now_ms();
        if now >= self.shown_ms + SHOW_EVERY_MS {
            self.shown_ms = now;
            self.show(true, "");
        }
    }

    fn show(&self, open: bool, reason: &str) {
        let devices = self.members.iter().map(|(address, member)| {
            let counters = member.counters();
            DeviceStatus {
                address: *address,
                device: member.device().map(str::to_owned),
                up: member.is_up(),
                frames_in: counters.frames_in,
                frames_out: counters.frames_out,
                retransmitted: counters.retransmitted,
                dropped: counters.dropped,
                lives: counters.lives,
                rejected: member.figures.rejected,
                undelivered: member.figures.undelivered,
            }
        });
        let status = BusStatus {
            port: self.port_name(),
            mode: if self.rota.is_some() { "rs485" } else { "point-to-point" },
            open,
            reason: reason.to_owned(),
            opened: self.opened,
            broken_frames: self.broken_frames,
            devices: devices.collect(),
        };
        self.board.put(&self.bus.name, status);
    }
}

fn fill(member: &mut Member, now_ms: u64, frame: &mut [u8; WIRE_MAX], bytes: &mut Vec<u8>) {
    loop {
        let length = member.transmit(now_ms, frame);
        if length == 0 {
            return;
        }
        bytes.extend_from_slice(&frame[..length]);
    }
}

fn seed() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness sessions still differ from those of the process before by the time.
    if SystemRandom::new().fill(&mut bytes).is_err() {
        return crate::system_clock::unix_ms();
    }
    u64::from_le_bytes(bytes)
}
