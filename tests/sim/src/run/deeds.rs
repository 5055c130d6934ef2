//! What is done to the world: by the timeline, at random, and at the end, when all of it is over.

use super::{Event, Kind, MILLI, Seen, Sim};
use crate::disk::DiskFaults;
use crate::seen::DiskState;
use crate::time::SECOND;
use crate::timeline::{Deed, Entry};

impl Sim {
    pub(super) fn begin_timeline(&mut self) {
        for (n, entry) in self.plan.timeline.iter().enumerate() {
            self.heap.put(entry.at_us, Event::Entry(n));
        }
    }

    /// An entry of the timeline has come.
    pub(super) fn entry(&mut self, n: usize) {
        let Entry { every_us, until_us, deed, .. } = self.plan.timeline[n];
        if self.is_quiet {
            return;
        }
        let at = self.time.now() + self.rng.within(every_us / 2, every_us * 3 / 2);
        if every_us > 0 && at < until_us {
            self.heap.put(at, Event::Entry(n));
        }
        self.deed(deed);
    }

    pub(super) fn deed(&mut self, deed: Deed) {
        match deed {
            Deed::CutDevice => self.cut(),
            Deed::Kill => self.end_process(false),
            Deed::CutPower => self.end_process(true),
            Deed::DieSoon => {
                self.dies_with_power = self.rng.chance(500_000);
                let operations = self.rng.below(60);
                self.disk.die_after(Some(operations));
                self.count("dies-at-operation");
            }
            Deed::Stop => self.stop(),
            Deed::FillDisk => self.fill_disk(),
            Deed::SealDisk => {
                self.count("disk-sealed");
                self.disk.seal(true);
                self.see(&Seen::Disk(DiskState::ReadOnly));
            }
            Deed::FreeDisk => {
                self.disk.take(0);
                self.disk.seal(false);
                self.see(&Seen::Disk(DiskState::Good));
            }
            Deed::ClockTo1970 => self.set_clock(self.time.to_1970_ms(), false),
            Deed::ClockOffMs(off_ms) => self.set_clock(off_ms, false),
            Deed::ClockRight => self.set_clock(0, true),
            Deed::Desire(kind) => self.desire(kind),
            Deed::BackUpCloud => {
                self.count("cloud-backed-up");
                self.cloud.back_up();
                self.cut_link();
            }
            Deed::RestoreCloud => {
                self.count("cloud-restored");
                self.cloud.restore();
                self.cut_link();
            }
            Deed::CloneSpeaks => {
                self.count("clone-spoke");
                let records = self.rng.within(1, 8);
                for (stream, first, seq) in self.cloud.hear_clone(records) {
                    self.see(&Seen::Cloned { stream, first, seq });
                }
                self.cut_link();
            }
            Deed::LinkDown => {
                self.is_link_down = true;
                self.cut_link();
            }
            Deed::LinkUp => {
                self.is_link_down = false;
                let at = self.time.now() + MILLI;
                self.heap.put(at, Event::LinkConnect { life: self.life });
            }
        }
    }

    fn stop(&mut self) {
        if self.process.is_open() && !self.stopping {
            self.count("graceful-stop");
            self.stopping = true;
            self.process.stop();
        }
    }

    fn fill_disk(&mut self) {
        self.count("disk-filled");
        let left = self.rng.below(256 << 10);
        let taken = self.plan.bounds.disk_bytes.saturating_sub(self.disk.used() + left);
        self.disk.take(taken);
        self.see(&Seen::Disk(DiskState::Full));
    }

    fn set_clock(&mut self, off_ms: i64, is_vouched: bool) {
        self.count("clock-jump");
        self.time.set_wall(off_ms, is_vouched);
    }

    /// The machine starts: without a clock of its own it shows 1970.
    pub(super) fn boot_clock(&mut self) {
        if self.chance(self.plan.ratios.boots_1970) {
            self.count("boots-in-1970");
            self.time.set_wall(self.time.to_1970_ms(), false);
        }
    }

    /// Faults are over: the last wish of the control plane is a good one.
    pub(super) fn quiet(&mut self) {
        self.is_quiet = true;
        self.disk.set_faults(DiskFaults::default());
        self.disk.die_after(None);
        self.deed(Deed::FreeDisk);
        self.time.set_wall(0, true);
        self.deed(Deed::LinkUp);
        for slot in &mut self.devices {
            slot.slow_us = 0;
        }
        self.book.note(self.time.now(), "quiet");
        self.desire(Kind::Good);
        self.heap.put(self.time.now() + 10 * SECOND, Event::Look);
    }
}
