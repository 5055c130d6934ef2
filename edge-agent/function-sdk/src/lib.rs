#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

extern crate self as function_sdk;

mod batch;
pub mod config;
pub mod device;
mod event;
mod export;
mod failure;
#[cfg(not(target_arch = "wasm32"))]
pub mod fake;
mod host;
mod log;
mod migration;
mod publish;
mod record;
pub mod state;

pub use batch::{Batch, Failures, for_event, for_whole};
pub use event::{ClockQuality, Event, Timestamp};
pub use failure::{Failure, OrReject, Result};
pub use log::Level;
#[doc(hidden)]
pub use log::line as log_line;
pub use migration::{NewState, OldState};
pub use publish::{Publication, QoS, publish};
pub use record::{Record, record};

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub use host::contract;

/// What a function usually needs: `use function_sdk::prelude::*;`.
pub mod prelude {
    pub use serde::{Deserialize, Serialize};

    pub use crate::{
        Batch, Event, Failure, Failures, Level, OrReject, QoS, Result, config, device, for_event,
        for_whole, log, publish, record, reject, retry, state,
    };
}
