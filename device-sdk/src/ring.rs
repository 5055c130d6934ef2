//! A ring of records of different lengths in memory that somebody else owns.
//!
//! # Invariants
//! - A record is in one piece: one that does not fit before the end of the memory begins at its start.
//! - Records come out in the order they went in.
//! - No two records overlap: `head..` up to `tail`, by way of the end of the memory, is what is in use.

/// Bytes of the length in front of a record.
const PREFIX: usize = 2;
/// In place of a length: the next record is at the start of the memory.
const WRAP: u16 = u16::MAX;

/// Why a record was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RingError<E> {
    /// It fits, but not now.
    Full,
    /// It would not fit into an empty ring.
    TooLong,
    /// Writing it failed for another reason.
    Write(E),
}

/// What a writer of a record says.
pub(crate) enum Written<E> {
    /// The piece of memory is too short for it.
    NoRoom,
    /// It cannot be written at all.
    Failed(E),
}

/// Writes a record into the memory that it is given; returns its length.
pub(crate) type Writer<'w, E> = &'w mut dyn FnMut(&mut [u8]) -> Result<usize, Written<E>>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Ring<'a> {
    memory: &'a mut [u8],
    head: usize,
    tail: usize,
    records: u32,
}

impl<'a> Ring<'a> {
    pub(crate) const fn new(memory: &'a mut [u8]) -> Self {
        Self { memory, head: 0, tail: 0, records: 0 }
    }

    pub(crate) const fn len(&self) -> u32 {
        self.records
    }

    /// Whether a record of that length fits into an empty ring.
    pub(crate) fn could_hold(&self, length: usize) -> bool {
        length + PREFIX <= self.memory.len() && length < usize::from(WRAP)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Adds the record that `write` puts into the memory it is given; `write` may be called twice.
    pub(crate) fn push_with<E>(&mut self, write: Writer<'_, E>) -> Result<(), RingError<E>> {
        if self.records == 0 {
            (self.head, self.tail) = (0, 0);
        }
        let empty = self.records == 0;
        let behind = if self.tail < self.head { self.head } else { self.memory.len() };
        if self.write_at(self.tail, behind, write)? {
            return Ok(());
        }
        if !empty && self.tail >= self.head {
            let former = self.tail;
            if self.write_at(0, self.head, write)? {
                if let Some(mark) = self.memory.get_mut(former..former + PREFIX) {
                    mark.copy_from_slice(&WRAP.to_le_bytes());
                }
                return Ok(());
            }
        }
        Err(if empty { RingError::TooLong } else { RingError::Full })
    }

    /// Adds a copy of `record`.
    pub(crate) fn push(&mut self, record: &[u8]) -> Result<(), RingError<()>> {
        self.push_with(&mut |out| {
            let place = out.get_mut(..record.len()).ok_or(Written::NoRoom)?;
            place.copy_from_slice(record);
            Ok(record.len())
        })
    }

    /// The `nth` oldest record, from 0.
    pub(crate) fn peek(&self, nth: u32) -> Option<&[u8]> {
        if nth >= self.records {
            return None;
        }
        let mut at = self.head;
        for _ in 0..nth {
            let (start, length) = self.record_at(at);
            at = start + length;
        }
        let (start, length) = self.record_at(at);
        Some(&self.memory[start..start + length])
    }

    /// Removes the oldest record; whether there was one.
    pub(crate) fn pop(&mut self) -> bool {
        if self.records == 0 {
            return false;
        }
        let (start, length) = self.record_at(self.head);
        self.head = start + length;
        self.records -= 1;
        true
    }

    /// Writes a record into `from..to`; whether it fitted.
    fn write_at<E>(
        &mut self,
        from: usize,
        to: usize,
        write: Writer<'_, E>,
    ) -> Result<bool, RingError<E>> {
        // A tail that reaches the head from behind would look like one that has not wrapped: one byte stays free.
        let to = if self.records > 0 && from < self.head { to.min(self.head - 1) } else { to };
        let Some((prefix, room)) =
            self.memory.get_mut(from..to).and_then(|piece| piece.split_at_mut_checked(PREFIX))
        else {
            return Ok(false);
        };
        let longest = room.len().min(usize::from(WRAP) - 1);
        let length = match write(&mut room[..longest]) {
            Ok(length) => length,
            Err(Written::NoRoom) => return Ok(false),
            Err(Written::Failed(error)) => return Err(RingError::Write(error)),
        };
        assert!(length <= longest, "a record is no longer than the memory it was written into");
        let Ok(short) = u16::try_from(length) else { return Ok(false) };
        prefix.copy_from_slice(&short.to_le_bytes());
        self.tail = from + PREFIX + length;
        self.records += 1;
        Ok(true)
    }

    /// Start and length of the record whose prefix is at `at`, or at the start of the memory.
    fn record_at(&self, at: usize) -> (usize, usize) {
        let prefix = |at: usize| -> Option<u16> {
            let bytes = self.memory.get(at..at + PREFIX)?;
            Some(u16::from_le_bytes([bytes[0], bytes[1]])).filter(|length| *length != WRAP)
        };
        match prefix(at) {
            Some(length) => (at + PREFIX, usize::from(length)),
            None => (PREFIX, usize::from(prefix(0).unwrap_or(0))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::vec::Vec;

    #[derive(Clone, Debug)]
    enum Step {
        Push(Vec<u8>),
        Pop,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Push),
            2 => Just(Step::Pop),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_queue(size in 0_usize..200, steps in prop::collection::vec(step(), 0..200)) {
            let mut memory = std::vec![0; size];
            let mut ring = Ring::new(&mut memory);
            let mut model = VecDeque::new();
            for step in steps {
                match step {
                    Step::Push(record) => match ring.push(&record) {
                        Ok(()) => model.push_back(record),
                        Err(RingError::TooLong) => prop_assert!(record.len() + PREFIX > size),
                        Err(_) => prop_assert!(!model.is_empty()),
                    },
                    Step::Pop => prop_assert_eq!(ring.pop(), model.pop_front().is_some()),
                }
                prop_assert_eq!(ring.len() as usize, model.len());
                for (nth, record) in (0..).zip(&model) {
                    prop_assert_eq!(ring.peek(nth), Some(&record[..]));
                }
                prop_assert_eq!(ring.peek(ring.len()), None);
            }
        }
    }

    #[test]
    fn a_record_as_long_as_the_memory_fits_once_the_ring_is_empty() {
        let mut memory = [0; 32];
        let mut ring = Ring::new(&mut memory);
        assert_eq!(ring.push(&[1; 10]), Ok(()));
        assert!(ring.pop());
        assert_eq!(ring.push(&[2; 30]), Ok(()));
        assert_eq!(ring.push(&[]), Err(RingError::Full));
        assert!(ring.pop());
        assert_eq!(ring.push(&[3; 31]), Err(RingError::TooLong));
    }
}
