//! The gateway's end of one address.

use super::device::draw;
use super::frame::{Direction, Header, Kind};
use super::link::{Counters, Link, LinkConfig, SendError};
use super::message::{FromDevice, FromGateway, Hello, Refusal, Welcome};
use super::{Timing, WIRE_MAX};
use crate::{Error, VERSION};

/// What a station is made with.
#[derive(Clone, Copy, Debug)]
pub struct StationConfig {
    /// Address on a shared bus, 1 to 247; `None` on a line with one device.
    pub address: Option<u8>,
    /// Waits.
    pub timing: Timing,
    /// A number that is another one at each start, best random.
    pub seed: u64,
}

/// What a frame was about, beyond the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'f> {
    /// Nothing that the caller has to decide.
    Nothing,
    /// A device asks for a link: [`Station::accept`] or [`Station::refuse`]. Until then it asks again. A link that lived
    /// is over.
    Hello(Hello<'f>),
}

/// The gateway's end.
#[derive(Debug)]
pub struct Station<const TX: usize, const RX: usize> {
    link: Link<TX, RX>,
    is_up: bool,
    random: u64,
    /// Session of the last hello; 0 before there was one.
    hello: u32,
    /// A frame of the handshake that is due: kind, session, payload.
    due: Option<(Kind, u32)>,
    refusal: Refusal,
    turn: bool,
}

impl<const TX: usize, const RX: usize> Station<TX, RX> {
    /// A station that has heard nothing yet. On a line of its own it asks for a hello first.
    #[must_use]
    pub const fn new(config: StationConfig) -> Self {
        let (address, shared) = match config.address {
            Some(address) => (address, true),
            None => (super::ADDRESS_POINT_TO_POINT, false),
        };
        let (direction, timing) = (Direction::ToDevice, config.timing);
        Self {
            link: Link::new(LinkConfig { address, direction, shared, timing }),
            is_up: false,
            random: config.seed,
            hello: 0,
            due: if shared { None } else { Some((Kind::Discover, 0)) },
            refusal: Refusal::Busy,
            turn: false,
        }
    }

    /// Whether a link lives.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.is_up
    }

    /// Counts over all lives.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.link.counters()
    }

    /// Takes a frame; one of another address or direction is ignored.
    pub fn frame<'f>(&mut self, header: &Header, payload: &'f [u8], now_ms: u64) -> Heard<'f> {
        let is_mine = header.address == self.link.config().address;
        if !is_mine || header.direction != Direction::ToGateway {
            return Heard::Nothing;
        }
        if header.kind == Kind::Hello {
            return self.hello(header, payload);
        }
        if self.is_up && header.session == self.link.session() {
            if header.kind == Kind::Reset {
                self.close();
            } else {
                self.link.frame(header, payload, now_ms);
            }
        } else if self.due.is_none() {
            self.due = Some((Kind::Reset, header.session));
        }
        Heard::Nothing
    }

    fn hello<'f>(&mut self, header: &Header, payload: &'f [u8]) -> Heard<'f> {
        if self.is_up && header.session == self.hello {
            // The welcome was lost, or the hello came twice.
            self.due = Some((Kind::Welcome, self.link.session()));
            return Heard::Nothing;
        }
        self.is_up = false;
        self.hello = header.session;
        match Hello::decode(payload) {
            Ok(hello) => Heard::Hello(hello),
            Err(_) => {
                let other = payload.first().is_some_and(|version| *version != VERSION);
                self.refuse(if other { Refusal::Version } else { Refusal::Credential });
                Heard::Nothing
            }
        }
    }

    /// Welcomes the device of the last hello, which receives messages of at most so many bytes.
    pub fn accept(&mut self, message_max: usize, now_ms: u64) {
        let session = draw(&mut self.random);
        self.link.begin(session, message_max, now_ms);
        self.is_up = true;
        self.due = Some((Kind::Welcome, session));
    }

    /// Refuses the device of the last hello.
    pub fn refuse(&mut self, why: Refusal) {
        self.refusal = why;
        self.due = Some((Kind::Refused, self.hello));
    }

    /// On a line of its own: asks a device without a link to say hello now. On a shared bus a turn does that.
    pub fn discover(&mut self) {
        if !self.link.config().shared && !self.is_up && self.due.is_none() {
            self.due = Some((Kind::Discover, 0));
        }
    }

    /// Ends the link; the device begins anew.
    pub fn close(&mut self) {
        if core::mem::take(&mut self.is_up) {
            self.due = Some((Kind::Reset, self.link.session()));
        }
    }

    /// Ends the link if the device has been silent for too long. True if it did.
    pub fn close_if_lost(&mut self, now_ms: u64) -> bool {
        let lost = self.is_up && self.link.is_lost(now_ms);
        if lost {
            self.close();
        }
        lost
    }

    /// On a shared bus: what [`Station::transmit`] writes from now on ends with a frame that gives the turn to the device.
    pub fn begin_turn(&mut self, now_ms: u64) {
        self.turn = true;
        if self.is_up {
            self.link.begin_turn(now_ms);
        } else if self.due.is_none() {
            self.due = Some((Kind::Discover, 0));
        }
    }

    /// Writes the next frame that is due, and returns how many bytes; 0 when there is none.
    pub fn transmit(&mut self, now_ms: u64, out: &mut [u8; WIRE_MAX]) -> usize {
        let shared = self.link.config().shared;
        if shared && !self.turn {
            return 0;
        }
        if let Some((kind, session)) = self.due.take() {
            // The rest of the turn is the device's, which may have a new link now.
            self.turn = false;
            return self.handshake(kind, session, shared, out);
        }
        if !self.is_up {
            self.turn = false;
            return 0;
        }
        let written = self.link.transmit(now_ms, out);
        if written == 0 {
            self.turn = false;
        }
        written
    }

    fn handshake(&self, kind: Kind, session: u32, turn: bool, out: &mut [u8; WIRE_MAX]) -> usize {
        let mut payload = [0; 16];
        let length = match kind {
            Kind::Welcome => {
                let message_max = u32::try_from(RX).unwrap_or(u32::MAX);
                Welcome { hello: self.hello, message_max }.encode(&mut payload)
            }
            Kind::Refused => self.refusal.encode(&mut payload),
            _ => Ok(0),
        };
        let length = length.expect("invariant: both fit the buffer");
        let header = Header {
            address: self.link.config().address,
            direction: Direction::ToDevice,
            kind,
            turn,
            last: false,
            session,
            sequence: 0,
            ack: 0,
            credit: 0,
        };
        header.encode([&payload[..length], &[]], out)
    }

    /// When to call [`Station::transmit`] again although nothing has come and nothing was sent meanwhile.
    #[must_use]
    pub fn deadline_ms(&self) -> u64 {
        if self.is_up { self.link.deadline_ms() } else { u64::MAX }
    }

    /// Sends a message; its number counts up from 1 in each life.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(&mut self, message: &FromGateway<'_>) -> Result<u32, SendError> {
        if !self.is_up {
            return Err(SendError::Down);
        }
        message.with_parts(|parts| self.link.send(parts)).unwrap_or(Err(SendError::TooLong))
    }

    /// The message that waits to be taken.
    #[must_use]
    pub fn message(&self) -> Option<Result<FromDevice<'_>, Error>> {
        let bytes = if self.is_up { self.link.message() } else { None };
        bytes.map(FromDevice::decode)
    }

    /// The message was taken.
    ///
    /// # Panics
    /// If none waits: a mistake of the caller.
    pub fn take(&mut self) {
        self.link.take();
    }

    /// Whether the device is to send nothing for now.
    pub fn hold(&mut self, hold: bool) {
        self.link.hold(hold);
    }

    /// How many messages of this life the device has taken.
    #[must_use]
    pub fn messages_acked(&self) -> u32 {
        self.link.messages_acked()
    }
}
