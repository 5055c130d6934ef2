//! The client of a Holm gateway for firmware in C. `include/holm_device.h` is its contract, `README.md` its manual.
//!
//! It is no second client: it polls the future of `device_sdk::Device::run` (or `run_serial`) from C. What an executor, a
//! network stack and a timer give the future in Rust firmware, C gives here by calls: `holm_device_received` and
//! `holm_device_to_send` are the two ends of pipes ([`wire`]), and `now_ms` of `holm_device_poll` is the time driver
//! ([`clock`]).
//!
//! # Memory
//! All of a device lies in memory that C hands in: the handle, the client's buffers and the pinned future at its start
//! ([`border::arena`]), the queue in what is left. A single `static` instance would need less `unsafe`, yet it would fix
//! the length of the queue when the library is built, allow one device a program, and take its memory in programs that
//! only sometimes need it. The type of the future has no name; its size is a constant all the same
//! (in [`start`]), so too little memory is an error code of `init`, and the header's sizes are checked when the
//! library is built.
//!
//! # Invariants
//! - Every sequence that `holm_device_publish` gave ends in exactly one event: acked, refused or dropped; unless the
//!   device restarts.
//! - No call waits. `holm_device_poll` polls the future at most [`handle::POLLS_MAX`] times.
//! - Whatever C passes within the contract of the header, and null pointers beyond it: an error code, not undefined
//!   behaviour.
//! - `unsafe` is in [`border`] and nowhere else.
#![cfg_attr(panic = "abort", no_std)]

mod abi;
mod border;
mod clock;
mod handle;
mod hooks;
mod start;
#[cfg(feature = "tls")]
mod tls;
mod watch;
mod wire;
