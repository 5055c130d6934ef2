//! A small record in a file that keeps its blocks: it can be written on a full disk too.
//!
//! A slot holds the length of its contents (u32, little-endian; 0 is empty), their CRC-32C, and
//! the contents in postcard. One that was written in part, or is damaged, counts as empty.

use std::io;

use serde::{Deserialize, Serialize};

/// Bytes of a slot.
pub(crate) const SLOT_BYTES: usize = 512;
const HEAD_BYTES: usize = 8;

/// The bytes of a record, at most [`SLOT_BYTES`].
///
/// # Errors
/// It is too long.
pub(crate) fn encode<T: Serialize>(record: &T) -> io::Result<Vec<u8>> {
    let contents = postcard::to_stdvec(record).map_err(io::Error::other)?;
    if contents.len() > SLOT_BYTES - HEAD_BYTES {
        return Err(io::Error::other(format!("{} bytes do not fit a slot", contents.len())));
    }
    let len = u32::try_from(contents.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(HEAD_BYTES + contents.len());
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&contents).to_le_bytes());
    bytes.extend_from_slice(&contents);
    Ok(bytes)
}

/// The record of a slot, if it has one.
pub(crate) fn decode<'a, T: Deserialize<'a>>(slot: &'a [u8]) -> Option<T> {
    let len = u32::from_le_bytes(slot.get(..4)?.try_into().ok()?);
    let crc = u32::from_le_bytes(slot.get(4..HEAD_BYTES)?.try_into().ok()?);
    let len = usize::try_from(len).ok().filter(|len| *len > 0)?;
    let contents = slot.get(HEAD_BYTES..HEAD_BYTES.checked_add(len)?)?;
    (crc32c::crc32c(contents) == crc).then(|| postcard::from_bytes(contents).ok())?
}
