//! Who waits for which answer of the auth thread.
//!
//! A client that gives up waiting and comes back presents the same again, and a fleet may share
//! one account: all of them wait for one answer, so that argon2 runs once for what is the same.
//!
//! # Invariants
//! - At most [`WAITING_MAX`] wait, with at most [`QUESTIONS_PER_ACCOUNT_MAX`] different passwords
//!   for one account; more are told that the server is busy. So who guesses the password of one
//!   account does not fill the queue for all others.

use std::collections::BTreeMap;

use super::Proof;

/// Clients that wait for an answer, those that have given up included.
pub const WAITING_MAX: usize = 16_384;

/// Passwords of one account that are being asked about.
pub const QUESTIONS_PER_ACCOUNT_MAX: usize = 4;

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

/// Clients by account and by what they presented; `T` names one.
#[derive(Debug)]
pub struct Pending<T> {
    accounts: BTreeMap<String, BTreeMap<Proof, Vec<T>>>,
    count: usize,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self { accounts: BTreeMap::new(), count: 0 }
    }
}

impl<T> Pending<T> {
    /// A client wants an answer.
    pub fn join(&mut self, account: &str, proof: Proof, client: T) -> Joined {
        if self.count >= WAITING_MAX {
            return Joined::Full;
        }
        let questions = self.accounts.entry(account.to_owned()).or_default();
        if questions.len() >= QUESTIONS_PER_ACCOUNT_MAX && !questions.contains_key(&proof) {
            return Joined::Full;
        }
        self.count += 1;
        let waiting = questions.entry(proof).or_default();
        waiting.push(client);
        if waiting.len() == 1 { Joined::First } else { Joined::Waits }
    }

    /// The answer is there, or there will be none: whoever waited for it.
    pub fn leave(&mut self, account: &str, proof: Proof) -> Vec<T> {
        let Some(questions) = self.accounts.get_mut(account) else { return Vec::new() };
        let left = questions.remove(&proof).unwrap_or_default();
        if questions.is_empty() {
            self.accounts.remove(account);
        }
        self.count -= left.len();
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(n: usize) -> Proof {
        Proof([u8::try_from(n).unwrap(); 32])
    }

    #[test]
    fn the_same_is_asked_once_and_again_after_its_answer() {
        let mut pending = Pending::default();
        assert_eq!(pending.join("a", proof(1), 1), Joined::First);
        assert_eq!(pending.join("a", proof(2), 2), Joined::First);
        assert_eq!(pending.join("a", proof(1), 3), Joined::Waits);
        assert_eq!(pending.leave("a", proof(1)), [1, 3]);
        assert!(pending.leave("a", proof(1)).is_empty());
        assert_eq!(pending.join("a", proof(1), 4), Joined::First);
    }

    #[test]
    fn waiting_max() {
        let mut pending = Pending::default();
        for n in 0..WAITING_MAX {
            assert_ne!(pending.join("a", proof(1), n), Joined::Full);
        }
        assert_eq!(pending.join("b", proof(1), 0), Joined::Full);
        assert_eq!(pending.leave("a", proof(1)).len(), WAITING_MAX);
        assert_eq!(pending.join("b", proof(1), 0), Joined::First);
    }

    #[test]
    fn questions_per_account_max() {
        let mut pending = Pending::default();
        for n in 0..QUESTIONS_PER_ACCOUNT_MAX {
            assert_eq!(pending.join("a", proof(n), n), Joined::First);
        }
        assert_eq!(pending.join("a", proof(99), 0), Joined::Full);
        assert_eq!(pending.join("a", proof(0), 7), Joined::Waits, "the same is no new question");
        assert_eq!(pending.join("b", proof(99), 0), Joined::First, "nor is another account full");
        pending.leave("a", proof(1));
        assert_eq!(pending.join("a", proof(99), 0), Joined::First);
    }
}
