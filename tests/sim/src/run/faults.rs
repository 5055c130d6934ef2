//! What goes wrong at random: how often, and what exactly.

use edge_core::id::Digest;

use super::{Event, Fault, Kind, SECOND, Seen, Sim};
use crate::plan::{self, Every};
use crate::timeline::Deed;

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

    /// What a fault of this kind does this time.
    pub(super) fn fault(&mut self, fault: Fault) {
        if self.is_quiet {
            return;
        }
        self.schedule(fault, self.time.now());
        let deed = match fault {
            Fault::Cut => Deed::CutDevice,
            Fault::Kill => Deed::Kill,
            Fault::Power => Deed::CutPower,
            Fault::Dies => Deed::DieSoon,
            Fault::Full => {
                let at = self.time.now() + self.rng.within(SECOND, FULL_US_MAX);
                self.heap.put(at, Event::Deed(Deed::FreeDisk));
                if self.rng.chance(300_000) { Deed::SealDisk } else { Deed::FillDisk }
            }
            Fault::Clock => self.some_jump(),
            Fault::Desire => self.some_wish(),
            Fault::Restore if self.rng.chance(500_000) => Deed::RestoreCloud,
            Fault::Restore => Deed::BackUpCloud,
            Fault::Stop => Deed::Stop,
        };
        self.deed(deed);
    }

    fn some_jump(&mut self) -> Deed {
        let day_ms = 86_400_000;
        match self.rng.below(4) {
            0 => Deed::ClockTo1970,
            1 => Deed::ClockOffMs(self.rng.within(1, 30 * day_ms).cast_signed()),
            2 => Deed::ClockOffMs(-self.rng.within(1, 30 * day_ms).cast_signed()),
            _ if self.rng.chance(500_000) => Deed::ClockRight,
            _ => Deed::ClockOffMs(0),
        }
    }

    fn some_wish(&mut self) -> Deed {
        let kinds =
            [Kind::Good, Kind::Good, Kind::NewState, Kind::Broken, Kind::Unusable, Kind::Forged];
        Deed::Desire(kinds[self.rng.index(kinds.len())])
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
}
