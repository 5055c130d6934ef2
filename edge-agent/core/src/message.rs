//! The application message as it flows between broker, core, store and functions.

use bytes::Bytes;
use device_protocol::Envelope;
use serde::{Deserialize, Serialize};

use crate::id::{DeviceId, EventId, FunctionId, MessageId};
use crate::time::{Millis, WallTime};
use crate::topic::Topic;

/// User property with the device's boot id: 16 hexadecimal digits.
pub const PROPERTY_BOOT_ID: &str = "holm-boot-id";
/// User property with the sequence within the boot: a decimal number.
pub const PROPERTY_SEQUENCE: &str = "holm-sequence";

/// Quality of service of a publish (MQTT 5, 4.3).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum QoS {
    /// At most once.
    #[default]
    AtMostOnce,
    /// At least once.
    AtLeastOnce,
    /// Exactly once.
    ExactlyOnce,
}

/// Who published a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// An MQTT client, by its authenticated identity and its client id.
    Client {
        /// Authenticated identity.
        identity: DeviceId,
        /// MQTT client identifier.
        client_id: String,
    },
    /// A function, working on an event.
    Function {
        /// The function.
        function: FunctionId,
        /// The event it worked on.
        event: EventId,
    },
    /// The gateway itself.
    Gateway,
}

/// MQTT 5 PUBLISH properties that are passed on unchanged (3.3.2.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Properties {
    /// Payload format indicator: the payload is UTF-8.
    pub payload_is_utf8: bool,
    /// Content type.
    pub content_type: Option<String>,
    /// Response topic.
    pub response_topic: Option<String>,
    /// Correlation data.
    pub correlation_data: Option<Bytes>,
    /// User properties, in order.
    pub user: Vec<(String, String)>,
}

/// One application message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Where it was published.
    pub topic: Topic,
    /// The payload, at most the configured message size.
    pub payload: Bytes,
    /// Quality of service it was published with.
    pub qos: QoS,
    /// The RETAIN flag of the publish.
    pub retain: bool,
    /// Passed-on properties.
    pub properties: Properties,
    /// Message expiry interval in seconds (MQTT 5, 3.3.2.3.3), counted in gateway time.
    pub expiry_s: Option<u32>,
    /// Who published it.
    pub origin: Origin,
    /// The device on whose behalf it travels: publisher, or the device of the event that a
    /// publishing function worked on. It is the key of device lanes.
    pub device: Option<DeviceId>,
    /// How many functions stand between the first message and this one.
    pub hops: u8,
    /// Gateway time of arrival.
    pub at: Millis,
    /// Wall label of arrival.
    pub wall: WallTime,
}

impl Message {
    /// The message id, where the publisher is a client that numbers its messages: in the envelope
    /// ([`crate::claim::envelope`]), else in two user properties.
    ///
    /// Both properties must be well formed; a client with only one of them, or with garbage, is
    /// treated as one without ids.
    #[must_use]
    pub fn message_id(&self) -> Option<MessageId> {
        let Origin::Client { identity, .. } = &self.origin else { return None };
        if let Some(envelope) = crate::claim::envelope(self) {
            let Envelope { boot, sequence: seq, .. } = envelope.ok()?;
            return Some(MessageId { device: identity.clone(), boot, seq });
        }
        let boot = u64::from_str_radix(self.user_property(PROPERTY_BOOT_ID)?, 16).ok()?;
        let seq = self.user_property(PROPERTY_SEQUENCE)?.parse().ok()?;
        Some(MessageId { device: identity.clone(), boot, seq })
    }

    /// First user property of that name.
    #[must_use]
    pub fn user_property(&self, name: &str) -> Option<&str> {
        self.properties.user.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Bytes this message counts for against memory and queue bounds.
    #[must_use]
    pub fn cost_bytes(&self) -> usize {
        const OVERHEAD: usize = 128;
        let user: usize = self.properties.user.iter().map(|(k, v)| k.len() + v.len()).sum();
        self.payload.len() + self.topic.as_str().len() + user + OVERHEAD
    }
}
