//! Topic names, topic filters and the index that finds the filters a topic matches
//! (MQTT 5, 4.7; the same rules as 3.1.1).
//!
//! # Invariants
//! - A [`Topic`] and a [`TopicFilter`] are valid by construction, whatever they were read from.
//! - At most [`TOPIC_BYTES_MAX`] bytes and [`TOPIC_LEVELS_MAX`] levels: less than the protocol
//!   allows, so that a hostile name can neither fill memory nor deepen the index.
//! - `+` and `#` at the first level match no topic that begins with `$` [MQTT-4.7.2-1].

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

mod trie;

pub use trie::FilterTrie;

#[cfg(test)]
mod tests;

/// Longest topic name or filter accepted, in bytes of UTF-8 (the protocol's own bound is 65,535).
pub const TOPIC_BYTES_MAX: usize = 1_024;

/// Most levels of a topic name or filter.
pub const TOPIC_LEVELS_MAX: usize = 32;

/// Why a text is no topic name or no topic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TopicError {
    /// [MQTT-4.7.3-1]
    #[error("a topic must have at least one character")]
    Empty,
    /// Over [`TOPIC_BYTES_MAX`].
    #[error("a topic has at most {TOPIC_BYTES_MAX} bytes")]
    TooLong,
    /// Over [`TOPIC_LEVELS_MAX`].
    #[error("a topic has at most {TOPIC_LEVELS_MAX} levels")]
    TooManyLevels,
    /// [MQTT-4.7.3-2]
    #[error("a topic must not contain the null character")]
    Null,
    /// [MQTT-3.3.2-2]
    #[error("a topic name must not contain the wildcards + and #")]
    Wildcard,
    /// [MQTT-4.7.1-2]
    #[error("+ must fill a whole level of a filter")]
    PlusInsideLevel,
    /// [MQTT-4.7.1-1]
    #[error("# must be the whole last level of a filter")]
    HashNotLast,
    /// [MQTT-4.8.2-1] [MQTT-4.8.2-2]
    #[error("a shared filter is $share/NAME/FILTER, with a name without wildcards and a filter")]
    Share,
}

/// What the filter of a shared subscription begins with.
const SHARE: &str = "$share/";

/// A valid topic name: where a message is published. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Topic(Arc<str>);

/// A valid topic filter: what a subscription or a grant asks for. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct TopicFilter(Arc<str>);

impl Topic {
    /// Takes `text` if it is a valid topic name.
    ///
    /// # Errors
    /// The rule it breaks.
    pub fn new(text: &str) -> Result<Self, TopicError> {
        check_common(text)?;
        if text.bytes().any(|byte| matches!(byte, b'+' | b'#')) {
            return Err(TopicError::Wildcard);
        }
        Ok(Self(Arc::from(text)))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TopicFilter {
    /// Takes `text` if it is a valid topic filter.
    ///
    /// # Errors
    /// The rule it breaks.
    pub fn new(text: &str) -> Result<Self, TopicError> {
        check_common(text)?;
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            match level {
                "#" if levels.peek().is_some() => return Err(TopicError::HashNotLast),
                "+" | "#" => {}
                _ if level.contains('#') => return Err(TopicError::HashNotLast),
                _ if level.contains('+') => return Err(TopicError::PlusInsideLevel),
                _ => {}
            }
        }
        check_share(text)?;
        Ok(Self(Arc::from(text)))
    }

    /// The filter.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it contains `+` or `#`.
    #[must_use]
    pub fn has_wildcards(&self) -> bool {
        self.0.bytes().any(|byte| matches!(byte, b'+' | b'#'))
    }

    /// What the members of a shared subscription listen to (MQTT 5, 4.8.2): the part behind
    /// `$share/NAME/`. `None` if it is no shared subscription.
    #[must_use]
    pub fn shared(&self) -> Option<Self> {
        let (_, filter) = self.0.strip_prefix(SHARE)?.split_once('/')?;
        Some(Self(Arc::from(filter)))
    }

    /// Whether it has the form of a shared subscription (MQTT 5, 4.8.2).
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.0.starts_with(SHARE)
    }

    /// Whether it matches `topic` (4.7).
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        // A topic name is a filter that matches itself only, so covering it is matching it.
        covers(self.as_str(), topic.as_str())
    }

    /// Whether this filter matches every topic that `other` matches: a grant for this one allows a
    /// subscription to `other`. May say no for filters that only mean the same (`+/#` and `#`).
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        covers(self.as_str(), other.as_str())
    }

    /// Whether some topic matches both filters.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.0.split('/'), other.0.split('/'));
        let mut first = true;
        loop {
            let (a, b) = (ours.next(), theirs.next());
            match (a, b) {
                (Some(x), Some(y)) if first && dollar_apart(x, y) => return false,
                // `x/#` matches `x` as well [MQTT-4.7.1-2], so `#` also meets an end.
                (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
                (Some(x), Some(y)) if x == y || x == "+" || y == "+" => {}
                _ => return false,
            }
            first = false;
        }
    }
}

/// Whether one first level is a wildcard and the other a name with `$` [MQTT-4.7.2-1].
fn dollar_apart(x: &str, y: &str) -> bool {
    let wild = |level: &str| level == "+" || level == "#";
    (wild(x) && y.starts_with('$')) || (wild(y) && x.starts_with('$'))
}

fn covers(wide: &str, narrow: &str) -> bool {
    let (mut wide, mut narrow) = (wide.split('/'), narrow.split('/'));
    let mut first = true;
    loop {
        match (wide.next(), narrow.next()) {
            (Some(w), Some(n)) if first && dollar_apart(w, n) => return false,
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(n)) if n != "#" => {}
            (Some(w), Some(n)) if w == n => {}
            _ => return false,
        }
        first = false;
    }
}

/// A share has a name, and behind it a filter that is no share itself.
fn check_share(text: &str) -> Result<(), TopicError> {
    let Some(rest) = text.strip_prefix(SHARE) else { return Ok(()) };
    match rest.split_once('/') {
        Some((name, filter))
            if !name.is_empty()
                && !name.contains(['+', '#'])
                && !filter.is_empty()
                && !filter.starts_with(SHARE) =>
        {
            Ok(())
        }
        _ => Err(TopicError::Share),
    }
}

fn check_common(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > TOPIC_BYTES_MAX {
        return Err(TopicError::TooLong);
    }
    let mut separators = 0;
    for byte in text.bytes() {
        match byte {
            0 => return Err(TopicError::Null),
            b'/' => separators += 1,
            _ => {}
        }
    }
    if separators >= TOPIC_LEVELS_MAX {
        return Err(TopicError::TooManyLevels);
    }
    Ok(())
}

macro_rules! text_traits {
    ($name:ident) => {
        // Equality, order and hash are those of the text.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = TopicError;

            fn try_from(text: String) -> Result<Self, TopicError> {
                Self::new(&text)
            }
        }

        impl FromStr for $name {
            type Err = TopicError;

            fn from_str(text: &str) -> Result<Self, TopicError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

text_traits!(Topic);
text_traits!(TopicFilter);
