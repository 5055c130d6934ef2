//! Oracles A1 to A12 (DESIGN, section 10). Each is a small judge of its own; it is told what is
//! [`Seen`] and says what is wrong.
//!
//! | oracle | what it holds to be true |
//! |---|---|
//! | `a1` | an ack leaves only when the disk keeps the message |
//! | `a2` | every acked message ends done, dead-lettered or shed; every record reaches the cloud |
//! | `a3` | what an attempt did is in one batch, and once; a start finds exactly the durable rows |
//! | `a4` | an outcome applies only if its attempt is the live one |
//! | `a5` | one attempt at a time in a lane, and in order of arrival |
//! | `a6` | every bound holds after every turn |
//! | `a7` | the reported generation converges; everything comes to rest |
//! | `a8` | nothing runs that no known author signed |
//! | `a9` | no turn without end: calls of a turn and turns without a cause are bounded |
//! | `a11` | the state of a lane is that of a serial run over its messages |
//! | `a12` | wrong clocks: labels, corrections, retries, ages and cron are right by the true time |
//!
//! A10 (same seed, same events) is judged by comparing whole runs, see `tests/deterministic.rs`.

mod a1;
mod a11;
mod a12;
mod a2;
mod a3;
mod a4;
mod a5;
mod a6;
mod a7;
mod a8;
mod a9;
mod moved;
mod routing;
mod rows;

pub use rows::Rows;

use crate::seen::Seen;

/// A judge.
pub trait Oracle {
    /// Its name, as in the table above.
    fn name(&self) -> &'static str;

    /// Takes note of what happened.
    ///
    /// # Errors
    /// What is wrong, with the ids.
    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String>;
}

/// All of them.
#[must_use]
pub fn all() -> Vec<Box<dyn Oracle>> {
    vec![
        Box::new(a1::A1::default()),
        Box::new(a2::A2::default()),
        Box::new(a3::A3::default()),
        Box::new(a4::A4::default()),
        Box::new(a5::A5::default()),
        Box::new(a6::A6),
        Box::new(a7::A7),
        Box::new(a8::A8::default()),
        Box::new(a9::A9),
        Box::new(a11::A11::default()),
        Box::new(a12::A12::default()),
    ]
}

/// Turns a condition into an oracle's answer.
fn hold(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

#[cfg(test)]
mod tests;
