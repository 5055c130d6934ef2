#![doc = include_str!("../README.md")]
//! # Invariants
//! - No heap: all memory is handed in ([`Memory`]), nothing grows.
//! - A message that [`Device::publish`] has returned for leaves its queue when the gateway has acknowledged it, or by the
//!   policy of the full queue, counted.
//! - A message keeps the number it was published under, over reconnections and power cuts.
//! - Whatever the network brings: a reconnection or a counted refusal, never a panic.
#![cfg_attr(not(any(test, feature = "host")), no_std)]
#![forbid(unsafe_code)]

pub mod app;
pub mod backoff;
mod bell;
#[cfg(feature = "time")]
pub mod clock;
mod commands;
pub mod config;
mod device;
mod dial;
mod flight;
#[cfg(feature = "host")]
pub mod host;
pub mod limits;
#[cfg(feature = "logs")]
mod notes;
pub mod queue;
mod record;
mod ring;
mod run;
#[cfg(feature = "shadow")]
mod shadow;
mod state;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "update")]
pub mod update;
#[cfg(feature = "wrong-clock")]
mod wrong_clock;

pub use app::{App, Reply, Settled};
pub use backoff::BackoffConfig;
pub use config::{Config, Login, Memory, Will};
pub use device::{Device, Number, PublishError};
pub use device_protocol as protocol;
pub use dial::Dial;
pub use queue::{Overflow, Queue, RamQueue};
pub use run::{ConfigFault, Link};
pub use state::{Figures, State, Trouble};
#[cfg(feature = "wrong-clock")]
pub use wrong_clock::ClockError;
