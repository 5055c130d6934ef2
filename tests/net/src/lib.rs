//! Simulation of the gateway's shell over a network that breaks (DESIGN, section 10, L2).
//!
//! # What is real and what is not
//! - Real: the broker's transport (framing, back-pressure, mailboxes, timeouts, TLS) at the gateway
//!   and at the control plane; the uplink's driver, its MQTT client (rumqttc), TLS and back-off;
//!   and all that `simulator` runs: loop, broker, core, store.
//! - Simulated: the network, time, disk, functions; devices; the control plane behind its broker
//!   and transport (the hub of `cloud-sync` and its threads do not run here).
//!
//! # Invariants and limits
//! - The seed decides load, network and faults. It does not decide in which order tokio tries the
//!   branches of a `select!`, and TLS draws its keys itself: two runs of a seed meet the same
//!   faults, but are not the same run to the last event.
//! - One thread: what needs threads to go wrong is not found here.

pub mod cable;
pub mod hub;
pub mod net;
pub mod pki;
pub mod run;
pub mod scenario;
pub mod world;
