#![doc = include_str!("../README.md")]
#![no_std]

extern crate alloc;

mod abi;
mod attempt;
mod effects;
mod engine;
mod fault;
mod grants;
mod image;
mod imports;
mod state;
#[cfg(feature = "store")]
mod store;
mod trusted;

pub use effects::{
    Effects, Event, Fault, FaultKind, LogLevel, LogLine, Outcome, Publication, QoS, Record, Report,
    StateChange, Timestamp,
};
pub use engine::{Function, LoadError, MaySend};
pub use image::{Grants, Header, Image, ImageError, Limits, PLATFORM, WASMTIME_VERSION};
pub use state::State;
#[cfg(feature = "store")]
pub use store::{Keeper, Slots, Store, StoreError, Trial, Verdict, Why};
