//! The whole system with nothing but emulated hardware: firmware on emulated microcontrollers, with TLS and
//! their queue in flash, at a gateway from its image in QEMU.
//!
//! Each device reaches the gateway by its own network's way to this machine, where a port leads to the
//! gateway. In the midst gateway and devices lose their power (SIGKILL). In the end every reading that a device had
//! put into its flash is in the control plane, once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use system_tests::qemu::{self, Device, Firmware, firmware};
use system_tests::sensors::fleet::{FEATURES, Report, judge, table};
use system_tests::sensors::measure::all_acked;
use system_tests::sensors::{Console, FOLDER, SERVER_NAME, stored_readings, write_flash};

use super::Basis;
use super::gate::{Gate, LIMITS};
use super::machine::{HOST, Hardware, Machine, PATIENCE};
use super::site::{GATEWAY, Site};
use super::story::{boot, print_lines};

/// What is run.
#[derive(Debug)]
pub(crate) struct Options {
    /// What it is made of.
    pub(super) basis: Basis,
    /// How many devices.
    pub(crate) devices: u8,
    /// How long they measure.
    pub(crate) length: Duration,
}

/// From reading to reading.
const PERIOD: &str = "period_ms=500";
/// One reading, and no more while anybody looks.
const HARDLY: &str = "period_ms=3600000";
/// From the last ack to the last record in the control plane.
const DRAIN_MAX: Duration = Duration::from_secs(300);

/// Runs it, and judges.
pub(crate) fn tell(options: &Options) -> Result<()> {
    let names: Vec<String> = (1..=options.devices).map(|n| format!("press-{n}")).collect();
    println!("building the firmware, starting the control plane, provisioning the devices");
    let firmware = firmware(FOLDER, FEATURES)?;
    let site = Site::start(&options.basis.dir)?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let gate = gate(&site, &names, port)?;
    let token = site.token(&gate)?;
    let built = site.image_of(&gate, &token, &options.basis.agent, &options.basis.parts)?;
    let hardware = Hardware { mqtt_port: port, ..site.hardware(&built, options.basis.memory_mib)? };
    let mut machine = hardware.start()?;
    println!("the gateway boots");
    print_lines(&boot(&mut machine, "first boot")?);
    println!("  {}", machine.expect("enrolled as", PATIENCE)?.trim());
    site.deploy_app("fleet", &[GATEWAY.to_owned()])?;
    let mut fleet = Fleet { dir: &options.basis.dir, firmware, devices: BTreeMap::new() };
    for name in &names {
        fleet.boot(name, PERIOD)?;
    }
    let (machine, report) = day(options, &site, &hardware, machine, &mut fleet)?;
    machine.cut_power()?;
    print!("\n{}", table(&report));
    if !report.problems.is_empty() {
        bail!("{} problem(s), listed above", report.problems.len());
    }
    println!("OK: every reading that was kept in flash is in the control plane, once");
    Ok(())
}

/// The devices measure; half-way the gateway loses its power, later each device does.
fn day(
    options: &Options,
    site: &Site,
    hardware: &Hardware,
    machine: Machine,
    fleet: &mut Fleet,
) -> Result<(Machine, Report)> {
    let mut report = Report::default();
    println!("{} device(s) measure", options.devices);
    for device in fleet.devices.values_mut() {
        device.console_line("first reading acked", PATIENCE)?;
    }
    machine.pause(options.length / 2)?;
    println!("the gateway loses its power");
    machine.cut_power()?;
    report.gateway_kills += 1;
    let mut machine = hardware.start()?;
    machine.expect("agent ready", PATIENCE)?;
    machine.pause(options.length / 2)?;
    println!("the devices lose theirs, and send what is left in their flash");
    for name in fleet.devices.keys().cloned().collect::<Vec<_>>() {
        fleet.devices.remove(&name).context("it runs")?.kill()?;
        report.power_cuts += 1;
        let device = fleet.boot(&name, HARDLY)?;
        device.console_line("first reading acked", PATIENCE)?;
        all_acked(device)?;
    }
    let consoles = fleet.consoles()?;
    let kept: usize = consoles.values().map(|console| console.kept.len()).sum();
    let mut stored = Vec::new();
    let drained = site.poll_within(DRAIN_MAX, "all readings to arrive", || {
        stored = stored_readings(&site.streams_of(GATEWAY)?)?;
        Ok((stored.len() >= kept).then_some(()))
    });
    judge(&consoles, &stored, &mut report);
    // What is missing is named by the judge.
    if report.problems.is_empty() {
        drained?;
    }
    Ok((machine, report))
}

/// Configuration of the gateway, and a flash for each device, as an operator makes them.
fn gate(site: &Site, names: &[String], port: u16) -> Result<Gate> {
    let dir = &site.dir;
    let text = |path: &Path| path.to_str().map(str::to_owned).context("not UTF-8");
    site.author.holm(&["device", "ca"])?;
    let out = text(dir)?;
    site.author.holm(&["device", "listener", GATEWAY, "--host", SERVER_NAME, "--out", &out])?;
    let files = [format!("{GATEWAY}.pem"), format!("{GATEWAY}.key"), "device-ca.pem".to_owned()];
    let [certificate, key, ca] = &files;
    let agent_toml = dir.join("agent.toml");
    std::fs::write(
        &agent_toml,
        format!(
            "name = \"{GATEWAY}\"\n\n{LIMITS}[[listeners]]\nbind = \"0.0.0.0:8883\"\n\
             certificate = \"/etc/holm/{certificate}\"\nkey = \"/etc/holm/{key}\"\n\
             client_ca = \"/etc/holm/{ca}\"\n"
        ),
    )?;
    let at = format!("{HOST}:{port}");
    for name in names {
        let image = dir.join(format!("{name}.provision"));
        let words = ["device", "add", name, "--gateway", &at, "--server-name", SERVER_NAME];
        let more = ["--agent-toml", &text(&agent_toml)?, "--out", &text(&image)?];
        site.author.holm(&[&words[..], &more].concat())?;
        write_flash(&flash(dir, name), &std::fs::read(&image)?)?;
    }
    Ok(Gate {
        name: GATEWAY.to_owned(),
        agent_toml: std::fs::read_to_string(&agent_toml)?,
        files: files.iter().map(|file| dir.join(file)).collect(),
    })
}

fn flash(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.flash"))
}

struct Fleet<'a> {
    dir: &'a Path,
    firmware: Firmware,
    devices: BTreeMap<String, Device>,
}

impl Fleet<'_> {
    fn boot(&mut self, name: &str, period: &str) -> Result<&mut Device> {
        let options = qemu::Options {
            flash: Some(flash(self.dir, name)),
            ..qemu::Options::new(&self.firmware.path, &[period])
        };
        let device = Device::start(name, self.dir, &options)?;
        Ok(self.devices.entry(name.to_owned()).or_insert(device))
    }

    fn consoles(&self) -> Result<BTreeMap<String, Console>> {
        let console = |name: &String| Ok((name.clone(), Console::of(self.dir, name)?));
        self.devices.keys().map(console).collect()
    }
}
