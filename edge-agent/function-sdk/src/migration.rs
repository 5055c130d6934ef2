//! Carrying state over to a new `state_version`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::Result;

/// A set of keys as the previous version of the function left it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OldState {
    /// The `state_version` that wrote it.
    pub version: u32,
    /// The device that the keys belong to, or the key that events are `ordered` by; none with
    /// `state = "function"`.
    pub device: Option<String>,
    /// All of its entries, in ascending order of their keys' bytes.
    pub entries: Vec<(String, Vec<u8>)>,
}

impl OldState {
    /// The bytes under `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_slice())
    }

    /// The value under `key`, read as JSON.
    ///
    /// # Errors
    /// When it is something else.
    pub fn json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.get(key).map(|bytes| Ok(serde_json::from_slice(bytes)?)).transpose()
    }

    /// The value under `key`, read as postcard.
    ///
    /// # Errors
    /// When it is something else.
    pub fn postcard<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.get(key).map(|bytes| Ok(postcard::from_bytes(bytes)?)).transpose()
    }
}

/// The entries with which the new version starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewState {
    /// The entries, in any order.
    pub entries: Vec<(String, Vec<u8>)>,
}

impl NewState {
    /// Sets bytes.
    pub fn put(&mut self, key: &str, value: impl Into<Vec<u8>>) {
        self.entries.push((key.to_owned(), value.into()));
    }

    /// Sets a value as JSON.
    ///
    /// # Errors
    /// When it has no JSON form.
    pub fn put_json<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result {
        self.put(key, serde_json::to_vec(value)?);
        Ok(())
    }

    /// Sets a value as postcard.
    ///
    /// # Errors
    /// When it has no postcard form.
    pub fn put_postcard<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result {
        self.put(key, postcard::to_stdvec(value)?);
        Ok(())
    }
}
