//! The sensor with a function of its own (`qemu-mps2-an386-edge`): a farm that it gets its function from, by an ordinary
//! deployment, and what it takes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sync_protocol::device_image::offer_version;

use super::measure::{self, Run};
use super::{Console, PATIENCE, SERVER_NAME, text, write_flash};
use crate::author::{Author, fixture};
use crate::cloud::Cloud;
use crate::gateway::{Gateway, Setup};
use crate::process::wait_for;
use crate::qemu::{Device, Firmware, Options};

/// Its folder.
pub const FOLDER: &str = "qemu-mps2-an386-edge";
/// The machine that it is made for.
pub const MACHINE: &str = "mps2-an386";
/// The device of a farm.
pub const DEVICE: &str = "press-1";
/// Fetching an image takes seconds, a trial a restart or two.
pub const UPDATE: Duration = Duration::from_secs(240);
/// Events whose instructions are counted.
const EVENTS: u32 = 20;

/// A gateway with TLS for devices and an open listener on loopback for the test, its control plane and its author.
pub struct Farm {
    dir: PathBuf,
    /// Signs what is deployed.
    pub author: Author,
    /// The control plane.
    pub cloud: Cloud,
    /// The gateway.
    pub gateway: Gateway,
    /// URL of the open listener.
    pub broker: String,
}

impl Farm {
    /// Starts them; the device is provisioned, and the gateway enrolled.
    ///
    /// # Errors
    /// Something does not come up.
    pub fn start(dir: &Path) -> Result<Self> {
        let author = Author::new(&dir.join("author"))?;
        let out = text(dir)?;
        author.holm(&["device", "ca"])?;
        author.holm(&["device", "listener", "barn", "--host", SERVER_NAME, "--out", &out])?;
        let open = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let more = format!(
            "[anonymous]\npublish = [\"#\", \"$holm/#\"]\nsubscribe = [\"#\", \"$holm/#\"]\n\
             [[listeners]]\nbind = \"{open}\""
        );
        let setup = Setup {
            name: "barn".to_owned(),
            tls: Some((dir.join("barn.pem"), dir.join("barn.key"))),
            client_ca: Some(dir.join("device-ca.pem")),
            more,
            ..Setup::default()
        };
        let mut gateway = Gateway::new(&dir.join("gateway"), &setup)?;
        let cloud = Cloud::start(&dir.join("cloud"), &author)?;
        let file = dir.join("provision");
        let (at, image) = (format!("10.0.2.2:{}", gateway.address().port()), text(&file)?);
        let agent_toml = text(&gateway.config())?;
        let words = ["device", "add", DEVICE, "--gateway", &at, "--server-name", SERVER_NAME];
        let more = ["--publish", "smooth/+", "--agent-toml", &agent_toml, "--out", &image];
        author.holm(&[&words[..], &more].concat())?;
        write_flash(&dir.join("flash"), &std::fs::read(&file)?)?;
        gateway.enroll(author.holm(&["gateway", "add", "barn"])?.trim())?;
        gateway.start()?;
        let broker = format!("mqtt://{open}");
        Ok(Self { dir: dir.to_owned(), author, cloud, gateway, broker })
    }

    /// Deploys the app with one of its functions for devices, whose section of `holm.toml` is `function`.
    ///
    /// # Errors
    /// It does not build, or is refused.
    pub fn deploy(&self, version: &str, name: &str, function: &str) -> Result<()> {
        let app = self.dir.join(format!("app-{version}"));
        std::fs::create_dir_all(&app)?;
        let topic = format!("never/{name}");
        let holm_toml = format!(
            "[app]\nname = \"edge\"\nversion = \"{version}\"\n\
             [functions.{name}]\nstack = \"16 KiB\"\n{function}\n\
             [device-function.press]\nfunction = \"{name}\"\ndevices = [\"press-*\"]\n\
             [[triggers]]\nfunction = \"{name}\"\nmqtt = [\"{topic}\"]\n"
        );
        std::fs::write(app.join("holm.toml"), holm_toml)?;
        self.author.holm(&["deploy", &text(&app)?, "--all"])?;
        Ok(())
    }

    /// Starts the device on a machine, with words of its command line and further options of QEMU; its console is appended to
    /// `press-1.log`.
    ///
    /// # Errors
    /// QEMU does not start.
    pub fn boot(
        &self,
        firmware: &Firmware,
        machine: &str,
        words: &[&str],
        more: &[&str],
    ) -> Result<Device> {
        let mut options = Options::new(&firmware.path, words);
        options.machine = machine.to_owned();
        options.more = more.iter().map(|&word| word.to_owned()).collect();
        options.flash = Some(self.dir.join("flash"));
        Device::start(DEVICE, &self.dir, &options)
    }

    /// Gives the device a command and waits for its answer; `argument` as `holm device command` takes it.
    ///
    /// # Errors
    /// The device does not say that it is done.
    pub fn command(&self, name: &str, argument: &[&str], wait_s: u32) -> Result<String> {
        let (wait, broker) = (wait_s.to_string(), &self.broker);
        let words = ["device", "command", DEVICE, name, "--wait", &wait, "--broker", broker];
        self.author.holm(&[&words[..], argument].concat())
    }

    /// The device's console over all its lives.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn console(&self) -> Result<Console> {
        Console::of(&self.dir, DEVICE)
    }

    /// What the device said last, as the gateway shows it.
    fn told(&self) -> Result<Value> {
        let page = self.gateway.ask(&["devices", "--json"])?;
        let rows = page.as_array().or_else(|| page["rows"].as_array());
        let row = rows.into_iter().flatten().find(|row| row["device"] == DEVICE);
        Ok(row.map_or(Value::Null, |row| row["firmware"].clone()))
    }

    /// Waits until the gateway was told this stage of this version.
    ///
    /// # Errors
    /// It is not told in time.
    pub fn wait_stage(&self, version: [u64; 3], stage: &str) -> Result<()> {
        let version = packed(version)?;
        wait_for(UPDATE, &format!("version {version} to be {stage}"), || {
            let told = self.told()?;
            let is_told = told["version"] == version && told["stage"] == stage;
            Ok((told["kind"] == "function" && is_told).then_some(()))
        })
    }

    /// Versions and stages that the control plane was told of, in order, and the reason of the first take-back.
    ///
    /// # Errors
    /// The control plane does not answer.
    pub fn stages(&self) -> Result<(Vec<(u64, String)>, String)> {
        let rows = self.cloud.stream("barn", 0)?;
        let rows: Vec<_> = rows
            .iter()
            .filter(|row| row["report"] == "firmware" && row["device"] == DEVICE)
            .filter(|row| row["app"] == "edge")
            .collect();
        let taken_back = rows.iter().find(|row| row["stage"] == "taken-back");
        let reason = taken_back.map_or("", |row| row["reason"].as_str().unwrap_or_default());
        let stage = |row: &&Value| {
            let stage = row["stage"].as_str().unwrap_or_default().to_owned();
            (row["version"].as_u64().unwrap_or_default(), stage)
        };
        Ok((rows.iter().map(stage).collect(), reason.to_owned()))
    }
}

/// A version as offers have it.
///
/// # Errors
/// A part is too large for it.
pub fn packed([major, minor, patch]: [u64; 3]) -> Result<u64> {
    Ok(offer_version(major << 32 | minor << 16 | patch).context("small parts")?.into())
}

/// What the function `smooth` needs in `holm.toml`, with or without the grant to publish.
#[must_use]
pub fn smooth(publish: &str) -> String {
    let path = fixture("apps/cold-chain/functions/smooth");
    format!("path = {path:?}\npublish = [{publish}]")
}

/// One life with a burst and a SIGKILL of the gateway, another one in which instructions are counted.
pub(super) fn measure(firmware: &Firmware, dir: &Path) -> Result<Run> {
    let mut farm = Farm::start(dir)?;
    fetch(&farm, firmware)?;
    let before = farm.console()?.acked;
    let burst = format!("burst={}", measure::BURST);
    let mut device = farm.boot(firmware, MACHINE, &[&burst, "period_ms=200"], &[])?;
    let first = device.console_line("first publish acked", PATIENCE)?;
    let rate_per_s = measure::rate(|| Ok(farm.console()?.acked - before))?;
    let reconnect_ms = measure::reconnect(&mut farm.gateway, &mut device, "Offline", "Online")?;
    measure::all_acked(&mut device)?;
    device.kill()?;

    let event_instructions = instructions(&farm, firmware)?;
    let console = farm.console()?;
    ensure!(console.crashes.is_empty() && console.bad == 0, "{console:?}");
    farm.gateway.stop()?;
    Ok(Run {
        stack_bytes: console.stack_bytes,
        boot_to_acked_ms: Some(measure::stamp(&first)? * 1e3),
        rate_per_s: Some(rate_per_s),
        reconnect_ms: Some(reconnect_ms),
        event_instructions: Some(event_instructions),
    })
}

/// A first life, in which the device gets its function; it ends with an empty queue.
fn fetch(farm: &Farm, firmware: &Firmware) -> Result<()> {
    let mut device = farm.boot(firmware, MACHINE, &["period_ms=250"], &[])?;
    device.console_line("no function runs: this is no device image", PATIENCE)?;
    farm.deploy("1.0.0", "smooth", &smooth("\"smooth/+\""))?;
    device.console_line("function edge/smooth sequence 4294967296 loaded", UPDATE)?;
    farm.wait_stage([1, 0, 0], "confirmed")?;
    farm.command("rate", &["--u32", "3600000"], 60)?;
    wait_for(PATIENCE, "all publishes to be acked", || {
        let console = farm.console()?;
        Ok((console.kept.len() as u64 == console.acked).then_some(()))
    })?;
    device.kill()
}

/// Instructions that the function takes for an event, on average, its fresh sandbox included: one takes a nanosecond of
/// the device's time here.
fn instructions(farm: &Farm, firmware: &Firmware) -> Result<u64> {
    let icount = ["-icount", "shift=0,sleep=on"];
    let mut device = farm.boot(firmware, MACHINE, &["period_ms=250"], &icount)?;
    let mut us = 0;
    for _ in 0..EVENTS {
        us += measure::number(&device.console_line("outcome done ", PATIENCE)?, "us")?;
    }
    device.kill()?;
    Ok(us * 1_000 / u64::from(EVENTS))
}
