//! The gateway's calls in WebAssembly: the WIT package `holm:function`, and what
//! [`export!`](crate::export) makes of a function.

use std::hint::black_box;

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
    let event = Event {
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
    };
    // Not inlined, so that the author's own name stands in the backtrace of a trap.
    black_box(handle)(event).map_err(|failure| match failure {
        Failure::Retry(reason) => wit::types::Failure::Retry(reason),
        Failure::Reject(reason) => wit::types::Failure::Reject(reason),
    })
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
