//! `cargo xtask bench pipeline`: device message in, function, device message out, durable, against
//! Mosquitto with a native handler, on one machine in one run.
//!
//! # What a figure stands for
//! - The load generator and the ledgers are the same for both contenders, and client-side: a
//!   message counts when its PUBACK has come and, where it has an output, that output has.
//! - *Closed loop*: every connection keeps so many unfinished messages. *Open loop*: messages are
//!   sent at fixed times, whatever comes back.
//! - Holm syncs before it acks; Mosquitto with persistence off keeps nothing. Its figures are what
//!   the machine can do without durability.
//! - Rounds of the contenders are interleaved, in turning order; figures are medians of rounds.

pub mod contender;
pub mod disk;
pub mod ledger;
pub mod load;
pub mod memory;
pub mod meter;
pub mod report;
pub mod row;
pub mod run;
pub mod wire;
pub mod workload;
