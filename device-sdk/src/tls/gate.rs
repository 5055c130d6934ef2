//! Whole records, in the order of a handshake, and nothing out before the gateway has proven itself.
//!
//! # Invariants
//! - The crate above is given a record when it is whole: its read never suspends within one, so a cancelled read loses
//!   nothing. Bytes that came are kept here.
//! - In the clear come one ServerHello, then at most a ChangeCipherSpec or an alert until the handshake is over. Later
//!   records that are not encrypted end the connection.
//! - Once the ServerHello is there, nothing leaves before the gateway is proven.

use core::fmt;

use embedded_io_async::{ErrorKind, ErrorType, Read, Write};

use super::Refusal;
use super::link::Link;
use super::suite::{WIRE, WIRE_OPEN};

const HEADER: usize = 5;
/// Content type, tag.
const ENCRYPTED_MIN: usize = 1 + 16;
/// Bytes of an encrypted record behind its header (RFC 8446, 5.2).
const LENGTH_MAX: usize = 16384 + 256;
/// A handshake is one record a message, and a ChangeCipherSpec.
const HANDSHAKE_RECORDS_MAX: u8 = 16;
/// Records with one key (RFC 8446, 5.5).
const SENT_MAX: u32 = 1 << 24;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// See the module.
pub(super) struct Gate<'m, T> {
    transport: T,
    buffer: &'m mut [u8],
    link: &'m Link,
    /// The record that is handed out ends here, and begins at 0; 0: none.
    record: usize,
    /// What of it is handed out.
    handed: usize,
    /// What has come.
    filled: usize,
    hello: bool,
    handshake_records: u8,
    sent: u32,
}

impl<'m, T> Gate<'m, T> {
    pub(super) fn new(transport: T, buffer: &'m mut [u8], link: &'m Link) -> Self {
        Self {
            transport,
            buffer,
            link,
            record: 0,
            handed: 0,
            filled: 0,
            hello: false,
            handshake_records: 0,
            sent: 0,
        }
    }

    /// Drops the record that was handed out.
    fn advance(&mut self) {
        if self.record > 0 {
            self.buffer.copy_within(self.record..self.filled, 0);
            self.filled -= self.record;
            self.record = 0;
            self.handed = 0;
        }
    }

    /// Whether a record is whole; then it is judged and may be handed out.
    fn take_record<E>(&mut self) -> Result<bool, GateError<E>> {
        let Some(&[kind, major, minor, high, low]) = self.buffer[..self.filled].first_chunk()
        else {
            return Ok(false);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if [major, minor] != WIRE || length > LENGTH_MAX {
            return Err(self.refuse(Refusal::Record));
        }
        if HEADER + length > self.buffer.len() {
            return Err(self.refuse(Refusal::RecordLength));
        }
        if HEADER + length > self.filled {
            return Ok(false);
        }
        self.judge(kind, length)?;
        if self.link.is_open() {
            self.buffer[1..3].copy_from_slice(&WIRE_OPEN);
        }
        self.record = HEADER + length;
        Ok(true)
    }

    /// Whether a record of that kind may come now.
    fn judge<E>(&mut self, kind: u8, length: usize) -> Result<(), GateError<E>> {
        let open = self.link.is_open();
        let may_come = match kind {
            APPLICATION_DATA => self.hello && length >= ENCRYPTED_MIN,
            HANDSHAKE => !open && !core::mem::replace(&mut self.hello, true),
            CHANGE_CIPHER_SPEC => !open && self.hello && length == 1,
            ALERT => !open && length == 2,
            _ => false,
        };
        if !may_come {
            return Err(self.refuse(Refusal::Record));
        }
        if !open {
            self.handshake_records += 1;
            if self.handshake_records > HANDSHAKE_RECORDS_MAX {
                return Err(self.refuse(Refusal::Records));
            }
        }
        Ok(())
    }

    fn refuse<E>(&self, why: Refusal) -> GateError<E> {
        self.link.refuse(why);
        GateError::Refused
    }
}

impl<T: ErrorType> ErrorType for Gate<'_, T> {
    type Error = GateError<T::Error>;
}

impl<T: Read> Read for Gate<'_, T> {
    async fn read(&mut self, out: &mut [u8]) -> Result<usize, Self::Error> {
        if self.handed == self.record {
            self.advance();
            while !self.take_record()? {
                // The only place to wait. The buffer has room: a record that does not fit was refused.
                let room = &mut self.buffer[self.filled..];
                let length = self.transport.read(room).await.map_err(GateError::Transport)?;
                if length == 0 {
                    return Ok(0);
                }
                self.filled += length;
            }
        }
        let length = out.len().min(self.record - self.handed);
        out[..length].copy_from_slice(&self.buffer[self.handed..self.handed + length]);
        self.handed += length;
        Ok(length)
    }
}

impl<T: Write> Write for Gate<'_, T> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        if self.hello && !self.link.is_proven() {
            return Err(self.refuse(Refusal::NoProof));
        }
        if self.sent >= SENT_MAX {
            return Err(self.refuse(Refusal::Worn));
        }
        self.sent += 1;
        self.transport.write(bytes).await.map_err(GateError::Transport)
    }

    async fn flush(&mut self) -> Result<(), Self::Error> {
        self.transport.flush().await.map_err(GateError::Transport)
    }
}

/// Why the gate lets nothing pass. The reason of a refusal stands in the link.
#[derive(Debug)]
pub(super) enum GateError<E> {
    Transport(E),
    Refused,
}

impl<E: fmt::Debug> fmt::Display for GateError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl<E: fmt::Debug> core::error::Error for GateError<E> {}

impl<E: embedded_io_async::Error> embedded_io_async::Error for GateError<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Transport(error) => error.kind(),
            Self::Refused => ErrorKind::InvalidData,
        }
    }
}
