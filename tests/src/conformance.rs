//! Conformance to MQTT 3.1.1 and 5: scripted exchanges of packets as data, brokers to run them
//! against, and the table of what the specifications demand of a server.
//!
//! The scripts stand in `tests/conformance/*.script`, the table in
//! `tests/conformance/statements.toml`; `docs/mqtt-conformance.md` is made from it.

pub mod packet;
pub mod peer;
pub mod sans_io;
pub mod script;
pub mod show;

pub mod table;
