//! Reads `batch` of a trigger.

use std::ops::Range;

use edge_agent::toml_reader::{Problems, Section};
use sync_protocol::limits;
use sync_protocol::manifest::{Batch, Retry, Source};

use super::values::{DURATION, SIZE, in_range, small};

/// The batches of a trigger; `None` without the key.
pub(super) fn read(section: &mut Section<'_, '_>, problems: &mut Problems<'_>) -> Option<Batch> {
    let default = Batch::default();
    let mut table = section.section("batch", problems)?;
    let size = table.number("size", 1..=limits::BATCH_SIZE_MAX.into(), problems);
    let windows = 0..=limits::BATCH_WINDOW_MS_MAX.into();
    let window = in_range(&mut table, "window", DURATION, windows, problems);
    let sizes = limits::BATCH_BYTES_MIN.into()..=limits::BATCH_BYTES_MAX.into();
    let bytes = in_range(&mut table, "bytes", SIZE, sizes, problems);
    let bisect = table.boolean("bisect", problems);
    table.finish(problems);
    Some(Batch {
        size_max: small(size).unwrap_or(default.size_max),
        window_ms: small(window).unwrap_or(default.window_ms),
        bytes_max: small(bytes).unwrap_or(default.bytes_max),
        bisect: bisect.unwrap_or(default.bisect),
    })
}

/// Events that wait for others must not be given up for it.
pub(super) fn is_in_time(
    span: &Range<usize>,
    source: &Source,
    retry: &Retry,
    problems: &mut Problems<'_>,
) {
    let Source::Mqtt(source) = source else { return };
    if source.batch.is_some_and(|batch| u64::from(batch.window_ms) >= retry.age_ms_max) {
        let why = "`window` of `batch` must be shorter than `max_age`: events would be given up \
                   while they wait for others";
        problems.add(span, why);
    }
}
