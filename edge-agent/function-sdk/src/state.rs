//! The function's own state: values under text keys of 1 to 256 bytes.
//!
//! With `state = "device"` (the default) each device has keys of its own, with `"function"` all
//! events share them. One attempt at a time works on one such set of keys, so that reading,
//! deciding and writing needs no lock. Reads see the writes of this attempt, and writes take
//! effect with everything else when the function returns ok.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::Result;
use crate::host;

/// One page of a [`scan`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Entries in ascending order of their keys' bytes.
    pub entries: Vec<(String, Vec<u8>)>,
    /// Whether keys of that prefix remain behind the last entry.
    pub more: bool,
}

/// A typed value under a key.
pub struct Value<T> {
    key: String,
    encode: fn(&T) -> Result<Vec<u8>>,
    decode: fn(&[u8]) -> Result<T>,
}

/// The value under `key`, kept as JSON: readable with `holm state get`, and fields may be added.
pub fn json<T: Serialize + DeserializeOwned>(key: impl Into<String>) -> Value<T> {
    Value {
        key: key.into(),
        encode: |value| Ok(serde_json::to_vec(value)?),
        decode: |bytes| Ok(serde_json::from_slice(bytes)?),
    }
}

/// The value under `key`, kept as postcard: small and fast, but a change of the type's shape
/// needs a new `state_version`.
pub fn postcard<T: Serialize + DeserializeOwned>(key: impl Into<String>) -> Value<T> {
    Value {
        key: key.into(),
        encode: |value| Ok(postcard::to_stdvec(value)?),
        decode: |bytes| Ok(postcard::from_bytes(bytes)?),
    }
}

impl<T> Value<T> {
    /// The value, if there is one.
    ///
    /// # Errors
    /// A retry if it cannot be read as a `T`: a corrected revision may.
    pub fn get(&self) -> Result<Option<T>> {
        get(&self.key).map(|bytes| (self.decode)(&bytes)).transpose()
    }

    /// Sets it.
    ///
    /// # Errors
    /// When the value has no such form.
    pub fn put(&self, value: &T) -> Result {
        put(&self.key, &(self.encode)(value)?);
        Ok(())
    }

    /// Removes it.
    pub fn delete(&self) {
        delete(&self.key);
    }

    /// Changes it, starting from the default if there is none, and returns the new value.
    ///
    /// # Errors
    /// As [`get`](Self::get) and [`put`](Self::put).
    pub fn update(&self, change: impl FnOnce(&mut T)) -> Result<T>
    where
        T: Default,
    {
        let mut value = self.get()?.unwrap_or_default();
        change(&mut value);
        self.put(&value)?;
        Ok(value)
    }
}

/// The bytes under `key`.
#[must_use]
pub fn get(key: &str) -> Option<Vec<u8>> {
    host::state_get(key)
}

/// Sets the bytes under `key`.
pub fn put(key: &str, value: &[u8]) {
    host::state_put(key, value);
}

/// Removes `key`; one that does not exist is no error.
pub fn delete(key: &str) {
    host::state_delete(key);
}

/// Entries whose keys begin with `prefix` and come after `after`, at most `limit`; the gateway
/// stops at 1,000 entries and at 256 KiB.
#[must_use]
pub fn scan(prefix: &str, after: Option<&str>, limit: u32) -> Page {
    host::state_scan(prefix, after, limit)
}
