//! The end of a link in the device: says hello until it is welcome, then speaks.

use core::fmt;

use super::frame::{Deframer, Direction, Header, Kind};
use super::link::{Counters, Link, LinkConfig, SendError};
use super::message::{FromDevice, FromGateway, Hello, Refusal, Welcome};
use super::{FRAGMENT_MAX, Timing, WIRE_MAX};
use crate::Error;

/// What a device is told at its start.
#[derive(Clone, Copy)]
pub struct DeviceConfig<'a> {
    /// Its address on a shared bus, 1 to 247; `None` on a line of its own.
    pub address: Option<u8>,
    /// Its name.
    pub name: &'a str,
    /// Its token; empty where the gateway trusts the line.
    pub credential: &'a [u8],
    /// Waits.
    pub timing: Timing,
    /// A number that is another one at each start, best random.
    pub seed: u64,
}

impl fmt::Debug for DeviceConfig<'_> {
    /// Without the credential: this may end in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceConfig")
            .field("address", &self.address)
            .field("name", &self.name)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

/// How the device stands with the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It looks for the gateway.
    Seeking,
    /// It was refused, and tries again later.
    Refused(Refusal),
    /// The link lives.
    Up,
}

/// The device's end. `TX` and `RX` are the buffers of its [`Link`].
#[derive(Debug)]
pub struct Device<'a, const TX: usize, const RX: usize> {
    deframer: Deframer,
    broken_frames: u32,
    /// When the last byte came.
    heard_ms: u64,
    end: End<'a, TX, RX>,
}

/// All but the deframer, whose bytes a frame borrows.
#[derive(Debug)]
struct End<'a, const TX: usize, const RX: usize> {
    config: DeviceConfig<'a>,
    link: Link<TX, RX>,
    state: State,
    random: u64,
    /// Session of the hello: stays until it is welcome.
    hello: u32,
    hello_at: u64,
    hello_wait_ms: u32,
    /// On a shared bus: the turn was given and no link lives; the hello must begin before this.
    turn_until_ms: Option<u64>,
}

impl<'a, const TX: usize, const RX: usize> Device<'a, TX, RX> {
    /// A device that has said nothing yet.
    #[must_use]
    pub const fn new(config: DeviceConfig<'a>) -> Self {
        let (address, shared) = match config.address {
            Some(address) => (address, true),
            None => (super::ADDRESS_POINT_TO_POINT, false),
        };
        let direction = Direction::ToGateway;
        let link = LinkConfig { address, direction, shared, timing: config.timing };
        let end = End {
            config,
            link: Link::new(link),
            state: State::Seeking,
            random: config.seed,
            hello: 0,
            hello_at: 0,
            hello_wait_ms: config.timing.retransmit_ms,
            turn_until_ms: None,
        };
        Self { deframer: Deframer::new(), broken_frames: 0, heard_ms: 0, end }
    }

    /// How it stands with the gateway.
    #[must_use]
    pub const fn state(&self) -> State {
        self.end.state
    }

    /// Counts over all lives of the link. `lives` is another one whenever what was sent before and not answered with
    /// [`FromGateway::Durable`] has to be sent again.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.end.link.counters()
    }

    /// Frames that were broken.
    #[must_use]
    pub const fn broken_frames(&self) -> u32 {
        self.broken_frames
    }

    /// Takes received bytes, up to the end of a message that has to be taken first. Returns how many.
    pub fn receive(&mut self, bytes: &[u8], now_ms: u64) -> usize {
        let pause_ms = now_ms.saturating_sub(core::mem::replace(&mut self.heard_ms, now_ms));
        if self.end.link.config().shared
            && pause_ms >= u64::from(self.end.config.timing.turn_ms / 2)
        {
            // A frame whose end was lost must not give the turn when the next one begins: that is another device's.
            self.deframer.reset();
        }
        for (n, byte) in bytes.iter().enumerate() {
            if self.message_bytes().is_some() {
                return n;
            }
            match self.deframer.push(*byte) {
                None => {}
                Some(Err(_)) => self.broken_frames = self.broken_frames.wrapping_add(1),
                Some(Ok((header, payload))) => self.end.frame(&header, payload, now_ms),
            }
        }
        bytes.len()
    }

    /// Writes the next frame that is due, and returns how many bytes; 0 when there is none.
    pub fn transmit(&mut self, now_ms: u64, out: &mut [u8; WIRE_MAX]) -> usize {
        self.end.transmit(now_ms, out)
    }

    /// When to call [`Device::transmit`] again although nothing has come and nothing was sent meanwhile.
    #[must_use]
    pub fn deadline_ms(&self) -> u64 {
        match self.end.state {
            State::Up => self.end.link.deadline_ms(),
            _ if self.end.link.config().shared => u64::MAX,
            State::Seeking | State::Refused(_) => self.end.hello_at,
        }
    }

    /// Sends a message; its number counts up from 1 in each life.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(&mut self, message: &FromDevice<'_>) -> Result<u32, SendError> {
        if self.end.state != State::Up {
            return Err(SendError::Down);
        }
        message.with_parts(|parts| self.end.link.send(parts)).unwrap_or(Err(SendError::TooLong))
    }

    /// The message that waits to be worked on.
    #[must_use]
    pub fn message(&self) -> Option<Result<FromGateway<'_>, Error>> {
        self.message_bytes().map(FromGateway::decode)
    }

    fn message_bytes(&self) -> Option<&[u8]> {
        if self.end.state == State::Up { self.end.link.message() } else { None }
    }

    /// The message was worked on. From now on the gateway knows it, so work comes first.
    ///
    /// # Panics
    /// If none waits: a mistake of the caller.
    pub fn take(&mut self) {
        self.end.link.take();
    }

    /// How many messages of this life the gateway has received; not that they are durable.
    #[must_use]
    pub fn messages_acked(&self) -> u32 {
        self.end.link.messages_acked()
    }
}

impl<const TX: usize, const RX: usize> End<'_, TX, RX> {
    fn frame(&mut self, header: &Header, payload: &[u8], now_ms: u64) {
        let link = self.link.config();
        if header.address != link.address || header.direction != Direction::ToDevice {
            return;
        }
        let shared = link.shared;
        let is_up = self.state == State::Up;
        match header.kind {
            Kind::Welcome => self.welcome(header, payload, now_ms),
            Kind::Refused if header.session == self.hello && !is_up => {
                let why = Refusal::decode(payload).unwrap_or(Refusal::Version);
                self.state = State::Refused(why);
                self.hello_at = now_ms + u64::from(self.config.timing.refused_ms);
            }
            Kind::Discover => self.seek(now_ms),
            Kind::Reset if is_up && header.session == self.link.session() => self.seek(now_ms),
            _ if is_up && header.session == self.link.session() => {
                self.link.frame(header, payload, now_ms);
            }
            _ => {}
        }
        if header.turn && shared {
            let until_ms = now_ms + u64::from(self.config.timing.turn_ms / 2);
            match self.state {
                State::Up if header.session == self.link.session() => self.link.begin_turn(now_ms),
                // The gateway keeps a link that is no more.
                State::Up => {
                    self.seek(now_ms);
                    self.turn_until_ms = Some(until_ms);
                }
                // The gateway asks again: it may think otherwise now.
                State::Seeking | State::Refused(_) => self.turn_until_ms = Some(until_ms),
            }
        }
    }

    fn welcome(&mut self, header: &Header, payload: &[u8], now_ms: u64) {
        let Ok(welcome) = Welcome::decode(payload) else { return };
        if self.state == State::Up || welcome.hello != self.hello || self.hello == 0 {
            return;
        }
        let message_max = usize::try_from(welcome.message_max).unwrap_or(usize::MAX);
        self.link.begin(header.session, message_max, now_ms);
        self.state = State::Up;
        self.turn_until_ms = None;
    }

    /// The link is down: says hello anew, under another number.
    fn seek(&mut self, now_ms: u64) {
        if self.state == State::Up || self.hello == 0 {
            self.hello = draw(&mut self.random);
            self.hello_wait_ms = self.config.timing.retransmit_ms;
        }
        (self.state, self.hello_at) = (State::Seeking, now_ms);
    }

    fn transmit(&mut self, now_ms: u64, out: &mut [u8; WIRE_MAX]) -> usize {
        if self.state == State::Up {
            if !self.link.is_lost(now_ms) {
                return self.link.transmit(now_ms, out);
            }
            self.seek(now_ms);
        }
        if self.hello == 0 {
            self.seek(now_ms);
        }
        let shared = self.link.config().shared;
        let due = if shared {
            self.turn_until_ms.take().is_some_and(|until| now_ms <= until)
        } else {
            self.hello_at <= now_ms
        };
        if !due {
            return 0;
        }
        self.state = State::Seeking;
        self.hello_at = now_ms + u64::from(self.hello_wait_ms);
        let longest = self.config.timing.retransmit_ms_max;
        self.hello_wait_ms = self.hello_wait_ms.saturating_mul(2).min(longest);
        self.say_hello(shared, out)
    }

    fn say_hello(&mut self, turn: bool, out: &mut [u8; WIRE_MAX]) -> usize {
        let hello = Hello {
            device: self.config.name,
            credential: self.config.credential,
            message_max: u32::try_from(RX).unwrap_or(u32::MAX),
        };
        let mut payload = [0; FRAGMENT_MAX];
        // A name or a credential that cannot be written never gets a link; the state shows it.
        let Ok(length) = hello.encode(&mut payload) else {
            self.state = State::Refused(Refusal::Credential);
            return 0;
        };
        let header = Header {
            address: self.link.config().address,
            direction: Direction::ToGateway,
            kind: Kind::Hello,
            turn,
            last: false,
            session: self.hello,
            sequence: 0,
            ack: 0,
            credit: 0,
        };
        header.encode([&payload[..length], &[]], out)
    }
}

/// The next number, never 0 (`splitmix64`).
pub(super) fn draw(random: &mut u64) -> u32 {
    loop {
        *random = random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *random;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        let [a, b, c, d, ..] = (z ^ z >> 31).to_le_bytes();
        let number = u32::from_le_bytes([a, b, c, d]);
        if number != 0 {
            return number;
        }
    }
}
