//! The gateway's calls in WebAssembly: the WIT package `holm:function`, and what
//! [`export!`](crate::export) makes of a function.

use std::hint::black_box;

use crate::batch::{Batch, Failures};
use crate::event::{ClockQuality, Event, Timestamp};
use crate::failure::{Failure, Result};
use crate::log::Level;
use crate::migration::{NewState, OldState};

/// Bindings of the world `function`.
#[expect(missing_docs, reason = "generated; documented in the WIT package")]
pub mod function {
    wit_bindgen::generate!({
        path: "../wit",
        world: "function",
        runtime_path: "::function_sdk::contract::rt",
        pub_export_macro: true,
        export_macro_name: "export_function",
        default_bindings_module: "function_sdk::contract::function",
    });
}

/// Bindings of what `batch-function` has beyond `function`, sharing the types above.
#[expect(missing_docs, reason = "generated; documented in the WIT package")]
pub mod batching {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package holm:function-sdk;
            world batcher {
                import holm:function/batch@0.1.0;
                export holm:function/batch-handler@0.1.0;
            }
        ",
        world: "holm:function-sdk/batcher",
        runtime_path: "::function_sdk::contract::rt",
        pub_export_macro: true,
        export_macro_name: "export_batcher",
        default_bindings_module: "function_sdk::contract::batching",
        with: {
            "holm:function/types@0.1.0": super::function::holm::function::types,
            "holm:function/batch@0.1.0": generate,
        },
    });
}

/// Bindings of what `migrating-function` has beyond `function`, sharing the types above. A module
/// that exports both worlds is a `migrating-function`.
#[expect(missing_docs, reason = "generated; documented in the WIT package")]
pub mod migrating {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package holm:function-sdk;
            world migrator { export holm:function/migration@0.1.0; }
        ",
        world: "holm:function-sdk/migrator",
        runtime_path: "::function_sdk::contract::rt",
        pub_export_macro: true,
        export_macro_name: "export_migrator",
        default_bindings_module: "function_sdk::contract::migrating",
        with: {
            "holm:function/state@0.1.0": super::function::holm::function::state,
        },
    });
}

pub use wit_bindgen::rt;

use batching::exports::holm::function::batch_handler;
use function::holm::function as wit;
use migrating::exports::holm::function::migration;

/// Runs `handle` on an event of the contract.
///
/// # Errors
/// The function's own.
pub fn run(
    handle: fn(Event) -> Result,
    event: wit::types::Event,
) -> std::result::Result<(), wit::types::Failure> {
    tell_panics();
    // Not inlined, so that the author's own name stands in the backtrace of a trap.
    black_box(handle)(event_of(event)).map_err(failure_of)
}

/// Runs `handle` on a batch of the contract.
///
/// # Errors
/// The function's own.
pub fn run_batch(
    handle: fn(Batch) -> Result<Failures>,
    events: Vec<wit::types::Event>,
    in_order: bool,
) -> std::result::Result<Vec<batch_handler::ItemFailure>, wit::types::Failure> {
    tell_panics();
    let events = events.into_iter().map(event_of).collect();
    let failures = black_box(handle)(Batch::new(events, in_order)).map_err(failure_of)?;
    let failures = failures.iter().map(|(index, failure)| batch_handler::ItemFailure {
        index: index_of(index),
        failure: failure_of(failure.clone()),
    });
    Ok(failures.collect())
}

/// An index beyond what the contract can say is one that no batch has.
fn index_of(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

fn failure_of(failure: Failure) -> wit::types::Failure {
    match failure {
        Failure::Retry(reason) => wit::types::Failure::Retry(reason),
        Failure::Reject(reason) => wit::types::Failure::Reject(reason),
    }
}

fn event_of(event: wit::types::Event) -> Event {
    Event {
        id: event.id,
        trigger: event.trigger,
        topic: event.topic,
        payload: event.payload,
        content_type: event.content_type,
        properties: event.properties,
        device: event.device,
        time: Timestamp {
            unix_ms: event.time.unix_ms,
            quality: match event.time.quality {
                wit::types::ClockQuality::Unsynced => ClockQuality::Unsynced,
                wit::types::ClockQuality::Synced => ClockQuality::Synced,
            },
        },
        attempt: event.attempt,
        hops: event.hops,
        maybe_repeat: event.maybe_repeat,
    }
}

/// Runs `migrate` on old state of the contract.
///
/// # Errors
/// The function's own.
pub fn run_migrate(
    migrate: fn(OldState) -> Result<NewState>,
    old: migration::OldState,
) -> std::result::Result<Vec<(String, Vec<u8>)>, String> {
    tell_panics();
    let old = OldState { version: old.version, device: old.device, entries: old.entries };
    match black_box(migrate)(old) {
        Ok(new) => Ok(new.entries),
        Err(Failure::Retry(reason) | Failure::Reject(reason)) => Err(reason),
    }
}

/// Without this, the message of a panic would be lost: there is no standard error here.
fn tell_panics() {
    std::panic::set_hook(Box::new(|info| calls::log(Level::Panic, &info.to_string())));
}

pub(crate) mod calls {
    use super::batching::holm::function::batch;
    use super::wit;
    use crate::log::Level;
    use crate::publish::{Publication, QoS};
    use crate::state::Page;

    pub(crate) fn publish(message: Publication) {
        wit::messaging::publish(&wit::messaging::Publication {
            topic: message.topic,
            payload: message.payload,
            qos: match message.qos {
                QoS::AtMostOnce => wit::types::Qos::AtMostOnce,
                QoS::AtLeastOnce => wit::types::Qos::AtLeastOnce,
                QoS::ExactlyOnce => wit::types::Qos::ExactlyOnce,
            },
            retain: message.retain,
            content_type: message.content_type,
            properties: message.properties,
        });
    }

    pub(crate) fn state_get(key: &str) -> Option<Vec<u8>> {
        wit::state::get(key)
    }

    pub(crate) fn state_put(key: &str, value: &[u8]) {
        wit::state::put(key, value);
    }

    pub(crate) fn state_delete(key: &str) {
        wit::state::delete(key);
    }

    pub(crate) fn state_scan(prefix: &str, after: Option<&str>, limit: u32) -> Page {
        let page = wit::state::scan(prefix, after, limit);
        Page { entries: page.entries, more: page.more }
    }

    pub(crate) fn config_get(key: &str) -> Option<String> {
        wit::config::get(key)
    }

    pub(crate) fn record(name: &str, payload: &[u8], content_type: &str) {
        wit::telemetry::record(name, payload, content_type);
    }

    pub(crate) fn for_event(index: usize) {
        batch::for_event(super::index_of(index));
    }

    pub(crate) fn for_whole() {
        batch::for_whole();
    }

    pub(crate) fn log(level: Level, text: &str) {
        let level = match level {
            Level::Trace => wit::log::Level::Trace,
            Level::Debug => wit::log::Level::Debug,
            Level::Info => wit::log::Level::Info,
            Level::Warn => wit::log::Level::Warn,
            Level::Error => wit::log::Level::Error,
            Level::Panic => wit::log::Level::Panic,
        };
        wit::log::log(level, text);
    }
}
