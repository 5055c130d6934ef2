//! What a story left behind, read back: ledgers of devices and subscribers, rows of the control
//! plane, state of the gateways.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use cold_chain_model::{Change, Moving, SmoothedMessage};
use serde_json::Value;

use super::Verdict;
use crate::ledger::{self, Fact};

/// Everything a device did; moments in wall clock milliseconds.
#[derive(Debug, Default)]
pub(super) struct DeviceLedger {
    pub(super) hashes: BTreeMap<u64, String>,
    pub(super) sent: BTreeMap<u64, u64>,
    pub(super) acked: BTreeMap<u64, u64>,
    pub(super) resent: BTreeSet<u64>,
}

/// What a subscriber of one gateway received.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// Messages of `smooth`.
    pub(super) smoothed: Vec<SmoothedMessage>,
    /// Arrival, wall clock milliseconds, and message of `alarm`.
    pub(super) alarms: Vec<(u64, Change)>,
}

/// Telemetry of a gateway in order of position; gaps, tombstones and dead letters are problems.
pub(super) fn telemetry(
    dir: &Path,
    gateway: &str,
    verdict: &mut Verdict,
) -> Result<Vec<SmoothedMessage>> {
    let mut telemetry = Vec::new();
    for stream in 0..3 {
        let rows: Vec<Value> = read_json(&dir.join(format!("cloud-{gateway}-{stream}.json")))?;
        let mut next = 1;
        for row in &rows {
            let (first, seq) = (row["first"].as_u64(), row["seq"].as_u64());
            let (first, seq) = (first.context("first")?, seq.context("seq")?);
            if first != next {
                verdict.problems.push(format!("{gateway}/{stream}: position {next} is missing"));
            }
            next = seq + 1;
            match row["kind"].as_str() {
                Some("telemetry") => {
                    let point = serde_json::from_value(row["payload"].clone());
                    telemetry.push(point.with_context(|| format!("{gateway}/{stream}/{seq}"))?);
                }
                Some("report") => {}
                kind => verdict.problems.push(format!("{gateway}/{stream}/{seq} is a {kind:?}")),
            }
        }
    }
    Ok(telemetry)
}

pub(super) fn received(dir: &Path, gateway: &str) -> Result<Received> {
    let mut received = Received::default();
    for fact in ledger::read(&dir.join(format!("subscriber-{gateway}.jsonl")))? {
        let Fact::Received { topic, payload, at_ms } = fact else { continue };
        if topic.starts_with("smooth/") {
            received.smoothed.push(serde_json::from_str(&payload)?);
        } else if topic.starts_with("alarm/") {
            received.alarms.push((at_ms, serde_json::from_str(&payload)?));
        }
    }
    Ok(received)
}

pub(super) fn states(dir: &Path, gateway: &str) -> Result<BTreeMap<String, Moving>> {
    let rows: Vec<Value> = read_json(&dir.join(format!("state-{gateway}.json")))?;
    let rows = rows.iter().filter(|row| row["key"] == "moving");
    rows.map(|row| {
        let device = row["device"].as_str().context("device")?.to_owned();
        let text = row["value"]["text"].as_str().context("value")?;
        Ok((device, serde_json::from_str(text)?))
    })
    .collect()
}

pub(super) fn device_ledger(dir: &Path, device: &str) -> Result<DeviceLedger> {
    let mut ledger = DeviceLedger::default();
    for fact in ledger::read(&dir.join(format!("device-{device}.jsonl")))? {
        match fact {
            Fact::Sent { seq, at_ms, hash, .. } => {
                ledger.hashes.insert(seq, hash);
                ledger.sent.insert(seq, at_ms);
            }
            Fact::Resent { seq, .. } => {
                ledger.resent.insert(seq);
            }
            Fact::Acked { seq, at_ms, .. } => {
                ledger.acked.insert(seq, at_ms);
            }
            Fact::Received { .. } => {}
        }
    }
    Ok(ledger)
}

pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))
}
