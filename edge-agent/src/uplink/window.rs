//! What of one stream is written, sent and stored: sliding window with resend.
//!
//! # Invariants
//! - `stored_to <= sent_to`; a record above `durable_to` is never sent.
//! - At most [`MESSAGES_MAX`] unreceipted messages; without progress for [`RESEND_AFTER`] the
//!   window rewinds to what is stored.

use edge_core::time::Millis;

/// Messages of one stream on their way at once.
pub const MESSAGES_MAX: usize = 4;
/// Time without a receipt after which everything unreceipted is sent again.
pub const RESEND_AFTER: Millis = Millis(30_000);

/// One stream of the outbox as the uplink sees it.
#[derive(Debug, Default)]
pub struct Window {
    durable_to: u64,
    stored_to: u64,
    sent_to: u64,
    /// Last position of each message on its way, ascending.
    on_their_way: Vec<u64>,
    progress_at: Millis,
}

impl Window {
    /// Everything up to `seq` is durable here.
    pub fn durable(&mut self, seq: u64) {
        self.durable_to = self.durable_to.max(seq);
    }

    /// The control plane holds everything up to `seq`. Returns whether that is news.
    pub fn stored(&mut self, seq: u64, now: Millis) -> bool {
        if seq <= self.stored_to {
            return false;
        }
        self.stored_to = seq;
        self.sent_to = self.sent_to.max(seq);
        self.on_their_way.retain(|last| *last > seq);
        self.progress_at = now;
        true
    }

    /// A new connection: all that is not stored goes again.
    pub fn rewind(&mut self) {
        self.sent_to = self.stored_to;
        self.on_their_way.clear();
    }

    /// From where the next message should begin, if one may be sent.
    #[must_use]
    pub fn next_from(&self) -> Option<u64> {
        let room = self.on_their_way.len() < MESSAGES_MAX;
        (room && self.sent_to < self.durable_to).then(|| self.sent_to + 1)
    }

    /// Highest position that may be sent.
    #[must_use]
    pub fn durable_to(&self) -> u64 {
        self.durable_to
    }

    /// Everything up to here is stored by the control plane.
    #[must_use]
    pub fn stored_to(&self) -> u64 {
        self.stored_to
    }

    /// A message with records up to `last` was handed to the transport.
    pub fn sent(&mut self, last: u64, now: Millis) {
        assert!(last > self.sent_to, "a run must go on after the last one sent");
        if self.on_their_way.is_empty() {
            self.progress_at = now;
        }
        self.sent_to = last;
        self.on_their_way.push(last);
    }

    /// Nothing is kept from the next position up to `durable_to`: it was receipted meanwhile.
    pub fn nothing_left(&mut self) {
        self.sent_to = self.durable_to;
    }

    /// When the window will rewind by itself.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        (!self.on_their_way.is_empty()).then(|| self.progress_at + RESEND_AFTER)
    }

    /// Rewinds where the control plane has been silent too long.
    pub fn tick(&mut self, now: Millis) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.rewind();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_receipted_is_sent_again() {
        let mut window = Window::default();
        window.durable(100);
        window.sent(50, Millis(0));
        window.sent(100, Millis(0));
        assert_eq!(window.next_from(), None);
        assert!(window.stored(50, Millis(10)));
        window.tick(Millis(10_000));
        assert_eq!(window.next_from(), None, "it is still on its way");
        window.tick(Millis(10) + RESEND_AFTER);
        assert_eq!(window.next_from(), Some(51));
        window.sent(100, Millis(40_000));
        window.rewind();
        assert_eq!(window.next_from(), Some(51), "a new connection starts at what is stored");
    }

    #[test]
    fn the_window_is_bounded() {
        let mut window = Window::default();
        window.durable(100);
        for last in 1..=MESSAGES_MAX as u64 {
            assert!(window.next_from().is_some());
            window.sent(last, Millis(0));
        }
        assert_eq!(window.next_from(), None);
        assert!(!window.stored(0, Millis(0)));
        assert!(window.stored(1, Millis(0)));
        assert_eq!(window.next_from(), Some(MESSAGES_MAX as u64 + 1));
    }
}
