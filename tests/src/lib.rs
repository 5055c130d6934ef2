//! What end-to-end tests, the demo and the benchmarks share: real processes, client-side ledgers,
//! and the verification that recomputes everything from these ledgers.
//!
//! Nothing here links the agent or the control plane: they are started as the programs that users
//! start, and spoken to over sockets.

pub mod author;
pub mod bench;
pub mod cloud;
pub mod conformance;
pub mod connections;
pub mod crash;
pub mod device;
pub mod gateway;
pub mod ledger;
pub mod link;
pub mod mosquitto;
pub mod mqtt;
pub mod pki;
pub mod problems;
pub mod process;
pub mod readings;
pub mod reopen;
pub mod story;
pub mod swarm;
pub mod verify;
pub mod watchers;
