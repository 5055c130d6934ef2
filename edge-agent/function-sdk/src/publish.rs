//! Publishing on the gateway's broker.

use serde::Serialize;

use crate::failure::Result;
use crate::host;

/// MQTT quality of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QoS {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    #[default]
    AtLeastOnce,
    /// QoS 2.
    ExactlyOnce,
}

/// A message on its way; [`json`](Self::json), [`postcard`](Self::postcard), [`text`](Self::text)
/// and [`bytes`](Self::bytes) send it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it is sent by `json`, `postcard`, `text` or `bytes`"]
pub struct Publication {
    /// Topic name.
    pub topic: String,
    /// The payload.
    pub payload: Vec<u8>,
    /// Quality of service.
    pub qos: QoS,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
    /// Media type of the payload.
    pub content_type: Option<String>,
    /// User properties.
    pub properties: Vec<(String, String)>,
}

/// Begins a message, with QoS 1 unless told otherwise. It leaves the gateway after the function
/// has returned ok and its work is on disk.
///
/// ```
/// # use function_sdk::prelude::*;
/// # function_sdk::fake::Gateway::new().run(|_| {
/// publish("alarm/m1").retain().text("too warm");
/// # Ok(()) }, Event::new("t")).unwrap();
/// ```
pub fn publish(topic: impl Into<String>) -> Publication {
    Publication {
        topic: topic.into(),
        payload: Vec::new(),
        qos: QoS::default(),
        retain: false,
        content_type: None,
        properties: Vec::new(),
    }
}

impl Publication {
    /// With another quality of service.
    pub fn qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// Kept by the broker for later subscribers.
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// With a media type.
    pub fn content_type(mut self, content_type: &str) -> Self {
        self.content_type = Some(content_type.to_owned());
        self
    }

    /// With one more user property.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends `payload` as JSON.
    ///
    /// # Errors
    /// When it has no JSON form.
    pub fn json<T: Serialize + ?Sized>(mut self, payload: &T) -> Result {
        let json = serde_json::to_vec(payload)?;
        self.content_type.get_or_insert_with(|| "application/json".to_owned());
        self.bytes(json);
        Ok(())
    }

    /// Sends `payload` as postcard.
    ///
    /// # Errors
    /// When it has no postcard form.
    pub fn postcard<T: Serialize + ?Sized>(self, payload: &T) -> Result {
        let encoded = postcard::to_stdvec(payload)?;
        self.bytes(encoded);
        Ok(())
    }

    /// Sends text.
    pub fn text(mut self, payload: &str) {
        self.content_type.get_or_insert_with(|| "text/plain; charset=utf-8".to_owned());
        self.bytes(payload);
    }

    /// Sends bytes.
    pub fn bytes(mut self, payload: impl Into<Vec<u8>>) {
        self.payload = payload.into();
        host::publish(self);
    }
}
