//! What goes wrong, and when that is over.

use std::time::Duration;

use simulator::app::Kind;
use simulator::time::{MILLI, SECOND};

use super::{DEVICES, Event, Sim};
use crate::net::LinkId;
use crate::scenario::{DEVICE_KEEP_ALIVE_S, Fault};

/// After a keep alive and a half the gateway ends a silent connection; a loop may be late.
const NOTICED_US: u64 = DEVICE_KEEP_ALIVE_S as u64 * SECOND * 3 / 2 + SECOND;
/// How slow a slow link is, in bytes a second.
const SLOW: (u64, u64) = (2_000, 20_000);

impl Sim {
    pub(super) fn links(&self) -> Vec<LinkId> {
        let devices = (0..DEVICES).map(LinkId::Device);
        devices.chain([LinkId::Crowd, LinkId::Uplink]).collect()
    }

    pub(super) fn schedule(&mut self, fault: Fault, from_us: u64) {
        let mean = self.scenario.faults.iter().find(|(of, _)| *of == fault);
        let mean_us = mean.map_or(u64::MAX >> 8, |(_, seconds)| seconds * SECOND);
        let at = from_us + self.chaos.within(mean_us / 4, mean_us * 7 / 4);
        self.put(at, Event::Fault(fault));
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        if self.is_quiet {
            return;
        }
        self.schedule(fault, self.now_us);
        let n = self.chaos.index(DEVICES);
        let device = LinkId::Device(n);
        // A little more than a packet, or a little less.
        let bytes = self.chaos.within(1, 400);
        let away_us = self.chaos.within(300 * MILLI, 10 * SECOND);
        match fault {
            Fault::DeviceCut => self.cut(device, "device-cut"),
            Fault::DeviceCutInside => self.cut_inside(device, bytes, "device-cut-inside"),
            Fault::DeviceVanishes => {
                self.count("device-vanished");
                let away_us = self.chaos.within(SECOND, 30 * SECOND);
                self.vanish(n, away_us);
            }
            Fault::AllVanish => self.all_vanish(),
            Fault::DevicePartition => self.partition(device, "device-partition"),
            Fault::DeviceSlow => self.slow(device, "device-slow"),
            Fault::UplinkCut => {
                self.uplink.broken_us = self.now_us;
                self.cut(LinkId::Uplink, "uplink-cut");
            }
            Fault::UplinkCutInside => {
                self.cut_inside(LinkId::Uplink, bytes * 8, "uplink-cut-inside");
            }
            Fault::UplinkVanishes => {
                if self.net.vanish(LinkId::Uplink) > 0 {
                    self.count("uplink-vanished");
                    self.uplink.broken_us = self.now_us;
                }
            }
            Fault::UplinkPartition => {
                self.uplink.is_down = true;
                self.partition(LinkId::Uplink, "uplink-partition");
            }
            Fault::UplinkSlow => self.slow(LinkId::Uplink, "uplink-slow"),
            Fault::CloudRestart => self.restart_cloud(away_us),
            Fault::GatewayKill => self.end_process(false, away_us),
            Fault::GatewayPower => self.end_process(true, away_us),
            Fault::Deaf => self.deaf(),
            Fault::Storm => self.storm(),
        }
    }

    fn cut(&mut self, link: LinkId, what: &'static str) {
        if self.net.cut(link) > 0 {
            self.count(what);
        }
    }

    fn cut_inside(&mut self, link: LinkId, bytes: u64, what: &'static str) {
        if self.net.cut_after(link, bytes) {
            self.count(what);
        }
    }

    fn all_vanish(&mut self) {
        self.count("all-devices-vanished");
        for n in 0..DEVICES {
            self.vanish(n, NOTICED_US + SECOND);
        }
        self.put(self.now_us + NOTICED_US, Event::AllNoticed { life: self.life });
    }

    fn partition(&mut self, link: LinkId, what: &'static str) {
        self.count(what);
        self.net.set_down(link, true);
        let at = self.now_us + self.chaos.within(SECOND, 60 * SECOND);
        self.put(at, Event::Heal(link));
    }

    fn slow(&mut self, link: LinkId, what: &'static str) {
        self.count(what);
        let rate = self.chaos.within(SLOW.0, SLOW.1);
        let latency = Duration::from_millis(self.chaos.within(50, 600));
        self.net.set_speed(link, latency, Some(rate));
        let at = self.now_us + self.chaos.within(5 * SECOND, 40 * SECOND);
        self.put(at, Event::Heal(link));
    }

    /// The link is as it should be.
    pub(super) fn heal(&mut self, link: LinkId) {
        let latency_us = if link == LinkId::Uplink { 20 * MILLI } else { 2 * MILLI };
        self.net.set_speed(link, Duration::from_micros(latency_us), None);
        self.net.set_down(link, false);
        if link == LinkId::Uplink {
            self.uplink.is_down = false;
        }
    }

    /// The gateway must have noticed by their keep alive that no device is there.
    pub(super) fn judge_noticed(&mut self, life: u64) {
        if self.is_quiet || life != self.life || !self.process.is_open() {
            return;
        }
        let connected = self.process.broker().map_or(0, |(status, _)| status.connected);
        if connected > 0 {
            let text = format!(
                "{connected} connections are taken for alive {NOTICED_US} us after their hosts \
                 vanished"
            );
            self.fail("half-open", text);
        }
        self.count("half-open-noticed");
    }

    /// Faults are over: all links are well, and the last wish of the control plane is a good one.
    pub(super) fn quiet(&mut self) {
        self.is_quiet = true;
        self.book.note(self.now_us, "quiet");
        for link in self.links() {
            self.heal(link);
        }
        for slot in &mut self.devices {
            slot.away_until_us = self.now_us;
        }
        self.strangers.clear();
        self.desire(Kind::Good);
        self.put(self.now_us + 10 * SECOND, Event::Look);
    }
}
