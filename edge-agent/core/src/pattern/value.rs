//! Plain values of an event, and what a pattern says of one.

use std::cmp::Ordering;

use super::number::Number;
use super::wildcard::Wildcard;

/// A value that is neither object nor array.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scalar<'e> {
    Null,
    Bool(bool),
    Number(Number),
    Text(&'e str),
}

impl Scalar<'_> {
    pub(super) fn bytes(&self) -> usize {
        if let Self::Text(text) = self { text.len() } else { 0 }
    }
}

/// One end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) at: Number,
    /// The end itself belongs to the range.
    pub(super) closed: bool,
}

/// One value of a pattern's array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    Prefix(String),
    Suffix(String),
    /// In lower case.
    IgnoreCase(String),
    Wildcard(Wildcard),
    Range {
        low: Option<End>,
        high: Option<End>,
    },
    AnythingBut(Vec<Test>),
    Exists(bool),
}

impl Test {
    pub(super) fn ignore_case(text: &str) -> Self {
        Self::IgnoreCase(lower(text).collect())
    }

    pub(super) fn matches(&self, value: &Scalar<'_>) -> bool {
        match (self, value) {
            (Self::Exists(there), _) => *there,
            (Self::AnythingBut(tests), value) => !tests.iter().any(|test| test.matches(value)),
            (Self::Null, Scalar::Null) => true,
            (Self::Bool(one), Scalar::Bool(two)) => one == two,
            (Self::Number(one), Scalar::Number(two)) => one == two,
            (Self::Range { low, high }, Scalar::Number(number)) => within(*number, *low, *high),
            (Self::Text(one), Scalar::Text(two)) => one == two,
            (Self::Prefix(start), Scalar::Text(text)) => text.starts_with(start.as_str()),
            (Self::Suffix(end), Scalar::Text(text)) => text.ends_with(end.as_str()),
            (Self::IgnoreCase(one), Scalar::Text(text)) => one.chars().eq(lower(text)),
            (Self::Wildcard(wildcard), Scalar::Text(text)) => wildcard.matches(text),
            _ => false,
        }
    }

    /// Tests it stands for, for the bounds.
    pub(super) fn weight(&self) -> usize {
        if let Self::AnythingBut(tests) = self { tests.len() } else { 1 }
    }
}

fn within(number: Number, low: Option<End>, high: Option<End>) -> bool {
    let holds = |end: Option<End>, side: Ordering| {
        end.is_none_or(|end| match number.compare(end.at) {
            Ordering::Equal => end.closed,
            other => other == side,
        })
    };
    holds(low, Ordering::Greater) && holds(high, Ordering::Less)
}

fn lower(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_lowercase)
}
