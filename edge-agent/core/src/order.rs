//! By what a function's events are ordered: which lane an event belongs to.
//!
//! # Invariants
//! - The lane follows from the event and the function's revision alone, so a restored job is in
//!   the lane that it had.
//! - A lane owns the state of its key. So the order belongs to the function, not to a trigger:
//!   two triggers of one function can never disagree about whose state an event changes.
//! - A key is text of 1 to [`LANE_KEY_BYTES_MAX`] bytes. An event without a key (the field is
//!   missing, empty or no scalar, the body is not JSON or over
//!   [`LANE_BODY_BYTES_MAX`](crate::limits::LANE_BODY_BYTES_MAX), the key is too long) is in the
//!   function's lane of the events without key: in order among themselves.
//! - A lane without jobs does not exist: there are at most as many lanes as jobs.

mod body;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::id::{DeviceId, JobId, LaneKey};
use crate::limits::{LANE_KEY_BYTES_MAX, LANE_PATH_NAMES_MAX};
use crate::message::{Message, Properties};
use crate::op::Event;

/// The key by which events are ordered, and state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ordered {
    /// `device`: the device on whose behalf the event travels; the gateway itself where there is
    /// none.
    Device,
    /// `function`: one lane for all events.
    Function,
    /// `topic`: the topic of the message.
    Topic,
    /// `topic[N]`: a level of the topic, the first one is 0.
    TopicLevel(u8),
    /// `body.NAME.NAME`: a text, number or truth value in a JSON body. A number is compared as
    /// text: `7`, `7.0` and `"7"` are one key.
    Body(Vec<String>),
    /// `property.NAME`: the first MQTT 5 user property of that name.
    Property(String),
}

/// Why a text is no order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// Not one of the forms.
    #[error(
        "is none of \"device\", \"function\", \"topic\", \"topic[N]\", \"body.NAME\" and \
         \"property.NAME\""
    )]
    Unknown,
    /// `topic[N]` with an N that is no number below 256.
    #[error("needs the number of a topic level in the brackets, such as topic[0] for the first")]
    Level,
    /// An empty name, or too many of them.
    #[error("needs 1 to {LANE_PATH_NAMES_MAX} names with dots between, such as body.machine.id")]
    Path,
    /// A name longer than a key may be.
    #[error("has a name of over {LANE_KEY_BYTES_MAX} bytes")]
    Long,
}

impl FromStr for Ordered {
    type Err = OrderError;

    fn from_str(text: &str) -> Result<Self, OrderError> {
        match text {
            "device" => return Ok(Self::Device),
            "function" => return Ok(Self::Function),
            "topic" => return Ok(Self::Topic),
            _ => {}
        }
        if let Some(rest) = text.strip_prefix("topic[") {
            let level = rest.strip_suffix(']').and_then(|level| level.parse().ok());
            let level = level.map(Self::TopicLevel).filter(|level| level.to_string() == text);
            return level.ok_or(OrderError::Level);
        }
        let (kind, rest) = text.split_once('.').ok_or(OrderError::Unknown)?;
        let good = |name: &str| match name.len() {
            0 => Err(OrderError::Path),
            1..=LANE_KEY_BYTES_MAX => Ok(name.to_owned()),
            _ => Err(OrderError::Long),
        };
        match kind {
            "body" => {
                let names: Vec<String> = rest.split('.').map(good).collect::<Result<_, _>>()?;
                let few = names.len() <= LANE_PATH_NAMES_MAX;
                few.then_some(Self::Body(names)).ok_or(OrderError::Path)
            }
            "property" => good(rest).map(Self::Property),
            _ => Err(OrderError::Unknown),
        }
    }
}

impl fmt::Display for Ordered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device => f.write_str("device"),
            Self::Function => f.write_str("function"),
            Self::Topic => f.write_str("topic"),
            Self::TopicLevel(level) => write!(f, "topic[{level}]"),
            Self::Body(names) => write!(f, "body.{}", names.join(".")),
            Self::Property(name) => write!(f, "property.{name}"),
        }
    }
}

/// What a key is taken from.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Empty for a schedule.
    pub topic: &'a str,
    /// The body.
    pub payload: &'a [u8],
    /// For the user properties.
    pub properties: &'a Properties,
    /// On whose behalf it travels.
    pub device: Option<&'a DeviceId>,
}

impl<'a> From<&'a Event> for Subject<'a> {
    fn from(event: &'a Event) -> Self {
        let Event { topic, payload, properties, device, .. } = event;
        Self { topic, payload, properties, device: device.as_ref() }
    }
}

impl<'a> From<&'a Message> for Subject<'a> {
    fn from(message: &'a Message) -> Self {
        let Message { topic, payload, properties, device, .. } = message;
        Self { topic: topic.as_str(), payload, properties, device: device.as_ref() }
    }
}

impl Ordered {
    /// The lane of an event.
    #[must_use]
    pub fn lane(&self, subject: Subject<'_>) -> LaneKey {
        let key = match self {
            Self::Device => {
                let device = subject.device.cloned();
                // An event without a device belongs to the gateway itself, the empty device.
                return LaneKey::Device(device.unwrap_or_else(|| DeviceId::new("")));
            }
            Self::Function => return LaneKey::Function,
            Self::Topic => Some(Arc::from(subject.topic)),
            Self::TopicLevel(level) => level_of(subject.topic, *level).map(Arc::from),
            Self::Body(names) => body::key(subject.payload, names).map(Arc::from),
            Self::Property(name) => {
                let mut user = subject.properties.user.iter();
                user.find(|(key, _)| key == name).map(|(_, value)| Arc::from(value.as_str()))
            }
        };
        let key = key.filter(|key: &Arc<str>| (1..=LANE_KEY_BYTES_MAX).contains(&key.len()));
        key.map_or(LaneKey::Keyless, LaneKey::Key)
    }
}

/// The lane of an event of a function with these lanes; `job` is alone where it has none.
#[must_use]
pub fn lane(lanes: Option<&Ordered>, subject: Subject<'_>, job: JobId) -> LaneKey {
    lanes.map_or(LaneKey::Job(job), |ordered| ordered.lane(subject))
}

/// The lane that people mean by `name`, of a function with these lanes: a device or a key. The
/// empty name stands for events that have none; no name for the one lane of a function.
#[must_use]
pub fn named(lanes: Option<&Ordered>, name: Option<&str>) -> LaneKey {
    match (lanes, name) {
        (Some(Ordered::Function), _) | (_, None) => LaneKey::Function,
        (Some(Ordered::Device) | None, Some(name)) => LaneKey::Device(DeviceId::new(name)),
        (Some(_), Some("")) => LaneKey::Keyless,
        (Some(_), Some(key)) => LaneKey::Key(Arc::from(key)),
    }
}

fn level_of(topic: &str, level: u8) -> Option<&str> {
    topic.split('/').nth(level.into())
}

#[cfg(test)]
mod tests;
