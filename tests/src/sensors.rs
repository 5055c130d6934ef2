//! The example sensors on emulated devices, at a real gateway: their firmware, their provisioning, and what their
//! consoles tell.

pub mod budget;
pub mod edge;
pub mod fleet;
pub mod function;
pub mod in_c;
pub mod measure;
pub mod slot;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::author::{Author, fixture};
use crate::cloud::Cloud;
use crate::gateway::{Gateway, Setup};
use crate::process::wait_for;
use crate::qemu::{Device, FLASH_BYTES, Firmware, Options};

/// The firmware that the devices run.
pub const FOLDER: &str = "qemu-mps2-an385";
/// Its twin on a serial line.
pub const WIRED: &str = "qemu-mps2-an385-uart";
/// The name that a gateway knows clients without credentials by: a device must bear it in its envelopes.
pub const ANONYMOUS: &str = "anonymous";
/// Where a device in QEMU finds the host's loopback.
const HOST: &str = "10.0.2.2";
/// The name in the listener's certificate.
pub const SERVER_NAME: &str = "barn.local";
/// Far more than anything takes, for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A gateway for sensors.
pub struct Site {
    dir: PathBuf,
    author: Author,
    /// The gateway.
    pub gateway: Gateway,
    /// Its control plane, if it has one.
    pub cloud: Option<Cloud>,
    /// Where devices connect: the gateway, or a proxy before it.
    pub at: SocketAddr,
    way: Way,
}

/// How devices reach the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Tls,
    /// The second serial line of the machine ends at this address.
    Wire,
}

impl Site {
    /// A gateway without TLS, open to everybody on loopback; it runs.
    ///
    /// # Errors
    /// It does not come up.
    pub fn plain(dir: &Path) -> Result<Self> {
        let author = Author::new(&dir.join("author"))?;
        let more = "[anonymous]\npublish = [\"#\", \"$holm/#\"]\nsubscribe = [\"#\", \"$holm/#\"]"
            .to_owned();
        let setup = Setup { name: "barn".to_owned(), more, ..Setup::default() };
        let gateway = Gateway::new(&dir.join("gateway"), &setup)?;
        let at = gateway.address();
        let mut site =
            Self { dir: dir.to_owned(), author, gateway, cloud: None, at, way: Way::Plain };
        site.gateway.start()?;
        Ok(site)
    }

    /// A gateway with a serial line that it trusts, for this device at its other end, and open to whoever commands it on
    /// loopback; it runs.
    ///
    /// # Errors
    /// It does not come up.
    pub fn wire(dir: &Path, device: &str) -> Result<Self> {
        let author = Author::new(&dir.join("author"))?;
        let at = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let anonymous = "[anonymous]\npublish = [\"$holm/#\"]\nsubscribe = [\"$holm/#\"]";
        let more = format!("{anonymous}\n{}", line_toml(at, device));
        let setup = Setup { name: "barn".to_owned(), more, ..Setup::default() };
        let gateway = Gateway::new(&dir.join("gateway"), &setup)?;
        let mut site =
            Self { dir: dir.to_owned(), author, gateway, cloud: None, at, way: Way::Wire };
        site.gateway.start()?;
        Ok(site)
    }

    /// A gateway with TLS that knows these devices by certificate, not started yet. With `managed` it belongs to a
    /// control plane, and runs the app that records their readings as soon as [`Self::start`] returns.
    ///
    /// # Errors
    /// The commands fail, or the control plane does not come up.
    pub fn tls(dir: &Path, devices: &[String], managed: bool) -> Result<Self> {
        let author = Author::new(&dir.join("author"))?;
        let out = text(dir)?;
        author.holm(&["device", "ca"])?;
        author.holm(&["device", "listener", "barn", "--host", SERVER_NAME, "--out", &out])?;
        let setup = Setup {
            name: "barn".to_owned(),
            tls: Some((dir.join("barn.pem"), dir.join("barn.key"))),
            client_ca: Some(dir.join("device-ca.pem")),
            ..Setup::default()
        };
        let gateway = Gateway::new(&dir.join("gateway"), &setup)?;
        let cloud = if managed { Some(Cloud::start(&dir.join("cloud"), &author)?) } else { None };
        let at = gateway.address();
        let site = Self { dir: dir.to_owned(), author, gateway, cloud, at, way: Way::Tls };
        for device in devices {
            site.provision(device)?;
        }
        Ok(site)
    }

    /// Starts the gateway; with a control plane it is enrolled and waits for its app first.
    ///
    /// # Errors
    /// Something does not come up.
    pub fn start(&mut self) -> Result<()> {
        if self.cloud.is_none() {
            return self.gateway.start();
        }
        let token = self.author.holm(&["gateway", "add", "barn"])?;
        self.gateway.enroll(token.trim())?;
        self.gateway.start()?;
        self.author.holm(&["deploy", &text(&fixture("apps/fleet"))?, "--all"])?;
        wait_for(PATIENCE, "the app to be live", || {
            let status = self.gateway.status()?;
            let mut apps = status["deployments"]["apps"].as_array().into_iter().flatten();
            Ok(apps.any(|row| !row["running"].is_null()).then_some(()))
        })
    }

    /// `holm WORDS` as the site's author.
    ///
    /// # Errors
    /// It fails; the message holds what it printed.
    pub fn holm(&self, words: &[&str]) -> Result<String> {
        self.author.holm(words)
    }

    /// Writes what a device needs into a fresh flash of its own, and tells the gateway, which must not run yet.
    fn provision(&self, device: &str) -> Result<()> {
        let file = self.dir.join(format!("{device}.provision"));
        let agent_toml = text(&self.gateway.config())?;
        let at = format!("{HOST}:{}", self.at.port());
        let words = ["device", "add", device, "--gateway", &at, "--server-name", SERVER_NAME];
        let more = ["--agent-toml", &agent_toml, "--out", &text(&file)?];
        self.author.holm(&[&words[..], &more].concat())?;
        write_flash(&self.flash(device), &std::fs::read(&file)?)
    }

    /// The file that holds a device's flash.
    #[must_use]
    pub fn flash(&self, device: &str) -> PathBuf {
        self.dir.join(format!("{device}.flash"))
    }

    /// How a device of this site is started, with more words on its command line.
    #[must_use]
    pub fn options(&self, firmware: &Firmware, device: &str, words: &[&str]) -> Options {
        let mut options = Options::new(&firmware.path, words);
        match self.way {
            Way::Plain => {
                options.arguments.push(format!("name={device}"));
                options.arguments.push(format!("port={}", self.at.port()));
            }
            Way::Tls => options.flash = Some(self.flash(device)),
            Way::Wire => {
                options.arguments.push(format!("name={device}"));
                let line = format!("tcp:{},reconnect=1", self.at);
                options.more.extend(["-serial".to_owned(), line]);
            }
        }
        options
    }

    /// Starts a device; its console is appended to `NAME.log` in the site's folder. A firmware for the slot is started by
    /// the boot loader, and is written into the flash before if no image is there.
    ///
    /// # Errors
    /// QEMU does not start, or the boot loader cannot be built.
    pub fn boot(&self, firmware: &Firmware, device: &str, words: &[&str]) -> Result<Device> {
        Device::start(device, &self.dir, &self.slotted(firmware, device, words)?)
    }

    /// As [`Self::boot`], but the device does nothing before [`Device::run_until`].
    ///
    /// # Errors
    /// As for [`Self::boot`].
    pub fn boot_stopped(
        &self,
        firmware: &Firmware,
        device: &str,
        words: &[&str],
    ) -> Result<Device> {
        let options = Options { stopped: true, ..self.slotted(firmware, device, words)? };
        Device::start(device, &self.dir, &options)
    }

    fn slotted(&self, firmware: &Firmware, device: &str, words: &[&str]) -> Result<Options> {
        let mut options = self.options(firmware, device, words);
        if let Some(image) = slot::Image::of(firmware)? {
            let flash = options.flash.get_or_insert_with(|| self.flash(device));
            slot::write_first(flash, &image)?;
            options.kernel = slot::loader()?.path;
        }
        Ok(options)
    }

    /// Gives a command to a device of a plain site and waits for its answer; `argument` as `holm device command` takes it.
    ///
    /// # Errors
    /// The device does not say that it is done.
    pub fn command(&self, device: &str, name: &str, argument: &[&str]) -> Result<String> {
        let broker = format!("mqtt://{}", self.gateway.address());
        let words = ["device", "command", device, name, "--wait", "60", "--broker", &broker];
        self.author.holm(&[&words[..], argument].concat())
    }

    /// Console of a device over all its lives.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn console(&self, device: &str) -> Result<Console> {
        Console::of(&self.dir, device)
    }

    /// Readings that the control plane holds, by device, each as often as it is there.
    ///
    /// # Errors
    /// There is no control plane, it does not answer, or a row is no reading.
    pub fn stored(&self) -> Result<Vec<(String, Id)>> {
        let cloud = self.cloud.as_ref().context("the site has no control plane")?;
        let streams: Result<Vec<_>> = (0..3).map(|stream| cloud.stream("barn", stream)).collect();
        stored_readings(&streams?)
    }
}

/// Readings among the rows that a control plane holds of a gateway, by stream: those that the app `fleet`
/// recorded.
///
/// # Errors
/// A recorded row is no reading.
pub fn stored_readings(streams: &[Vec<Value>]) -> Result<Vec<(String, Id)>> {
    let rows = streams.iter().flatten().filter(|row| row["kind"] == "telemetry");
    let reading = |row: &Value| {
        let row = &row["payload"];
        let read = || {
            let boot = u64::from_str_radix(row["boot"].as_str()?, 16).ok()?;
            let id = Id { boot, sequence: row["sequence"].as_u64()? };
            Some((row["device"].as_str()?.to_owned(), id))
        };
        read().with_context(|| format!("not a reading: {row}"))
    };
    rows.map(reading).collect()
}

/// Lines of `agent.toml`: a serial line at this address that the gateway trusts, and the device at its other end.
#[must_use]
pub fn line_toml(at: SocketAddr, device: &str) -> String {
    format!(
        "[[buses]]\nname = \"line\"\ntcp_listen = \"{at}\"\ntrust = true\ndevices = [{device:?}]\n\
         [[devices]]\nname = {device:?}\nwire = true\npublish = [\"sensors/{{device}}\"]\n"
    )
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("{}: not UTF-8", path.display()))
}

/// Makes a file of erased flash with a provisioning image in its first pages.
///
/// # Errors
/// The image is longer than the flash, or the file cannot be written.
pub fn write_flash(path: &Path, image: &[u8]) -> Result<()> {
    let mut flash = vec![0xFF; usize::try_from(FLASH_BYTES)?];
    flash
        .get_mut(..image.len())
        .context("the image is longer than the flash")?
        .copy_from_slice(image);
    std::fs::write(path, flash).with_context(|| path.display().to_string())
}

/// Number of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// Of the start of the device.
    pub boot: u64,
    /// Within it.
    pub sequence: u64,
}

/// What a device has told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Console {
    /// Readings that it has put into its queue, in order.
    pub kept: Vec<Id>,
    /// Readings that it counted as acknowledged, over all lives.
    pub acked: u64,
    /// Readings dropped, refused or hurt by the queue's memory, and messages that made no sense, over all lives.
    pub bad: u64,
    /// Its starts.
    pub boots: u64,
    /// The deepest stack, in bytes.
    pub stack_bytes: u64,
    /// Panics and hard faults, in its words.
    pub crashes: Vec<String>,
}

impl Console {
    /// That of the device `NAME` whose lives are logged in `dir`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(dir: &Path, name: &str) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let text = std::fs::read(&log).with_context(|| log.display().to_string())?;
        Ok(Self::read(&String::from_utf8_lossy(&text)))
    }

    /// Reads the lines of the firmware. Half a line, where a life was cut, is passed over.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut console = Self::default();
        let (mut acked, mut bad) = (0, 0);
        for line in text.lines() {
            let said = line.split_once("] ").map_or(line, |(_, said)| said);
            let words: Vec<&str> = said.split_whitespace().collect();
            match words.as_slice() {
                ["device", _, "boot", _] => {
                    console.boots += 1;
                    console.acked += std::mem::take(&mut acked);
                    console.bad += std::mem::take(&mut bad);
                }
                ["kept", boot, sequence, _] => {
                    let boot = u64::from_str_radix(boot, 16).ok();
                    console.kept.extend(
                        boot.zip(sequence.parse().ok())
                            .map(|(boot, sequence)| Id { boot, sequence }),
                    );
                }
                ["acked", count, "queued", _, _, _, _, _, a, b, c, d, "stack", bytes, ..] => {
                    acked = count.parse().unwrap_or(acked);
                    let number = |word: &&str| {
                        word.trim_matches(['[', ']', ',']).parse::<u64>().unwrap_or(0)
                    };
                    bad = [a, b, c, d].into_iter().map(number).sum();
                    console.stack_bytes = console.stack_bytes.max(bytes.parse().unwrap_or(0));
                }
                _ if said.contains("panic: ") || said.contains("hard fault: ") => {
                    console.crashes.push(said.to_owned());
                }
                _ => {}
            }
        }
        console.acked += acked;
        console.bad += bad;
        console
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_is_read_over_lives_and_cuts() {
        let console = Console::read(
            "[    0.1] device press-1 boot 00000000000000ff\r\n[    0.2] kept 00000000000000ff 0 21000\r\n\
             [    0.3] acked 1 queued 0 overflowed, refused, failed, ignored [0, 0, 0, 0] stack 13004\r\n[   0.4] kept 00000\
             \n[    0.1] device press-1 boot 0000000000000001\n[    0.2] kept 0000000000000001 0 -21000\n\
             [    0.3] acked 2 queued 0 overflowed, refused, failed, ignored [1, 0, 2, 0] stack 900 heap 5\n\
             panic: panicked at x\n",
        );
        assert_eq!(console.kept, [Id { boot: 255, sequence: 0 }, Id { boot: 1, sequence: 0 }]);
        assert_eq!((console.acked, console.bad, console.boots), (3, 3, 2));
        assert_eq!((console.stack_bytes, console.crashes.len()), (13_004, 1));
    }
}
