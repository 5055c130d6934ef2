//! Firmware updates: which offers are taken ([`plan`]), how their bytes are fetched ([`fetch`]), where they are kept
//! ([`slot`]), and the task that does it ([`crate::Device::update`]).

mod exchange;
pub mod fetch;
pub mod plan;
pub mod slot;
mod task;

pub(crate) use exchange::Exchange;
pub use plan::{Plan, Running};
pub use slot::{Layout, Slot, SlotError};
pub use task::{Boot, Ended, Trial, UpdateConfig};
