//! `[disk]`: how flash is spared.

use edge_core::time::Millis;

use crate::toml_reader::{Problems, Section};

/// Longest interval: who waits for an ack gives up sooner or later.
const INTERVAL_MS_MAX: u64 = 5_000;
const ENDURANCE_BYTES_MIN: u64 = 1 << 30;
const ENDURANCE_BYTES_MAX: u64 = 1 << 50;

/// How flash is spared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// From one batch that is written to the next, at least.
    pub commit_interval_ms_min: Millis,
    /// Bytes that may be written to the disk over its life; `None`: 300 times its size.
    pub endurance_bytes: Option<u64>,
}

pub(super) fn read(root: &mut Section<'_, '_>, problems: &mut Problems<'_>) -> Disk {
    let Some(mut section) = root.section("disk", problems) else { return Disk::default() };
    let interval = section.duration_ms_within("commit_interval", 0..=INTERVAL_MS_MAX, problems);
    let endurance_bytes =
        section.bytes_within("endurance", ENDURANCE_BYTES_MIN..=ENDURANCE_BYTES_MAX, problems);
    section.finish(problems);
    Disk { commit_interval_ms_min: Millis(interval.unwrap_or_default()), endurance_bytes }
}
