//! What a function may call: the imports of its core module, as the world `function` of
//! `edge-agent/wit` flattens (`CanonicalABI.md`: at most 16 parameters; more than one result comes
//! back through an address that is the last parameter).
//!
//! Every call checks grant and limit, then only collects. A refused call leaves its [`Fault`]
//! behind and traps; what it would have handed over is not copied.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use wasmtime::{Caller, Error, Linker, Result};

use crate::abi::{Lift, Lower, cut, no_such_case};
use crate::attempt::Attempt;
use crate::effects::{Fault, FaultKind, LogLevel, LogLine, Publication, QoS, Record};
use crate::state::Refusal;

const MESSAGING: &str = "holm:function/messaging@0.1.0";
const STATE: &str = "holm:function/state@0.1.0";
const CONFIG: &str = "holm:function/config@0.1.0";
const TELEMETRY: &str = "holm:function/telemetry@0.1.0";
const LOG: &str = "holm:function/log@0.1.0";
/// A function that takes batches on a gateway imports it, and may not call it here.
const BATCH: &str = "holm:function/batch@0.1.0";

/// What one user property takes beside its text.
const PROPERTY_BYTES: usize = 32;
/// What one log line takes beside its text, that empty ones may not flood either.
const LINE_BYTES: usize = 16;
/// Longest panic message that is repeated in a fault.
const PANIC_BYTES_MAX: usize = 1_024;

type Call<'a> = Caller<'a, Attempt>;

/// Serves all imports of the contract.
pub(crate) fn add_to(linker: &mut Linker<Attempt>) -> Result<()> {
    linker.func_wrap(MESSAGING, "publish", publish)?;
    linker.func_wrap(STATE, "get", state_get)?;
    linker.func_wrap(STATE, "put", state_put)?;
    linker.func_wrap(STATE, "delete", state_delete)?;
    linker.func_wrap(STATE, "scan", state_scan)?;
    linker.func_wrap(CONFIG, "get", config_get)?;
    linker.func_wrap(TELEMETRY, "record", record)?;
    linker.func_wrap(LOG, "log", log)?;
    linker.func_wrap(BATCH, "for-event", |call: Call<'_>, _index: u32| no_batch(call))?;
    linker.func_wrap(BATCH, "for-whole", no_batch)?;
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "a record, flattened by the canonical ABI")]
fn publish(
    mut call: Call<'_>,
    topic: u32,
    topic_len: u32,
    payload: u32,
    payload_len: u32,
    qos: u32,
    retain: u32,
    has_content_type: u32,
    content_type: u32,
    content_type_len: u32,
    properties: u32,
    property_count: u32,
) -> Result<()> {
    let (guest, attempt) = parts(&mut call)?;
    let topic = guest.text(topic, topic_len)?;
    let payload = guest.bytes(payload, payload_len)?;
    let content_type = guest.option(has_content_type, content_type, content_type_len)?;
    let qos = match qos {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        2 => QoS::ExactlyOnce,
        _ => return Err(no_such_case()),
    };
    let mut bytes = topic.len() + payload.len() + content_type.map_or(0, str::len);
    for property in guest.pairs(properties, property_count)? {
        let (name, value) = property?;
        bytes = bytes.saturating_add(name.len() + value.len() + PROPERTY_BYTES);
    }
    let limits = &attempt.header.limits;
    if attempt.publishes.len() >= limits.publishes as usize {
        return Err(attempt.refuse_output("limit of publishes per attempt reached"));
    }
    if !within(&mut attempt.publish_bytes, bytes, limits.publish_bytes) {
        return Err(attempt.refuse_output("limit of published bytes per attempt reached"));
    }
    attempt.header.grants.check_publish(topic).map_err(|fault| attempt.refuse(fault))?;
    (attempt.may_send)(topic, payload.len()).map_err(|why| attempt.refuse_output(why))?;
    let properties = guest
        .pairs(properties, property_count)?
        .map(|property| property.map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect::<Result<Vec<_>>>()?;
    attempt.publishes.push(Publication {
        topic: topic.to_owned(),
        payload: payload.to_owned(),
        qos,
        retain: retain != 0,
        content_type: content_type.map(String::from),
        properties,
    });
    Ok(())
}

fn state_get(mut call: Call<'_>, key: u32, key_len: u32, returned: u32) -> Result<()> {
    let (guest, attempt) = parts(&mut call)?;
    let key = guest.text(key, key_len)?;
    attempt.check_state()?;
    let value = match attempt.session.get(key) {
        Ok(value) => value.map(ToOwned::to_owned),
        Err(refusal) => return Err(attempt.refuse_state(refusal)),
    };
    lower(call)?.return_option(returned, value.as_deref())
}

fn state_put(mut call: Call<'_>, key: u32, key_len: u32, value: u32, value_len: u32) -> Result<()> {
    let (guest, attempt) = parts(&mut call)?;
    let (key, value) = (guest.text(key, key_len)?, guest.bytes(value, value_len)?);
    attempt.set_state(key, Some(value))
}

fn state_delete(mut call: Call<'_>, key: u32, key_len: u32) -> Result<()> {
    let (guest, attempt) = parts(&mut call)?;
    let key = guest.text(key, key_len)?;
    attempt.set_state(key, None)
}

#[expect(clippy::too_many_arguments, reason = "as the canonical ABI flattens it")]
fn state_scan(
    mut call: Call<'_>,
    prefix: u32,
    prefix_len: u32,
    has_after: u32,
    after: u32,
    after_len: u32,
    limit: u32,
    returned: u32,
) -> Result<()> {
    let (guest, attempt) = parts(&mut call)?;
    let prefix = guest.text(prefix, prefix_len)?;
    let after = guest.option(has_after, after, after_len)?;
    attempt.check_state()?;
    let page = attempt.session.scan(prefix, after, limit);
    lower(call)?.return_page(returned, &page)
}

fn config_get(mut call: Call<'_>, key: u32, key_len: u32, returned: u32) -> Result<()> {
    let (guest, attempt) = parts(&mut call)?;
    let key = guest.text(key, key_len)?;
    let value = attempt.header.grants.config(key).map(ToOwned::to_owned);
    lower(call)?.return_option(returned, value.as_deref().map(str::as_bytes))
}

fn record(
    mut call: Call<'_>,
    name: u32,
    name_len: u32,
    payload: u32,
    payload_len: u32,
    content_type: u32,
    content_type_len: u32,
) -> Result<()> {
    let (guest, attempt) = parts(&mut call)?;
    let name = guest.text(name, name_len)?;
    let payload = guest.bytes(payload, payload_len)?;
    let content_type = guest.text(content_type, content_type_len)?;
    let limits = &attempt.header.limits;
    if attempt.records.len() >= limits.records as usize {
        return Err(attempt.refuse_output("limit of telemetry records per attempt reached"));
    }
    let bytes = name.len() + payload.len() + content_type.len();
    if !within(&mut attempt.record_bytes, bytes, limits.record_bytes) {
        return Err(attempt.refuse_output("limit of telemetry bytes per attempt reached"));
    }
    attempt.header.grants.check_record(name).map_err(|fault| attempt.refuse(fault))?;
    attempt.records.push(Record {
        name: name.to_owned(),
        payload: payload.to_owned(),
        content_type: content_type.to_owned(),
    });
    Ok(())
}

fn log(mut call: Call<'_>, level: u32, text: u32, text_len: u32) -> Result<()> {
    let (guest, attempt) = parts(&mut call)?;
    let text = guest.text(text, text_len)?;
    let level = match level {
        0 => LogLevel::Trace,
        1 => LogLevel::Debug,
        2 => LogLevel::Info,
        3 => LogLevel::Warn,
        4 => LogLevel::Error,
        5 => LogLevel::Panic,
        _ => return Err(no_such_case()),
    };
    if level == LogLevel::Panic {
        attempt.panic = Some(cut(text, PANIC_BYTES_MAX));
    }
    let limit = attempt.header.limits.log_bytes;
    if !within(&mut attempt.log_bytes, text.len() + LINE_BYTES, limit) {
        return Err(attempt.refuse_output("limit of log text per attempt reached"));
    }
    attempt.logs.push(LogLine { level, text: text.to_owned() });
    Ok(())
}

fn no_batch(mut call: Call<'_>) -> Result<()> {
    let (_, attempt) = parts(&mut call)?;
    let message = "a device takes single events: `batch` must not be called".to_owned();
    Err(attempt.refuse(Fault { kind: FaultKind::Denied, message }))
}

/// The function's memory, and its attempt.
fn parts<'a>(call: &'a mut Call<'_>) -> Result<(Lift<'a>, &'a mut Attempt)> {
    let attempt = call.data();
    let guest = attempt.guest.as_ref().filter(|_| attempt.may_call);
    let memory = guest.ok_or_else(|| Error::msg("a call while none is allowed"))?.memory;
    let (memory, attempt) = memory.data_and_store_mut(call);
    Ok((Lift(memory), attempt))
}

fn lower(call: Call<'_>) -> Result<Lower<Call<'_>>> {
    let guest = call.data().guest.clone();
    let guest = guest.ok_or_else(|| Error::msg("a call while none is allowed"))?;
    Ok(Lower { store: call, guest })
}

/// Adds to a counter and says whether it is still within its limit.
fn within(counter: &mut usize, bytes: usize, max: u32) -> bool {
    *counter = counter.saturating_add(bytes);
    *counter <= max as usize
}

impl Attempt {
    fn refuse(&mut self, fault: Fault) -> Error {
        self.refused.get_or_insert(fault);
        Error::msg("a refused call")
    }

    fn refuse_output(&mut self, message: &str) -> Error {
        self.refuse(Fault { kind: FaultKind::Outputs, message: message.to_owned() })
    }

    fn refuse_state(&mut self, refusal: Refusal) -> Error {
        self.refuse_output(refusal.message())
    }

    fn check_state(&mut self) -> Result<()> {
        self.header.grants.check_state().map_err(|fault| self.refuse(fault))
    }

    fn set_state(&mut self, key: &str, value: Option<&[u8]>) -> Result<()> {
        self.check_state()?;
        let set = self.session.set(key, value, &self.header.limits);
        set.map_err(|refusal| self.refuse_state(refusal))
    }
}
