//! What an end receives: fragments in order, put together to one message at a time.

/// What became of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was the expected one.
    Yes,
    /// It was here before, or a message waits to be taken.
    No,
    /// One before it is missing.
    Gap,
    /// The message is longer than the buffer: the other end does not keep to what it was told.
    TooLong,
}

/// The message that grows or waits.
#[derive(Debug)]
pub(super) struct Incoming<const N: usize> {
    bytes: [u8; N],
    length: usize,
    expected: u8,
    whole: bool,
}

impl<const N: usize> Incoming<N> {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; N], length: 0, expected: 0, whole: false }
    }

    pub(super) fn clear(&mut self) {
        (self.length, self.expected, self.whole) = (0, 0, false);
    }

    pub(super) fn accept(&mut self, sequence: u8, last: bool, payload: &[u8]) -> Taken {
        let ahead = sequence.wrapping_sub(self.expected);
        if ahead != 0 {
            return if ahead < 128 && !self.whole { Taken::Gap } else { Taken::No };
        }
        if self.whole {
            return Taken::No;
        }
        let Some(room) = self.bytes.get_mut(self.length..self.length + payload.len()) else {
            return Taken::TooLong;
        };
        room.copy_from_slice(payload);
        self.length += payload.len();
        self.whole = last;
        if !last {
            self.expected = self.expected.wrapping_add(1);
        }
        Taken::Yes
    }

    /// The message that waits.
    pub(super) fn message(&self) -> Option<&[u8]> {
        self.whole.then(|| &self.bytes[..self.length])
    }

    /// The message was taken; its last fragment may be acked.
    pub(super) fn take(&mut self) {
        assert!(self.whole, "a message is taken that is not there");
        self.expected = self.expected.wrapping_add(1);
        (self.length, self.whole) = (0, false);
    }

    pub(super) fn expected(&self) -> u8 {
        self.expected
    }
}
