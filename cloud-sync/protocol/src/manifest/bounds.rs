//! What one attempt of a function may take, and when a function that faults is paused.

use serde::{Deserialize, Serialize};

use crate::limits::{
    CONCURRENCY_DEFAULT, LOG_BYTES_DEFAULT, MEMORY_BYTES_DEFAULT, PAUSE_AFTER_DEFAULT,
    PAUSE_MS_MAX_DEFAULT, PAUSE_MS_MIN_DEFAULT, PUBLISH_BYTES_DEFAULT, PUBLISHES_DEFAULT,
    RECORD_BYTES_DEFAULT, RECORDS_DEFAULT, STACK_BYTES_DEFAULT, STATE_BYTES_DEFAULT,
    STATE_WRITE_BYTES_DEFAULT, TIME_MS_DEFAULT,
};

/// Bounds of one attempt, and of the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Linear memory.
    pub memory_bytes: u64,
    /// Wall time.
    pub time_ms: u32,
    /// Stack that it was linked with, for errors to name.
    pub stack_bytes: u32,
    /// Publishes.
    pub publishes: u32,
    /// Bytes of these.
    pub publish_bytes: u32,
    /// Telemetry records.
    pub records: u32,
    /// Bytes of these.
    pub record_bytes: u32,
    /// Bytes of log lines.
    pub log_bytes: u32,
    /// Bytes of state written by one attempt.
    pub state_write_bytes: u32,
    /// Bytes of state of the whole function.
    pub state_bytes: u64,
    /// Attempts in work at once.
    pub concurrency: u16,
    /// Of these, so many workers of the gateway are kept free for it. Left out of the bytes where
    /// it is 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub reserved: u16,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(n: &u16) -> bool {
    *n == 0
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: MEMORY_BYTES_DEFAULT,
            time_ms: TIME_MS_DEFAULT,
            stack_bytes: STACK_BYTES_DEFAULT,
            publishes: PUBLISHES_DEFAULT,
            publish_bytes: PUBLISH_BYTES_DEFAULT,
            records: RECORDS_DEFAULT,
            record_bytes: RECORD_BYTES_DEFAULT,
            log_bytes: LOG_BYTES_DEFAULT,
            state_write_bytes: STATE_WRITE_BYTES_DEFAULT,
            state_bytes: STATE_BYTES_DEFAULT,
            concurrency: CONCURRENCY_DEFAULT,
            reserved: 0,
        }
    }
}

/// When a function that faults is paused, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pause {
    /// Events in a row that fault.
    pub after: u16,
    /// The first pause in milliseconds; it doubles with every failed try.
    pub ms_min: u64,
    /// The longest one.
    pub ms_max: u64,
}

impl Default for Pause {
    fn default() -> Self {
        Self {
            after: PAUSE_AFTER_DEFAULT,
            ms_min: PAUSE_MS_MIN_DEFAULT,
            ms_max: PAUSE_MS_MAX_DEFAULT,
        }
    }
}

impl Pause {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
