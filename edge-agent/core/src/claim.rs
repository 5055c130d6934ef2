//! What a message of a client claims to be, whatever its client was granted, and which must be so.
//!
//! # Rules
//! - A publish with the content type [`device_protocol::CONTENT_TYPE`] is an envelope of the device
//!   protocol, whole and of our version, in the name of the device that sends it. MQTT 3.1.1 has no
//!   content type: its publishes are none.
//! - The time is told by the gateway and by nobody else.
//!
//! What a function publishes is not judged here: its grants are, and whoever reads an envelope
//! decodes it again.

use device_protocol::{CONTENT_TYPE, Envelope, Error};
use thiserror::Error;

use crate::message::{Message, Origin};

/// What the topics of messages to devices begin with: `$holm/v1/down/DEVICE/KIND`.
pub const DOWN: &str = "$holm/v1/down/";
/// Kind of the message that tells a device the time.
const TIME: &str = "time";

/// Why a message is not what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ClaimError {
    /// Its content type says envelope, and its payload is none.
    #[error("the content type says envelope: {0}")]
    Envelope(Error),
    /// Its envelope names another device than the one that sends it.
    #[error("the envelope names another device than the one that is connected")]
    Device,
    /// It tells a device the time.
    #[error("only the gateway tells devices the time")]
    Time,
}

impl ClaimError {
    /// The same in few words, for the reason string of an ack (MQTT 5, 3.4.2.2.2).
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Envelope(Error::Version(_)) => {
                "envelope: another version of the device protocol; this gateway speaks version 1"
            }
            Self::Envelope(Error::Trailing) => "envelope: bytes behind its end",
            Self::Envelope(Error::TooLong) => "envelope: its body is longer than 16 KiB",
            Self::Envelope(Error::Name) => "envelope: its device has no valid name",
            Self::Envelope(_) => "envelope: the payload is none, though the content type says so",
            Self::Device => "envelope: it names another device than the one that is connected",
            Self::Time => "only the gateway tells devices the time",
        }
    }
}

/// The envelope, where a message says that it is one.
#[must_use]
pub fn envelope(message: &Message) -> Option<Result<Envelope<'_>, Error>> {
    let says_so = message.properties.content_type.as_deref() == Some(CONTENT_TYPE);
    says_so.then(|| Envelope::decode(&message.payload))
}

/// Whether a message of a client is what it says.
///
/// # Errors
/// It is not.
pub fn check(message: &Message) -> Result<(), ClaimError> {
    let Origin::Client { identity, .. } = &message.origin else { return Ok(()) };
    if tells_time(message.topic.as_str()) {
        return Err(ClaimError::Time);
    }
    match envelope(message) {
        None => Ok(()),
        Some(Err(error)) => Err(ClaimError::Envelope(error)),
        Some(Ok(envelope)) if envelope.device == identity.as_str() => Ok(()),
        Some(Ok(_)) => Err(ClaimError::Device),
    }
}

fn tells_time(topic: &str) -> bool {
    let to_device = topic.strip_prefix(DOWN).and_then(|rest| rest.split_once('/'));
    to_device.is_some_and(|(_, kind)| kind == TIME)
}

#[cfg(test)]
mod tests;
