//! Talking with devices in the device protocol: typed messages, commands, shadows.
//!
//! A message type is defined once, in a crate that firmware and function both depend on; here it comes
//! out of [`Event::message`]. Its derive needs `postcard-schema` (0.2, feature `derive`) in that crate. What is sent goes to topics of its own, which the manifest grants like any
//! other: `publish = ["$holm/v1/down/+/command", "$holm/v1/down/+/desired"]`.

use device_protocol::limits::BODY_MAX;
use device_protocol::system::{self, Shadow};
use device_protocol::{DeviceName, Down};

use crate::event::Event;
use crate::failure::{OrReject, Result};
use crate::publish::publish;

pub use device_protocol::{Envelope, Message, Schema, SchemaId, Up, message};

/// What commands and shadow documents add to their body at most.
const OVERHEAD_MAX: usize = 64;

/// A command to a device, or a new desired document.
#[derive(Debug)]
pub struct Order {
    device: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Command { event: String, name: String },
    Desired { version: u32 },
}

/// Begins a command: something for the device to do once.
///
/// The broker keeps it for a device that is away, if the device's session does. Its number is made of
/// the event and of all that the command says: another attempt at the same event sends the same
/// command, which the device does once. So does a function that gives the same command twice for one
/// event.
///
/// The device answers on `$holm/v1/up/DEVICE/response`, which a trigger may name.
///
/// ```
/// # use function_sdk::prelude::*;
/// # function_sdk::fake::Gateway::new().run(|event| {
/// device::command(&event, "press-7", "set-rate").text("5 s")?;
/// # Ok(()) }, Event::new("t")).unwrap();
/// ```
pub fn command(event: &Event, device: &str, name: &str) -> Order {
    let kind = Kind::Command { event: event.id.clone(), name: name.to_owned() };
    Order { device: device.to_owned(), kind }
}

/// Begins a desired document: how the device should be. The broker keeps the latest one. A device
/// applies it if its version is above that of the last one that it applied.
///
/// ```
/// # use function_sdk::prelude::*;
/// # function_sdk::fake::Gateway::new().run(|_| {
/// let version = 7;
/// device::desired("press-7", version).text("rate = 5")?;
/// # Ok(()) }, Event::new("t")).unwrap();
/// ```
pub fn desired(device: &str, version: u32) -> Order {
    Order { device: device.to_owned(), kind: Kind::Desired { version } }
}

impl Order {
    /// Sends it with a typed body.
    ///
    /// # Errors
    /// A reject: a name is none, or the body is over 16 KiB.
    pub fn message<T: Message>(self, body: &T) -> Result {
        self.send(T::ID, &self::body(body).or_reject("the body")?)
    }

    /// Sends it with a text.
    ///
    /// # Errors
    /// As [`Order::message`].
    pub fn text(self, body: &str) -> Result {
        self.bytes(body)
    }

    /// Sends it with bytes whose meaning both sides know.
    ///
    /// # Errors
    /// As [`Order::message`].
    pub fn bytes(self, body: impl AsRef<[u8]>) -> Result {
        self.send(SchemaId::RAW, body.as_ref())
    }

    fn send(&self, schema: SchemaId, body: &[u8]) -> Result {
        let device = DeviceName::new(&self.device).or_reject("the device")?;
        let down = match &self.kind {
            Kind::Command { event, name } => {
                let parts = [event.as_bytes(), device.as_bytes(), name.as_bytes(), body];
                let id = number(&parts, schema);
                Down::Command(system::Command { id, name, schema, body })
            }
            Kind::Desired { version } => Down::Desired(Shadow { version: *version, schema, body }),
        };
        let mut bytes = vec![0; body.len() + OVERHEAD_MAX];
        let length = down.encode(&mut bytes).or_reject("the message to the device")?;
        bytes.truncate(length);
        let topic = down.topic(&device).or_reject("the device")?;
        let message = publish(topic.as_str());
        if down.is_retained() {
            message.retain().bytes(bytes);
        } else {
            message.bytes(bytes);
        }
        Ok(())
    }
}

/// FNV-1a over all parts with their lengths, so that no two lists of parts look alike.
fn number(parts: &[&[u8]], schema: SchemaId) -> u64 {
    let lengths = parts.iter().flat_map(|part| part.len().to_le_bytes());
    let bytes = parts.iter().flat_map(|part| part.iter().copied());
    let all = schema.0.to_le_bytes().into_iter().chain(lengths).chain(bytes);
    all.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The bytes of a message.
pub(crate) fn body<T: Message>(
    message: &T,
) -> std::result::Result<Vec<u8>, device_protocol::Error> {
    let mut bytes = vec![0; BODY_MAX];
    let length = message.encode(&mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use device_protocol::limits::WORD_MAX;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::fake::Gateway;
    use crate::{Failure, Publication};

    #[derive(Debug, PartialEq, Serialize, Deserialize, Schema)]
    struct Reading {
        milli_celsius: i32,
    }
    message!(Reading, "reading");

    #[derive(Debug, PartialEq, Serialize, Deserialize, Schema)]
    struct Newer {
        milli_celsius: i32,
        humidity_percent: u8,
    }
    message!(Newer, "reading");

    fn sent(handle: impl Fn(&Event) -> Result) -> std::result::Result<Publication, Failure> {
        let event = Event { id: "e-1".to_owned(), ..Event::new("t") };
        let mut done = Gateway::new().run(|event| handle(&event), event)?;
        assert_eq!(done.publishes.len(), 1);
        Ok(done.publishes.remove(0))
    }

    #[test]
    fn a_message_comes_out_as_it_went_in_and_another_shape_names_both_schemas() {
        let event =
            Event::new("t").with_device("press-7").with_message(&Reading { milli_celsius: 7 });
        assert_eq!(event.message::<Reading>(), Ok(Reading { milli_celsius: 7 }));
        assert_eq!(event.envelope().map(|envelope| envelope.device), Ok("press-7"));
        let Err(Failure::Reject(text)) = event.message::<Newer>() else { panic!("another shape") };
        let ids = [Newer::ID, Reading::ID].map(|id| id.to_string());
        assert!(ids.iter().all(|id| text.contains(id)), "{text}");
        let plain = Event::new("t").with_json(&1).message::<Reading>();
        let Err(Failure::Reject(text)) = plain else { panic!("no envelope") };
        assert!(text.contains("application/json"), "{text}");
    }

    #[test]
    fn a_command_is_the_same_for_every_attempt_and_another_for_another_body() {
        let set = |rate: &'static str| {
            sent(move |event| command(event, "press-7", "set-rate").text(rate)).unwrap()
        };
        let (first, again, other) = (set("5"), set("5"), set("6"));
        assert_eq!(first.topic, "$holm/v1/down/press-7/command");
        assert_eq!(first, again);
        let ids = [&first, &other].map(|message| match Down::decode(&message.payload) {
            Ok(Down::Command(it)) => (it.id, it.name.to_owned()),
            other => panic!("{other:?}"),
        });
        assert_eq!(ids[0].1, "set-rate");
        assert_ne!(ids[0].0, ids[1].0);
    }

    #[test]
    fn a_desired_document_is_retained_and_typed() {
        let it = sent(|_| desired("press-7", 3).message(&Reading { milli_celsius: 9 })).unwrap();
        assert!(it.retain && it.topic == "$holm/v1/down/press-7/desired");
        let Ok(Down::Desired(shadow)) = Down::decode(&it.payload) else { panic!("a document") };
        assert_eq!((shadow.version, shadow.schema), (3, Reading::ID));
        assert_eq!(Reading::decode(shadow.schema, shadow.body), Ok(Reading { milli_celsius: 9 }));
    }

    #[test]
    fn what_no_device_could_read_is_rejected() {
        let long = "x".repeat(BODY_MAX + 1);
        let word = "x".repeat(WORD_MAX + 1);
        let wrong: [&dyn Fn(&Event) -> Result; 4] = [
            &|event| command(event, "press 7", "go").text(""),
            &|event| command(event, "press-7", "").text(""),
            &|event| command(event, "press-7", &word).text(""),
            &|_| desired("press-7", 1).text(&long),
        ];
        for order in wrong {
            assert!(matches!(sent(order), Err(Failure::Reject(_))));
        }
        let full = "x".repeat(BODY_MAX);
        let longest = "n".repeat(WORD_MAX);
        assert!(sent(|event| command(event, "press-7", &longest).text(&full)).is_ok());
    }
}
