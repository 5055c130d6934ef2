//! Who waits for which answer of the auth thread.
//!
//! A client that gives up waiting and comes back presents the same again, and a fleet may share
//! one account: all of them wait for one answer, so that argon2 runs once for what is the same.
//!
//! # Invariants
//! - At most [`WAITING_MAX`] wait; more are told that the server is busy.

use std::collections::BTreeMap;

use super::Proof;

/// Clients that wait for an answer, those that have given up included.
pub const WAITING_MAX: usize = 16_384;

/// What became of a client that wants an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// It is the first to ask this: the thread has to be asked.
    First,
    /// It waits for an answer that is on its way.
    Waits,
    /// Too many wait.
    Full,
}

/// Clients by what they presented; `T` names one.
#[derive(Debug)]
pub struct Pending<T> {
    by_proof: BTreeMap<Proof, Vec<T>>,
    count: usize,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self { by_proof: BTreeMap::new(), count: 0 }
    }
}

impl<T> Pending<T> {
    /// A client wants an answer.
    pub fn join(&mut self, proof: Proof, client: T) -> Joined {
        if self.count >= WAITING_MAX {
            return Joined::Full;
        }
        self.count += 1;
        let waiting = self.by_proof.entry(proof).or_default();
        waiting.push(client);
        if waiting.len() == 1 { Joined::First } else { Joined::Waits }
    }

    /// The answer is there, or there will be none: whoever waited for it.
    pub fn leave(&mut self, proof: Proof) -> Vec<T> {
        let left = self.by_proof.remove(&proof).unwrap_or_default();
        self.count -= left.len();
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_asked_once_and_again_after_its_answer() {
        let (a, b) = (Proof([1; 32]), Proof([2; 32]));
        let mut pending = Pending::default();
        assert_eq!(pending.join(a, 1), Joined::First);
        assert_eq!(pending.join(b, 2), Joined::First);
        assert_eq!(pending.join(a, 3), Joined::Waits);
        assert_eq!(pending.leave(a), [1, 3]);
        assert!(pending.leave(a).is_empty());
        assert_eq!(pending.join(a, 4), Joined::First);
    }

    #[test]
    fn waiting_max() {
        let (a, b) = (Proof([1; 32]), Proof([2; 32]));
        let mut pending = Pending::default();
        for n in 0..WAITING_MAX {
            assert_ne!(pending.join(a, n), Joined::Full);
        }
        assert_eq!(pending.join(b, 0), Joined::Full);
        assert_eq!(pending.leave(a).len(), WAITING_MAX);
        assert_eq!(pending.join(b, 0), Joined::First);
    }
}
