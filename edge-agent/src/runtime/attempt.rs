//! One attempt: a fresh sandbox, one call, one report.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use edge_core::effect::{Member, Work};
use edge_core::id::LaneKey;
use edge_core::outcome::{Fault, FaultKind, Outcome};
use edge_core::time::ClockQuality;
use wasmtime::Store;

use super::engine::{TICK_MS, Ticker};
use super::fault;
use super::host::function::holm::function::types as wit;
use super::host::migrating::exports::holm::function::migration;
use super::host::{AttemptHost, cut};
use super::limits::{self, Key};
use super::prepared::{FunctionProfile, Prepared};
use super::session::{KEY_BYTES_MAX, StateSession};
use super::state::{StateDomain, StateView};

mod batch;

/// Longest reason of a retry or a reject.
const REASON_BYTES_MAX: usize = 4 << 10;

/// What a function is run on.
pub struct Attempt {
    /// The event, or the batch. Its jobs mean nothing here.
    pub work: Work,
    /// The lane it holds. A batch in a lane of its job's own has no order.
    pub lane: LaneKey,
    /// The applied state.
    pub state: Arc<dyn StateView>,
}

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its result; never an error.
    pub outcome: Outcome,
    /// Lines it logged, whatever the result.
    pub logs: Vec<LogLine>,
    /// What it used.
    pub stats: Stats,
}

/// What an attempt used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Time from making the sandbox to its removal, in microseconds.
    pub wall_us: u64,
    /// Largest size of its memory in bytes.
    pub memory_peak_bytes: u64,
}

/// A line that a function logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: LogLevel,
    /// The text, as the function wrote it.
    pub text: String,
    /// The event of the batch that it is about; `None`: the whole of it, or there is only one.
    pub of: Option<u16>,
}

/// Levels of the contract's `log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Every step.
    Trace,
    /// For finding a fault.
    Debug,
    /// Ordinary news.
    Info,
    /// Something is odd.
    Warn,
    /// Something failed.
    Error,
    /// Last words before a trap.
    Panic,
}

/// Runs one attempt on the calling thread.
pub(super) fn run(prepared: &Prepared, ticker: &Ticker, attempt: &Attempt) -> Report {
    let started = Instant::now();
    let domain = StateDomain {
        function: prepared.profile().function.clone(),
        state_version: prepared.profile().state_version,
        lane: attempt.lane.clone(),
    };
    let session = StateSession::new(Arc::clone(&attempt.state), domain);
    let mut store = store(prepared, Some(session));
    let ticking = ticker.begin();
    let called = match &attempt.work {
        Work::One(member) => handle(prepared, &mut store, member),
        Work::Batch(members) => {
            let in_order = !matches!(attempt.lane, LaneKey::Job(_));
            batch::handle(prepared, &mut store, members, in_order)
        }
    };
    drop(ticking);
    let outcome = called.unwrap_or_else(Outcome::Fault);
    let host = store.data_mut();
    let logs = host.take_logs();
    let memory_peak_bytes = host.memory.peak_bytes;
    drop(store);
    let wall_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    Report { outcome, logs, stats: Stats { wall_us, memory_peak_bytes } }
}

/// Carries one set of keys over to the version of `prepared`.
pub(super) fn migrate(
    prepared: &Prepared,
    ticker: &Ticker,
    old: &migration::OldState,
) -> Result<Vec<(String, Vec<u8>)>, Fault> {
    let Some(pre) = prepared.migrating() else {
        return Err(fault::of_host("the function exports no `migrate`".to_owned()));
    };
    let mut store = store(prepared, None);
    // The entries come back in one piece.
    let state_bytes = usize::try_from(prepared.profile().limits.state_bytes).unwrap_or(usize::MAX);
    store.set_hostcall_fuel(state_bytes.saturating_mul(2));
    let _ticking = ticker.begin();
    let instance =
        pre.instantiate(&mut store).map_err(|error| fault::of_start(&error, store.data_mut()))?;
    let migrated = instance
        .holm_function_migration()
        .call_migrate(&mut store, old)
        .map_err(|error| fault::of_call(&error, store.data_mut()))?;
    let entries = migrated.map_err(|reason| Fault {
        kind: FaultKind::Trap,
        message: format!("`migrate` refused: {}", short(&reason)),
    })?;
    check_migrated(prepared.profile(), &entries)?;
    Ok(entries)
}

/// Holds what `migrate` returned to the rules of `state.put`.
fn check_migrated(profile: &FunctionProfile, entries: &[(String, Vec<u8>)]) -> Result<(), Fault> {
    let mut keys = BTreeSet::new();
    let mut bytes = 0_u64;
    for (key, value) in entries {
        let in_bounds = (1..=KEY_BYTES_MAX).contains(&key.len());
        if !in_bounds || !keys.insert(key) {
            let message = format!(
                "`migrate` returned a key twice or one that has not 1 to {KEY_BYTES_MAX} bytes: \
                 `{}`",
                cut(key, KEY_BYTES_MAX)
            );
            return Err(Fault { kind: FaultKind::Outputs, message });
        }
        bytes = bytes.saturating_add((key.len() + value.len()) as u64);
    }
    if bytes > profile.limits.state_bytes {
        return Err(limits::reached(Key::StateBytes, &profile.limits, &profile.function));
    }
    Ok(())
}

fn store(prepared: &Prepared, session: Option<StateSession>) -> Store<AttemptHost> {
    let profile = prepared.profile();
    let limits = &profile.limits;
    let mut store = Store::new(prepared.engine(), AttemptHost::new(Arc::clone(profile), session));
    store.limiter(|host| &mut host.memory);
    store.set_hostcall_fuel(limits.call_bytes());
    // One more: the tick in which the attempt begins may end at once.
    let ticks = u64::from(limits.time_ms).div_ceil(TICK_MS) + 1;
    store.set_epoch_deadline(ticks);
    store
}

fn handle(
    prepared: &Prepared,
    store: &mut Store<AttemptHost>,
    member: &Member,
) -> Result<Outcome, Fault> {
    let Some(pre) = prepared.function() else {
        return Err(fault::of_host("the function takes no single event".to_owned()));
    };
    let instance =
        pre.instantiate(&mut *store).map_err(|error| fault::of_start(&error, store.data_mut()))?;
    let event = to_wit(member);
    let returned = instance
        .holm_function_handler()
        .call_handle(&mut *store, &event)
        .map_err(|error| fault::of_call(&error, store.data_mut()))?;
    Ok(match returned {
        Ok(()) => Outcome::Done(store.data_mut().take_outputs()),
        Err(failure) => failed(&failure),
    })
}

fn failed(failure: &wit::Failure) -> Outcome {
    match failure {
        wit::Failure::Retry(reason) => Outcome::Retry { reason: short(reason) },
        wit::Failure::Reject(reason) => Outcome::Reject { reason: short(reason) },
    }
}

fn to_wit(member: &Member) -> wit::Event {
    let event = &member.event;
    wit::Event {
        id: event.id.to_string(),
        trigger: short_trigger(event.trigger.as_str()).to_owned(),
        topic: event.topic.clone(),
        payload: event.payload.to_vec(),
        content_type: event.properties.content_type.clone(),
        properties: event.properties.user.clone(),
        device: event.device.as_ref().map(|device| device.as_str().to_owned()),
        time: wit::Timestamp {
            unix_ms: event.time.unix_ms,
            quality: match event.time.quality {
                ClockQuality::Unsynced | ClockQuality::Unknown => wit::ClockQuality::Unsynced,
                ClockQuality::Synced => wit::ClockQuality::Synced,
            },
        },
        attempt: member.tries.into(),
        hops: event.hops.into(),
        maybe_repeat: event.maybe_repeat,
    }
}

/// A trigger's name as its author wrote it, without the app.
fn short_trigger(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or_default()
}

fn short(reason: &str) -> String {
    cut(reason, REASON_BYTES_MAX).to_owned()
}
