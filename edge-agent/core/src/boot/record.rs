//! The state on a disk: two copies, of which a cut in a write leaves one.
//!
//! A copy is, integers little-endian: `HOLMSLOT`, format (u16, now 2), length n of the contents (u16),
//! generation (u64), n bytes of contents (postcard of [`State`]), CRC-32C of all before it (u32).
//! A launcher and the agents in its slots are of different versions and share these copies: once this
//! is released, fields are added at the end only, and a reader takes a copy without them.
//!
//! Generation g is written over copy g mod 2; the valid copy of the highest generation counts.

use serde::{Deserialize, Serialize};

use super::State;

const MAGIC: &[u8; 8] = b"HOLMSLOT";
const FORMAT: u16 = 2;
const HEAD_BYTES: usize = 20;
const SUM_BYTES: usize = 4;

/// Longest copy: more is not read.
pub const COPY_BYTES_MAX: usize = 4 << 10;
/// Number of copies.
pub const COPIES: usize = 2;

/// A state with the number of its write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Grows with each write; the first is 1.
    pub generation: u64,
    /// The state.
    pub state: State,
}

/// A copy, to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Over which of the two.
    pub place: usize,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The copy that a state becomes, behind the last generation that was read or written (0: none was).
#[must_use]
pub fn encode(state: &State, last: u64) -> Written {
    let generation = last.saturating_add(1);
    let contents = postcard::to_stdvec(state).expect("invariant: plain fields always serialise");
    let length = u16::try_from(contents.len()).expect("invariant: a state is bounded");
    let mut bytes = Vec::with_capacity(HEAD_BYTES + contents.len() + SUM_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(&contents);
    let sum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    Written { place: usize::from(generation % 2 == 1), bytes }
}

/// The state that counts; `None` where no copy is valid.
#[must_use]
pub fn newest(copies: [&[u8]; COPIES]) -> Option<Stored> {
    let valid = copies.into_iter().filter_map(decode);
    valid.max_by_key(|stored| stored.generation)
}

fn decode(bytes: &[u8]) -> Option<Stored> {
    let head = bytes.first_chunk::<HEAD_BYTES>()?;
    let (magic, rest) = head.split_first_chunk::<8>()?;
    let (format, rest) = rest.split_first_chunk::<2>()?;
    let (length, generation) = rest.split_first_chunk::<2>()?;
    if magic != MAGIC || u16::from_le_bytes(*format) != FORMAT {
        return None;
    }
    let generation = u64::from_le_bytes(generation.try_into().ok()?);
    let end = HEAD_BYTES + usize::from(u16::from_le_bytes(*length));
    let sum = bytes.get(end..end + SUM_BYTES)?;
    if crc32c::crc32c(bytes.get(..end)?).to_le_bytes() != sum {
        return None;
    }
    let state = postcard::from_bytes(&bytes[HEAD_BYTES..end]).ok()?;
    Some(Stored { generation, state })
}
