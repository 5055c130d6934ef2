//! What fuzzing feeds bytes to: each target takes any bytes and panics where something that must
//! hold does not.
//!
//! `cargo xtask fuzz` runs them under libFuzzer; `tests/smoke.rs` runs the corpus and a few thousand
//! seeded mutations of it in every test run. Corpora lie in `tests/fuzz/corpus/TARGET`, inputs that
//! once found a bug in `tests/fuzz/crashes/TARGET`: both are replayed by the smoke.

mod bytes_reader;
pub mod mutate;
mod targets;

pub use targets::{TARGETS, Target};
