//! Schedule expressions.

use edge_core::schedule::Schedule;

use crate::bytes_reader::BytesReader;

/// A slot after a moment is after it, the last slot before that slot is not after the moment, and
/// what was understood is understood again.
pub(super) fn run(bytes: &[u8]) {
    let mut reader = BytesReader::new(bytes);
    // Up to the year 2200: later ones have no meaning to people.
    let at = reader.u64() % 7_258_118_400;
    let Ok(text) = std::str::from_utf8(reader.rest()) else { return };
    let Ok(schedule) = Schedule::parse(text) else { return };
    let again = Schedule::parse(schedule.as_str());
    assert_eq!(again.as_ref(), Ok(&schedule), "its own text is the same schedule");
    let Some(next) = schedule.next_after(at) else { return };
    assert!(next > at, "{text}: the slot after {at} is {next}");
    let last = schedule.last_at_or_before(next);
    assert_eq!(last, Some(next), "{text}: {next} is a slot");
    if let Some(before) = schedule.last_at_or_before(next - 1) {
        assert!(before <= at, "{text}: no slot lies between {at} and {next}, but {before}");
    }
}
