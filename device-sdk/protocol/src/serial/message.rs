//! What travels: hello and welcome at the start of a link, then messages.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::CREDENTIAL_MAX;
use crate::limits::{BODY_MAX, ENVELOPE_OVERHEAD_MAX, TOPIC_MAX};
use crate::{Error, VERSION, codec, name};

/// Who a device is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello<'a> {
    /// Its name.
    pub device: &'a str,
    /// Its token; empty on a line that the gateway trusts. Whoever listens on the line reads it.
    pub credential: &'a [u8],
    /// The longest message that it receives, in bytes.
    pub message_max: u32,
}

impl fmt::Debug for Hello<'_> {
    /// Without the credential: this may end in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello")
            .field("device", &self.device)
            .field("message_max", &self.message_max)
            .finish_non_exhaustive()
    }
}

/// The gateway takes the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Session of the hello that it answers.
    #[serde(with = "postcard::fixint::le")]
    pub hello: u32,
    /// The longest message that the gateway receives, in bytes.
    pub message_max: u32,
}

/// Why the gateway does not take a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// It speaks another version.
    Version,
    /// It does not know the device, or not on this line, or the token is wrong.
    Credential,
    /// It cannot now: busy, or starting.
    Busy,
}

/// From a device to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromDevice<'a> {
    /// A message for functions.
    Publish {
        /// Number that the answer repeats, of the device's choice. Not the envelope's.
        id: u32,
        /// Where to.
        topic: &'a str,
        /// An encoded [`crate::Envelope`].
        envelope: &'a [u8],
    },
    /// An encoded [`crate::Up`].
    System {
        /// As with a publish.
        id: u32,
        /// The message.
        up: &'a [u8],
    },
}

/// From the gateway to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromGateway<'a> {
    /// The message is on the gateway's disk: the device may forget it.
    Durable {
        /// Number of the message.
        id: u32,
    },
    /// The gateway does not take the message: never, or not today; the reason tells (`SERIAL.md`).
    Rejected {
        /// Number of the message.
        id: u32,
        /// MQTT 5 reason code, for example 0x87: not authorized.
        reason: u8,
    },
    /// An encoded [`crate::Down`].
    System {
        /// The message.
        down: &'a [u8],
    },
}

impl<'a> Hello<'a> {
    /// Writes it into `out`; returns how many bytes.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::TooLong`], [`Error::NoRoom`].
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, Error> {
        self.check()?;
        codec::encode(self, out)
    }

    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let hello: Self = codec::decode(bytes)?;
        hello.check()?;
        Ok(hello)
    }

    fn check(&self) -> Result<(), Error> {
        name::check(self.device)?;
        codec::bound(self.credential, CREDENTIAL_MAX)
    }
}

impl Welcome {
    /// Writes it into `out`; returns how many bytes.
    ///
    /// # Errors
    /// [`Error::NoRoom`].
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, Error> {
        codec::encode(self, out)
    }

    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        codec::decode(bytes)
    }
}

impl Refusal {
    /// Writes it into `out`; returns how many bytes.
    ///
    /// # Errors
    /// [`Error::NoRoom`].
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, Error> {
        codec::encode(self, out)
    }

    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        codec::decode(bytes)
    }
}

/// What stands before the long parts of a message, which are sent without a copy.
#[derive(Debug, Default)]
struct Front {
    bytes: [u8; 8],
    length: usize,
}

impl Front {
    fn message(kind: u8) -> Self {
        let mut front = Self::default();
        front.push(VERSION);
        front.push(kind);
        front
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    /// As postcard writes a number.
    fn number(mut self, value: u32) -> Self {
        let mut rest = value;
        while rest >= 0x80 {
            self.push(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        self.push(rest.to_le_bytes()[0]);
        self
    }

    fn of_length(bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self::default().number(u32::try_from(bytes.len()).map_err(|_| Error::TooLong)?))
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl<'a> FromDevice<'a> {
    /// Gives the parts of its bytes to `send`.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn with_parts<R>(&self, send: impl FnOnce(&[&[u8]]) -> R) -> Result<R, Error> {
        self.check()?;
        Ok(match self {
            Self::Publish { id, topic, envelope } => {
                let (front, middle) = (Front::message(0).number(*id), Front::of_length(envelope)?);
                let topic_length = Front::of_length(topic.as_bytes())?;
                send(&[
                    front.as_slice(),
                    topic_length.as_slice(),
                    topic.as_bytes(),
                    middle.as_slice(),
                    envelope,
                ])
            }
            Self::System { id, up } => {
                let (front, length) = (Front::message(1).number(*id), Front::of_length(up)?);
                send(&[front.as_slice(), length.as_slice(), up])
            }
        })
    }

    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let message: Self = codec::decode(bytes)?;
        message.check()?;
        Ok(message)
    }

    fn check(&self) -> Result<(), Error> {
        const MAX: usize = BODY_MAX + ENVELOPE_OVERHEAD_MAX;
        match self {
            Self::Publish { topic, envelope, .. } => {
                codec::bound(topic.as_bytes(), TOPIC_MAX).and_then(|()| codec::bound(envelope, MAX))
            }
            Self::System { up, .. } => codec::bound(up, MAX),
        }
    }
}

impl<'a> FromGateway<'a> {
    /// Gives the parts of its bytes to `send`.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn with_parts<R>(&self, send: impl FnOnce(&[&[u8]]) -> R) -> Result<R, Error> {
        self.check()?;
        Ok(match self {
            Self::Durable { id } => send(&[Front::message(0).number(*id).as_slice()]),
            Self::Rejected { id, reason } => {
                send(&[Front::message(1).number(*id).as_slice(), &[*reason]])
            }
            Self::System { down } => {
                let length = Front::of_length(down)?;
                send(&[Front::message(2).as_slice(), length.as_slice(), down])
            }
        })
    }

    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let message: Self = codec::decode(bytes)?;
        message.check()?;
        Ok(message)
    }

    fn check(&self) -> Result<(), Error> {
        match self {
            Self::Durable { .. } | Self::Rejected { .. } => Ok(()),
            Self::System { down } => codec::bound(down, BODY_MAX + ENVELOPE_OVERHEAD_MAX),
        }
    }
}
