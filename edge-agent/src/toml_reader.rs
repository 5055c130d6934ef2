//! Reads a TOML file so that *all* its problems are reported at once, each with its line, and an
//! unknown key names the nearest known one.
//!
//! A [`Section`] is asked for the keys it may hold; what nobody asked for is an unknown key. So the
//! list of known keys can never differ from the keys that are read.

mod json;

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong and how to mend it.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

/// Collects the problems of one file.
#[derive(Debug)]
pub struct Problems<'t> {
    text: &'t str,
    found: Vec<Problem>,
}

impl<'t> Problems<'t> {
    /// For a file with this text.
    #[must_use]
    pub fn new(text: &'t str) -> Self {
        Self { text, found: Vec::new() }
    }

    /// Notes a problem at a byte range of the file.
    pub fn add(&mut self, span: &Range<usize>, message: impl Into<String>) {
        let upto = &self.text.as_bytes()[..span.start.min(self.text.len())];
        let line = upto.iter().filter(|byte| **byte == b'\n').count() + 1;
        self.found.push(Problem { line, message: message.into() });
    }

    /// Whether nothing was wrong so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All problems in the order of the file.
    #[must_use]
    pub fn into_sorted(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|problem| problem.line);
        self.found
    }

    /// Parses the text; a syntax error becomes the only problem.
    pub fn parse(&mut self) -> Option<Spanned<DeTable<'t>>> {
        match DeTable::parse(self.text) {
            Ok(table) => Some(table),
            Err(err) => {
                let span = err.span().unwrap_or(0..0);
                self.add(&span, format!("not valid TOML: {}", err.message()));
                None
            }
        }
    }
}

/// A value that was read, with its place.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Byte range in the file.
    pub span: Range<usize>,
}

/// A table that is being read.
#[derive(Debug)]
pub struct Section<'a, 't> {
    name: String,
    span: Range<usize>,
    left: BTreeMap<&'a str, (Range<usize>, &'a Spanned<DeValue<'t>>)>,
    known: Vec<&'static str>,
}

impl<'a, 't> Section<'a, 't> {
    /// The root table of a file.
    #[must_use]
    pub fn root(table: &'a Spanned<DeTable<'t>>) -> Self {
        Self::new(String::new(), table.span(), table.get_ref())
    }

    fn new(name: String, span: Range<usize>, table: &'a DeTable<'t>) -> Self {
        let left = table
            .iter()
            .map(|(key, value)| (key.get_ref().as_ref(), (key.span(), value)))
            .collect();
        Self { name, span, left, known: Vec::new() }
    }

    /// Where the table begins.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Where the value of a key stands; the table's own place without it.
    #[must_use]
    pub fn span_of(&self, key: &str) -> Range<usize> {
        self.left.get(key).map_or_else(|| self.span(), |(_, value)| value.span())
    }

    fn take(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'t>>> {
        self.known.push(key);
        self.left.remove(key).map(|(_, value)| value)
    }

    fn typed<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        problems: &mut Problems<'_>,
        read: impl FnOnce(&'a DeValue<'t>) -> Option<T>,
    ) -> Option<At<T>> {
        let value = self.take(key)?;
        let span = value.span();
        let Some(read) = read(value.get_ref()) else {
            problems.add(&span, format!("`{key}` must be {wanted}"));
            return None;
        };
        Some(At { value: read, span })
    }

    /// A string.
    pub fn string(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<At<String>> {
        self.typed(key, "a string", problems, |value| value.as_str().map(str::to_owned))
    }

    /// A string that must be there.
    pub fn required(&mut self, key: &'static str, problems: &mut Problems<'_>) -> At<String> {
        let span = self.span();
        if !self.left.contains_key(key) {
            problems.add(&span, format!("{} needs `{key}`", self.title()));
        }
        self.string(key, problems).unwrap_or(At { value: String::new(), span })
    }

    /// A boolean.
    pub fn boolean(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<bool> {
        self.typed(key, "true or false", problems, DeValue::as_bool).map(|at| at.value)
    }

    /// A whole number within a range; outside it the problem names both ends.
    pub fn number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        problems: &mut Problems<'_>,
    ) -> Option<u64> {
        let at = self.typed(key, "a whole number", problems, |value| {
            let integer = value.as_integer()?;
            u64::from_str_radix(integer.as_str(), integer.radix()).ok()
        })?;
        if range.contains(&at.value) {
            return Some(at.value);
        }
        let (low, high) = (range.start(), range.end());
        problems.add(&at.span, format!("`{key}` must be between {low} and {high}"));
        None
    }

    /// A number, whole or not, within a range; outside it the problem names both ends.
    pub fn decimal(
        &mut self,
        key: &'static str,
        range: RangeInclusive<f64>,
        problems: &mut Problems<'_>,
    ) -> Option<f64> {
        let at = self.typed(key, "a number", problems, |value| match value {
            DeValue::Float(number) => number.as_str().replace('_', "").parse().ok(),
            DeValue::Integer(number) if number.radix() == 10 => {
                number.as_str().replace('_', "").parse().ok()
            }
            _ => None,
        })?;
        if range.contains(&at.value) {
            return Some(at.value);
        }
        let (low, high) = (range.start(), range.end());
        problems.add(&at.span, format!("`{key}` must be between {low} and {high}"));
        None
    }

    /// A size such as `"16 MiB"`, in bytes.
    pub fn bytes(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<u64> {
        self.with_unit(key, "a size such as \"16 MiB\"", &SIZE_UNITS, problems)
    }

    /// A duration such as `"3 s"`, in milliseconds.
    pub fn duration_ms(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<u64> {
        self.with_unit(key, "a duration such as \"3 s\"", &TIME_UNITS, problems)
    }

    /// A size in bytes within a range; outside it the problem names both ends.
    pub fn bytes_within(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        problems: &mut Problems<'_>,
    ) -> Option<u64> {
        let span = self.span_of(key);
        let value = self.bytes(key, problems)?;
        within(key, value, &range, &SIZE_UNITS, &span, problems)
    }

    /// A duration in milliseconds within a range; outside it the problem names both ends.
    pub fn duration_ms_within(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        problems: &mut Problems<'_>,
    ) -> Option<u64> {
        let span = self.span_of(key);
        let value = self.duration_ms(key, problems)?;
        within(key, value, &range, &TIME_UNITS, &span, problems)
    }

    fn with_unit(
        &mut self,
        key: &'static str,
        wanted: &str,
        units: &[(&str, u64)],
        problems: &mut Problems<'_>,
    ) -> Option<u64> {
        let at = self.string(key, problems)?;
        let parsed = parse_unit(&at.value, units);
        if parsed.is_none() {
            let names: Vec<_> = units.iter().map(|(name, _)| *name).collect();
            let names = names.join(", ");
            problems.add(&at.span, format!("`{key}` must be {wanted} (units: {names})"));
        }
        parsed
    }

    /// An array of strings.
    pub fn strings(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Vec<At<String>> {
        let wanted = "an array of strings";
        let Some(list) = self.typed(key, wanted, problems, DeValue::as_array) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for item in list.value {
            match item.get_ref().as_str() {
                Some(text) => found.push(At { value: text.to_owned(), span: item.span() }),
                // The others are read all the same: their problems are told too.
                None => problems.add(&item.span(), format!("`{key}` must be {wanted}")),
            }
        }
        found
    }

    /// An array of anything, each item as JSON; what JSON cannot say is a problem.
    pub fn values(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Vec<At<Value>> {
        let Some(list) = self.typed(key, "an array", problems, DeValue::as_array) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for item in list.value {
            match json::of(item) {
                Ok(value) => found.push(At { value, span: item.span() }),
                Err((span, why)) => problems.add(&span, format!("`{key}`: {why}")),
            }
        }
        found
    }

    /// A table.
    pub fn section(
        &mut self,
        key: &'static str,
        problems: &mut Problems<'_>,
    ) -> Option<Section<'a, 't>> {
        let name = self.nested(key);
        let at = self.typed(key, "a table", problems, DeValue::as_table)?;
        Some(Section::new(format!("[{name}]"), at.span, at.value))
    }

    /// An array of tables.
    pub fn sections(
        &mut self,
        key: &'static str,
        problems: &mut Problems<'_>,
    ) -> Vec<Section<'a, 't>> {
        let name = self.nested(key);
        let list = self.typed(key, "an array of tables", problems, |value| {
            let items = value.as_array()?.iter();
            items
                .map(|item| {
                    let table = item.get_ref().as_table()?;
                    Some(Section::new(format!("[[{name}]]"), item.span(), table))
                })
                .collect::<Option<Vec<_>>>()
        });
        list.map(|at| at.value).unwrap_or_default()
    }

    /// The tables of a table whose keys are free names (`[functions.NAME]`).
    pub fn named_sections(
        &mut self,
        key: &'static str,
        problems: &mut Problems<'_>,
    ) -> Vec<(At<String>, Section<'a, 't>)> {
        let name = self.nested(key);
        let Some(table) = self.typed(key, "a table", problems, DeValue::as_table) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for (key, value) in table.value {
            let (key, span) = (At { value: key.to_string(), span: key.span() }, value.span());
            match value.get_ref().as_table() {
                Some(inner) => {
                    let title = format!("[{name}.{}]", key.value);
                    found.push((key, Section::new(title, span, inner)));
                }
                None => problems.add(&span, format!("`{name}.{}` must be a table", key.value)),
            }
        }
        found
    }

    /// A table of free names with strings, numbers or booleans, each as text.
    pub fn texts(
        &mut self,
        key: &'static str,
        problems: &mut Problems<'_>,
    ) -> BTreeMap<String, String> {
        let Some(table) = self.typed(key, "a table", problems, DeValue::as_table) else {
            return BTreeMap::new();
        };
        let mut found = BTreeMap::new();
        for (name, value) in table.value {
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(number) => number.to_string(),
                DeValue::Float(number) => number.to_string(),
                DeValue::Boolean(truth) => truth.to_string(),
                DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                    let wanted = "a string, a number or a boolean";
                    problems.add(&value.span(), format!("`{key}.{name}` must be {wanted}"));
                    continue;
                }
            };
            found.insert(name.to_string(), text);
        }
        found
    }

    /// Must be called last: every key that was not asked for is a problem.
    pub fn finish(self, problems: &mut Problems<'_>) {
        let title = self.title();
        for (key, (span, _)) in &self.left {
            let nearest = self
                .known
                .iter()
                .map(|known| (strsim::damerau_levenshtein(key, known), known))
                .filter(|(distance, known)| *distance <= 2.max(known.len() / 3))
                .min();
            let hint = match nearest {
                Some((_, known)) => format!("did you mean `{known}`?"),
                None => format!("known keys: {}", self.known.join(", ")),
            };
            problems.add(span, format!("unknown key `{key}` in {title}: {hint}"));
        }
    }

    fn nested(&self, key: &str) -> String {
        let own = self.name.trim_matches(['[', ']']);
        if own.is_empty() { key.to_owned() } else { format!("{own}.{key}") }
    }

    fn title(&self) -> String {
        if self.name.is_empty() { "the top level".to_owned() } else { self.name.clone() }
    }
}

const SIZE_UNITS: [(&str, u64); 4] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
const TIME_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A duration such as `"3 s"`, in milliseconds.
#[must_use]
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    parse_unit(text, &TIME_UNITS)
}

fn within(
    key: &str,
    value: u64,
    range: &RangeInclusive<u64>,
    units: &[(&str, u64)],
    span: &Range<usize>,
    problems: &mut Problems<'_>,
) -> Option<u64> {
    if range.contains(&value) {
        return Some(value);
    }
    let [low, high] = [range.start(), range.end()].map(|end| in_units(*end, units));
    problems.add(span, format!("`{key}` must be between \"{low}\" and \"{high}\""));
    None
}

/// In the largest unit that leaves a whole number.
fn in_units(value: u64, units: &[(&str, u64)]) -> String {
    if value == 0 {
        return "0".to_owned();
    }
    let whole = units.iter().rev().find(|(_, factor)| value.is_multiple_of(*factor));
    whole.map_or_else(|| value.to_string(), |(unit, factor)| format!("{} {unit}", value / factor))
}

fn parse_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim_start();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

#[cfg(test)]
mod tests;
