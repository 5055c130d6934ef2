//! The canonical ABI of exactly the world `function` in `edge-agent/wit`: how its values lie in
//! linear memory (component model, `CanonicalABI.md`: alignment, element size, flattening).
//!
//! | type | bytes | alignment | fields |
//! |---|---|---|---|
//! | `string`, `list<T>` | 8 | 4 | address 0, length 4 |
//! | `option<string>`, `option<list<u8>>` | 12 | 4 | case 0, address 4, length 8 |
//! | `property`, `entry` (pairs of the first row) | 16 | 4 | 0, 8 |
//! | `page` | 12 | 4 | entries 0, more 8 |
//! | `timestamp` | 16 | 8 | unix-ms 0, quality 8 |
//! | `event` | 96 | 8 | see [`lower_event`] |
//! | `result<_, failure>` | 16 | 4 | case 0, case of the failure 4, its text 8 |
//!
//! What is wrong in the guest's memory is an error and ends the attempt: an address outside of
//! memory, a misaligned one, a case that there is not, text that is not UTF-8.

use alloc::string::String;
use core::str;

use wasmtime::{AsContextMut, Error, Memory, Result, TypedFunc};

use crate::attempt::Attempt;
use crate::effects::Event;
use crate::state::Page;

/// Bytes of a pair of strings or lists.
const PAIR_BYTES: u32 = 16;
const EVENT_BYTES: u32 = 96;
const EVENT_ALIGN: u32 = 8;
/// Longest reason of a retry or a reject.
const REASON_BYTES_MAX: usize = 4 << 10;

/// What a handler returned instead of ok.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Retry(String),
    Reject(String),
}

/// Reads values out of linear memory, without copying them.
#[derive(Clone, Copy)]
pub(crate) struct Lift<'a>(pub(crate) &'a [u8]);

impl<'a> Lift<'a> {
    pub(crate) fn bytes(self, at: u32, len: u32) -> Result<&'a [u8]> {
        let from = self.0.get(at as usize..);
        from.and_then(|from| from.get(..len as usize))
            .ok_or_else(|| Error::msg("a value outside of memory"))
    }

    pub(crate) fn text(self, at: u32, len: u32) -> Result<&'a str> {
        str::from_utf8(self.bytes(at, len)?).map_err(|_| Error::msg("text that is not UTF-8"))
    }

    pub(crate) fn option(self, case: u32, at: u32, len: u32) -> Result<Option<&'a str>> {
        match case {
            0 => Ok(None),
            1 => self.text(at, len).map(Some),
            _ => Err(no_such_case()),
        }
    }

    /// The pairs of texts in a list, read as they are asked for.
    pub(crate) fn pairs(
        self,
        at: u32,
        count: u32,
    ) -> Result<impl Iterator<Item = Result<(&'a str, &'a str)>>> {
        aligned(at, 4)?;
        let bytes = count.checked_mul(PAIR_BYTES);
        let bytes = bytes.ok_or_else(|| Error::msg("a list outside of memory"))?;
        let (pairs, _) = self.bytes(at, bytes)?.as_chunks();
        Ok(pairs.iter().map(move |pair: &[u8; PAIR_BYTES as usize]| {
            let [first, first_len, second, second_len] = words(pair);
            Ok((self.text(first, first_len)?, self.text(second, second_len)?))
        }))
    }

    /// A `result<_, failure>`.
    pub(crate) fn result(self, at: u32) -> Result<core::result::Result<(), Failure>> {
        aligned(at, 4)?;
        let bytes = self.bytes(at, PAIR_BYTES)?;
        let bytes: &[u8; PAIR_BYTES as usize] =
            bytes.try_into().map_err(|_| Error::msg("a result outside of memory"))?;
        let [_, _, text, len] = words(bytes);
        let reason = || self.text(text, len).map(|text| cut(text, REASON_BYTES_MAX));
        match (bytes[0], bytes[4]) {
            (0, _) => Ok(Ok(())),
            (1, 0) => Ok(Err(Failure::Retry(reason()?))),
            (1, 1) => Ok(Err(Failure::Reject(reason()?))),
            _ => Err(no_such_case()),
        }
    }
}

/// The longest prefix of at most `bytes_max` bytes that ends at a character.
pub(crate) fn cut(text: &str, bytes_max: usize) -> String {
    String::from(&text[..text.floor_char_boundary(bytes_max)])
}

pub(crate) fn no_such_case() -> Error {
    Error::msg("a case that the type does not have")
}

fn aligned(at: u32, align: u32) -> Result<()> {
    if at.is_multiple_of(align) { Ok(()) } else { Err(Error::msg("a misaligned address")) }
}

fn words(pair: &[u8; PAIR_BYTES as usize]) -> [u32; 4] {
    let (words, _) = pair.as_chunks();
    core::array::from_fn(|n| u32::from_le_bytes(words[n]))
}

/// Where the function keeps its values, and how it is asked for room.
#[derive(Clone)]
pub(crate) struct Guest {
    pub(crate) memory: Memory,
    /// `cabi_realloc`: old address, old size, alignment, new size.
    pub(crate) realloc: TypedFunc<(u32, u32, u32, u32), u32>,
}

/// Writes values into linear memory, into room that the function gives.
pub(crate) struct Lower<C> {
    pub(crate) store: C,
    pub(crate) guest: Guest,
}

impl<C: AsContextMut<Data = Attempt>> Lower<C> {
    /// New room. The function must not call the device meanwhile.
    fn room(&mut self, bytes: u32, align: u32) -> Result<u32> {
        self.store.as_context_mut().data_mut().may_call = false;
        let at = self.guest.realloc.call(&mut self.store, (0, 0, align, bytes))?;
        self.store.as_context_mut().data_mut().may_call = true;
        aligned(at, align)?;
        Lift(self.guest.memory.data(&self.store)).bytes(at, bytes)?;
        Ok(at)
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<()> {
        let written = self.guest.memory.write(&mut self.store, at as usize, bytes);
        written.map_err(|_| Error::msg("a result outside of memory"))
    }

    /// A string or a list of bytes: its address and length.
    fn list(&mut self, bytes: &[u8]) -> Result<[u32; 2]> {
        let len = u32::try_from(bytes.len()).map_err(|_| Error::msg("a value is too long"))?;
        let at = self.room(len, 1)?;
        self.write(at, bytes)?;
        Ok([at, len])
    }

    fn option(&mut self, bytes: Option<&[u8]>) -> Result<[u32; 3]> {
        let Some(bytes) = bytes else { return Ok([0; 3]) };
        let [at, len] = self.list(bytes)?;
        Ok([1, at, len])
    }

    /// A list of pairs of strings or lists of bytes.
    fn pairs<'p>(
        &mut self,
        pairs: impl ExactSizeIterator<Item = (&'p [u8], &'p [u8])>,
    ) -> Result<[u32; 2]> {
        let count = u32::try_from(pairs.len()).map_err(|_| Error::msg("a list is too long"))?;
        let bytes = count.checked_mul(PAIR_BYTES).ok_or(Error::msg("a list is too long"))?;
        let list = self.room(bytes, 4)?;
        let mut at = list;
        for (first, second) in pairs {
            let ([first, first_len], [second, second_len]) =
                (self.list(first)?, self.list(second)?);
            self.words(at, [first, first_len, second, second_len])?;
            at += PAIR_BYTES;
        }
        Ok([list, count])
    }

    fn words<const N: usize>(&mut self, at: u32, words: [u32; N]) -> Result<()> {
        let bytes = words.map(u32::to_le_bytes);
        self.write(at, bytes.as_flattened())
    }

    /// An `option<string>` or `option<list<u8>>`, where the function wants it. Of its first word
    /// only the first byte is the case, the others are padding.
    pub(crate) fn return_option(mut self, at: u32, bytes: Option<&[u8]>) -> Result<()> {
        aligned(at, 4)?;
        let option = self.option(bytes)?;
        self.words(at, option)
    }

    /// A `page`, where the function wants it.
    pub(crate) fn return_page(mut self, at: u32, page: &Page) -> Result<()> {
        aligned(at, 4)?;
        let entries = page.entries.iter().map(|(key, value)| (key.as_bytes(), value.as_slice()));
        let [list, count] = self.pairs(entries)?;
        self.words(at, [list, count, page.more.into()])
    }

    /// An `event`; returns its address.
    pub(crate) fn event(mut self, event: &Event) -> Result<u32> {
        let at = self.room(EVENT_BYTES, EVENT_ALIGN)?;
        let mut record = [0; EVENT_BYTES as usize];
        let mut fill = |offset: usize, words: &[u32]| {
            for (slot, word) in record[offset..].chunks_exact_mut(4).zip(words) {
                slot.copy_from_slice(&word.to_le_bytes());
            }
        };
        fill(0, &self.list(event.id.as_bytes())?);
        fill(8, &self.list(event.trigger.as_bytes())?);
        fill(16, &self.list(event.topic.as_bytes())?);
        fill(24, &self.list(&event.payload)?);
        fill(32, &self.option(event.content_type.as_deref().map(str::as_bytes))?);
        let properties = event.properties.iter();
        fill(44, &self.pairs(properties.map(|(name, value)| (name.as_bytes(), value.as_bytes())))?);
        fill(52, &self.option(event.device.as_deref().map(str::as_bytes))?);
        fill(72, &[event.time.synced.into()]);
        fill(80, &[event.attempt, event.hops, event.maybe_repeat.into()]);
        record[64..72].copy_from_slice(&event.time.unix_ms.to_le_bytes());
        self.write(at, &record)?;
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn what_lies_outside_or_askew_is_refused() {
        let memory: Vec<u8> = (0..64).collect();
        let lift = Lift(&memory);
        assert_eq!(lift.bytes(60, 4).unwrap(), [60, 61, 62, 63]);
        for (at, len) in [(61, 4), (64, 1), (u32::MAX, 1), (1, u32::MAX)] {
            assert!(lift.bytes(at, len).is_err(), "{at} {len}");
        }
        assert!(lift.bytes(64, 0).unwrap().is_empty());
        assert!(lift.pairs(2, 1).is_err());
        assert!(lift.pairs(0, u32::MAX / 8).is_err());
        assert!(lift.pairs(0, 5).is_err());
        assert!(lift.result(52).is_err());
    }

    #[test]
    fn results_are_told_apart_by_their_cases() {
        let mut memory = [0_u8; 32];
        memory[8] = 16;
        memory[12] = 3;
        memory[16..19].copy_from_slice(b"why");
        let read = |memory: &[u8]| Lift(memory).result(0);
        assert_eq!(read(&memory).unwrap(), Ok(()));
        memory[0] = 1;
        assert_eq!(read(&memory).unwrap(), Err(Failure::Retry("why".into())));
        memory[4] = 1;
        assert_eq!(read(&memory).unwrap(), Err(Failure::Reject("why".into())));
        memory[4] = 2;
        assert!(read(&memory).is_err());
        memory[4] = 0;
        memory[16] = 0xff;
        assert!(read(&memory).is_err());
    }

    #[test]
    fn options_have_two_cases() {
        let lift = Lift(b"text");
        assert_eq!(lift.option(0, 99, 99).unwrap(), None);
        assert_eq!(lift.option(1, 0, 4).unwrap(), Some("text"));
        assert!(lift.option(2, 0, 4).is_err());
    }
}
