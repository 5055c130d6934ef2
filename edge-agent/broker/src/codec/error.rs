//! Why bytes are no packet.

use edge_core::topic::TopicError;
use thiserror::Error;

use super::{ReasonCode, Version};

/// A broken rule: the reason code to answer with, and the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{reason}: {rule}")]
pub struct DecodeError {
    /// For the CONNACK or DISCONNECT of MQTT 5.
    pub reason: ReasonCode,
    /// The rule, with its clause.
    pub rule: &'static str,
    /// The version whose packets the other side understands, as far as it is known.
    pub version: Option<Version>,
}

impl DecodeError {
    pub(crate) const fn new(reason: ReasonCode, rule: &'static str) -> Self {
        Self { reason, rule, version: None }
    }

    pub(super) const fn malformed(rule: &'static str) -> Self {
        Self::new(ReasonCode::MalformedPacket, rule)
    }

    pub(crate) const fn protocol(rule: &'static str) -> Self {
        Self::new(ReasonCode::ProtocolError, rule)
    }

    /// A topic name that breaks a rule of 4.7.
    pub(super) fn topic_name(error: TopicError) -> Self {
        match error {
            TopicError::Null => NULL_CHARACTER,
            TopicError::Wildcard => {
                Self::new(ReasonCode::TopicNameInvalid, "[MQTT-3.3.2-2] wildcard in a topic name")
            }
            _ => Self::new(ReasonCode::TopicNameInvalid, "4.7.3 empty or oversized topic name"),
        }
    }

    /// A topic filter that breaks a rule of 4.7.
    pub(super) fn topic_filter(error: TopicError) -> Self {
        match error {
            TopicError::Null => NULL_CHARACTER,
            TopicError::HashNotLast | TopicError::PlusInsideLevel => Self::new(
                ReasonCode::TopicFilterInvalid,
                "[MQTT-4.7.1-1] [MQTT-4.7.1-2] misplaced wildcard",
            ),
            TopicError::Share => Self::new(
                ReasonCode::TopicFilterInvalid,
                "[MQTT-4.8.2-1] [MQTT-4.8.2-2] not $share/NAME/FILTER",
            ),
            _ => Self::new(ReasonCode::TopicFilterInvalid, "4.7.3 empty or oversized filter"),
        }
    }
}

pub(super) const NULL_CHARACTER: DecodeError =
    DecodeError::malformed("[MQTT-1.5.4-2] null character in a string");
