//! What end-to-end tests, the demo and the benchmarks share: real processes, client-side ledgers,
//! and the verification that recomputes everything from these ledgers.
//!
//! The agent and the control plane are started as the programs that users start, and spoken to over
//! sockets. Only [`replay`] links the agent, for its store and its identity: it looks into what a power cut left.

pub mod author;
pub mod bench;
pub mod cloud;
pub mod conformance;
pub mod connections;
pub mod crash;
pub mod device;
pub mod gateway;
#[cfg_attr(not(feature = "store"), allow(dead_code, reason = "the crash replay uses it"))]
pub mod host;
pub mod interrupt;
pub mod ledger;
pub mod link;
pub mod mosquitto;
pub mod mqtt;
pub mod pki;
pub mod problems;
pub mod process;
pub mod proxy;
pub mod qemu;
pub mod random;
pub mod readings;
pub mod reopen;
#[cfg_attr(not(feature = "store"), allow(dead_code, reason = "the crash replay uses it"))]
pub mod replay;
pub mod replay_options;
pub mod sensors;
pub mod serial;
pub mod soak;
pub mod story;
pub mod swarm;
pub mod verify;
pub mod watchers;
pub mod wear;
