//! One run of QEMU.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use device_protocol::provision::{Gateway, IMAGE_BYTES, encode_image};
use serde_json::{Value, json};

use super::console::{Console, LINE_BYTES_MAX};
use super::qmp::Qmp;
use super::{Bench, PROGRAM};
use crate::simulate::plan::ClockError;
use crate::simulate::shared::Shared;

/// Bytes of flash of an MPS2 machine.
const FLASH_BYTES: u64 = 16 << 20;
/// Where an emulated device finds the host's loopback.
const HOST: &str = "10.0.2.2";
/// How long QEMU may take to listen for commands on a busy machine.
const LISTENS_WITHIN: Duration = Duration::from_secs(30);
const SENSOR: &str = "/machine/peripheral/sensor";

/// A running QEMU; dropped, it is killed.
pub(super) struct Machine {
    child: Child,
    qmp: Qmp,
    log: PathBuf,
}

impl Machine {
    /// Starts a device; its console is appended to `NAME.log`.
    pub(super) fn start(
        bench: &Bench,
        shared: &Shared,
        device: usize,
        port: u16,
    ) -> Result<Self, String> {
        let name = &shared.handles[device].plan.name;
        let file = |end: &str| bench.dir.join(format!("{name}.{end}"));
        let (flash, socket, log) = (file("flash"), file("qmp"), file("log"));
        if !flash.exists() {
            make_flash(&flash, shared, name, port)?;
        }
        // One of an earlier life would be taken for this one's.
        let _ = std::fs::remove_file(&socket);
        let errors = File::options().create(true).append(true).open(file("err"));
        let errors = errors.map_err(|error| format!("{}: {error}", file("err").display()))?;
        let mut command = command(bench, shared, device, &flash, &socket)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("{PROGRAM}: {error}"))?;
        let mut starting = Starting(Some(child));
        let end = Instant::now() + LISTENS_WITHIN;
        loop {
            if let Some(status) = starting.ended() {
                let why = std::fs::read_to_string(file("err")).unwrap_or_default();
                return Err(format!("QEMU ended at once ({status}): {}", last_line(&why)));
            }
            match Qmp::connect(&socket) {
                Ok(qmp) => {
                    if let Some(child) = starting.0.take() {
                        return Ok(Self { child, qmp, log });
                    }
                }
                Err(why) if Instant::now() >= end => {
                    return Err(format!("QEMU takes no commands: {why}"));
                }
                Err(_) => {}
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Reads the console on a thread of its own, until it ends.
    pub(super) fn listen(&mut self, console: Arc<Mutex<Console>>) {
        let Some(stdout) = self.child.stdout.take() else { return };
        let log = File::options().create(true).append(true).open(&self.log).ok();
        std::thread::spawn(move || read(stdout, log, &console));
    }

    /// In words, if QEMU has ended by itself.
    pub(super) fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => {
                let console = std::fs::read_to_string(&self.log).unwrap_or_default();
                Some(format!("QEMU ended ({status}): {}", last_line(&console)))
            }
            Err(error) => Some(format!("QEMU is lost: {error}")),
        }
    }

    /// A command of QEMU.
    pub(super) fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, String> {
        self.qmp.execute(command, arguments)
    }

    /// Sets what the sensor measures.
    pub(super) fn set_celsius(&mut self, celsius: f64) -> Result<(), String> {
        #[expect(clippy::cast_possible_truncation, reason = "the sensor measures up to 125")]
        let milli = (celsius * 1_000.0).round() as i64;
        let arguments = json!({ "path": SENSOR, "property": "temperature", "value": milli });
        self.execute("qom-set", arguments).map(drop)
    }

    /// What the sensor measures.
    pub(super) fn celsius(&mut self) -> Result<f64, String> {
        let arguments = json!({ "path": SENSOR, "property": "temperature" });
        let milli = self.execute("qom-get", arguments)?;
        milli
            .as_f64()
            .map(|milli| milli / 1_000.0)
            .ok_or_else(|| format!("no temperature: {milli}"))
    }

    /// Cuts its power.
    pub(super) fn kill(&mut self) {
        // It has ended already, or it ends now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A QEMU that is not known to listen; dropped, it is killed.
struct Starting(Option<Child>);

impl Starting {
    fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.0.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn command(
    bench: &Bench,
    shared: &Shared,
    device: usize,
    flash: &Path,
    socket: &Path,
) -> Result<Command, String> {
    let qemu = &shared.profile.qemu;
    let mut command = Command::new(PROGRAM);
    command.args(["-machine", &format!("{},memory-backend=psram", qemu.machine)]);
    let flash = plain(flash)?;
    let memory = "memory-backend-file,id=psram,share=on";
    command.args(["-object", &format!("{memory},size={FLASH_BYTES},mem-path={flash}")]);
    command.args(["-display", "none", "-monitor", "none", "-serial", "stdio"]);
    let [.., b, c] = u32::try_from(device).unwrap_or(u32::MAX).to_be_bytes();
    let mac = format!("52:54:00:48:{b:02x}:{c:02x}");
    command.args(["-nic", &format!("user,id=net0,mac={mac}")]);
    command.args(["-device", "tmp105,id=sensor,address=0x48"]);
    let period = format!("period_ms={}", shared.profile.period_ms);
    let clock = clock(bench, &shared.handles[device].plan.clock);
    let words = std::iter::once(&period).chain(&clock).chain(&qemu.arguments);
    let words: String = words.map(|word| format!(",arg={word}")).collect();
    let semihosting = format!("enable=on,target=native,arg=firmware{words}");
    command.args(["-semihosting-config", &semihosting]);
    command.args(["-qmp", &format!("unix:{},server=on,wait=off", plain(socket)?)]);
    command.arg("-kernel").arg(&bench.firmware);
    Ok(command)
}

/// Words that make the clock of the firmware wrong, where it has one that can be.
fn clock(bench: &Bench, error: &ClockError) -> Vec<String> {
    if !bench.has_wrong_clock || *error == ClockError::default() {
        return Vec::new();
    }
    vec![format!("drift_ppm={}", error.drift_ppm), format!("offset_ms={}", error.offset_ms)]
}

/// A path inside of an option of QEMU, where a comma ends it.
fn plain(path: &Path) -> Result<&str, String> {
    let text = path.to_str().filter(|text| !text.contains(','));
    text.ok_or_else(|| {
        format!("{}: QEMU takes no path with a comma; choose another --run", path.display())
    })
}

/// A fresh flash: who the device is, and that its gateway is the proxy at `port`.
fn make_flash(path: &Path, shared: &Shared, name: &str, port: u16) -> Result<(), String> {
    let provision = shared.credentials.provision(name, Gateway { host: HOST, port });
    let provision = provision.ok_or("it has no credentials")?;
    let mut image = [0; IMAGE_BYTES];
    encode_image(&provision, 1, &mut image).map_err(|error| format!("no provisioning: {error}"))?;
    let write = || {
        // With TLS it holds the device's private key.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.set_len(FLASH_BYTES)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&image)
    };
    write().map_err(|error: std::io::Error| format!("{}: {error}", path.display()))
}

fn read(stdout: ChildStdout, mut log: Option<File>, console: &Mutex<Console>) {
    let mut lines = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        // A line without an end is taken in pieces: it means nothing.
        let read = lines.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line);
        if !matches!(read, Ok(1..)) {
            return;
        }
        if let Some(log) = &mut log {
            // A full disk does not end the simulation.
            let _ = log.write_all(&line);
        }
        let text = String::from_utf8_lossy(&line);
        console.lock().unwrap_or_else(PoisonError::into_inner).line(&text);
    }
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().next_back().unwrap_or("it said nothing")
}
