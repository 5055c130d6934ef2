//! What a device publishes for functions: a body with who, which, what and when.

use serde::{Deserialize, Serialize};

use crate::limits::BODY_MAX;
use crate::{Error, Message, SchemaId, Timestamp, codec, name};

/// A message of a device. On MQTT it is the payload of a publish with [`crate::CONTENT_TYPE`].
///
/// `boot` and `sequence` number the messages of a device: the gateway works on each number once, however often the
/// message arrives. A device draws `boot` at random (64 bits) at each start and counts `sequence` up from 0; a message
/// that it repeats, even after a restart, keeps its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<'a> {
    /// Name of the device. A gateway refuses one that is not the device that sends it.
    pub device: &'a str,
    /// Number of the start of the device, random.
    #[serde(with = "postcard::fixint::le")]
    pub boot: u64,
    /// Number of the message within the boot, from 0.
    pub sequence: u64,
    /// Type of the body.
    pub schema: SchemaId,
    /// When it was measured.
    pub time: Timestamp,
    /// The value.
    pub body: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Writes it into `out`; returns how many bytes.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::TooLong`] and [`Error::NoRoom`].
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, Error> {
        self.check()?;
        codec::encode(self, out)
    }

    /// Reads one that takes all of `bytes`.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let envelope: Self = codec::decode(bytes)?;
        envelope.check()?;
        Ok(envelope)
    }

    /// The body, as a `T`.
    ///
    /// # Errors
    /// [`Error::Schema`] if it is another type, and what is wrong with the bytes.
    pub fn message<T: Message + Deserialize<'a>>(&self) -> Result<T, Error> {
        T::decode(self.schema, self.body)
    }

    fn check(&self) -> Result<(), Error> {
        name::check(self.device)?;
        codec::bound(self.body, BODY_MAX)
    }
}
