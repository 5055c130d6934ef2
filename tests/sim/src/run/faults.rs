//! What goes wrong, and when that is over.

use super::{Event, Fault, Kind, SECOND, Seen, Sim};
use crate::disk::DiskFaults;
use crate::plan::{self, Every};
use edge_core::id::Digest;

/// Longest time that the disk is full.
const FULL_US_MAX: u64 = 15 * SECOND;

fn mean(every: &Every, fault: Fault) -> u64 {
    match fault {
        Fault::Cut => every.cut_us,
        Fault::Kill => every.kill_us,
        Fault::Power => every.power_us,
        Fault::Dies => every.dies_us,
        Fault::Full => every.full_us,
        Fault::Clock => every.clock_us,
        Fault::Desire => every.desire_us,
        Fault::Restore => every.restore_us,
        Fault::Stop => every.stop_us,
    }
}

const ALL: [Fault; 9] = [
    Fault::Cut,
    Fault::Kill,
    Fault::Power,
    Fault::Dies,
    Fault::Full,
    Fault::Clock,
    Fault::Desire,
    Fault::Restore,
    Fault::Stop,
];

impl Sim {
    pub(super) fn schedule_faults(&mut self) {
        for fault in ALL {
            self.schedule(fault, plan::WARM_UP_US);
        }
    }

    fn schedule(&mut self, fault: Fault, from: u64) {
        let mean = mean(&self.plan.every, fault);
        if mean > 0 {
            let at = from + self.rng.within(mean / 4, mean * 2);
            self.heap.put(at, Event::Fault(fault));
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        if self.is_quiet {
            return;
        }
        self.schedule(fault, self.time.now());
        match fault {
            Fault::Cut => self.cut(),
            Fault::Kill => self.end_process(false),
            Fault::Power => self.end_process(true),
            Fault::Dies => {
                self.dies_with_power = self.rng.chance(500_000);
                let operations = self.rng.below(60);
                self.disk.die_after(Some(operations));
                self.count("dies-at-operation");
            }
            Fault::Full => self.fill_disk(),
            Fault::Clock => self.jump(),
            Fault::Desire => self.desire_something(),
            Fault::Restore => {
                if self.rng.chance(500_000) {
                    self.count("cloud-restored");
                    self.cloud.restore();
                } else {
                    self.count("cloud-backed-up");
                    self.cloud.back_up();
                }
                self.cut_link();
            }
            Fault::Stop => {
                if self.process.is_open() && !self.stopping {
                    self.count("graceful-stop");
                    self.stopping = true;
                    self.process.stop();
                }
            }
        }
    }

    fn fill_disk(&mut self) {
        self.count("disk-filled");
        let left = self.rng.below(256 << 10);
        let taken = plan::DISK_BYTES.saturating_sub(self.disk.used() + left);
        self.disk.take(taken);
        let at = self.time.now() + self.rng.within(SECOND, FULL_US_MAX);
        self.heap.put(at, Event::Freed);
    }

    fn jump(&mut self) {
        self.count("clock-jump");
        let day_ms = 86_400_000;
        let offset_ms = match self.rng.below(4) {
            0 => self.time.to_1970_ms(),
            1 => self.rng.within(1, 30 * day_ms).cast_signed(),
            2 => -self.rng.within(1, 30 * day_ms).cast_signed(),
            _ => 0,
        };
        let disciplined = offset_ms == 0 && self.rng.chance(500_000);
        self.time.set_wall(offset_ms, disciplined);
    }

    fn desire_something(&mut self) {
        let kinds =
            [Kind::Good, Kind::Good, Kind::NewState, Kind::Broken, Kind::Unusable, Kind::Forged];
        let kind = kinds[self.rng.index(kinds.len())];
        self.desire(kind);
    }

    /// The control plane states a new revision.
    pub(super) fn desire(&mut self, kind: Kind) {
        let revision = self.cloud.desire(kind);
        self.count("desired");
        self.book.note(self.time.now(), &format!("desired: {kind:?} {revision}"));
        let is_signed = kind != Kind::Forged;
        self.see(&Seen::Built { revision: Digest(revision.0), is_signed });
        let desired = self.cloud.desired();
        self.cloud_says(&desired);
    }

    /// Faults are over: the last wish of the control plane is a good one.
    pub(super) fn quiet(&mut self) {
        self.is_quiet = true;
        self.disk.set_faults(DiskFaults::default());
        self.disk.die_after(None);
        self.disk.take(0);
        self.time.set_wall(0, true);
        for slot in &mut self.devices {
            slot.slow_us = 0;
        }
        self.book.note(self.time.now(), "quiet");
        self.desire(Kind::Good);
        self.heap.put(self.time.now() + 10 * SECOND, Event::Look);
    }
}
