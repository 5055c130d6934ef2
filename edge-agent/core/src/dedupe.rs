//! Which message ids came before (DESIGN, section 4, repeats, case a).
//!
//! # Invariants
//! - Of a boot of a device, the highest number and the [`WINDOW`] numbers below it are known
//!   exactly. A number further below is answered with [`Seen::BelowWindow`]: it runs, flagged
//!   and counted, because losing a message is worse than working on it twice.
//! - Of a device the last [`BOOTS_MAX`] boots are known, of the gateway the last `devices_max`
//!   devices heard. What is forgotten goes out of the store lazily. Where the store has more, because
//!   the bound was higher before, each message forgets at most [`FORGOTTEN_MAX`] of them.
//! - One message changes one row of 64 numbers; a row below the window is deleted.

use std::collections::{BTreeMap, BTreeSet};

use crate::effect::Pace;
use crate::event::CoreEvent;
use crate::id::{DeviceId, MessageId};
use crate::op::{CoreOp, DedupeRow};
use crate::turn::Turn;

/// Numbers below the highest one that are known exactly.
pub const WINDOW: u64 = 1_024;
/// Boots known of one device.
pub const BOOTS_MAX: usize = 8;

/// Devices that one message makes the gateway forget: 17 rows for each boot leave the store with each of them.
const FORGOTTEN_MAX: usize = 4;

const BLOCK_BITS: u64 = 64;

/// What is known of a message id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It has not come before.
    New,
    /// It has come before.
    Before,
    /// Too far below the highest number to tell.
    BelowWindow,
}

#[derive(Clone, Debug)]
struct Boot {
    /// Grows with each boot of the device: tells the latest ones.
    order: u32,
    high: u64,
    /// 64 numbers each; only blocks that reach into the window.
    blocks: BTreeMap<u64, u64>,
}

#[derive(Clone, Debug, Default)]
struct Device {
    boots: BTreeMap<u64, Boot>,
    heard: u64,
}

/// The windows of all devices.
#[derive(Clone, Debug)]
pub(crate) struct Dedupe {
    devices_max: usize,
    devices: BTreeMap<DeviceId, Device>,
    /// Devices by when they were last heard; the first is forgotten first.
    by_heard: BTreeSet<(u64, DeviceId)>,
    heard: u64,
}

impl Dedupe {
    pub(crate) fn new(devices_max: u32) -> Self {
        Self {
            devices_max: devices_max.max(1) as usize,
            devices: BTreeMap::new(),
            by_heard: BTreeSet::new(),
            heard: 0,
        }
    }

    /// Takes a row of the store. Which device was heard last is not stored.
    pub(crate) fn restore(&mut self, row: DedupeRow) {
        if row.bits == 0 || row.block > u64::MAX / BLOCK_BITS {
            return;
        }
        if !self.devices.contains_key(&row.device) {
            self.by_heard.insert((0, row.device.clone()));
        }
        let device = self.devices.entry(row.device).or_default();
        let top = row.block * BLOCK_BITS + u64::from(row.bits.ilog2());
        let boot = device.boots.entry(row.boot).or_insert_with(|| Boot {
            order: row.order,
            high: top,
            blocks: BTreeMap::new(),
        });
        boot.high = boot.high.max(top);
        boot.blocks.insert(row.block, row.bits);
    }

    pub(crate) fn devices(&self) -> usize {
        self.devices.len()
    }

    pub(crate) fn look(&self, id: &MessageId) -> Seen {
        let Some(boot) = self.devices.get(&id.device).and_then(|d| d.boots.get(&id.boot)) else {
            return Seen::New;
        };
        if id.seq.saturating_add(WINDOW) < boot.high {
            return Seen::BelowWindow;
        }
        let bits = boot.blocks.get(&(id.seq / BLOCK_BITS)).copied().unwrap_or(0);
        if bits & bit(id.seq) == 0 { Seen::New } else { Seen::Before }
    }

    /// Notes a message id that is new; one below the window changes nothing.
    pub(crate) fn note(&mut self, id: &MessageId, pace: Pace, turn: &mut Turn<'_>) {
        self.hear(&id.device, turn);
        let device = self.devices.entry(id.device.clone()).or_default();
        if !device.boots.contains_key(&id.boot) {
            open_boot(device, id, turn);
        }
        let boot = device.boots.get_mut(&id.boot).expect("invariant: opened above");
        if id.seq.saturating_add(WINDOW) < boot.high {
            return;
        }
        boot.high = boot.high.max(id.seq);
        let block = id.seq / BLOCK_BITS;
        let bits = boot.blocks.entry(block).or_insert(0);
        *bits |= bit(id.seq);
        let row = DedupeRow {
            device: id.device.clone(),
            boot: id.boot,
            block,
            order: boot.order,
            bits: *bits,
        };
        turn.op(CoreOp::PutDedupe(row), pace);
        let lowest = boot.high.saturating_sub(WINDOW) / BLOCK_BITS;
        let kept = boot.blocks.split_off(&lowest);
        let gone = std::mem::replace(&mut boot.blocks, kept);
        delete(&id.device, id.boot, &gone, turn);
        assert!(boot.blocks.len() as u64 <= WINDOW / BLOCK_BITS + 1, "a window is bounded");
    }

    /// Moves a device to the end of the line, and forgets the first ones if they are too many.
    fn hear(&mut self, device: &DeviceId, turn: &mut Turn<'_>) {
        self.heard += 1;
        let entry = self.devices.entry(device.clone()).or_default();
        self.by_heard.remove(&(entry.heard, device.clone()));
        entry.heard = self.heard;
        self.by_heard.insert((self.heard, device.clone()));
        let surplus = self.devices.len().saturating_sub(self.devices_max);
        for _ in 0..surplus.min(FORGOTTEN_MAX) {
            let (_, oldest) = self.by_heard.pop_first().expect("invariant: one for each device");
            let forgotten = self.devices.remove(&oldest).expect("invariant: by_heard is an index");
            for (number, boot) in &forgotten.boots {
                delete(&oldest, *number, &boot.blocks, turn);
            }
            turn.event(CoreEvent::DeviceForgotten { device: oldest });
        }
    }
}

/// Makes room for one more boot of a device, and opens it.
fn open_boot(device: &mut Device, id: &MessageId, turn: &mut Turn<'_>) {
    while device.boots.len() >= BOOTS_MAX {
        let oldest = device.boots.iter().min_by_key(|(_, boot)| boot.order).map(|(n, _)| *n);
        let Some(number) = oldest else { break };
        if let Some(boot) = device.boots.remove(&number) {
            delete(&id.device, number, &boot.blocks, turn);
        }
    }
    let latest = device.boots.values().map(|boot| boot.order).max().unwrap_or(0);
    let boot = Boot { order: latest.saturating_add(1), high: id.seq, blocks: BTreeMap::new() };
    device.boots.insert(id.boot, boot);
}

fn delete(device: &DeviceId, boot: u64, blocks: &BTreeMap<u64, u64>, turn: &mut Turn<'_>) {
    if !blocks.is_empty() {
        let blocks = blocks.keys().copied().collect();
        turn.op(CoreOp::DeleteDedupe { device: device.clone(), boot, blocks }, Pace::Lazy);
    }
}

fn bit(seq: u64) -> u64 {
    1 << (seq % BLOCK_BITS)
}

#[cfg(test)]
mod tests;
