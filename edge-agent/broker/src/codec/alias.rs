//! Topic aliases of one direction of one connection (3.3.2.3.4).
//!
//! # Invariants
//! - An alias lives no longer than its connection: whoever holds one of these drops it then.
//! - At most the announced number of aliases, and at most so many bytes of names behind them.
//! - A sender gives each alias once. What does not fit is sent by name.

use std::collections::BTreeMap;

use edge_core::topic::Topic;

use super::{DecodeError, ReasonCode};

/// Topic aliases a server accepts, and uses itself, unless told otherwise.
pub const TOPIC_ALIAS_MAX: u16 = 16;

/// Bytes of the names behind them.
pub const TOPIC_ALIAS_BYTES_MAX: usize = 4 * 1_024;

/// Bytes of the property of a topic alias.
pub(super) const PROPERTY_BYTES: usize = 3;

/// How a PUBLISH names its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicForm {
    /// By its name.
    Name,
    /// By its name, which this alias stands for from now on.
    Gives(u16),
    /// By an alias given before on the same connection.
    Alias(u16),
}

impl TopicForm {
    pub(super) fn alias(self) -> Option<u16> {
        match self {
            Self::Name => None,
            Self::Gives(alias) | Self::Alias(alias) => Some(alias),
        }
    }
}

/// The aliases that a receiver was given.
#[derive(Debug, Default)]
pub(super) struct Received {
    names: BTreeMap<u16, Topic>,
    bytes: usize,
    alias_max: u16,
    bytes_max: usize,
}

impl Received {
    pub(super) fn new(alias_max: u16, bytes_max: usize) -> Self {
        Self { alias_max, bytes_max, ..Self::default() }
    }

    /// The topic that a name, an alias or both stand for.
    pub(super) fn resolve(
        &mut self,
        name: Option<Topic>,
        alias: Option<u16>,
    ) -> Result<Topic, DecodeError> {
        let Some(alias) = alias else {
            return name.ok_or(DecodeError::protocol("3.3.2.1 neither topic name nor alias"));
        };
        if alias == 0 || alias > self.alias_max {
            let rule = "[MQTT-3.3.2-8] [MQTT-3.3.2-9] topic alias of zero or over the maximum";
            return Err(DecodeError::new(ReasonCode::TopicAliasInvalid, rule));
        }
        let Some(name) = name else {
            let known = self.names.get(&alias).cloned();
            return known
                .ok_or(DecodeError::protocol("3.3.2.3.4 topic alias that stands for none"));
        };
        // [MQTT-3.3.2-12]: a new name replaces the old one.
        self.bytes += name.as_str().len();
        if let Some(old) = self.names.insert(alias, name.clone()) {
            self.bytes -= old.as_str().len();
        }
        if self.bytes > self.bytes_max {
            let rule = "more bytes of topic names behind aliases than this server keeps";
            return Err(DecodeError::new(ReasonCode::QuotaExceeded, rule));
        }
        Ok(name)
    }
}

/// The aliases that a sender has given.
#[derive(Debug, Default)]
pub(crate) struct Given {
    aliases: BTreeMap<Topic, u16>,
    bytes: usize,
    alias_max: u16,
    bytes_max: usize,
}

impl Given {
    pub(crate) fn new(alias_max: u16, bytes_max: usize) -> Self {
        Self { alias_max, bytes_max, ..Self::default() }
    }

    /// How to name `topic` in the next PUBLISH.
    pub(crate) fn form(&self, topic: &Topic) -> TopicForm {
        let len = topic.as_str().len();
        if self.alias_max == 0 || len <= PROPERTY_BYTES {
            return TopicForm::Name;
        }
        if let Some(alias) = self.aliases.get(topic) {
            return TopicForm::Alias(*alias);
        }
        match u16::try_from(self.aliases.len()) {
            Ok(given) if given < self.alias_max && self.bytes + len <= self.bytes_max => {
                TopicForm::Gives(given + 1)
            }
            _ => TopicForm::Name,
        }
    }

    /// Notes that a PUBLISH with `topic` in this form is on its way.
    pub(crate) fn sent(&mut self, topic: &Topic, form: TopicForm) {
        if let TopicForm::Gives(alias) = form {
            self.bytes += topic.as_str().len();
            let again = self.aliases.insert(topic.clone(), alias);
            assert!(again.is_none(), "invariant: a topic is given one alias");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> Topic {
        Topic::new(name).unwrap()
    }

    #[test]
    fn a_receiver_resolves_replaces_and_refuses() {
        let mut received = Received::new(2, 16);
        assert_eq!(received.resolve(Some(topic("farm")), Some(1)), Ok(topic("farm")));
        assert_eq!(received.resolve(None, Some(1)), Ok(topic("farm")));
        assert_eq!(received.resolve(Some(topic("barn/door")), Some(1)), Ok(topic("barn/door")));
        assert_eq!(received.resolve(None, Some(1)), Ok(topic("barn/door")));
        let reason = |result: Result<Topic, DecodeError>| result.unwrap_err().reason;
        assert_eq!(reason(received.resolve(None, Some(2))), ReasonCode::ProtocolError);
        assert_eq!(reason(received.resolve(None, None)), ReasonCode::ProtocolError);
        assert_eq!(reason(received.resolve(None, Some(0))), ReasonCode::TopicAliasInvalid);
        let third = received.resolve(Some(topic("a")), Some(3));
        assert_eq!(reason(third), ReasonCode::TopicAliasInvalid);
        let long = received.resolve(Some(topic("barn/window")), Some(2));
        assert_eq!(reason(long), ReasonCode::QuotaExceeded);
    }

    #[test]
    fn a_sender_gives_what_fits_and_only_what_is_worth_it() {
        let mut given = Given::new(2, 16);
        let mut send = |name: &str| {
            let form = given.form(&topic(name));
            given.sent(&topic(name), form);
            form
        };
        assert_eq!(send("farm"), TopicForm::Gives(1));
        assert_eq!(send("farm"), TopicForm::Alias(1));
        assert_eq!(send("abc"), TopicForm::Name, "as long as the alias");
        assert_eq!(send("barn/door/wide"), TopicForm::Name, "over the bytes");
        assert_eq!(send("barn/door"), TopicForm::Gives(2));
        assert_eq!(send("hill"), TopicForm::Name, "over the number");
        assert_eq!(send("barn/door"), TopicForm::Alias(2));
        assert_eq!(Given::default().form(&topic("farm")), TopicForm::Name, "none allowed");
    }
}
