//! What woke the function.

use device_protocol::{CONTENT_TYPE, Envelope, Message};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, OrReject, Result};

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The same for every attempt at this event and for no other event.
    pub id: String,
    /// Name of the trigger in `holm.toml`.
    pub trigger: String,
    /// Topic of the message; empty for a schedule.
    pub topic: String,
    /// Payload of the message; empty for a schedule.
    pub payload: Vec<u8>,
    /// Media type of the payload, where the sender named one.
    pub content_type: Option<String>,
    /// User properties, in the order in which they were sent.
    pub properties: Vec<(String, String)>,
    /// The authenticated device on whose behalf the function runs.
    pub device: Option<String>,
    /// When the gateway admitted the message; for a schedule, the slot.
    pub time: Timestamp,
    /// 1 for the first attempt at this event.
    pub attempt: u32,
    /// How many functions stand between the first message and this event.
    pub hops: u32,
    /// The gateway no longer knows whether this message of the device has been worked on before.
    pub maybe_repeat: bool,
}

/// A wall-clock stamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamp {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub unix_ms: u64,
    /// Whether to believe it.
    pub quality: ClockQuality,
}

/// How far a [`Timestamp`] can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockQuality {
    /// Nobody has vouched for the gateway's clock since it started.
    #[default]
    Unsynced,
    /// The clock was synchronised.
    Synced,
}

impl Event {
    /// A first attempt at a message on `topic`, for tests.
    #[must_use]
    pub fn new(topic: &str) -> Self {
        Self { topic: topic.to_owned(), attempt: 1, ..Self::default() }
    }

    /// The same event with a payload in JSON.
    ///
    /// # Panics
    /// When `payload` has no JSON form, such as a map whose keys are no text.
    #[must_use]
    pub fn with_json(mut self, payload: &impl Serialize) -> Self {
        self.payload = serde_json::to_vec(payload).expect("a payload with a JSON form");
        self.content_type = Some("application/json".to_owned());
        self
    }

    /// The same event with a payload as it is.
    #[must_use]
    pub fn with_payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// The same event with a message in an envelope, as the device sends it; without
    /// [`with_device`](Self::with_device) before, of a device called `device`.
    ///
    /// # Panics
    /// When the message is longer than the device protocol allows.
    #[must_use]
    pub fn with_message<T: Message>(mut self, message: &T) -> Self {
        let body = crate::device::body(message).expect("a message that fits into an envelope");
        let device = self.device.get_or_insert_with(|| "device".to_owned());
        let envelope = Envelope {
            device,
            boot: 1,
            sequence: 0,
            schema: T::ID,
            time: device_protocol::Timestamp::uptime(0),
            body: &body,
        };
        let mut payload = vec![0; body.len() + device_protocol::limits::ENVELOPE_OVERHEAD_MAX];
        let length = envelope.encode(&mut payload).expect("a device with a name");
        payload.truncate(length);
        self.payload = payload;
        self.content_type = Some(CONTENT_TYPE.to_owned());
        self
    }

    /// The same event on behalf of `device`.
    #[must_use]
    pub fn with_device(mut self, device: &str) -> Self {
        self.device = Some(device.to_owned());
        self
    }

    /// The payload, read as JSON.
    ///
    /// # Errors
    /// A reject: what does not parse now will not parse later.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.payload).or_reject("the payload is not the JSON expected")
    }

    /// The payload, read as postcard.
    ///
    /// # Errors
    /// A reject.
    pub fn postcard<T: DeserializeOwned>(&self) -> Result<T> {
        postcard::from_bytes(&self.payload).or_reject("the payload is not the postcard expected")
    }

    /// The envelope of the device protocol that the payload is: who, which, what and when.
    ///
    /// # Errors
    /// A reject if the payload is none, or does not say so by its content type.
    pub fn envelope(&self) -> Result<Envelope<'_>> {
        if self.content_type.as_deref() != Some(CONTENT_TYPE) {
            let found = self.content_type.as_deref().unwrap_or("none");
            let text = format!("no envelope: the content type is {found}, not {CONTENT_TYPE}");
            return Err(Failure::Reject(text));
        }
        Envelope::decode(&self.payload).or_reject("the payload is not the envelope that it says")
    }

    /// The message of a device, typed: what is in its envelope.
    ///
    /// # Errors
    /// A reject if the payload is no envelope, or its body has another shape than `T`; the text then
    /// holds both schema ids.
    pub fn message<'a, T: Message + Deserialize<'a>>(&'a self) -> Result<T> {
        let envelope = self.envelope()?;
        T::decode(envelope.schema, envelope.body).or_reject(T::NAME)
    }

    /// The payload as text.
    ///
    /// # Errors
    /// A reject if it is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.payload).or_reject("the payload is not UTF-8")
    }

    /// The device.
    ///
    /// # Errors
    /// A reject if the event has none, as from a schedule.
    pub fn device(&self) -> Result<&str> {
        let missing = || Failure::Reject("the event has no device".to_owned());
        self.device.as_deref().ok_or_else(missing)
    }

    /// First user property of that name.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}
