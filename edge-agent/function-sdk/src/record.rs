//! Telemetry for the control plane.

use serde::Serialize;

use crate::failure::Result;
use crate::host;

/// A telemetry record on its way; [`json`](Self::json), [`postcard`](Self::postcard) and
/// [`bytes`](Self::bytes) hand it over.
#[derive(Debug)]
#[must_use = "it is handed over by `json`, `postcard` or `bytes`"]
pub struct Record {
    name: String,
}

/// Begins a record of the series `name`. The gateway keeps it until the control plane has it.
pub fn record(name: impl Into<String>) -> Record {
    Record { name: name.into() }
}

impl Record {
    /// Hands over `value` as JSON; numbers at its top level can be charted.
    ///
    /// # Errors
    /// When it has no JSON form.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Result {
        let json = serde_json::to_vec(value)?;
        self.bytes(&json, "application/json");
        Ok(())
    }

    /// Hands over `value` as postcard.
    ///
    /// # Errors
    /// When it has no postcard form.
    pub fn postcard<T: Serialize + ?Sized>(self, value: &T) -> Result {
        let encoded = postcard::to_stdvec(value)?;
        self.bytes(&encoded, "application/vnd.postcard");
        Ok(())
    }

    /// Hands over bytes with their media type.
    pub fn bytes(self, payload: &[u8], content_type: &str) {
        host::record(&self.name, payload, content_type);
    }
}
