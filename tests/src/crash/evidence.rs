//! What is known from the outside: ledgers of the devices, rows of the control plane, and what the
//! gateway shows to operators.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use cold_chain_model::{Alarm, Moving, Smoothed};
use serde::Deserialize;
use serde_json::Value;

use super::Kill;
use crate::cloud::Cloud;
use crate::gateway::Gateway;
use crate::ledger::{self, Fact};
use crate::readings::Reading;

/// Everything that the judgement is made from.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Ends of the process, in order.
    pub kills: Vec<Kill>,
    /// What the devices sent, by number.
    pub readings: Arc<[Reading]>,
    /// The devices.
    pub devices: Vec<DeviceEvidence>,
    /// Records of `alarm` in the control plane, in order of position: each is a message that was
    /// done.
    pub points: Vec<Point>,
    /// Dead letters in the control plane.
    pub dead: Vec<Dead>,
    /// Dead letters that the gateway itself lists.
    pub dead_on_gateway: usize,
    /// What must not be and is no matter of one message.
    pub oddities: Vec<String>,
}

/// What a device wrote down, and what the gateway knows of it.
#[derive(Debug, Default)]
pub struct DeviceEvidence {
    /// Its name.
    pub name: String,
    /// Whether its messages had ids.
    pub ids: bool,
    /// Number, and every time it was handed to a socket.
    pub sent: BTreeMap<u64, Vec<u64>>,
    /// Number, and when the PUBACK came.
    pub acked: BTreeMap<u64, u64>,
    /// State of `smooth`.
    pub moving: Option<Moving>,
    /// State of `alarm`.
    pub alarm: Option<Alarm>,
}

/// A record of `alarm`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Point {
    /// What `smooth` had published.
    #[serde(flatten)]
    pub smoothed: Smoothed,
    /// Whether the alarm was on with it.
    pub alarm: bool,
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dead {
    /// `app/function`.
    pub function: String,
    /// The device.
    pub device: String,
    /// Number of the reading.
    pub seq: u64,
    /// Why it was given up.
    pub reason: String,
}

impl Evidence {
    /// Reads what the control plane stored.
    pub(crate) fn read_cloud(&mut self, cloud: &Cloud, gateway: &str) -> Result<()> {
        for stream in 0..3 {
            let mut next = 1;
            for row in cloud.stream(gateway, stream)? {
                let first = row["first"].as_u64().context("first")?;
                let place = format!("position {stream}/{first}");
                if first != next {
                    self.oddities.push(format!("position {stream}/{next} is missing"));
                }
                next = row["seq"].as_u64().context("seq")? + 1;
                let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
                match row["kind"].as_str() {
                    Some("telemetry") => {
                        let point = serde_json::from_value(row["payload"].clone());
                        self.points.push(point.with_context(|| place.clone())?);
                    }
                    Some("dead-letter") => self.dead.push(Dead {
                        function: text("function"),
                        device: text("device"),
                        seq: row["payload"]["seq"].as_u64().with_context(|| place.clone())?,
                        reason: text("reason"),
                    }),
                    Some("report") => {}
                    kind => self.oddities.push(format!("{place} is a {kind:?}")),
                }
            }
        }
        Ok(())
    }

    /// Reads what the gateway shows to operators.
    pub(crate) fn read_gateway(&mut self, gateway: &Gateway) -> Result<()> {
        let dead = gateway.ask(&["dead-letters", "--limit", "1000"])?;
        self.dead_on_gateway = dead.as_array().map_or(0, Vec::len);
        Ok(())
    }

    /// Reads a device's ledger and its state.
    pub(crate) fn read_device(
        &mut self,
        gateway: &Gateway,
        name: &str,
        ids: bool,
        ledger: &Path,
    ) -> Result<()> {
        let name = name.to_owned();
        let mut device = DeviceEvidence { name, ids, ..DeviceEvidence::default() };
        for fact in ledger::read(ledger)? {
            match fact {
                Fact::Sent { seq, at_ms, .. } | Fact::Resent { seq, at_ms, .. } => {
                    device.sent.entry(seq).or_default().push(at_ms);
                }
                Fact::Acked { seq, at_ms, .. } => {
                    device.acked.insert(seq, at_ms);
                }
                Fact::Received { .. } => {}
            }
        }
        device.moving = state(gateway, "cold-chain/smooth", &device.name, "moving")?;
        device.alarm = state(gateway, "cold-chain/alarm", &device.name, "alarm")?;
        self.devices.push(device);
        Ok(())
    }
}

fn state<T: serde::de::DeserializeOwned>(
    gateway: &Gateway,
    function: &str,
    device: &str,
    key: &str,
) -> Result<Option<T>> {
    let rows = gateway.ask(&["state", function, "--device", device])?;
    let row = rows.as_array().into_iter().flatten().find(|row| row["key"] == key);
    let text = row.and_then(|row: &Value| row["value"]["text"].as_str());
    Ok(text.map(serde_json::from_str).transpose()?)
}
