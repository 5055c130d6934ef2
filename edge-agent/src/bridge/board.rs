//! What the buses show of themselves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::{Value, json};

/// One bus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct BusStatus {
    pub(super) port: String,
    pub(super) mode: &'static str,
    pub(super) open: bool,
    /// Why it is not.
    pub(super) reason: String,
    pub(super) opened: u64,
    pub(super) broken_frames: u64,
    pub(super) devices: Vec<DeviceStatus>,
}

/// One device on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct DeviceStatus {
    pub(super) address: u8,
    /// `None`: an address that was heard and has no device now.
    pub(super) device: Option<String>,
    pub(super) up: bool,
    pub(super) frames_in: u32,
    pub(super) frames_out: u32,
    pub(super) retransmitted: u32,
    pub(super) dropped: u32,
    pub(super) lives: u32,
    pub(super) rejected: u64,
    pub(super) undelivered: u64,
}

/// Where buses write how they are and the status reads it.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<BTreeMap<String, BusStatus>>>);

impl Board {
    pub(super) fn put(&self, bus: &str, status: BusStatus) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(bus.to_owned(), status);
    }

    /// All buses, by name.
    pub(crate) fn json(&self) -> Value {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = all.iter().map(|(name, status)| {
            let mut row = json!(status);
            row["bus"] = Value::from(name.as_str());
            row
        });
        rows.collect()
    }

    /// A sentence for each bus whose port is not open.
    pub(crate) fn degraded(&self) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = all.iter().filter(|(_, status)| !status.open && !status.reason.is_empty());
        closed
            .map(|(name, status)| {
                format!("bus {name}: {} is not open: {}", status.port, status.reason)
            })
            .collect()
    }
}
