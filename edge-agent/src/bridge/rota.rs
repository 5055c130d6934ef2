//! Who is asked next on a shared bus. Clock-free.
//!
//! Devices with a link are asked in every round; of the silent addresses one at a time, each [`SEEK_MS`], so that they
//! cost the others little. An idle bus rests between rounds.

/// Between two silent addresses.
const SEEK_MS: u64 = 250;
/// A round without data takes at least so long.
const IDLE_ROUND_MS: u64 = 20;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Give the turn to this address.
    Ask(u8),
    /// Nothing before then.
    Wait(u64),
}

/// The order of turns.
#[derive(Debug)]
pub(super) struct Rota {
    addresses: Vec<u8>,
    at: usize,
    seek_at: usize,
    seek_ms: u64,
    round_ms: u64,
    /// Something was said in this round beyond "nothing".
    busy: bool,
    /// Who has the turn, and when it is taken back.
    turn: Option<(u8, u64)>,
}

impl Rota {
    pub(super) fn new(addresses: Vec<u8>) -> Self {
        Self { addresses, at: 0, seek_at: 0, seek_ms: 0, round_ms: 0, busy: false, turn: None }
    }

    /// What to do now. A turn whose time is up is taken back.
    pub(super) fn next(&mut self, now_ms: u64, is_up: impl Fn(u8) -> bool) -> Next {
        if let Some((_, until)) = self.turn
            && until > now_ms
        {
            return Next::Wait(until);
        }
        self.turn = None;
        // One pass to the end of this round, one over the next.
        for _ in 0..2 {
            while let Some(address) = self.addresses.get(self.at).copied() {
                self.at += 1;
                if is_up(address) {
                    return Next::Ask(address);
                }
            }
            if now_ms >= self.seek_ms {
                self.seek_ms = now_ms + SEEK_MS;
                if let Some(address) = self.seek(&is_up) {
                    return Next::Ask(address);
                }
            }
            if !self.busy && self.round_ms + IDLE_ROUND_MS > now_ms {
                break;
            }
            (self.at, self.busy, self.round_ms) = (0, false, now_ms);
        }
        Next::Wait((self.round_ms + IDLE_ROUND_MS).max(now_ms + 1))
    }

    fn seek(&mut self, is_up: impl Fn(u8) -> bool) -> Option<u8> {
        let count = self.addresses.len();
        let silent = (0..count).map(|n| (self.seek_at + n) % count);
        let found = silent.into_iter().find(|n| !is_up(self.addresses[*n]))?;
        self.seek_at = found + 1;
        Some(self.addresses[found])
    }

    /// The turn was given; it ends at the latest then.
    pub(super) fn given(&mut self, address: u8, until_ms: u64) {
        self.turn = Some((address, until_ms));
    }

    /// Who has the turn.
    pub(super) fn turn(&self) -> Option<u8> {
        self.turn.map(|(address, _)| address)
    }

    /// Somebody speaks: the turn lasts at least until then.
    pub(super) fn heard(&mut self, until_ms: u64) {
        if let Some((_, until)) = &mut self.turn {
            *until = until_ms.max(*until);
        }
    }

    /// The device gave the turn back. True if it had it.
    pub(super) fn given_back(&mut self, address: u8) -> bool {
        self.turn.take_if(|(who, _)| *who == address).is_some()
    }

    /// There was something to say: the next round begins at once.
    pub(super) fn said_something(&mut self) {
        self.busy = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_asked_each_round_and_silent_ones_now_and_then() {
        let mut rota = Rota::new(vec![1, 2, 3, 4]);
        let is_up = |address| address <= 2;
        let mut asked = Vec::new();
        let mut now = 1_000;
        while now < 2_000 {
            match rota.next(now, is_up) {
                Next::Ask(address) => {
                    asked.push(address);
                    rota.given(address, now + 40);
                    if is_up(address) {
                        now += 2;
                        assert!(rota.given_back(address));
                    } else {
                        assert_eq!(rota.next(now, is_up), Next::Wait(now + 40));
                        now += 40;
                    }
                }
                Next::Wait(until) => {
                    assert!(until > now);
                    now = until;
                }
            }
        }
        let count = |address| asked.iter().filter(|one| **one == address).count();
        assert!(count(1) >= 30 && count(1).abs_diff(count(2)) <= 1, "{asked:?}");
        assert_eq!((count(3), count(4)), (2, 2));
    }

    #[test]
    fn a_busy_bus_does_not_rest_and_an_empty_one_does_not_spin() {
        let mut rota = Rota::new(vec![1]);
        assert_eq!(rota.next(500, |_| true), Next::Ask(1));
        rota.said_something();
        assert_eq!(rota.next(500, |_| true), Next::Ask(1));
        assert_eq!(rota.next(500, |_| true), Next::Wait(520));
        let mut none = Rota::new(Vec::new());
        assert!(matches!(none.next(0, |_| true), Next::Wait(1..)));
    }
}
