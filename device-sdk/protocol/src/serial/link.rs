//! One life of a link, the same at both ends: windows, acks, repetitions, credit, keep-alive.
//!
//! Go-back-N: a receiver takes only the frame it expects, a sender repeats from the first that is not acked. A line does
//! not reorder, so a gap means a loss: the receiver says so once (`Nak`) and the sender does not wait for its timer.
//! On a shared bus there are no timers but the gateway's: each turn begins with what the last one left unacked.

use core::fmt;

use super::frame::{Direction, Header, Kind};
use super::incoming::{Incoming, Taken};
use super::outgoing::{Outgoing, length};
use super::{Timing, WINDOW, WIRE_MAX, buffered_bytes};

/// What stays the same over all lives of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// Address of the device: [`super::ADDRESS_POINT_TO_POINT`], or 1 to 247 on a shared bus.
    pub address: u8,
    /// Which end this is.
    pub direction: Direction,
    /// Whether the line is shared: an end speaks only when it has the turn.
    pub shared: bool,
    /// Waits.
    pub timing: Timing,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// There is no link now.
    Down,
    /// No room now: wait for acks.
    Full,
    /// Longer than the buffer, or than the other end receives.
    TooLong,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down => "the link is down",
            Self::Full => "the link's buffer is full",
            Self::TooLong => "the message is longer than the link carries",
        })
    }
}

impl core::error::Error for SendError {}

/// What happened on a link, over all its lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames of this address that came whole.
    pub frames_in: u32,
    /// Frames sent.
    pub frames_out: u32,
    /// Frames among them that were sent before.
    pub retransmitted: u32,
    /// Frames that came again, or could not be taken.
    pub dropped: u32,
    /// Lives of the link.
    pub lives: u32,
}

/// A link. `TX` and `RX` are bytes of buffer; the longest message is [`buffered_bytes`] within `TX`, and `RX`.
#[derive(Debug)]
pub struct Link<const TX: usize, const RX: usize> {
    config: LinkConfig,
    session: u32,
    out: Outgoing<TX>,
    inc: Incoming<RX>,
    peer_credit: u8,
    peer_message_max: usize,
    hold: bool,
    /// What is due without data: an ack, a nak, a ping.
    answer: Option<Kind>,
    /// A gap was told and not filled yet.
    gap_told: bool,
    heard_ms: u64,
    pinged_ms: u64,
    retry_at: Option<u64>,
    retry_ms: u32,
    /// Frames that may still be sent in this turn.
    turn: u8,
    /// The next of them must begin before this: else the other end takes the turn back.
    turn_until_ms: u64,
    broken: bool,
    counters: Counters,
}

impl<const TX: usize, const RX: usize> Link<TX, RX> {
    /// A link that does not live yet.
    #[must_use]
    pub const fn new(config: LinkConfig) -> Self {
        Self {
            config,
            session: 0,
            out: Outgoing::new(),
            inc: Incoming::new(),
            peer_credit: 0,
            peer_message_max: 0,
            hold: false,
            answer: None,
            gap_told: false,
            heard_ms: 0,
            pinged_ms: 0,
            retry_at: None,
            retry_ms: config.timing.retransmit_ms,
            turn: 0,
            turn_until_ms: 0,
            broken: false,
            counters: Counters {
                frames_in: 0,
                frames_out: 0,
                retransmitted: 0,
                dropped: 0,
                lives: 0,
            },
        }
    }

    /// Begins a life: buffers are empty, numbers begin at 0.
    pub fn begin(&mut self, session: u32, peer_message_max: usize, now_ms: u64) {
        self.session = session;
        self.out.clear();
        self.inc.clear();
        (self.peer_credit, self.peer_message_max) = (WINDOW, peer_message_max);
        (self.answer, self.gap_told, self.broken, self.hold) = (None, false, false, false);
        (self.heard_ms, self.pinged_ms) = (now_ms, now_ms);
        (self.retry_at, self.retry_ms) = (None, self.config.timing.retransmit_ms);
        self.counters.lives = self.counters.lives.wrapping_add(1);
    }

    /// Number of this life.
    #[must_use]
    pub const fn session(&self) -> u32 {
        self.session
    }

    /// What was agreed on.
    #[must_use]
    pub const fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// Counts since the link was made.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes a message that consists of these parts; its number counts up from 1 in each life.
    ///
    /// # Errors
    /// [`SendError::Full`] and [`SendError::TooLong`].
    pub fn send(&mut self, parts: &[&[u8]]) -> Result<u32, SendError> {
        let bytes = length(parts);
        if bytes > self.peer_message_max || buffered_bytes(bytes) > TX {
            return Err(SendError::TooLong);
        }
        self.out.push(parts).ok_or(SendError::Full)
    }

    /// How many messages of this life the other end has taken.
    #[must_use]
    pub fn messages_acked(&self) -> u32 {
        self.out.messages_acked()
    }

    /// Whether all that was sent in this life has been taken.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.out.is_empty()
    }

    /// The message that waits to be taken.
    #[must_use]
    pub fn message(&self) -> Option<&[u8]> {
        self.inc.message()
    }

    /// The message was worked on: the other end may know.
    ///
    /// # Panics
    /// If none waits: a mistake of the caller.
    pub fn take(&mut self) {
        self.inc.take();
        self.answer.get_or_insert(Kind::Ack);
    }

    /// Whether the other end is to send nothing for now. What is under way already may still come.
    pub fn hold(&mut self, hold: bool) {
        if self.hold && !hold {
            self.answer.get_or_insert(Kind::Ack);
        }
        self.hold = hold;
    }

    /// Takes a frame of this link and session.
    pub fn frame(&mut self, header: &Header, payload: &[u8], now_ms: u64) {
        self.heard_ms = now_ms;
        self.counters.frames_in = self.counters.frames_in.wrapping_add(1);
        self.peer_credit = header.credit;
        if self.out.acked(header.ack) {
            self.retry_at = None;
            self.retry_ms = self.config.timing.retransmit_ms;
        }
        match header.kind {
            Kind::Data => self.data(header, payload),
            Kind::Ping => {
                self.answer.get_or_insert(Kind::Ack);
            }
            Kind::Nak => {
                self.out.rewind();
                self.retry_at = None;
            }
            // The handshake is not of one life; it was seen before the link.
            Kind::Ack
            | Kind::Discover
            | Kind::Hello
            | Kind::Welcome
            | Kind::Refused
            | Kind::Reset => {}
        }
    }

    fn data(&mut self, header: &Header, payload: &[u8]) {
        match self.inc.accept(header.sequence, header.last, payload) {
            Taken::Yes => {
                self.gap_told = false;
                // A whole message is acked when it was taken.
                if self.inc.message().is_none() {
                    self.answer = Some(Kind::Ack);
                }
            }
            Taken::No => {
                self.count_dropped();
                self.answer.get_or_insert(Kind::Ack);
            }
            Taken::Gap => {
                self.count_dropped();
                if !core::mem::replace(&mut self.gap_told, true) {
                    self.answer = Some(Kind::Nak);
                }
            }
            Taken::TooLong => self.broken = true,
        }
    }

    fn count_dropped(&mut self) {
        self.counters.dropped = self.counters.dropped.wrapping_add(1);
    }

    /// Whether the other end is gone, or breaks the rules: this life is over.
    #[must_use]
    pub fn is_lost(&self, now_ms: u64) -> bool {
        self.broken || now_ms.saturating_sub(self.heard_ms) >= u64::from(self.config.timing.lost_ms)
    }

    /// On a shared bus: this end may speak, and first repeats what the last turn left unacked. A turn that is not used in half
    /// of `turn_ms` is over: a late end would speak in another's.
    pub fn begin_turn(&mut self, now_ms: u64) {
        self.out.rewind();
        self.turn = WINDOW;
        self.turn_until_ms = now_ms + u64::from(self.config.timing.turn_ms / 2);
    }

    /// Writes the next frame that is due, and returns how many bytes; 0 when there is none.
    pub fn transmit(&mut self, now_ms: u64, out: &mut [u8; WIRE_MAX]) -> usize {
        if self.config.shared { self.in_turn(now_ms, out) } else { self.at_any_time(now_ms, out) }
    }

    fn in_turn(&mut self, now_ms: u64, out: &mut [u8; WIRE_MAX]) -> usize {
        if self.turn == 0 || now_ms > self.turn_until_ms {
            self.turn = 0;
            return 0;
        }
        self.turn -= 1;
        // The other end hears this frame until it is out, and waits for the next from then on.
        self.turn_until_ms = now_ms + u64::from(self.config.timing.turn_ms);
        self.answer = None;
        let window = self.peer_credit.min(WINDOW);
        if !self.out.has_more(window) {
            self.turn = 0;
        }
        let written = self.next_data(self.turn == 0, out);
        if written > 0 {
            return written;
        }
        self.plain(Kind::Ack, true, out)
    }

    fn at_any_time(&mut self, now_ms: u64, out: &mut [u8; WIRE_MAX]) -> usize {
        self.look_at_timers(now_ms);
        if let Some(kind) = self.answer.take_if(|kind| *kind != Kind::Ack) {
            return self.plain(kind, false, out);
        }
        let written = self.next_data(false, out);
        if written > 0 {
            self.answer = None;
            let retry_at = now_ms + u64::from(self.retry_ms);
            self.retry_at.get_or_insert(retry_at);
            return written;
        }
        if !self.out.is_empty() && self.retry_at.is_none() {
            // Without credit: ask again for it.
            self.retry_at = Some(now_ms + u64::from(self.retry_ms));
        }
        match self.answer.take() {
            Some(kind) => self.plain(kind, false, out),
            None => 0,
        }
    }

    fn look_at_timers(&mut self, now_ms: u64) {
        if self.retry_at.take_if(|at| *at <= now_ms).is_some() && !self.out.is_empty() {
            self.out.rewind();
            self.retry_ms = (self.retry_ms * 2).min(self.config.timing.retransmit_ms_max);
            if self.peer_credit == 0 {
                self.ping(now_ms);
            }
        }
        if self.ping_at() <= now_ms {
            self.ping(now_ms);
        }
    }

    fn ping(&mut self, now_ms: u64) {
        self.pinged_ms = now_ms;
        self.answer.get_or_insert(Kind::Ping);
    }

    fn ping_at(&self) -> u64 {
        self.heard_ms.max(self.pinged_ms) + u64::from(self.config.timing.keepalive_ms)
    }

    /// When to call [`Link::transmit`] again although nothing has come and nothing was sent meanwhile.
    #[must_use]
    pub fn deadline_ms(&self) -> u64 {
        let lost_at = self.heard_ms + u64::from(self.config.timing.lost_ms);
        if self.config.shared {
            return lost_at;
        }
        lost_at.min(self.ping_at()).min(self.retry_at.unwrap_or(u64::MAX))
    }

    fn next_data(&mut self, ends_turn: bool, out: &mut [u8; WIRE_MAX]) -> usize {
        let Some(fragment) = self.out.next(self.peer_credit.min(WINDOW)) else { return 0 };
        let mut header = self.header(Kind::Data, ends_turn);
        (header.sequence, header.last) = (fragment.sequence, fragment.last);
        let written = header.encode(fragment.parts, out);
        let again = self.out.sent();
        self.counters.retransmitted = self.counters.retransmitted.wrapping_add(u32::from(again));
        self.counters.frames_out = self.counters.frames_out.wrapping_add(1);
        written
    }

    /// A frame without data.
    fn plain(&mut self, kind: Kind, ends_turn: bool, out: &mut [u8; WIRE_MAX]) -> usize {
        self.counters.frames_out = self.counters.frames_out.wrapping_add(1);
        self.header(kind, ends_turn).encode([&[], &[]], out)
    }

    fn header(&self, kind: Kind, turn: bool) -> Header {
        let waits = self.hold || self.inc.message().is_some();
        Header {
            address: self.config.address,
            direction: self.config.direction,
            kind,
            turn,
            last: false,
            session: self.session,
            sequence: 0,
            ack: self.inc.expected(),
            credit: if waits { 0 } else { WINDOW },
        }
    }
}
