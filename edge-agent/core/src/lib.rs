//! The decision core of the Holm gateway: what happens to a message, in which order, and what
//! is written down before anyone is told.
//!
//! # Invariants
//! - Nothing here reads a clock, draws a random number, does I/O or iterates in hash order: the
//!   same inputs give the same effects (the crate's `[dependencies]` and lints enforce it).
//! - Every queue has a bound and a policy at that bound ([`limits`]).
//! - All that one input causes stands in one batch; acks follow the batch.
#![forbid(unsafe_code)]

pub mod batch;
pub mod boot;
pub mod claim;
pub mod core;
mod dead;
mod deadline;
pub mod dedupe;
pub mod destination;
pub mod effect;
pub mod event;
mod holds;
pub mod id;
pub mod input;
pub mod limits;
pub mod message;
pub mod op;
pub mod order;
pub mod outbox;
pub mod outcome;
pub mod pattern;
mod queue;
pub mod reconcile;
pub mod release;
mod routes;
pub mod schedule;
pub mod slots;
pub mod status;
pub mod time;
pub mod topic;
mod turn;
pub mod wall;

pub use crate::core::{Core, DeadLetterKey, OutboxRows, Rows, Settings};
pub use effect::{Attempt, Effect, Member, Pace, Verdict, Work};
pub use event::CoreEvent;
pub use input::{Input, Patience};
pub use limits::Limits;
