//! Deterministic simulation of a gateway (DESIGN, section 10, L1).
//!
//! The gateway's own loop, broker, core, reconciler and store run in one thread over a simulated
//! disk, network, functions and control plane; one seed decides everything that happens, and the
//! same seed is the same run. What must always hold is judged by [`oracle`]s.
//!
//! # What is real and what is not
//! - Real: everything above the seams of `edge_agent::agent::stepped`; the store with its journal
//!   and redb; MQTT packets; the conversation with the control plane and its encoding; signed
//!   manifests and their verification.
//! - Simulated: time, disk, sockets and what the transport does with them, WebAssembly, MQTT
//!   between gateway and control plane, and the files of fetched artifacts (which are whole and
//!   durable once they are there).
//!
//! # Invariants
//! - Nothing here reads a clock, the environment or a random number but through [`time`] and
//!   [`rng`], and nothing iterates in the order of a hash.
//! - Oracles learn of the simulation only through [`seen::Seen`].

pub mod app;
pub mod book;
pub mod campaign;
pub mod cloud;
pub mod device;
pub mod disk;
pub mod figures;
pub mod function;
pub mod heap;
pub mod known;
pub mod ledger;
pub mod link;
pub mod network;
pub mod oracle;
pub mod payload;
pub mod plan;
pub mod rest;
pub mod rng;
pub mod run;
pub mod scenario;
pub mod seen;
pub mod time;
pub mod timeline;
pub mod worker;
pub mod world;
