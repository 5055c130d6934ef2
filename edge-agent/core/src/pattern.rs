//! Event filters: which events of a trigger are worth a sandbox.
//!
//! A filter is a list of patterns in the grammar of AWS event patterns; an event is wanted if any
//! of them matches. A pattern has the shape of the event. A field holds an array of what it may
//! be: the values of an array are ORed, the fields of an object are ANDed, `$or` ORs objects.
//!
//! | what stands in the array | matches |
//! |---|---|
//! | `"text"`, `5`, `true`, `null` | that value; numbers by value: 300, 300.0 and 3e2 are one |
//! | `{"prefix": "a"}`, `{"suffix": "z"}` | text that begins or ends so |
//! | `{"equals-ignore-case": "abc"}` | text, by the lower case of each character |
//! | `{"wildcard": "a*z"}` | text; `*` is any number of characters, `\*` and `\\` are themselves |
//! | `{"numeric": [">", 0, "<=", 5]}` | numbers; `=`, or one or two ends |
//! | `{"anything-but": X}` | any value that is none of X: a value, a list, or an object with `prefix`, `suffix`, `equals-ignore-case` or `wildcard` of a text or a list |
//! | `{"exists": true}` | the field is there, whatever it holds; `false`: it is not |
//!
//! The event is an object of `topic`, `device`, `content_type` (texts; the last two may be
//! missing), `properties` (an object of texts) and `body`, the payload read as JSON.
//!
//! # Rules
//! - A field that is an array matches if any of its elements does; an object in a pattern must
//!   match one element as a whole.
//! - An object, an array of none, or `null` is *there* for `exists`; only plain values match the
//!   others.
//! - A key that stands in an object twice counts as it stood last.
//! - Where the payload is not JSON, or too much to look at (below), patterns that name `body`
//!   do not match.
//!
//! # Bounds
//! - [`PATTERNS_MAX`] patterns of [`PATTERN_BYTES_MAX`] and [`DEPTH_MAX`] levels, [`TESTS_MAX`]
//!   values in all.
//! - An event costs time linear in its payload, plus at most [`WORK_MAX`]: each value at a named
//!   field costs its bytes and 16 for each of the tests there. Unnamed fields are skipped without
//!   recursion; named ones are read to 127 levels.

mod compile;
mod explain;
mod number;
mod parse;
mod position;
mod read;
mod value;
mod wildcard;

#[cfg(test)]
mod tests;

use std::cell::Cell;

use serde_json::Value;

pub use compile::PatternProblem;
pub use explain::{Miss, misses};

use position::{Clause, Position, holds};
use value::Scalar;

/// Patterns of one filter.
pub const PATTERNS_MAX: usize = 5;
/// Bytes of one pattern, as JSON without spaces.
pub const PATTERN_BYTES_MAX: usize = 4_096;
/// Levels of objects of one pattern, `$or` included.
pub const DEPTH_MAX: usize = 10;
/// Values of all patterns of a filter.
pub const TESTS_MAX: usize = 256;
/// Conditions on one field over all patterns of a filter.
pub const CONDITIONS_MAX: usize = 64;
/// Work on one event, in about a nanosecond each.
pub const WORK_MAX: u64 = 4 << 20;

/// What a filter looks at.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'e> {
    /// Topic of the message.
    pub topic: &'e str,
    /// The device, where there is one.
    pub device: Option<&'e str>,
    /// Media type, where the sender named one.
    pub content_type: Option<&'e str>,
    /// User properties; a name may come several times.
    pub properties: &'e [(String, String)],
    /// The payload.
    pub payload: &'e [u8],
}

/// What a filter says of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A pattern matches.
    Wanted,
    /// None does.
    Unwanted,
    /// None does; one might have, but the payload is not JSON, or the event is too much to look
    /// at.
    NotJson,
}

/// The patterns of one trigger, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFilter {
    root: Position,
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    clauses: Vec<Clause>,
    names_body: bool,
}

impl EventFilter {
    /// Compiles patterns, at least one.
    ///
    /// # Errors
    /// All problems of all patterns, each with the path to its field.
    pub fn compile(patterns: &[Value]) -> Result<Self, Vec<PatternProblem>> {
        compile::compile(patterns)
    }

    /// Whether an event is wanted. The payload is read only if a pattern depends on it.
    #[must_use]
    pub fn judge(&self, event: &Subject<'_>) -> Verdict {
        let work = Cell::new(WORK_MAX);
        let mut bits = vec![0; self.root.children.len()];
        let mut body = None;
        for (name, index) in &self.root.names {
            let field = &self.root.children[*index];
            let read = match name.as_str() {
                "topic" => field.scalar(Scalar::Text(event.topic), &work),
                "device" => text(field, event.device, &work),
                "content_type" => text(field, event.content_type, &work),
                "properties" => read::properties(field, event.properties, &work),
                _ => {
                    // As good as it can get: the payload is not read where that is not enough.
                    body = Some((*index, field));
                    Some(u64::MAX)
                }
            };
            let Some(read) = read else { return Verdict::NotJson };
            bits[*index] = read;
        }
        let any = |bits: &[u64], bodiless: bool| {
            let open = |pattern: &&Pattern| !(bodiless && pattern.names_body);
            self.patterns.iter().filter(open).any(|pattern| holds(&pattern.clauses, bits))
        };
        let Some((index, field)) = body.filter(|_| any(&bits, false)) else {
            return if body.is_none() && any(&bits, false) {
                Verdict::Wanted
            } else {
                Verdict::Unwanted
            };
        };
        let read = read::body(field, event.payload, &work);
        bits[index] = read.unwrap_or_default();
        match (any(&bits, read.is_none()), read) {
            (true, _) => Verdict::Wanted,
            (false, Some(_)) => Verdict::Unwanted,
            (false, None) => Verdict::NotJson,
        }
    }
}

fn text(field: &Position, text: Option<&str>, work: &Cell<u64>) -> Option<u64> {
    match text {
        Some(text) => field.scalar(Scalar::Text(text), work),
        None => Some(field.absent),
    }
}
