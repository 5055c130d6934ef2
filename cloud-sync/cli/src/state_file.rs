//! State of a function as a file: what `holm state export` writes and `holm invoke --state` reads.
//!
//! ```json
//! {
//!   "format": 1,
//!   "function": "cold-chain/smooth",
//!   "state_version": 1,
//!   "devices": { "press-1": { "window": { "value": [20.5, 21.0] } } }
//! }
//! ```
//! Values are `value` (JSON), `value_text` or `value_hex`. Where the function is `ordered` by another
//! key, that key stands for the device. The empty one stands for the state of a function with
//! `state = "function"`, and of events without a key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::bytes_json;

/// Format of the file.
const FORMAT: u32 = 1;

/// The file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateFile {
    format: u32,
    /// `app/function`.
    pub function: String,
    /// Version of the state's shape.
    pub state_version: u32,
    devices: BTreeMap<String, BTreeMap<String, Map<String, Value>>>,
}

impl StateFile {
    /// No state.
    #[must_use]
    pub fn new(function: &str, state_version: u32) -> Self {
        let function = function.to_owned();
        Self { format: FORMAT, function, state_version, devices: BTreeMap::new() }
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let file: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if file.format != FORMAT {
            return Err(format!("has format {}, this version reads {FORMAT}", file.format));
        }
        for (device, entries) in &file.devices {
            for (key, value) in entries {
                let mut value = value.clone();
                if bytes_json::take(&mut value, "value").is_none() || !value.is_empty() {
                    let needs = "needs one of `value`, `value_text` and `value_hex`";
                    return Err(format!("device `{device}`, key `{key}`: {needs}"));
                }
            }
        }
        Ok(file)
    }

    /// The text of the file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.expect("invariant: maps with text keys always serialise") + "\n"
    }

    /// All entries: device, key, value.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str, Vec<u8>)> {
        self.devices.iter().flat_map(|(device, entries)| {
            entries.iter().filter_map(|(key, value)| {
                let bytes = bytes_json::take(&mut value.clone(), "value")?;
                Some((device.as_str(), key.as_str(), bytes))
            })
        })
    }

    /// Sets one value.
    pub fn put(&mut self, device: &str, key: &str, bytes: &[u8]) {
        let mut value = Map::new();
        bytes_json::put(&mut value, "value", bytes);
        self.devices.entry(device.to_owned()).or_default().insert(key.to_owned(), value);
    }

    /// Removes all values of a device.
    pub fn clear(&mut self, device: &str) {
        self.devices.remove(device);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_back_as_it_was() {
        let mut file = StateFile::new("a/b", 3);
        file.put("d1", "json", b"[1,2]");
        file.put("d1", "bytes", b"\xff");
        file.put("", "text", b"hello");
        let again = StateFile::parse(file.to_text().as_bytes()).unwrap();
        assert_eq!(again, file);
        let entries: Vec<_> = again.entries().collect();
        assert_eq!(entries[0], ("", "text", b"hello".to_vec()));
        assert_eq!(entries.len(), 3);
    }

    #[test]
    fn other_files_are_refused() {
        for bad in [
            "",
            "{}",
            r#"{"format":2,"function":"a/b","state_version":1,"devices":{}}"#,
            r#"{"format":1,"function":"a/b","state_version":1,"devices":{"d":{"k":{}}}}"#,
            r#"{"format":1,"function":"a/b","state_version":1,"devices":{"d":{"k":{"x":1}}}}"#,
        ] {
            assert!(StateFile::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
