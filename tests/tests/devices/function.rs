//! A function on an emulated device with network and TLS: it comes by an ordinary deployment, does what the model of it
//! computes, survives power cuts with its state, is taken back where it does not prove itself, and is ended where it does
//! not end by itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cold_chain_model::{Moving, Reading, SmoothedMessage};
use device_protocol::Envelope;
use serde_json::Value;
use sync_protocol::device_image::offer_version;
use system_tests::author::{Author, fixture};
use system_tests::cloud::Cloud;
use system_tests::gateway::{Gateway, Setup};
use system_tests::process::{Process, wait_for};
use system_tests::qemu::{Device, Firmware, Options, firmware};
use system_tests::sensors::{PATIENCE, write_flash};

use super::skipped;

const FOLDER: &str = "qemu-mps2-an386-edge";
const DEVICE: &str = "press-1";
const SERVER_NAME: &str = "barn.local";
/// Fetching an image takes seconds, a trial a restart or two.
const UPDATE: Duration = Duration::from_secs(240);

/// A gateway with TLS for devices and an open listener on loopback for the test, its control plane and its author.
struct Farm {
    dir: PathBuf,
    author: Author,
    cloud: Cloud,
    gateway: Gateway,
    /// URL of the open listener.
    broker: String,
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).context("a path that is not UTF-8")
}

impl Farm {
    fn start(dir: &Path) -> Result<Self> {
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
    fn deploy(&self, version: &str, name: &str, function: &str) -> Result<()> {
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

    fn boot(&self, firmware: &Firmware, machine: &str, more: &[&str]) -> Result<Device> {
        let words = ["period_ms=250", "backoff_ms_max=2000"];
        let mut options = Options::new(&firmware.path, &words);
        options.machine = machine.to_owned();
        options.more = more.iter().map(|&word| word.to_owned()).collect();
        options.flash = Some(self.dir.join("flash"));
        Device::start(DEVICE, &self.dir, &options)
    }

    fn command(&self, name: &str, argument: &[&str], wait_s: u32) -> Result<String> {
        let (wait, broker) = (wait_s.to_string(), &self.broker);
        let words = ["device", "command", DEVICE, name, "--wait", &wait, "--broker", broker];
        self.author.holm(&[&words[..], argument].concat())
    }

    /// What the device said last, as the gateway shows it.
    fn told(&self) -> Result<Value> {
        let page = self.gateway.ask(&["devices", "--json"])?;
        let rows = page.as_array().or_else(|| page["rows"].as_array());
        let row = rows.into_iter().flatten().find(|row| row["device"] == DEVICE);
        Ok(row.map_or(Value::Null, |row| row["firmware"].clone()))
    }

    /// Waits until the gateway was told this stage of this version.
    fn wait_stage(&self, version: [u64; 3], stage: &str) -> Result<()> {
        let version = packed(version)?;
        wait_for(UPDATE, &format!("version {version} to be {stage}"), || {
            let told = self.told()?;
            let is_told = told["version"] == version && told["stage"] == stage;
            Ok((told["kind"] == "function" && is_told).then_some(()))
        })
    }

    /// Versions and stages that the control plane was told of, in order, and the reason of the first take-back.
    fn stages(&self) -> Result<(Vec<(u64, String)>, String)> {
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
fn packed([major, minor, patch]: [u64; 3]) -> Result<u64> {
    Ok(offer_version(major << 32 | minor << 16 | patch).context("small parts")?.into())
}

/// What the function `smooth` needs in `holm.toml`, with or without the grant to publish.
fn smooth(publish: &str) -> String {
    let path = fixture("apps/cold-chain/functions/smooth");
    format!("path = {path:?}\npublish = [{publish}]")
}

fn example(name: &str, more: &str) -> String {
    format!("path = {:?}\nexample = \"{name}\"\n{more}", fixture("functions"))
}

/// Readings whose outcome is known to be kept in flash: a publish of it was handed over, in this life or at the beginning
/// of the next one.
fn committed(console: &str) -> Result<Vec<Reading>> {
    let (mut all, mut done, mut event) = (Vec::new(), None, None);
    for line in console.lines() {
        let said = line.split_once("] ").map_or(line, |(_, said)| said);
        if let Some(payload) = said.strip_prefix("event sensors/press-1 ") {
            (event, done) = (serde_json::from_str::<Reading>(payload).ok(), None);
        } else if said.starts_with("outcome done ") {
            done = event.take();
        } else if said.starts_with("outcome ") {
            event = None;
        } else if said.starts_with("kept ") && said.contains(" smooth/press-1") {
            all.extend(done.take());
        }
    }
    Ok(all)
}

/// What a subscriber was given: each message once, and how many came more than once.
fn seen(log: &str) -> Result<(Vec<SmoothedMessage>, usize)> {
    let (mut all, mut repeats) = (Vec::<SmoothedMessage>::new(), 0);
    for line in log.lines() {
        let Ok(row) = serde_json::from_str::<Value>(line) else { continue };
        let Some(hex) = row["payload_hex"].as_str() else { continue };
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16))
            .collect::<Result<_, _>>()?;
        let envelope = Envelope::decode(&bytes).map_err(|error| anyhow::anyhow!("{error}"))?;
        let message: SmoothedMessage = serde_json::from_slice(envelope.body)?;
        if all.last() == Some(&message) {
            repeats += 1;
        } else {
            all.push(message);
        }
    }
    Ok((all, repeats))
}

#[test]
fn a_function_is_deployed_to_a_device_runs_there_and_is_taken_back_where_it_is_bad() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let firmware = firmware(FOLDER, &[])?;
    eprintln!("{:?}", firmware.sizes);
    let dir = tempfile::tempdir()?;
    let mut farm = Farm::start(dir.path())?;
    let words = ["sub", "smooth/#", "--json", "--broker", &farm.broker];
    let log = dir.path().join("sub.log");
    let mut subscriber = Process::start("sub", farm.author.command(&words)?, &log)?;

    let mut device = farm.boot(&firmware, "mps2-an386", &[])?;
    device.console_line("no function runs: this is no device image", PATIENCE)?;
    farm.deploy("1.0.0", "smooth", &smooth("\"smooth/+\""))?;
    device.console_line("function edge/smooth sequence 4294967296 loaded", UPDATE)?;
    farm.wait_stage([1, 0, 0], "confirmed")?;
    let until = |device: &Device, count: usize| {
        wait_for(PATIENCE, &format!("{count} readings"), || {
            Ok((committed(&device.console())?.len() >= count).then_some(()))
        })
    };
    let mut count = 0;
    for milli_c in [21_000, 23_500, -4_250, 80_125, 22_000] {
        device.set_temperature(milli_c)?;
        count = committed(&device.console())?.len() + 5;
        until(&device, count)?;
    }
    // In one life an instruction takes a nanosecond of the device's time: its times count instructions.
    for more in [&[][..], &["-icount", "shift=0,sleep=on"], &[]] {
        device.kill()?;
        device = farm.boot(&firmware, "mps2-an386", more)?;
        eprintln!("{more:?}: {}", device.console_line("verified in", PATIENCE)?);
        count += 6;
        until(&device, count)?;
        eprintln!("{}", device.console_line("outcome done", PATIENCE)?);
    }

    // It may not publish: every event ends as a fault.
    farm.deploy("1.1.0", "smooth", &smooth(""))?;
    device.console_line("is taken back: the function failed several events in a row", UPDATE)?;
    farm.wait_stage([1, 1, 0], "declined")?;
    // It is granted what this firmware does not have.
    farm.deploy("1.2.0", "counter", &example("counter", "record = [\"count\"]"))?;
    device.console_line("is taken back: the function does not load here", UPDATE)?;
    farm.wait_stage([1, 2, 0], "declined")?;
    count = committed(&device.console())?.len() + 10;
    until(&device, count)?;

    // One that misbehaves only when it is told to stays. What it does then ends, and the device goes on.
    farm.deploy("1.3.0", "rogue", &example("rogue", "publish = [\"rogue/#\"]"))?;
    farm.wait_stage([1, 3, 0], "confirmed")?;
    for (how, outcome) in [("loop", "timeout"), ("allocate", "memory"), ("fine", "done")] {
        farm.command("event", &["--text", &format!("rogues/{how} -")], 60)?;
        device.console_line(&format!("event rogues/{how} -"), PATIENCE)?;
        let line = device.console_line("outcome ", PATIENCE)?;
        ensure!(line.contains(&format!("outcome {outcome} ")), "{how}: {line}");
    }
    eprintln!("{}", farm.command("function", &[], 60)?);

    let console = device.console();
    ensure!(!console.contains("panic: ") && !console.contains("hard fault: "), "{console}");
    let expected: Vec<SmoothedMessage> = {
        let mut model = Moving::default();
        let observed = committed(&console)?;
        observed
            .iter()
            .map(|it| SmoothedMessage { smoothed: model.observe(it), attempt: 1 })
            .collect()
    };
    let (messages, repeats) = wait_for(PATIENCE, "all messages", || {
        let (messages, repeats) = seen(&subscriber.output())?;
        Ok((messages.len() >= expected.len()).then_some((messages, repeats)))
    })?;
    assert_eq!(messages, expected, "to the last bit, in order, none lost");
    let starts = console.matches("device press-1 boot ").count();
    ensure!(repeats < starts, "{repeats} repeats in {starts} lives");
    eprintln!("{} messages, {repeats} of them twice", messages.len());
    subscriber.kill()?;
    let (stages, reason) = farm.stages()?;
    let (first, second) = (packed([1, 0, 0])?, packed([1, 1, 0])?);
    let expected = [
        (first, "fetching"),
        (first, "verified"),
        (first, "confirmed"),
        (second, "fetching"),
        (second, "verified"),
        (second, "taken-back"),
        (second, "declined"),
    ];
    let told: Vec<(u64, &str)> = stages.iter().map(|(of, stage)| (*of, stage.as_str())).collect();
    ensure!(told.starts_with(&expected), "{told:?}");
    assert_eq!(reason, "the function failed several events in a row");

    // The flash in another machine, a Cortex-M7.
    device.kill()?;
    let mut device = farm.boot(&firmware, "mps2-an500", &[])?;
    device.console_line("function edge/rogue sequence 4295163904 loaded", PATIENCE)?;
    // Commands are lost while a device starts: who sends one repeats it.
    wait_for(PATIENCE, "the device to answer", || Ok(farm.command("function", &[], 3).ok()))?;
    farm.command("event", &["--text", "rogues/fine -"], 60)?;
    device.console_line("outcome done ", PATIENCE)?;
    farm.gateway.stop()
}
