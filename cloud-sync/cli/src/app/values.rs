//! Reads values with units, choices and ranges; each mistake is a problem with its place.

use std::ops::RangeInclusive;

use edge_agent::toml_reader::{At, Problems, Section};

/// A string that must be there; its absence is a problem once.
pub(super) fn needed(
    section: &mut Section<'_, '_>,
    key: &'static str,
    problems: &mut Problems<'_>,
) -> Option<At<String>> {
    let at = section.required(key, problems);
    if at.value.is_empty() && at.span == section.span() { None } else { Some(at) }
}

type Reader = for<'a, 't> fn(&mut Section<'a, 't>, &'static str, &mut Problems<'_>) -> Option<u64>;

/// How a number with a unit is read and shown.
#[derive(Clone, Copy)]
pub(super) struct Unit {
    read: Reader,
    show: fn(u64) -> String,
}

/// Bytes.
pub(super) const SIZE: Unit =
    Unit { read: |section, key, problems| section.bytes(key, problems), show: crate::out::size };

/// Milliseconds.
pub(super) const DURATION: Unit = Unit {
    read: |section, key, problems| section.duration_ms(key, problems),
    show: crate::out::duration_ms,
};

/// A value with a unit within a range; outside it the problem names both ends.
pub(super) fn in_range(
    section: &mut Section<'_, '_>,
    key: &'static str,
    unit: Unit,
    range: RangeInclusive<u64>,
    problems: &mut Problems<'_>,
) -> Option<u64> {
    let span = section.span_of(key);
    let value = (unit.read)(section, key, problems)?;
    if range.contains(&value) {
        return Some(value);
    }
    let (low, high) = ((unit.show)(*range.start()), (unit.show)(*range.end()));
    problems.add(&span, format!("`{key}` must be between {low} and {high}"));
    None
}

/// One of some words; the default without the key.
pub(super) fn one_of<T: Copy + Default>(
    section: &mut Section<'_, '_>,
    key: &'static str,
    choices: &[(&str, T)],
    problems: &mut Problems<'_>,
) -> T {
    let at = section.string(key, problems);
    at.and_then(|at| choose(key, &at, choices, problems)).unwrap_or_default()
}

/// What a word stands for.
pub(super) fn choose<T: Copy>(
    key: &str,
    at: &At<String>,
    choices: &[(&str, T)],
    problems: &mut Problems<'_>,
) -> Option<T> {
    let found = choices.iter().find(|(name, _)| *name == at.value).map(|(_, value)| *value);
    if found.is_none() {
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        problems.add(&at.span, format!("`{key}` must be one of {}", names.join(", ")));
    }
    found
}

/// A number whose range was checked, in its own type.
pub(super) fn small<T: TryFrom<u64>>(number: Option<u64>) -> Option<T> {
    number.and_then(|number| T::try_from(number).ok())
}
