//! Long repeats within one batch, written once. A message that is kept for many sessions, or wakes
//! many functions, stands in its batch many times; packed, the batch fits into a segment.
//!
//! ```text
//! packed: steps until the end, each
//!   u32  length of new bytes, and the bytes
//!   u32  from, u32 length: a copy of bytes that stand before it in the unpacked body
//! numbers are little-endian; copies do not reach into themselves
//! ```
//!
//! # Invariants
//! - [`unpack`] gives what [`pack`] took, and `None` for everything else; neither panics.
//! - Nothing unpacks to more than [`UNPACKED_BYTES_MAX`]: the ends of all queues that a message can
//!   enter are far below it.

use std::collections::HashMap;

/// Longest body that is packed or unpacked.
pub(super) const UNPACKED_BYTES_MAX: usize = 256 << 20;
/// Repeats are found by blocks of this size, a power of two.
const BLOCK: usize = 1 << BLOCK_POWER;
const BLOCK_POWER: u32 = 6;
/// Multiplier of the rolling hash; any odd number with mixed bits does.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// Packs a body; `None` if it is too long to be.
pub(super) fn pack(body: &[u8]) -> Option<Vec<u8>> {
    if body.len() > UNPACKED_BYTES_MAX {
        return None;
    }
    let mut packed = Vec::new();
    // By hash of a block at a multiple of its size: the first such place.
    let mut places: HashMap<u64, usize> = HashMap::new();
    let (mut at, mut new_from, mut next_place) = (0, 0, 0);
    let mut rolling = Rolling::default();
    while at + BLOCK <= body.len() {
        while next_place + BLOCK <= at {
            places.entry(hash(&body[next_place..next_place + BLOCK])).or_insert(next_place);
            next_place += BLOCK;
        }
        let found = places.get(&rolling.at(body, at)).copied();
        let Some(place) =
            found.filter(|place| body[*place..*place + BLOCK] == body[at..at + BLOCK])
        else {
            at += 1;
            continue;
        };
        let back = common(body[..place].iter().rev(), body[new_from..at].iter().rev());
        let (from, start) = (place - back, at - back);
        // Not into itself, so that it can be unpacked in one piece.
        let len = common(body[from..start].iter(), body[start..].iter());
        step(&mut packed, &body[new_from..start], from, len);
        at = start + len;
        new_from = at;
    }
    step(&mut packed, &body[new_from..], 0, 0);
    Some(packed)
}

/// Restores a body.
pub(super) fn unpack(mut packed: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while !packed.is_empty() {
        let new = number(&mut packed)?;
        body.extend_from_slice(packed.split_off(..new)?);
        let (from, len) = (number(&mut packed)?, number(&mut packed)?);
        let end = from.checked_add(len).filter(|end| *end <= body.len())?;
        if body.len() + len > UNPACKED_BYTES_MAX {
            return None;
        }
        body.extend_from_within(from..end);
    }
    Some(body)
}

fn step(packed: &mut Vec<u8>, new: &[u8], from: usize, len: usize) {
    let number = |n: usize| {
        u32::try_from(n).expect("invariant: UNPACKED_BYTES_MAX is below 4 GiB").to_le_bytes()
    };
    packed.extend_from_slice(&number(new.len()));
    packed.extend_from_slice(new);
    packed.extend_from_slice(&number(from));
    packed.extend_from_slice(&number(len));
}

fn number(packed: &mut &[u8]) -> Option<usize> {
    let bytes = packed.split_off(..4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}

fn common<'a>(a: impl Iterator<Item = &'a u8>, b: impl Iterator<Item = &'a u8>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).count()
}

fn hash(block: &[u8]) -> u64 {
    block
        .iter()
        .fold(0, |hash: u64, byte| hash.wrapping_mul(FACTOR).wrapping_add(u64::from(*byte) + 1))
}

/// The hash of the block at a place, in a few steps if the last question was one place before.
#[derive(Default)]
struct Rolling {
    last: Option<(usize, u64)>,
}

impl Rolling {
    fn at(&mut self, body: &[u8], at: usize) -> u64 {
        /// What the first byte of a block has been multiplied with at its end.
        const GONE: u64 = FACTOR.wrapping_pow(1 << BLOCK_POWER);
        let hash = match self.last {
            Some((last, hash)) if last + 1 == at => {
                let gone = GONE.wrapping_mul(u64::from(body[last]) + 1);
                let grown = hash.wrapping_mul(FACTOR);
                grown.wrapping_add(u64::from(body[last + BLOCK]) + 1).wrapping_sub(gone)
            }
            _ => hash(&body[at..at + BLOCK]),
        };
        self.last = Some((at, hash));
        hash
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes with repeats at any distance, some of them longer than a block.
    fn bodies() -> impl Strategy<Value = Vec<u8>> {
        let chunks = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..400), 1..6);
        (chunks, prop::collection::vec(any::<prop::sample::Index>(), 0..30)).prop_map(
            |(chunks, picks)| {
                picks.iter().flat_map(|pick| pick.get(&chunks).clone()).collect::<Vec<u8>>()
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(body in bodies()) {
            let packed = pack(&body).unwrap();
            prop_assert_eq!(unpack(&packed).unwrap(), body);
        }

        #[test]
        fn damage_never_panics(body in bodies(), at: prop::sample::Index, byte: u8, cut: bool) {
            let mut packed = pack(&body).unwrap();
            let at = at.index(packed.len());
            packed[at] = byte;
            if cut {
                packed.truncate(at);
            }
            let _ = unpack(&packed);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = unpack(&bytes);
        }
    }

    #[test]
    fn the_rolling_hash_is_the_hash() {
        let body: Vec<u8> =
            (0..1_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        let mut rolling = Rolling::default();
        for at in (0..500).chain(600..900) {
            assert_eq!(rolling.at(&body, at), hash(&body[at..at + BLOCK]), "{at}");
        }
    }

    #[test]
    fn a_copy_costs_next_to_nothing_and_does_not_explode() {
        let message: Vec<u8> =
            (0..100_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        let body: Vec<u8> = (0..100_u8).flat_map(|n| [&[n; 30], &message[..]].concat()).collect();
        let packed = pack(&body).unwrap();
        assert!(packed.len() < message.len() + 100 * 200, "{}", packed.len());
        assert_eq!(unpack(&packed).unwrap(), body);
        // A few bytes that claim to double again and again.
        let mut bomb = Vec::new();
        step(&mut bomb, &[1; 64], 0, 64);
        for power in 7..40 {
            let len = 1_usize << power.min(31);
            step(&mut bomb, &[], 0, len);
        }
        assert_eq!(unpack(&bomb), None);
    }
}
