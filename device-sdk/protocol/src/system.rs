//! What gateway and device say to each other beside the user's messages.
//!
//! On MQTT, a device publishes [`Up`] on [`Up::topic`] and subscribes to [`down_filter`], where the gateway, its functions
//! and its operators publish [`Down`]. Each kind has a topic of its own, so that access to it can be granted and the
//! desired shadow can be retained. On serial links the same bytes travel in frames.

use heapless::String;
use serde::{Deserialize, Serialize};

use crate::limits::{BODY_MAX, TEXT_MAX, TOPIC_MAX, WORD_MAX};
use crate::update::{Chunk, Offer, Progress, Want};
use crate::{Error, SchemaId, Timestamp, codec, topic};

/// From the device to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Up<'a> {
    /// Answer to a command.
    #[serde(borrow)]
    Response(Response<'a>),
    /// The shadow as the device has it. Retained.
    #[serde(borrow)]
    Reported(Shadow<'a>),
    /// Asks for the time.
    TimeRequest(TimeRequest),
    /// A line of its log.
    #[serde(borrow)]
    Log(LogLine<'a>),
    /// A figure about itself.
    #[serde(borrow)]
    Metric(Metric<'a>),
    /// Asks for bytes of a firmware image.
    Want(Want),
    /// How far an update has come.
    #[serde(borrow)]
    Progress(Progress<'a>),
}

/// From the gateway to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Down<'a> {
    /// Something to do.
    #[serde(borrow)]
    Command(Command<'a>),
    /// The shadow as it should be. Retained.
    #[serde(borrow)]
    Desired(Shadow<'a>),
    /// Answer to [`Up::TimeRequest`].
    Time(TimeReply),
    /// A firmware image is there. Retained.
    #[serde(borrow)]
    Offer(Offer<'a>),
    /// Bytes of an image.
    #[serde(borrow)]
    Chunk(Chunk<'a>),
    /// An image of a function for the device is there: an offer whose board is what functions have to be compiled for.
    /// Retained.
    #[serde(borrow)]
    Function(Offer<'a>),
}

/// Something for the device to do, once: a device remembers the ids of its last commands and answers a repeat with the
/// same response, without doing it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command<'a> {
    /// Number of the command, random.
    #[serde(with = "postcard::fixint::le")]
    pub id: u64,
    /// What to do, 1 to 32 bytes.
    pub name: &'a str,
    /// Type of the body.
    pub schema: SchemaId,
    /// The argument.
    pub body: &'a [u8],
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response<'a> {
    /// Number of the command.
    #[serde(with = "postcard::fixint::le")]
    pub id: u64,
    /// Whether it was done.
    pub status: Status,
    /// Type of the body.
    pub schema: SchemaId,
    /// The result, or the reason as text ([`SchemaId::RAW`]) if it was not done.
    pub body: &'a [u8],
}

/// Whether a command was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// It was.
    Done,
    /// It was tried and failed.
    Failed,
    /// The device has no such command.
    Unknown,
    /// The argument is not what the command takes.
    BadArgument,
    /// The device is at its bound of commands in work; it may be sent again.
    Busy,
}

/// One side of a shadow: a document that the user defines, with a number that grows with each change.
///
/// A device applies a desired document whose number is above that of the last one it applied, and reports the number
/// that it has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadow<'a> {
    /// Number of the desired document: in a report, of the last one that was applied (0: none yet).
    pub version: u32,
    /// Type of the document.
    pub schema: SchemaId,
    /// The document.
    pub body: &'a [u8],
}

/// Asks for the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeRequest {
    /// Milliseconds since the device started, when it asked. The answer repeats it: half of the round trip is the error.
    pub uptime_ms: u64,
}

/// The time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeReply {
    /// `uptime_ms` of the request.
    pub uptime_ms: u64,
    /// The gateway's wall clock; never [`crate::Quality::Uptime`].
    pub now: Timestamp,
}

/// How much a line of a log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// For following every step.
    Trace,
    /// For finding a fault.
    Debug,
    /// Ordinary news.
    Info,
    /// Something is odd.
    Warn,
    /// Something failed.
    Error,
}

/// A line of the device's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine<'a> {
    /// How much it matters.
    pub level: Level,
    /// When it was written.
    pub time: Timestamp,
    /// Lines that were dropped before this one because the buffer was full.
    pub dropped: u32,
    /// The text.
    pub text: &'a str,
}

/// A figure of the device about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metric<'a> {
    /// What is measured, with its unit: `heap_free_bytes`.
    pub name: &'a str,
    /// When it was measured.
    pub time: Timestamp,
    /// The figure.
    pub value: i64,
}

/// Filter that a device subscribes to.
///
/// # Errors
/// [`Error::TooLong`] for a name that is none.
pub fn down_filter(device: &str) -> Result<String<TOPIC_MAX>, Error> {
    topic::fill("$holm/v1/down/{device}/+", device)
}

impl<'a> Up<'a> {
    /// All kinds, as they stand in topics.
    pub const KINDS: [&'static str; 7] =
        ["response", "reported", "time", "log", "metric", "want", "progress"];

    /// The kind, as it stands in the topic.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Response(_) => "response",
            Self::Reported(_) => "reported",
            Self::TimeRequest(_) => "time",
            Self::Log(_) => "log",
            Self::Metric(_) => "metric",
            Self::Want(_) => "want",
            Self::Progress(_) => "progress",
        }
    }

    /// Topic that the device publishes it on: `$holm/v1/up/DEVICE/KIND`.
    ///
    /// # Errors
    /// [`Error::TooLong`] for a name that is none.
    pub fn topic(&self, device: &str) -> Result<String<TOPIC_MAX>, Error> {
        system_topic("$holm/v1/up/{device}/", device, self.kind())
    }

    /// Whether the broker keeps it for those who come later.
    #[must_use]
    pub const fn is_retained(&self) -> bool {
        matches!(self, Self::Reported(_))
    }

    /// Writes it into `out`; returns how many bytes.
    ///
    /// # Errors
    /// [`Error::TooLong`] and [`Error::NoRoom`].
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, Error> {
        self.check()?;
        codec::encode(self, out)
    }

    /// Reads one that takes all of `bytes`.
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
            Self::Response(it) => codec::bound(it.body, BODY_MAX),
            Self::Reported(it) => codec::bound(it.body, BODY_MAX),
            Self::Log(it) => codec::bound(it.text.as_bytes(), TEXT_MAX),
            Self::Metric(it) => word(it.name),
            Self::Progress(it) => it.check(),
            Self::Want(it) => it.check(),
            Self::TimeRequest(_) => Ok(()),
        }
    }
}

impl<'a> Down<'a> {
    /// All kinds, as they stand in topics.
    pub const KINDS: [&'static str; 6] =
        ["command", "desired", "time", "offer", "chunk", "function"];

    /// The kind, as it stands in the topic.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Command(_) => "command",
            Self::Desired(_) => "desired",
            Self::Time(_) => "time",
            Self::Offer(_) => "offer",
            Self::Chunk(_) => "chunk",
            Self::Function(_) => "function",
        }
    }

    /// Topic that it is published on for a device: `$holm/v1/down/DEVICE/KIND`.
    ///
    /// # Errors
    /// [`Error::TooLong`] for a name that is none.
    pub fn topic(&self, device: &str) -> Result<String<TOPIC_MAX>, Error> {
        system_topic("$holm/v1/down/{device}/", device, self.kind())
    }

    /// Whether the broker keeps it for a device that comes later.
    #[must_use]
    pub const fn is_retained(&self) -> bool {
        matches!(self, Self::Desired(_) | Self::Offer(_) | Self::Function(_))
    }

    /// Writes it into `out`; returns how many bytes.
    ///
    /// # Errors
    /// [`Error::TooLong`] and [`Error::NoRoom`].
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, Error> {
        self.check()?;
        codec::encode(self, out)
    }

    /// Reads one that takes all of `bytes`.
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
            Self::Command(it) => word(it.name).and_then(|()| codec::bound(it.body, BODY_MAX)),
            Self::Desired(it) => codec::bound(it.body, BODY_MAX),
            Self::Time(it) => {
                if it.now.unix_ms().is_some() {
                    Ok(())
                } else {
                    Err(Error::Malformed)
                }
            }
            Self::Offer(it) | Self::Function(it) => it.check(),
            Self::Chunk(it) => it.check(),
        }
    }
}

fn system_topic(prefix: &str, device: &str, kind: &str) -> Result<String<TOPIC_MAX>, Error> {
    let mut topic = topic::fill(prefix, device)?;
    topic.push_str(kind).map_err(|_| Error::TooLong)?;
    Ok(topic)
}

fn word(name: &str) -> Result<(), Error> {
    if name.is_empty() { Err(Error::Malformed) } else { codec::bound(name.as_bytes(), WORD_MAX) }
}
