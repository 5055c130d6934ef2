//! Firmware updates: which offers are taken ([`plan`]), how their bytes are fetched ([`fetch`]), where they are kept
//! ([`slot`]), and the task that does it ([`crate::Device::update`]).

#[cfg(feature = "embassy-boot")]
mod embassy;
mod exchange;
pub mod fetch;
pub mod plan;
pub mod slot;
mod task;

#[cfg(feature = "embassy-boot")]
pub use embassy::EmbassyBoot;
pub(crate) use exchange::{Exchange, Kind};
pub use plan::{Plan, Running};
pub use slot::{Layout, Slot, SlotError};
pub use task::{Boot, Ended, Trial, UpdateConfig};
