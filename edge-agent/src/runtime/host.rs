//! The host's side of the contract `edge-agent/wit`: every call checks grant and limit, then only
//! collects.
//!
//! A refused call leaves its [`Fault`] behind and traps. The first refusal counts; the function
//! cannot go on after it.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use edge_core::message::{Properties, QoS};
use edge_core::outcome::{Fault, FaultKind, Outputs, Publish, Record};
use edge_core::topic::Topic;

use super::attempt::{LogLevel, LogLine};
use super::limits::{self, Key, MemoryLimiter};
use super::prepared::FunctionProfile;
use super::session::{KEY_BYTES_MAX, Refusal, StateSession};

/// Bindings of the world `function`.
pub(super) mod function {
    wasmtime::component::bindgen!({
        world: "function",
        path: "wit",
        imports: { default: trappable },
    });
}

/// Bindings of the world `batch-function`, sharing the types above.
pub(super) mod batching {
    wasmtime::component::bindgen!({
        world: "batch-function",
        path: "wit",
        imports: { default: trappable },
        with: {
            "holm:function/types": super::function::holm::function::types,
            "holm:function/messaging": super::function::holm::function::messaging,
            "holm:function/state": super::function::holm::function::state,
            "holm:function/config": super::function::holm::function::config,
            "holm:function/telemetry": super::function::holm::function::telemetry,
            "holm:function/log": super::function::holm::function::log,
        },
    });
}

/// Bindings of `migration` alone: a function that takes batches may export it as well.
pub(super) mod migrating {
    wasmtime::component::bindgen!({
        inline: "
            package holm:gateway;
            world migrator { export holm:function/migration@0.1.0; }
        ",
        world: "holm:gateway/migrator",
        path: "wit",
        imports: { default: trappable },
        with: {
            "holm:function/state": super::function::holm::function::state,
        },
    });
}

mod segments;

use function::holm::function as wit;
use segments::Segments;

/// Longest topic of a publish, as in MQTT.
const TOPIC_BYTES_MAX: usize = 65_535;
/// Longest panic message that is repeated in a fault.
const PANIC_BYTES_MAX: usize = 1_024;

/// What one attempt collects, and what it may.
pub(super) struct AttemptHost {
    profile: Arc<FunctionProfile>,
    /// `None` during a migration: only `config` and `log` may be called.
    state: Option<StateSession>,
    /// Since the last call that said for which event, or for the whole.
    outputs: Outputs,
    segments: Segments,
    publishes: u32,
    publish_bytes: u64,
    records: u32,
    record_bytes: u64,
    logs: Vec<LogLine>,
    log_bytes: u64,
    pub(super) memory: MemoryLimiter,
    /// The first refused call.
    pub(super) refused: Option<Fault>,
    /// Last words of a panic.
    pub(super) panic: Option<String>,
}

impl AttemptHost {
    pub(super) fn new(profile: Arc<FunctionProfile>, state: Option<StateSession>) -> Self {
        let memory = MemoryLimiter::new(profile.limits.memory_bytes);
        Self {
            profile,
            state,
            outputs: Outputs::default(),
            segments: Segments::default(),
            publishes: 0,
            publish_bytes: 0,
            records: 0,
            record_bytes: 0,
            logs: Vec::new(),
            log_bytes: 0,
            memory,
            refused: None,
            panic: None,
        }
    }

    pub(super) fn profile(&self) -> &FunctionProfile {
        &self.profile
    }

    pub(super) fn take_outputs(&mut self) -> Outputs {
        if let Some(state) = &mut self.state {
            self.outputs.state = state.take_changes();
        }
        mem::take(&mut self.outputs)
    }

    pub(super) fn take_logs(&mut self) -> Vec<LogLine> {
        mem::take(&mut self.logs)
    }

    fn refuse(&mut self, fault: Fault) -> wasmtime::Error {
        let error = wasmtime::Error::msg(fault.message.clone());
        self.refused.get_or_insert(fault);
        error
    }

    fn over(&mut self, key: Key) -> wasmtime::Error {
        let fault = self.reached(key);
        self.refuse(fault)
    }

    fn reached(&self, key: Key) -> Fault {
        limits::reached(key, &self.profile.limits, &self.profile.function)
    }

    fn refuse_state(&mut self, refusal: Refusal) -> wasmtime::Error {
        let fault = self.fault_of(refusal);
        self.refuse(fault)
    }

    fn fault_of(&self, refusal: Refusal) -> Fault {
        match refusal {
            Refusal::Limit(key) => self.reached(key),
            Refusal::KeyLength(bytes) => Fault {
                kind: FaultKind::Outputs,
                message: format!("a state key has 1 to {KEY_BYTES_MAX} bytes, not {bytes}"),
            },
            Refusal::Store(error) => Fault {
                kind: FaultKind::Host,
                message: format!("the gateway could not read the state: {error}"),
            },
        }
    }

    /// The state that this attempt may use.
    fn state(&mut self) -> wasmtime::Result<&mut StateSession> {
        if let Err(fault) = self.profile.grants.check_state(&self.profile.function) {
            return Err(self.refuse(fault));
        }
        if self.state.is_none() {
            return Err(self.not_while_migrating("state"));
        }
        Ok(self.state.as_mut().expect("invariant: checked one line above"))
    }

    fn not_while_migrating(&mut self, what: &str) -> wasmtime::Error {
        self.refuse(Fault {
            kind: FaultKind::Denied,
            message: format!("`{what}` must not be called in `migrate`: return the new entries"),
        })
    }
}

/// Adds to a counter and says whether it is still within its limit.
fn within(counter: &mut u64, bytes: usize, max: u32) -> bool {
    *counter = counter.saturating_add(bytes as u64);
    *counter <= u64::from(max)
}

impl wit::types::Host for AttemptHost {}

impl wit::messaging::Host for AttemptHost {
    fn publish(&mut self, message: wit::messaging::Publication) -> wasmtime::Result<()> {
        if self.state.is_none() {
            return Err(self.not_while_migrating("publish"));
        }
        let limits = &self.profile.limits;
        self.publishes = self.publishes.saturating_add(1);
        if self.publishes > limits.publishes {
            return Err(self.over(Key::Publishes));
        }
        if !within(&mut self.publish_bytes, publication_bytes(&message), limits.publish_bytes) {
            return Err(self.over(Key::PublishBytes));
        }
        let topic = match Topic::new(&message.topic) {
            Ok(topic) if message.topic.len() <= TOPIC_BYTES_MAX => topic,
            _ => return Err(self.refuse(not_a_topic(&message.topic))),
        };
        if let Err(fault) = self.profile.grants.check_publish(&topic, &self.profile.function) {
            return Err(self.refuse(fault));
        }
        self.outputs.publishes.push(Publish {
            topic,
            payload: Bytes::from(message.payload),
            qos: match message.qos {
                wit::types::Qos::AtMostOnce => QoS::AtMostOnce,
                wit::types::Qos::AtLeastOnce => QoS::AtLeastOnce,
                wit::types::Qos::ExactlyOnce => QoS::ExactlyOnce,
            },
            retain: message.retain,
            properties: Properties {
                content_type: message.content_type,
                user: message.properties,
                ..Properties::default()
            },
        });
        Ok(())
    }
}

fn publication_bytes(message: &wit::messaging::Publication) -> usize {
    /// Frame and length fields of one user property.
    const PROPERTY_OVERHEAD: usize = 5;
    let user = message.properties.iter().map(|(k, v)| k.len() + v.len() + PROPERTY_OVERHEAD);
    message.topic.len()
        + message.payload.len()
        + message.content_type.as_ref().map_or(0, String::len)
        + user.sum::<usize>()
}

fn not_a_topic(text: &str) -> Fault {
    let shown: String = text.chars().take(80).collect();
    Fault {
        kind: FaultKind::Denied,
        message: format!(
            "`{shown}` cannot be published to: a topic has 1 to {TOPIC_BYTES_MAX} bytes and no \
             `+`, `#` or NUL"
        ),
    }
}

impl wit::state::Host for AttemptHost {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        let value = self.state()?.get(&key);
        let value = value.map_err(|refusal| self.refuse_state(refusal))?;
        Ok(value.map(Vec::from))
    }

    fn put(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<()> {
        let profile = Arc::clone(&self.profile);
        let done = self.state()?.put(key, Bytes::from(value), &profile.limits);
        done.map_err(|refusal| self.refuse_state(refusal))
    }

    fn delete(&mut self, key: String) -> wasmtime::Result<()> {
        let profile = Arc::clone(&self.profile);
        let done = self.state()?.delete(key, &profile.limits);
        done.map_err(|refusal| self.refuse_state(refusal))
    }

    fn scan(
        &mut self,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<wit::state::Page> {
        let page = self.state()?.scan(&prefix, after.as_deref(), limit as usize);
        let page = page.map_err(|refusal| self.refuse_state(refusal))?;
        let entries = page.entries.into_iter().map(|(key, value)| (key, Vec::from(value)));
        Ok(wit::state::Page { entries: entries.collect(), more: page.more })
    }
}

impl wit::config::Host for AttemptHost {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.profile.grants.config.get(&key).cloned())
    }
}

impl wit::telemetry::Host for AttemptHost {
    fn record(
        &mut self,
        name: String,
        payload: Vec<u8>,
        content_type: String,
    ) -> wasmtime::Result<()> {
        if self.state.is_none() {
            return Err(self.not_while_migrating("record"));
        }
        let limits = &self.profile.limits;
        self.records = self.records.saturating_add(1);
        if self.records > limits.records {
            return Err(self.over(Key::Records));
        }
        let bytes = name.len() + payload.len() + content_type.len();
        if !within(&mut self.record_bytes, bytes, limits.record_bytes) {
            return Err(self.over(Key::RecordBytes));
        }
        if let Err(fault) = self.profile.grants.check_record(&name, &self.profile.function) {
            return Err(self.refuse(fault));
        }
        self.outputs.records.push(Record { name, payload: Bytes::from(payload), content_type });
        Ok(())
    }
}

impl wit::log::Host for AttemptHost {
    fn log(&mut self, level: wit::log::Level, text: String) -> wasmtime::Result<()> {
        let level = match level {
            wit::log::Level::Trace => LogLevel::Trace,
            wit::log::Level::Debug => LogLevel::Debug,
            wit::log::Level::Info => LogLevel::Info,
            wit::log::Level::Warn => LogLevel::Warn,
            wit::log::Level::Error => LogLevel::Error,
            wit::log::Level::Panic => LogLevel::Panic,
        };
        if level == LogLevel::Panic {
            self.panic = Some(cut(&text, PANIC_BYTES_MAX).to_owned());
        }
        // Every line counts for a little, that empty ones may not flood either.
        let cost = text.len() + 16;
        if !within(&mut self.log_bytes, cost, self.profile.limits.log_bytes) {
            return Err(self.over(Key::LogBytes));
        }
        self.logs.push(LogLine { level, text, of: self.segments.of() });
        Ok(())
    }
}

/// The longest prefix of at most `bytes_max` bytes that ends at a character.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
