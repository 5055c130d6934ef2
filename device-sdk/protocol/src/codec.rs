//! Bytes to values and back, with the version in front.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::VERSION;

/// Why bytes are refused, or a value cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is nothing.
    Empty,
    /// Another version of the format: the number that was found.
    Version(u8),
    /// The bytes end early, or say what the format does not know.
    Malformed,
    /// Bytes follow where the value ends.
    Trailing,
    /// Longer than [`crate::limits`] allow.
    TooLong,
    /// The buffer to write into is too small.
    NoRoom,
    /// A name with other letters than `a-z`, `A-Z`, `0-9`, `-`, `_` and `.`, or an empty one.
    Name,
    /// The body has another shape than the reader was built for.
    Schema {
        /// What the reader was built for.
        wanted: u64,
        /// What the sender says it is.
        found: u64,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no bytes"),
            Self::Version(found) => {
                write!(
                    f,
                    "version {found} of the device protocol; this side speaks version {VERSION}"
                )
            }
            Self::Malformed => f.write_str("not a message of the device protocol"),
            Self::Trailing => f.write_str("bytes behind the end of the message"),
            Self::TooLong => f.write_str("longer than the device protocol allows"),
            Self::NoRoom => f.write_str("the buffer is too small for the message"),
            Self::Name => f.write_str("a name takes 1 to 64 of a-z, A-Z, 0-9, '-', '_' and '.'"),
            Self::Schema { wanted, found } => write!(
                f,
                "the body has schema {found:016x}, this side was built for {wanted:016x}: \
                 build both from the same definition of the message"
            ),
        }
    }
}

impl core::error::Error for Error {}

/// Writes version and value into `out`; returns how many bytes.
pub(crate) fn encode<T: Serialize>(value: &T, out: &mut [u8]) -> Result<usize, Error> {
    let (first, rest) = out.split_first_mut().ok_or(Error::NoRoom)?;
    *first = VERSION;
    Ok(1 + body(value, rest)?)
}

/// Writes a value without a version.
pub(crate) fn body<T: Serialize + ?Sized>(value: &T, out: &mut [u8]) -> Result<usize, Error> {
    match postcard::to_slice(value, out) {
        Ok(written) => Ok(written.len()),
        Err(postcard::Error::SerializeBufferFull) => Err(Error::NoRoom),
        Err(_) => Err(Error::Malformed),
    }
}

/// Reads what [`encode`] wrote, and nothing more.
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Error> {
    let (version, rest) = bytes.split_first().ok_or(Error::Empty)?;
    if *version != VERSION {
        return Err(Error::Version(*version));
    }
    whole(rest)
}

/// Reads a value that takes all of `bytes`.
pub(crate) fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Error> {
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(|_| Error::Malformed)?;
    if rest.is_empty() { Ok(value) } else { Err(Error::Trailing) }
}

/// Refuses a text or a list of more than `max` bytes.
pub(crate) fn bound(bytes: &[u8], max: usize) -> Result<(), Error> {
    if bytes.len() > max { Err(Error::TooLong) } else { Ok(()) }
}
