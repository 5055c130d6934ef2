//! What of one stream is written, sent and stored: sliding window with resend.
//!
//! # Invariants
//! - `stored_to <= sent_to <= durable_to`; a record above `durable_to` is never sent.
//! - At most [`MESSAGES_MAX`] unreceipted messages; without progress for [`RESEND_AFTER`] the
//!   window rewinds to what is stored.
//! - **Contested.** On connect the control plane may hold positions that this store has not
//!   receipted. They are a receipt only if its record there is ours, which the owner finds out
//!   ([`Window::judged`]). If it is not, this store is an older copy of the one that wrote it: up
//!   to that position everything is sent again, one message at a time, and a receipt counts for
//!   that message only.

use edge_core::time::Millis;

/// Messages of one stream on their way at once.
pub const MESSAGES_MAX: usize = 4;
/// Time without a receipt after which everything unreceipted is sent again.
pub const RESEND_AFTER: Millis = Millis(30_000);
/// Time after which a store that could not be read is read again.
pub const READ_AGAIN_AFTER: Millis = Millis(1_000);

/// One stream of the outbox as the uplink sees it.
#[derive(Debug, Default)]
pub struct Window {
    durable_to: u64,
    stored_to: u64,
    sent_to: u64,
    /// Last position of each message on its way, ascending.
    on_their_way: Vec<u64>,
    progress_at: Millis,
    /// The store could not be read: not before this.
    read_again_at: Option<Millis>,
    claim: Claim,
}

/// What the control plane says of positions that were not receipted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Claim {
    /// Nothing.
    #[default]
    None,
    /// Everything up to here is stored; whether that is ours is being looked up.
    Open(u64),
    /// Up to here it holds records of another life of this store.
    Foreign(u64),
}

impl Window {
    /// Everything up to `seq` is durable here.
    pub fn durable(&mut self, seq: u64) {
        self.durable_to = self.durable_to.max(seq);
    }

    /// The control plane holds something at every position up to `seq`. True if the owner must
    /// now look up whether that is ours, and call [`Window::judged`].
    #[must_use]
    pub fn claimed(&mut self, seq: u64) -> bool {
        let news = seq > self.stored_to;
        self.claim = if news { Claim::Open(seq) } else { Claim::None };
        news
    }

    /// Whether the control plane's record at the claimed position is ours. Returns the position
    /// that is receipted by that.
    pub fn judged(&mut self, ours: bool, now: Millis) -> Option<u64> {
        let Claim::Open(seq) = self.claim else { return None };
        self.claim = if ours { Claim::None } else { Claim::Foreign(seq) };
        if ours { self.receipt(seq, now) } else { None }
    }

    /// The control plane stored what was sent, up to `seq`. Returns the position up to which
    /// records may be deleted, if that is news.
    pub fn receipt(&mut self, seq: u64, now: Millis) -> Option<u64> {
        let seq = seq.min(if self.is_contested() { self.sent_to } else { self.durable_to });
        if seq <= self.stored_to {
            return None;
        }
        self.stored_to = seq;
        self.sent_to = self.sent_to.max(seq);
        self.on_their_way.retain(|last| *last > seq);
        self.progress_at = now;
        if matches!(self.claim, Claim::Foreign(to) if to <= seq) {
            self.claim = Claim::None;
        }
        Some(seq)
    }

    /// Whether the owner has yet to call [`Window::judged`].
    #[must_use]
    pub fn is_being_compared(&self) -> bool {
        matches!(self.claim, Claim::Open(_))
    }

    /// Whether the control plane holds records of another life of this store.
    #[must_use]
    pub fn is_contested(&self) -> bool {
        matches!(self.claim, Claim::Foreign(_))
    }

    /// A new connection: all that is not stored goes again.
    pub fn rewind(&mut self) {
        self.sent_to = self.stored_to;
        self.on_their_way.clear();
    }

    /// From where the next message should begin, if one may be sent.
    #[must_use]
    pub fn next_from(&self) -> Option<u64> {
        let messages_max = match self.claim {
            Claim::None => MESSAGES_MAX,
            Claim::Open(_) => 0,
            Claim::Foreign(_) => 1,
        };
        let room = self.on_their_way.len() < messages_max && self.read_again_at.is_none();
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

    /// The store could not be read. Nothing is known to be gone: it is read again a little later.
    pub fn not_read(&mut self, now: Millis) {
        self.read_again_at = Some(now + READ_AGAIN_AFTER);
    }

    /// Time passed, for [`Window::not_read`].
    pub fn read_again(&mut self, now: Millis) {
        self.read_again_at.take_if(|at| *at <= now);
    }

    /// When time matters: the control plane has been silent too long ([`Window::is_overdue`]), or
    /// the store is to be read again.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        self.silent_until().into_iter().chain(self.read_again_at).min()
    }

    /// Whether the control plane has been silent too long.
    #[must_use]
    pub fn is_overdue(&self, now: Millis) -> bool {
        self.silent_until().is_some_and(|until| until <= now)
    }

    fn silent_until(&self) -> Option<Millis> {
        (!self.on_their_way.is_empty()).then(|| self.progress_at + RESEND_AFTER)
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
        assert_eq!(window.receipt(50, Millis(10)), Some(50));
        assert!(!window.is_overdue(Millis(10_000)), "it is still on its way");
        assert!(window.is_overdue(Millis(10) + RESEND_AFTER));
        window.rewind();
        assert_eq!(window.next_from(), Some(51), "what is stored does not go again");
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
        assert_eq!(window.receipt(0, Millis(0)), None);
        assert_eq!(window.receipt(1, Millis(0)), Some(1));
        assert_eq!(window.next_from(), Some(MESSAGES_MAX as u64 + 1));
    }

    #[test]
    fn what_the_control_plane_holds_is_a_receipt_if_it_is_ours() {
        let mut window = Window::default();
        window.durable(10);
        assert!(window.claimed(6));
        assert_eq!(window.next_from(), None, "nothing goes before that is known");
        assert_eq!(window.judged(true, Millis(0)), Some(6));
        assert_eq!(window.next_from(), Some(7));
        assert!(!window.claimed(6), "known already");
        assert!(!window.claimed(2), "the control plane is behind: it gets what is still here");
        assert_eq!(window.next_from(), Some(7));
    }

    #[test]
    fn records_of_another_life_are_no_receipt_for_ours() {
        let mut window = Window::default();
        window.durable(5);
        assert!(window.claimed(7));
        assert_eq!(window.judged(false, Millis(0)), None);
        assert_eq!(window.next_from(), Some(1));
        window.sent(3, Millis(0));
        assert_eq!(window.next_from(), None, "one message at a time");
        assert_eq!(window.receipt(7, Millis(0)), Some(3), "only what was sent is receipted");
        assert_eq!(window.next_from(), Some(4));
        window.sent(5, Millis(0));
        assert_eq!(window.receipt(7, Millis(0)), Some(5));
        // The core moved the stream on: a tombstone at 7, then a record.
        window.durable(8);
        assert!(window.is_contested());
        window.sent(7, Millis(0));
        assert_eq!(window.receipt(7, Millis(0)), Some(7));
        assert!(!window.is_contested());
        window.sent(8, Millis(0));
        assert_eq!(window.receipt(8, Millis(0)), Some(8));
    }

    #[test]
    fn a_receipt_for_what_was_never_written_stalls_nothing() {
        let mut window = Window::default();
        window.durable(5);
        window.sent(5, Millis(0));
        assert_eq!(window.receipt(9, Millis(0)), Some(5));
        window.durable(6);
        assert_eq!(window.next_from(), Some(6));
    }
}
