//! Between the client and whatever C has for a line: a pipe each way, and which connection is wanted.
//!
//! # Invariants
//! - Connections have numbers, counted up. At most one is wanted at a time; bytes of another are neither taken nor given.
//! - Nobody here wakes the future: what C does happens between two polls.

use core::cell::Cell;
use core::fmt;
use core::future::poll_fn;
use core::task::Poll;

use device_sdk::Dial;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::pipe::Pipe;
use embassy_time::{Duration, with_timeout};
use embedded_io_async::{Error, ErrorKind, ErrorType, Read, Write};

/// Bytes that wait in each direction: a frame of a serial line, or a small MQTT packet.
const PIPE_BYTES: usize = 512;
/// Longest wait for C to take what is to be sent.
const STUCK: Duration = Duration::from_secs(10);

/// How a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// None is wanted.
    Idle,
    /// C shall make it.
    Wanted,
    /// It stands.
    Open,
    /// C has closed it, or could not make it.
    Closed,
}

/// See the module.
pub(crate) struct Wire {
    received: Pipe<NoopRawMutex, PIPE_BYTES>,
    to_send: Pipe<NoopRawMutex, PIPE_BYTES>,
    stage: Cell<Stage>,
    number: Cell<u32>,
    /// It is always there.
    is_line: bool,
}

/// Why bytes cannot be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireError {
    /// The connection is closed.
    Closed,
    /// C did not take what was to be sent.
    Stuck,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the connection is closed",
            Self::Stuck => "nobody takes what is to be sent",
        })
    }
}

impl core::error::Error for WireError {}

impl Error for WireError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Closed => ErrorKind::NotConnected,
            Self::Stuck => ErrorKind::TimedOut,
        }
    }
}

impl Wire {
    /// One without a connection.
    pub(crate) const fn new() -> Self {
        Self::at(Stage::Idle, 0, false)
    }

    /// One that is always there.
    pub(crate) const fn line() -> Self {
        Self::at(Stage::Open, 1, true)
    }

    const fn at(stage: Stage, number: u32, is_line: bool) -> Self {
        Self {
            received: Pipe::new(),
            to_send: Pipe::new(),
            stage: Cell::new(stage),
            number: Cell::new(number),
            is_line,
        }
    }

    /// The connection that is wanted or stands; 0: none.
    pub(crate) fn connection(&self) -> u32 {
        match self.stage.get() {
            Stage::Wanted | Stage::Open => self.number.get(),
            Stage::Idle | Stage::Closed => 0,
        }
    }

    /// C has made it. False if it is not wanted any more.
    pub(crate) fn opened(&self, number: u32) -> bool {
        let is_wanted = number != 0 && self.connection() == number;
        if is_wanted {
            self.stage.set(Stage::Open);
        }
        is_wanted
    }

    /// C has closed it, or could not make it. What was received before is still read.
    pub(crate) fn closed(&self, number: u32) -> bool {
        let is_wanted = number != 0 && self.connection() == number && !self.is_line;
        if is_wanted {
            self.stage.set(Stage::Closed);
            self.to_send.clear();
        }
        is_wanted
    }

    /// Bytes came; how many were taken.
    pub(crate) fn receive(&self, bytes: &[u8]) -> usize {
        if self.stage.get() != Stage::Open {
            return 0;
        }
        let mut taken = 0;
        // Twice, as a piece ends where the pipe's memory does.
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            let Ok(length) = self.received.try_write(rest) else { break };
            taken += length;
        }
        taken
    }

    /// Fills `out` with what is to be sent; how many bytes.
    pub(crate) fn send(&self, out: &mut [u8]) -> usize {
        if self.stage.get() != Stage::Open {
            return 0;
        }
        let mut given = 0;
        while let Some(rest) = out.get_mut(given..).filter(|rest| !rest.is_empty()) {
            let Ok(length) = self.to_send.try_read(rest) else { break };
            given += length;
        }
        given
    }

    fn is_open(&self, number: u32) -> bool {
        self.stage.get() == Stage::Open && self.number.get() == number
    }

    fn want(&self) -> u32 {
        let number = self.number.get().checked_add(1).unwrap_or(1);
        self.number.set(number);
        self.stage.set(Stage::Wanted);
        self.received.clear();
        self.to_send.clear();
        number
    }

    fn hang_up(&self, number: u32) {
        if self.number.get() == number {
            self.stage.set(Stage::Idle);
        }
    }
}

/// Asks C for connections.
pub(crate) struct Dialler(pub(crate) &'static Wire);

impl Dial for Dialler {
    type Transport<'t> = Stream;
    type Error = WireError;

    async fn dial(&mut self) -> Result<Stream, WireError> {
        // Dropped while C makes it, it is not wanted any more.
        let stream = Stream { wire: self.0, number: self.0.want() };
        poll_fn(|_| match stream.wire.stage.get() {
            Stage::Open => Poll::Ready(Ok(())),
            Stage::Wanted => Poll::Pending,
            Stage::Idle | Stage::Closed => Poll::Ready(Err(WireError::Closed)),
        })
        .await?;
        Ok(stream)
    }
}

/// A connection, or the line.
pub(crate) struct Stream {
    wire: &'static Wire,
    number: u32,
}

impl Stream {
    /// Both directions of a line of its own.
    pub(crate) fn line(wire: &'static Wire) -> (Self, Self) {
        let end = || Self { wire, number: wire.number.get() };
        (end(), end())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.wire.hang_up(self.number);
    }
}

impl ErrorType for Stream {
    type Error = WireError;
}

impl Read for Stream {
    /// Waits for bytes; 0 at the end. Cancelling it loses nothing.
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, WireError> {
        if bytes.is_empty() {
            return Ok(0);
        }
        poll_fn(|_| match self.wire.received.try_read(bytes) {
            Ok(length) => Poll::Ready(Ok(length)),
            Err(_) if self.wire.is_open(self.number) => Poll::Pending,
            Err(_) => Poll::Ready(Ok(0)),
        })
        .await
    }
}

impl Write for Stream {
    /// Waits until at least one byte is taken. Cancelling it sends nothing.
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, WireError> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let wait = poll_fn(|_| {
            if !self.wire.is_open(self.number) {
                return Poll::Ready(Err(WireError::Closed));
            }
            self.wire
                .to_send
                .try_write(bytes)
                .map_or(Poll::Pending, |length| Poll::Ready(Ok(length)))
        });
        with_timeout(STUCK, wait).await.unwrap_or(Err(WireError::Stuck))
    }

    /// Nothing: what becomes of the bytes that C has taken is its own.
    async fn flush(&mut self) -> Result<(), WireError> {
        Ok(())
    }
}
