//! The device's TLS: with the gateway's own listener, with brokers that speak pre-shared keys, and against attackers.
//!
//! Attackers are in `evil.rs`. What makes the fence around embedded-tls necessary is shown in `stock.rs`: the same
//! attacks against the crate as it stands. If one of those tests fails, the crate was mended.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a panic is how a test says no"
)]

mod attacks;
mod evil;
mod fuzz;
mod gateway;
mod pki;
mod psk;
mod records;
mod stock;
mod support;
