//! What one attempt may use, and the words that tell its author when it was too much.
//!
//! Each limit is a setting of `[functions.NAME]` in `holm.toml` under its name here without the
//! unit's suffix where the unit is bytes of memory or time (see [`Key`]).

use std::fmt;

use edge_core::id::FunctionId;
use edge_core::outcome::{Fault, FaultKind};
use serde::{Deserialize, Serialize};
use wasmtime::ResourceLimiter;

/// Entries of a function's tables; a program's own tables are smaller by far.
const TABLE_ELEMENTS_MAX: usize = 10_000;

/// Bytes that one host call may hand over beyond the largest of its limits: names and frames.
const CALL_SLACK_BYTES: usize = 64 << 10;

/// Limits of one attempt of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Linear memory. Setting `memory`.
    pub memory_bytes: u64,
    /// Running time in ticks of 10 ms, host calls included. Setting `time`.
    pub time_ms: u32,
    /// Stack that the function was linked with; named in errors, in force since the build.
    /// Setting `stack`.
    pub stack_bytes: u32,
    /// Publishes. Setting `publishes`.
    pub publishes: u32,
    /// Topics, payloads and properties of all publishes. Setting `publish_bytes`.
    pub publish_bytes: u32,
    /// Telemetry records. Setting `records`.
    pub records: u32,
    /// Names and payloads of all records. Setting `record_bytes`.
    pub record_bytes: u32,
    /// Text of all log lines. Setting `log_bytes`.
    pub log_bytes: u32,
    /// Keys and values written by one attempt, and 128 bytes for each key and event that wrote it.
    /// Setting `state_write_bytes`.
    pub state_write_bytes: u32,
    /// Keys and values that the function may keep in all. Setting `state_bytes`.
    pub state_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 16 << 20,
            time_ms: 3_000,
            stack_bytes: 64 << 10,
            publishes: 64,
            publish_bytes: 256 << 10,
            records: 64,
            record_bytes: 256 << 10,
            log_bytes: 64 << 10,
            state_write_bytes: 1 << 20,
            state_bytes: 16 << 20,
        }
    }
}

impl Limits {
    /// Bytes that one host call may hand over; more is refused before it is copied.
    pub(super) fn call_bytes(&self) -> usize {
        let bytes = [self.publish_bytes, self.record_bytes, self.log_bytes, self.state_write_bytes];
        let largest = bytes.into_iter().max().unwrap_or_default();
        (largest as usize).saturating_add(CALL_SLACK_BYTES)
    }
}

/// A limit, named as in `holm.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Memory,
    Time,
    Stack,
    Publishes,
    PublishBytes,
    Records,
    RecordBytes,
    LogBytes,
    StateWriteBytes,
    StateBytes,
}

impl Key {
    /// The setting.
    pub(super) fn setting(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Time => "time",
            Self::Stack => "stack",
            Self::Publishes => "publishes",
            Self::PublishBytes => "publish_bytes",
            Self::Records => "records",
            Self::RecordBytes => "record_bytes",
            Self::LogBytes => "log_bytes",
            Self::StateWriteBytes => "state_write_bytes",
            Self::StateBytes => "state_bytes",
        }
    }

    fn kind(self) -> FaultKind {
        match self {
            Self::Memory => FaultKind::Memory,
            Self::Time => FaultKind::Timeout,
            Self::Stack => FaultKind::Stack,
            Self::Publishes
            | Self::PublishBytes
            | Self::Records
            | Self::RecordBytes
            | Self::LogBytes
            | Self::StateWriteBytes
            | Self::StateBytes => FaultKind::Outputs,
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::Memory => "memory limit",
            Self::Time => "time limit",
            Self::Stack => "stack limit",
            Self::Publishes => "limit of publishes per attempt",
            Self::PublishBytes => "limit of published bytes per attempt",
            Self::Records => "limit of telemetry records per attempt",
            Self::RecordBytes => "limit of telemetry bytes per attempt",
            Self::LogBytes => "limit of log text per attempt",
            Self::StateWriteBytes => "limit of state written per attempt",
            Self::StateBytes => "limit of state kept",
        }
    }

    fn amount(self, limits: &Limits) -> String {
        let bytes = |n: u64| Bytes(n).to_string();
        match self {
            Self::Memory => bytes(limits.memory_bytes),
            Self::Time => Duration(limits.time_ms).to_string(),
            Self::Stack => bytes(limits.stack_bytes.into()),
            Self::Publishes => limits.publishes.to_string(),
            Self::PublishBytes => bytes(limits.publish_bytes.into()),
            Self::Records => limits.records.to_string(),
            Self::RecordBytes => bytes(limits.record_bytes.into()),
            Self::LogBytes => bytes(limits.log_bytes.into()),
            Self::StateWriteBytes => bytes(limits.state_write_bytes.into()),
            Self::StateBytes => bytes(limits.state_bytes),
        }
    }
}

/// The fault of reaching `key`, with the setting that raises it.
pub(super) fn reached(key: Key, limits: &Limits, function: &FunctionId) -> Fault {
    let message = format!(
        "{} {} reached: raise `{}` in [functions.{}] of holm.toml",
        key.what(),
        key.amount(limits),
        key.setting(),
        short_name(function),
    );
    Fault { kind: key.kind(), message }
}

/// What is said of a call that handed over more than [`Limits::call_bytes`]: which call it was is
/// not known.
pub(super) fn call_reached(limits: &Limits, function: &FunctionId) -> String {
    format!(
        "limit of what one call hands over {} reached: raise `publish_bytes`, `record_bytes`, \
         `log_bytes` or `state_write_bytes`, whichever it fills, in [functions.{}] of holm.toml",
        Bytes(limits.call_bytes() as u64),
        short_name(function),
    )
}

/// The function's name within its app.
pub(super) fn short_name(function: &FunctionId) -> &str {
    function.as_str().rsplit('/').next().unwrap_or_default()
}

/// Bytes in the largest unit that divides them.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KIB: u64 = 1 << 10;
        const MIB: u64 = 1 << 20;
        match self.0 {
            n if n >= MIB && n % MIB == 0 => write!(f, "{} MiB", n / MIB),
            n if n >= KIB && n % KIB == 0 => write!(f, "{} KiB", n / KIB),
            n => write!(f, "{n} bytes"),
        }
    }
}

/// Milliseconds, as seconds where they are whole.
struct Duration(u32);

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms >= 1_000 && ms % 1_000 == 0 => write!(f, "{} s", ms / 1_000),
            ms => write!(f, "{ms} ms"),
        }
    }
}

/// Watches memory and tables of one sandbox. A refused growth ends the attempt: told `-1`, most
/// programs abort without a word about why.
#[derive(Debug)]
pub(super) struct MemoryLimiter {
    bytes_max: u64,
    /// Largest size so far.
    pub(super) peak_bytes: u64,
    /// A growth was refused.
    pub(super) refused: bool,
}

impl MemoryLimiter {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, peak_bytes: 0, refused: false }
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let desired = desired as u64;
        if desired > self.bytes_max {
            self.refused = true;
            return Err(wasmtime::Error::msg("memory limit"));
        }
        self.peak_bytes = self.peak_bytes.max(desired);
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_told_in_the_unit_that_fits() {
        let told = [0, 1023, 1024, 1025, 64 << 10, 1 << 20, (1 << 20) + 1024, 16 << 20];
        let told = told.map(|n| Bytes(n).to_string());
        let expected = [
            "0 bytes",
            "1023 bytes",
            "1 KiB",
            "1025 bytes",
            "64 KiB",
            "1 MiB",
            "1025 KiB",
            "16 MiB",
        ];
        assert_eq!(told, expected);
        assert_eq!(
            [3_000, 500, 1_500].map(|ms| Duration(ms).to_string()),
            ["3 s", "500 ms", "1500 ms"]
        );
    }

    #[test]
    fn memory_grows_to_its_limit_and_not_beyond() {
        let mut limiter = MemoryLimiter::new(128 << 10);
        assert!(limiter.memory_growing(0, 128 << 10, None).unwrap());
        assert!(limiter.memory_growing(128 << 10, 192 << 10, None).is_err());
        assert_eq!((limiter.peak_bytes, limiter.refused), (128 << 10, true));
    }
}
