//! The function runtime with real WebAssembly: what functions may do, and what becomes of those
//! that do more. The functions stand in `tests/functions`.
#![expect(clippy::unwrap_used, reason = "a panic is how a test says no")]

mod artifacts;
mod batches;
mod cold_chain;
mod cost;
mod device;
mod faults;
mod harness;
mod invoke;
mod migration;
mod sandbox;
mod workers;
