//! The Holm gateway process: broker, store, function runtime and uplink in one binary.
//!
//! The map and the invariants stand in `docs/architecture.md`. This crate is the shell: sockets,
//! disk, threads and the composition of them. What happens to a message is decided in `edge-core`,
//! what the MQTT protocol demands in `edge-broker`.

pub mod agent;
pub mod auth;
pub mod backup;
pub mod bridge;
pub mod control;
pub mod credentials;
pub mod desk;
pub mod doctor;
pub mod enroll;
pub mod firmware;
pub mod identity;
pub mod last_errors;
pub mod launch;
pub mod letters;
pub mod log_file;
pub mod open_files;
pub mod runtime;
pub mod settings;
mod slot;
pub mod store;
pub mod supervisor;
pub mod system;
mod system_clock;
pub mod tls;
pub mod toml_reader;
pub mod uplink;
