//! Messages between gateway and control plane.
//!
//! A message is one version byte ([`VERSION`]) and a postcard-encoded enum. New variants are
//! added at the end; an unknown version or variant is an error value for the receiver, who logs
//! it and goes on. What the control plane says are idempotent statements (a position, a desired
//! state, a chunk): to lose or repeat one is harmless, the gateway asks again. Nothing here needs
//! MQTT 5 or a session that outlives its connection.

mod down;
mod up;

#[cfg(test)]
mod tests;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use down::{
    AppTarget, Chunk, ChunkRefused, Command, Conflicts, Desired, Down, LetterAt, Receipt, Request,
    StateAt, StreamMark, Welcome,
};
pub use up::{
    AppState, ChunkRequest, Health, Hello, LogLevel, LogLine, Logs, Records, Reply, StateReport,
    StreamPosition, Up,
};

use crate::limits::MESSAGE_BYTES_MAX;

/// Version of the messages: the first byte of each.
pub const VERSION: u8 = 1;

/// Why bytes are not a message, or a message cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// There is not even a version byte.
    #[error("the message is empty")]
    Empty,
    /// It is of another time.
    #[error("the message has version {0}, this side speaks {VERSION}")]
    Version(u8),
    /// It is longer than [`MESSAGE_BYTES_MAX`].
    #[error("the message has {0} bytes, at most {MESSAGE_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// It ends early, goes on after its end, or holds an unknown variant or bad UTF-8.
    #[error("the message is malformed or of an unknown kind")]
    Malformed,
    /// A part of it is over its bound.
    #[error("{what} has length {len}, at most {max} is allowed")]
    Bound {
        /// Which part.
        what: &'static str,
        /// Its length.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// Positions of records that cannot be.
    #[error("the record positions {first}..={last} are not in order")]
    Positions {
        /// First position.
        first: u64,
        /// Last position.
        last: u64,
    },
}

impl WireError {
    pub(crate) const fn at_most(what: &'static str, len: usize, max: usize) -> Result<(), Self> {
        if len <= max { Ok(()) } else { Err(Self::Bound { what, len, max }) }
    }
}

/// Whether a gateway is connected: the retained message and the last will on its presence topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Presence {
    /// The last will: the connection is gone.
    Offline,
    /// Published after each connect.
    Online {
        /// The process run.
        epoch: u64,
    },
}

/// What has a version byte and bounds.
pub trait Message: Serialize + DeserializeOwned {
    /// Checks the bounds of the parts.
    ///
    /// # Errors
    /// [`WireError`] names the first bound it breaks.
    fn check(&self) -> Result<(), WireError>;

    /// The bytes of the message.
    ///
    /// # Errors
    /// [`WireError`] when it is over a bound: the sender must split it.
    fn encode(&self) -> Result<Vec<u8>, WireError> {
        self.check()?;
        let bytes = postcard::to_extend(self, vec![VERSION]).map_err(|_| WireError::Malformed)?;
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(WireError::TooLong(bytes.len()));
        }
        Ok(bytes)
    }

    /// Reads a message; its bounds are checked.
    ///
    /// # Errors
    /// [`WireError`] for whatever is not exactly one message.
    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(WireError::TooLong(bytes.len()));
        }
        match bytes.split_first() {
            None => Err(WireError::Empty),
            Some((&VERSION, rest)) => {
                let message: Self = from_postcard(rest)?;
                message.check()?;
                Ok(message)
            }
            Some((&version, _)) => Err(WireError::Version(version)),
        }
    }
}

impl Message for Presence {
    fn check(&self) -> Result<(), WireError> {
        Ok(())
    }
}

/// Reads exactly one value: bytes left over are an error.
pub(crate) fn from_postcard<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(WireError::Malformed),
    }
}
