//! What `edge-agent devices` and `edge-agent device-logs` show.

use std::ops::Bound;

use device_protocol::system::Level;
use device_protocol::update::Stage;
use device_protocol::{Quality, Timestamp};
use edge_core::id::DeviceId;
use edge_core::time::{ClockQuality, Millis};
use serde_json::{Value, json};

use super::entry::{Entry, Figure};
use super::{Counters, Desk, Line, Told};

impl Desk {
    /// Rows of the devices behind `after`, by name.
    pub fn rows<'a>(
        &'a self,
        after: Option<&'a str>,
        now: Millis,
    ) -> impl Iterator<Item = (&'a DeviceId, Value)> {
        let after = after.map(DeviceId::new).map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.devices.range((after, Bound::Unbounded));
        behind.map(move |(device, entry)| (device, row(device, entry, now)))
    }

    /// The last lines, of one device or of all, oldest first.
    #[must_use]
    pub fn lines(&self, of: Option<&str>) -> Value {
        let wanted = |line: &&Line| of.is_none_or(|of| line.device.as_str() == of);
        self.lines.iter().filter(wanted).map(line_json).collect()
    }

    /// Sums since the start of the process.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Devices remembered.
    #[must_use]
    pub fn known(&self) -> usize {
        self.devices.len()
    }
}

fn row(device: &DeviceId, entry: &Entry, now: Millis) -> Value {
    let last = entry.last.map(|(boot, sequence)| (format!("{boot:016x}"), sequence));
    let figures = entry.metrics.iter().map(|(name, figure)| figure_json(name, figure, now));
    json!({
        "device": device.as_str(),
        "connected": entry.connections > 0,
        "last_seen_ms": now.since(entry.seen_at),
        "boot": last.as_ref().map(|(boot, _)| boot),
        "sequence": last.as_ref().map(|(_, sequence)| sequence),
        "messages": entry.messages,
        "repeats": entry.repeats,
        "refused": entry.refused,
        "undecodable": entry.undecodable,
        "log_lines_dropped": entry.lines_dropped,
        "metrics": figures.collect::<Vec<_>>(),
        "firmware": entry.firmware.as_ref().map(firmware_json),
    })
}

fn firmware_json(told: &Told) -> Value {
    let stage = match told.stage {
        Stage::Fetching => "fetching",
        Stage::Verified => "verified",
        Stage::Confirmed => "confirmed",
        Stage::Declined => "declined",
        Stage::TakenBack => "taken-back",
    };
    json!({
        "image": format!("{:016x}", u64::from_be_bytes(told.image)),
        "kind": told.offered.map(|(kind, _)| kind.as_str()),
        "version": told.offered.map(|(_, version)| version),
        "stage": stage,
        "bytes": told.offset,
        "reason": told.reason,
    })
}

fn figure_json(name: &str, figure: &Figure, now: Millis) -> Value {
    json!({
        "name": name,
        "value": figure.value,
        "time": time_json(figure.measured),
        "age_ms": now.since(figure.came_at),
    })
}

fn line_json(line: &Line) -> Value {
    let level = match line.level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    json!({
        "device": line.device.as_str(),
        "level": level,
        "unix_ms": line.came.unix_ms,
        "synced": line.came.quality == ClockQuality::Synced,
        "time": time_json(line.written),
        "dropped": line.dropped,
        "text": line.text,
    })
}

fn time_json(time: Timestamp) -> Value {
    let quality = match time.quality {
        Quality::Uptime => "uptime",
        Quality::Unsynced => "unsynced",
        Quality::Synced => "synced",
    };
    json!({ "ms": time.ms, "quality": quality })
}
