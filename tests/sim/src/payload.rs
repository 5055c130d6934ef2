//! What simulated devices publish: a mark, an id, and what the function is to do with it.

use bytes::Bytes;
use serde::Deserialize;

pub use crate::disk::MARK;

/// A message of the simulation, unique in it; a repeat has the same.
pub type MessageNo = u64;

/// What a message makes its function do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wish {
    /// Work.
    Work,
    /// Ask for another attempt, so many times, then work.
    Retry(u8),
    /// Refuse it for good.
    Reject,
    /// Trap at so many attempts, then work.
    Trap(u8),
    /// Run for almost as long as it may, then work.
    Linger,
    /// Work, and record it as urgent.
    Urgent,
    /// Never come to an end: it is stopped at its time limit.
    Spin,
    /// End the whole process, whenever it is tried.
    Kill,
}

impl Wish {
    fn bytes(self) -> [u8; 2] {
        match self {
            Self::Work => [0, 0],
            Self::Retry(times) => [1, times],
            Self::Reject => [2, 0],
            Self::Trap(times) => [3, times],
            Self::Linger => [4, 0],
            Self::Urgent => [5, 0],
            Self::Spin => [6, 0],
            Self::Kill => [7, 0],
        }
    }

    fn of(bytes: [u8; 2]) -> Option<Self> {
        Some(match bytes[0] {
            0 => Self::Work,
            1 => Self::Retry(bytes[1]),
            2 => Self::Reject,
            3 => Self::Trap(bytes[1]),
            4 => Self::Linger,
            5 => Self::Urgent,
            6 => Self::Spin,
            7 => Self::Kill,
            _ => return None,
        })
    }
}

/// A payload; `filler` more bytes make it as long as the seed wants.
#[must_use]
pub fn encode(no: MessageNo, wish: Wish, filler: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(MARK.len() + 10 + filler);
    bytes.extend_from_slice(MARK);
    bytes.extend_from_slice(&no.to_be_bytes());
    bytes.extend_from_slice(&wish.bytes());
    bytes.resize(bytes.len() + filler, b'.');
    bytes.into()
}

/// Number and wish of a payload; `None` for one that is of somebody else.
#[must_use]
pub fn decode(payload: &[u8]) -> Option<(MessageNo, Wish)> {
    let rest = payload.strip_prefix(MARK)?;
    let (no, rest) = rest.split_first_chunk()?;
    let wish = Wish::of(*rest.first_chunk()?)?;
    Some((u64::from_be_bytes(*no), wish))
}

/// Number of a payload.
#[must_use]
pub fn number(payload: &[u8]) -> Option<MessageNo> {
    decode(payload).map(|(no, _)| no)
}
