//! Topics.

use core::marker::PhantomData;

use heapless::String;

use crate::Error;
use crate::limits::{TOPIC_LEVELS_MAX, TOPIC_MAX};
use crate::name::DeviceName;

/// Stands for the name of the device in the pattern of a [`Topic`].
pub const DEVICE: &str = "{device}";

/// A topic that carries messages of type `T` and of no other.
///
/// ```
/// # use device_protocol::{DeviceName, Schema, Topic, message};
/// # #[derive(serde::Serialize, serde::Deserialize, Schema)] pub struct Reading { celsius: f32 }
/// # message!(Reading, "reading");
/// pub const READINGS: Topic<Reading> = Topic::new("sensors/{device}/temperature");
/// let device = DeviceName::new("press-7").unwrap();
/// assert_eq!(READINGS.of(&device).unwrap(), "sensors/press-7/temperature");
/// ```
#[derive(Debug)]
pub struct Topic<T> {
    pattern: &'static str,
    carries: PhantomData<fn() -> T>,
}

impl<T> Clone for Topic<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Topic<T> {}

impl<T> Topic<T> {
    /// A topic; `{device}` stands for the name of the device.
    ///
    /// # Panics
    /// In a constant, so when it is built: an empty or overlong pattern, more than 32 levels, a wildcard, a leading `$`.
    #[must_use]
    pub const fn new(pattern: &'static str) -> Self {
        let bytes = pattern.as_bytes();
        assert!(!bytes.is_empty() && bytes.len() <= TOPIC_MAX, "a topic takes 1 to 128 bytes");
        assert!(bytes[0] != b'$', "topics that begin with $ belong to the gateway");
        let (mut at, mut levels) = (0, 1);
        while at < bytes.len() {
            if bytes[at] == b'/' {
                levels += 1;
            }
            assert!(bytes[at] != b'+' && bytes[at] != b'#', "a topic has no wildcards");
            assert!(bytes[at] != 0, "a topic has no NUL");
            at += 1;
        }
        assert!(levels <= TOPIC_LEVELS_MAX, "a topic has at most 32 levels");
        Self { pattern, carries: PhantomData }
    }

    /// The pattern, as it was given.
    #[must_use]
    pub const fn pattern(self) -> &'static str {
        self.pattern
    }

    /// The topic of one device.
    ///
    /// # Errors
    /// [`Error::TooLong`] with a long name in a long pattern.
    pub fn of(self, device: &DeviceName) -> Result<String<TOPIC_MAX>, Error> {
        fill(self.pattern, device)
    }
}

/// `pattern` with the name of a device in it.
pub(crate) fn fill(pattern: &str, device: &str) -> Result<String<TOPIC_MAX>, Error> {
    let mut topic = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = around_device(rest) {
        topic.push_str(before).and_then(|()| topic.push_str(device)).map_err(|_| Error::TooLong)?;
        rest = after;
    }
    topic.push_str(rest).map_err(|_| Error::TooLong)?;
    Ok(topic)
}

/// What stands before the first [`DEVICE`] and behind it: `split_once` without its searcher, which takes a kilobyte of
/// flash and is made for longer texts.
fn around_device(pattern: &str) -> Option<(&str, &str)> {
    let mut places = pattern.as_bytes().windows(DEVICE.len());
    let at = places.position(|part| part == DEVICE.as_bytes())?;
    Some((pattern.get(..at)?, pattern.get(at + DEVICE.len()..)?))
}
