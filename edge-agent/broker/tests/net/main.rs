//! The broker on real sockets: plain TCP and TLS, with foreign clients and with raw bytes.
#![expect(clippy::unwrap_used, reason = "a panic is how a test says no")]

mod clients;
mod hostile;
mod load;
mod owner;
mod raw;
mod tls;
