//! The record of a run: every event goes to all oracles, into the run's hash and into the trace of
//! the last ones.

use std::collections::VecDeque;

use crate::figures::Figures;
use crate::oracle::{self, Oracle};
use crate::seen::Seen;

/// Events told of after a failure.
const RECENT_MAX: usize = 60;
/// Characters told of each.
const LINE_MAX: usize = 240;

/// What an oracle found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which oracle; `panic` where the gateway's code panicked, `open` where it refused its store.
    pub oracle: String,
    /// What is wrong, with the ids.
    pub text: String,
    /// Virtual time in microseconds.
    pub at_us: u64,
    /// The last events before it.
    pub recent: Vec<String>,
}

/// The record.
pub struct Book {
    oracles: Vec<Box<dyn Oracle>>,
    figures: Figures,
    recent: VecDeque<String>,
    hash: Hash,
    events: u64,
    failure: Option<Failure>,
    prints: bool,
}

/// FNV-1a over everything that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(pub u64);

impl Hash {
    /// Of nothing.
    pub const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    /// Takes in bytes.
    #[must_use]
    pub fn and(self, bytes: &[u8]) -> Self {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        Self(bytes.iter().fold(self.0, step))
    }
}

impl Default for Book {
    fn default() -> Self {
        Self {
            oracles: oracle::all(),
            figures: Figures::default(),
            recent: VecDeque::new(),
            hash: Hash::EMPTY,
            events: 0,
            failure: None,
            prints: false,
        }
    }
}

impl Book {
    /// From now on every event is printed.
    pub fn print(&mut self) {
        self.prints = true;
    }

    /// Something happened. The first failure stays.
    pub fn see(&mut self, at_us: u64, seen: &Seen<'_>) {
        if self.failure.is_some() {
            return;
        }
        self.events += 1;
        if let Some(text) = seen.text() {
            self.note(at_us, &text);
        }
        self.figures.see(at_us, seen);
        for oracle in &mut self.oracles {
            if let Err(text) = oracle.see(seen) {
                let oracle = oracle.name().to_owned();
                return self.fail(at_us, oracle, text);
            }
        }
    }

    /// Something that no oracle asks for, but a reader of the trace.
    pub fn note(&mut self, at_us: u64, text: &str) {
        self.hash = self.hash.and(&at_us.to_be_bytes()).and(text.as_bytes());
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        let cut = text.floor_char_boundary(LINE_MAX);
        let line = format!("{:>13.6} {}", at_us as f64 / 1e6, &text[..cut]);
        if self.prints {
            println!("{line}");
        }
        self.recent.push_back(line);
    }

    /// Something is wrong.
    pub fn fail(&mut self, at_us: u64, oracle: String, text: String) {
        let recent = self.recent.iter().cloned().collect();
        self.failure.get_or_insert(Failure { oracle, text, at_us, recent });
    }

    /// What is wrong, if anything is.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// What was seen, in figures.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Hash over all that was seen, and how much that was.
    #[must_use]
    pub fn sum(&self) -> (Hash, u64) {
        (self.hash, self.events)
    }
}
