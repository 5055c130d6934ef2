//! What an end has to send: a ring of fragments, of which the first few are under way.

use super::{FRAGMENT_MAX, buffered_bytes};

const LENGTH_BYTES: usize = 2;
/// Bit of a fragment's length: the last of its message.
const LAST: u16 = 0x8000;

/// A fragment; its bytes are the two slices after each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment<'r> {
    pub(super) sequence: u8,
    pub(super) last: bool,
    pub(super) parts: [&'r [u8]; 2],
}

/// The ring. Invariant: `sent <= highest <= fragments`.
#[derive(Debug)]
pub(super) struct Outgoing<const N: usize> {
    ring: [u8; N],
    head: usize,
    used: usize,
    fragments: usize,
    /// Number of the fragment at the head.
    base: u8,
    /// Fragments from the head on that were sent since the last [`Outgoing::rewind`].
    sent: usize,
    /// Fragments from the head on that were sent at all.
    highest: usize,
    messages_acked: u32,
    messages_pushed: u32,
}

impl<const N: usize> Outgoing<N> {
    pub(super) const fn new() -> Self {
        Self {
            ring: [0; N],
            head: 0,
            used: 0,
            fragments: 0,
            base: 0,
            sent: 0,
            highest: 0,
            messages_acked: 0,
            messages_pushed: 0,
        }
    }

    /// Forgets everything; numbers begin at 0.
    pub(super) fn clear(&mut self) {
        (self.head, self.used, self.fragments) = (0, 0, 0);
        (self.base, self.sent, self.highest) = (0, 0, 0);
        (self.messages_acked, self.messages_pushed) = (0, 0);
    }

    /// Takes a message of these parts; its number counts up from 1. `None` while there is no room.
    pub(super) fn push(&mut self, parts: &[&[u8]]) -> Option<u32> {
        let mut left = length(parts);
        if self.used + buffered_bytes(left) > N {
            return None;
        }
        let mut bytes = parts.iter().flat_map(|part| part.iter().copied());
        loop {
            let piece = left.min(FRAGMENT_MAX);
            left -= piece;
            let last = if left == 0 { LAST } else { 0 };
            let size = u16::try_from(piece).unwrap_or_default() | last;
            size.to_le_bytes().into_iter().for_each(|byte| self.append(byte));
            bytes.by_ref().take(piece).for_each(|byte| self.append(byte));
            self.fragments += 1;
            if left == 0 {
                break;
            }
        }
        self.messages_pushed = self.messages_pushed.wrapping_add(1);
        Some(self.messages_pushed)
    }

    fn append(&mut self, byte: u8) {
        self.ring[(self.head + self.used) % N] = byte;
        self.used += 1;
    }

    fn size_at(&self, at: usize) -> (usize, bool) {
        let size = u16::from_le_bytes([self.ring[at % N], self.ring[(at + 1) % N]]);
        (usize::from(size & !LAST), size & LAST != 0)
    }

    /// The next fragment to send, if fewer than `window` are under way.
    pub(super) fn next(&self, window: u8) -> Option<Fragment<'_>> {
        if self.sent >= self.fragments.min(usize::from(window)) {
            return None;
        }
        let mut at = self.head;
        for _ in 0..self.sent {
            at += LENGTH_BYTES + self.size_at(at).0;
        }
        let (size, last) = self.size_at(at);
        let from = (at + LENGTH_BYTES) % N;
        let front = size.min(N - from);
        let parts = [&self.ring[from..from + front], &self.ring[..size - front]];
        let sequence = self.base.wrapping_add(u8::try_from(self.sent).unwrap_or_default());
        Some(Fragment { sequence, last, parts })
    }

    /// The fragment that [`Outgoing::next`] gave is on its way. True if it was before.
    pub(super) fn sent(&mut self) -> bool {
        self.sent += 1;
        let again = self.sent <= self.highest;
        self.highest = self.highest.max(self.sent);
        again
    }

    /// All before `ack` has arrived. True if that is news. A number that was never sent is ignored.
    pub(super) fn acked(&mut self, ack: u8) -> bool {
        let count = usize::from(ack.wrapping_sub(self.base));
        if count == 0 || count > self.highest {
            return false;
        }
        for _ in 0..count {
            let (size, last) = self.size_at(self.head);
            self.head = (self.head + LENGTH_BYTES + size) % N;
            self.used -= LENGTH_BYTES + size;
            self.messages_acked = self.messages_acked.wrapping_add(u32::from(last));
        }
        self.fragments -= count;
        self.base = ack;
        self.sent = self.sent.saturating_sub(count);
        self.highest -= count;
        true
    }

    /// What is under way is to be sent again. True if there is something.
    pub(super) fn rewind(&mut self) -> bool {
        self.sent = 0;
        self.highest > 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fragments == 0
    }

    /// Whether there is another one behind that which [`Outgoing::next`] gives.
    pub(super) fn has_more(&self, window: u8) -> bool {
        self.sent + 1 < self.fragments.min(usize::from(window))
    }

    /// Messages that have arrived, all since the link lives.
    pub(super) fn messages_acked(&self) -> u32 {
        self.messages_acked
    }
}

pub(super) fn length(parts: &[&[u8]]) -> usize {
    parts.iter().map(|part| part.len()).sum()
}
