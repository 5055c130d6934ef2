//! A fleet of emulated devices through a bad day: gateways die, cables are pulled, devices lose their power. In the end
//! every reading that a device has put into its flash is in the control plane, once.
//!
//! # What is judged
//! - Lost: a reading that the console called `kept` and that is not in the control plane. What was acknowledged is among
//!   these. At the end all devices lose their power once more and send what is left in their flash, so nothing is open.
//! - Twice: a number of a reading that is in the control plane more than once.
//! - Strangers: numbers that no console told. A power cut can fall between the flash and the console, so a device may
//!   have as many of them as it had starts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::measure::all_acked;
use super::{Console, FOLDER, Id, PATIENCE, Site};
use crate::interrupt::Interrupt;
use crate::problems;
use crate::process::wait_for;
use crate::qemu::{Device, Firmware, firmware};
use crate::random::Random;

/// Features of the firmware: what must outlive a power cut needs the queue in flash.
pub const FEATURES: &[&str] = &["full", "tls"];
/// Between two events of the script.
const PAUSE_MS: (usize, usize) = (1_000, 4_000);
/// Time without events at the end, for devices that wait to connect again.
const QUIET: Duration = Duration::from_secs(20);

/// What is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where logs and flash files are written; must exist.
    pub dir: PathBuf,
    /// Chooses what happens when.
    pub seed: u64,
    /// How many devices.
    pub devices: usize,
    /// How long the script runs.
    pub length: Duration,
    /// From reading to reading of each device.
    pub period_ms: u32,
}

/// What happened, and what was found.
#[derive(Debug, Default)]
pub struct Report {
    /// SIGKILLs of the gateway.
    pub gateway_kills: usize,
    /// Cables pulled and plugged in again.
    pub cuts: usize,
    /// SIGKILLs of devices, the last of all devices among them.
    pub power_cuts: usize,
    /// Readings in the queues of devices.
    pub kept: usize,
    /// Of these, counted as acknowledged by the devices.
    pub acked: u64,
    /// Readings that waited in flash at the last power cut.
    pub in_flash_at_end: u64,
    /// Readings in the control plane.
    pub stored: usize,
    /// What must not be; empty when all is well.
    pub problems: Vec<String>,
}

/// Runs a fleet and judges it; `tell` is given a line now and then.
///
/// # Errors
/// Something does not come up or to rest, or it is interrupted. What was found is in the report.
pub fn run(options: &Options, interrupt: &Interrupt, tell: &mut dyn FnMut(&str)) -> Result<Report> {
    let firmware = firmware(FOLDER, FEATURES)?;
    let names: Vec<String> = (1..=options.devices).map(|n| format!("press-{n}")).collect();
    tell("starting a control plane and a gateway, provisioning the devices");
    let mut site = Site::tls(&options.dir, &names, true)?;
    site.start()?;
    let mut day = Day { site, firmware, options, devices: Vec::new(), report: Report::default() };
    for name in &names {
        let device = day.boot(name)?;
        day.devices.push(Some(device));
    }
    tell("all devices are started");
    day.storm(&names, interrupt, tell)?;
    tell("the storm is over; the devices lose their power once more and send what is left");
    day.settle(&names)?;
    day.judge(&names)?;
    Ok(day.report)
}

struct Day<'a> {
    site: Site,
    firmware: Firmware,
    options: &'a Options,
    devices: Vec<Option<Device>>,
    report: Report,
}

impl Day<'_> {
    fn boot(&self, name: &str) -> Result<Device> {
        let period = format!("period_ms={}", self.options.period_ms);
        self.site.boot(&self.firmware, name, &[&period])
    }

    /// Whatever goes wrong is mended before the next thing does.
    fn storm(
        &mut self,
        names: &[String],
        interrupt: &Interrupt,
        tell: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let mut random = Random::new(self.options.seed);
        let begun = Instant::now();
        let mut told = Duration::ZERO;
        while begun.elapsed() < self.options.length {
            interrupt.check()?;
            nap(&mut random);
            let chosen = random.below(names.len());
            match random.below(10) {
                0 | 1 => self.kill_gateway(&mut random)?,
                2..=5 => self.cut(chosen, &mut random)?,
                _ => self.power_cut(chosen, &names[chosen])?,
            }
            if begun.elapsed() >= told + Duration::from_secs(30) {
                told = begun.elapsed();
                let Report { gateway_kills, cuts, power_cuts, .. } = self.report;
                tell(&format!(
                    "  {:>4} s   {gateway_kills} gateway kills, {cuts} cut cables, {power_cuts} power cuts",
                    told.as_secs()
                ));
            }
        }
        std::thread::sleep(QUIET);
        Ok(())
    }

    fn kill_gateway(&mut self, random: &mut Random) -> Result<()> {
        self.site.gateway.kill()?;
        self.report.gateway_kills += 1;
        nap(random);
        self.site.gateway.start()
    }

    fn cut(&mut self, chosen: usize, random: &mut Random) -> Result<()> {
        let device = self.devices[chosen].as_mut().context("every device runs")?;
        device.set_link(false)?;
        self.report.cuts += 1;
        nap(random);
        device.set_link(true)
    }

    fn power_cut(&mut self, chosen: usize, name: &str) -> Result<()> {
        self.devices[chosen].take().context("every device runs")?.kill()?;
        self.report.power_cuts += 1;
        self.devices[chosen] = Some(self.boot(name)?);
        Ok(())
    }

    /// The last power cut; then each device sends what its flash holds, and hardly anything new.
    fn settle(&mut self, names: &[String]) -> Result<()> {
        for device in &mut self.devices {
            device.take().context("every device runs")?.kill()?;
            self.report.power_cuts += 1;
        }
        for name in names {
            let mut device = self.site.boot(&self.firmware, name, &["period_ms=3600000"])?;
            let line = device.console_line("acked 0 queued ", PATIENCE)?;
            let waiting = line.split_whitespace().skip_while(|word| *word != "queued").nth(1);
            self.report.in_flash_at_end += waiting.and_then(|word| word.parse().ok()).unwrap_or(0);
            device.console_line("first reading acked", PATIENCE)?;
            all_acked(&mut device)?;
        }
        let gateway = &self.site.gateway;
        gateway.wait_idle(PATIENCE)?;
        wait_for(PATIENCE, "the outbox to drain", || {
            Ok((gateway.status()?["outbox"]["records"] == 0).then_some(()))
        })
    }

    fn judge(&mut self, names: &[String]) -> Result<()> {
        let consoles: Result<BTreeMap<_, _>> =
            names.iter().map(|name| Ok((name.clone(), self.site.console(name)?))).collect();
        let stored = self.site.stored()?;
        judge(&consoles?, &stored, &mut self.report);
        self.site.gateway.stop()
    }
}

fn nap(random: &mut Random) {
    let (least, most) = PAUSE_MS;
    let ms = least + random.below(most - least);
    std::thread::sleep(Duration::from_millis(u64::try_from(ms).unwrap_or_default()));
}

/// Compares what devices told with what the control plane holds. See the module.
pub fn judge(consoles: &BTreeMap<String, Console>, stored: &[(String, Id)], report: &mut Report) {
    let mut seen: BTreeMap<(&str, Id), usize> = BTreeMap::new();
    for (device, id) in stored {
        *seen.entry((device, *id)).or_default() += 1;
    }
    report.stored = stored.len();
    let show = |device: &str, id: &Id| format!("{device}/{:016x}/{}", id.boot, id.sequence);
    let twice = seen.iter().filter(|(_, count)| **count > 1);
    let twice: Vec<_> = twice.map(|((device, id), _)| show(device, id)).collect();
    problems::note(&mut report.problems, "TWICE", &twice);
    for (device, console) in consoles {
        let kept: BTreeSet<Id> = console.kept.iter().copied().collect();
        report.kept += kept.len();
        report.acked += console.acked;
        let lost = kept.iter().filter(|id| !seen.contains_key(&(device.as_str(), **id)));
        let lost: Vec<_> = lost.map(|id| show(device, id)).collect();
        problems::note(&mut report.problems, "LOST", &lost);
        let own = seen.keys().filter(|(name, id)| name == device && !kept.contains(id));
        let strangers: Vec<_> = own.map(|(_, id)| show(device, id)).collect();
        if strangers.len() as u64 > console.boots {
            problems::note(
                &mut report.problems,
                "in the control plane, never told by the device",
                &strangers,
            );
        }
        problems::note(&mut report.problems, &format!("{device} crashed"), &console.crashes);
        if console.bad > 0 {
            report
                .problems
                .push(format!("{device}: {} readings dropped, refused or hurt", console.bad));
        }
        if kept.is_empty() {
            report.problems.push(format!("{device} kept no reading: it proves nothing"));
        }
    }
}

/// The figures.
#[must_use]
pub fn table(report: &Report) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let rows = [
        ("gateway kills", report.gateway_kills as u64),
        ("cut cables", report.cuts as u64),
        ("power cuts of devices", report.power_cuts as u64),
        ("readings kept by devices", report.kept as u64),
        ("counted as acked by devices", report.acked),
        ("in flash at the last power cut", report.in_flash_at_end),
        ("in the control plane", report.stored as u64),
    ];
    for (name, value) in rows {
        let _ = writeln!(text, "  {name:<32} {value:>8}");
    }
    for problem in &report.problems {
        let _ = writeln!(text, "  PROBLEM {problem}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(kept: &[u64]) -> BTreeMap<String, Console> {
        let kept = kept.iter().map(|&sequence| Id { boot: 1, sequence }).collect();
        [("a".to_owned(), Console { kept, boots: 1, ..Console::default() })].into()
    }

    fn judged(kept: &[u64], stored: &[u64]) -> Vec<String> {
        let stored: Vec<_> =
            stored.iter().map(|&sequence| ("a".to_owned(), Id { boot: 1, sequence })).collect();
        let mut report = Report::default();
        judge(&console(kept), &stored, &mut report);
        report.problems
    }

    #[test]
    fn a_loss_a_repeat_and_strangers_are_found() {
        assert_eq!(judged(&[0, 1], &[0, 1]), Vec::<String>::new());
        assert_eq!(judged(&[0, 1], &[0, 1, 2]), Vec::<String>::new(), "cut before it was told");
        assert!(judged(&[0, 1], &[0])[0].starts_with("LOST"));
        assert!(judged(&[0, 1], &[0, 1, 1])[0].starts_with("TWICE"));
        assert_eq!(judged(&[0], &[0, 1, 2]).len(), 1);
        assert_eq!(judged(&[], &[]).len(), 1);
    }
}
