//! Emulated devices: firmware on a microcontroller that QEMU emulates, with its sensor, its network and its flash in the
//! hands of the simulation. Each has a thread, since all that it waits for is a process.
//!
//! # Invariants
//! - A power cut is SIGKILL: the device keeps what its flash file holds, and nothing else.
//! - No QEMU outlives its thread, and no thread the simulation.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::mpsc;

use super::link::LinkState;
use super::plan::{Event, Faults};
use super::profile::{FaultKind, TEMPERATURE};
use super::shared::{Handle, Phase, Set, Shared, Standing};
use super::waveform::Sensor;
use crate::failure::{Done, Exit, Failure};

mod console;
mod machine;
mod qmp;

use console::Console;
use machine::Machine;

/// A word on the command line of firmware whose clock can be made wrong.
const CLOCK_WORD: &str = "drift_ppm";
/// The program that emulates the devices.
const PROGRAM: &str = "qemu-system-arm";
/// Memory of one of them, and of what it shares with none.
const MIB_EACH: u64 = 46;
/// Between two looks at a device.
const TICK: Duration = Duration::from_millis(25);
/// Starts of QEMU at a time are one, and so far apart: a start takes a whole core for a moment.
const START_APART: Duration = Duration::from_millis(100);
/// Ends of a QEMU that nobody asked for, until it is given up.
const ENDS_MAX: u32 = 5;
/// Paths of Unix sockets have at most 107 bytes; the name of one is up to 14.
const SOCKET_DIR_BYTES_MAX: usize = 90;
/// The sensor of the boards measures no more and no less, in degrees Celsius.
const CELSIUS: std::ops::RangeInclusive<f64> = -40.0..=125.0;

/// What all emulated devices have in common.
pub(super) struct Bench {
    pub(super) firmware: PathBuf,
    /// Flash files, consoles and sockets.
    pub(super) dir: PathBuf,
    /// The firmware takes words that make its clock wrong.
    pub(super) has_wrong_clock: bool,
    starts: Mutex<()>,
}

impl Bench {
    /// Checks that so many devices can be emulated here.
    ///
    /// # Errors
    /// QEMU or the firmware is missing, or memory is too little; each with what to do.
    pub(super) fn new(firmware: &Path, dir: &Path, devices: usize) -> Done<Self> {
        let known = Command::new(PROGRAM).arg("--version").output();
        if known.is_err() {
            let problem = format!("{PROGRAM} is missing");
            return Err(Failure::new(Exit::NotFound, problem)
                .next("on Debian: apt-get install qemu-system-arm qemu-utils"));
        }
        let head = crate::failure::read_file(firmware, 64 << 20).map_err(|failure| {
            failure.next(
                "build it first, for example in firmware-examples/qemu-mps2-an385: \
                 cargo build --release --features full",
            )
        })?;
        if !head.starts_with(b"\x7fELF\x01\x01") {
            let problem = format!("{} is no ELF file of 32 bits", firmware.display());
            return Err(Failure::input(problem).next(
                "--firmware takes the program that cargo builds, not an image for flashing",
            ));
        }
        let free_mib = free_mib();
        let fit = free_mib.map_or(u64::MAX, |mib| mib / MIB_EACH);
        if devices as u64 > fit {
            let problem = format!(
                "{devices} emulated devices take about {} MiB, and {} MiB are free",
                devices as u64 * MIB_EACH,
                free_mib.unwrap_or_default()
            );
            return Err(
                Failure::failed(problem).next(format!("--devices {fit} fit; so do more of --host"))
            );
        }
        let dir = std::path::absolute(dir).map_err(|error| Failure::file("find", dir, &error))?;
        if dir.as_os_str().len() > SOCKET_DIR_BYTES_MAX {
            let problem = format!("{} is too long a path for QEMU's sockets", dir.display());
            return Err(Failure::failed(problem).next("choose a shorter one: --run DIR"));
        }
        std::fs::create_dir_all(&dir).map_err(|error| Failure::file("make", &dir, &error))?;
        let has_wrong_clock = names(&head, CLOCK_WORD);
        let firmware = firmware.to_owned();
        Ok(Self { firmware, dir, has_wrong_clock, starts: Mutex::new(()) })
    }

    /// Takes away what a device of an earlier simulation has left: its readings are not those of this one.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub(super) fn forget(&self, device: &str) -> Done {
        for end in ["flash", "log", "err", "qmp"] {
            let path = self.dir.join(format!("{device}.{end}"));
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Failure::file("remove", &path, &error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Starts a device when it is its turn.
    fn start(&self, shared: &Shared, device: usize, port: u16) -> Result<Machine, String> {
        let _turn = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        std::thread::sleep(START_APART);
        Machine::start(self, shared, device, port)
    }
}

/// Whether a program names a word: one that knows it can say that it does.
fn names(program: &[u8], word: &str) -> bool {
    program.windows(word.len()).any(|window| window == word.as_bytes())
}

/// Mebibytes that programs can have.
pub(super) fn free_mib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? / 1024)
}

/// Runs an emulated device until everything ends; its gateway is at `port` of loopback.
pub(super) fn run(
    bench: &Bench,
    shared: &Arc<Shared>,
    device: usize,
    port: u16,
    sets: mpsc::Receiver<Set>,
) {
    let handle = &shared.handles[device];
    while shared.now_ms() < handle.plan.joins_ms {
        if shared.phase() > Phase::Storm {
            return;
        }
        std::thread::sleep(TICK);
    }
    let console = Arc::new(Mutex::new(Console::new(Arc::clone(shared), device)));
    let waveform = shared.profile.sensors.get(TEMPERATURE);
    let sensor = waveform.map(|it| Sensor::new(it, shared.seed, TEMPERATURE, device as u64));
    let mut board = Board {
        bench,
        shared,
        handle,
        device,
        port,
        sets,
        sensor,
        faults: handle.plan.faults(),
        next: None,
        fault: None,
        set: None,
        measured: None,
        console,
    };
    board.next = board.faults.next();
    let mut ends = 0;
    while shared.phase() < Phase::Stopped && ends < ENDS_MAX {
        match board.life() {
            Ok(Some(cut)) => board.dark(cut),
            Ok(None) => {}
            Err(words) => {
                ends += 1;
                shared.ledger().account(device).failures.push(words);
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
    handle.view().standing = Standing::Off;
}

/// A device from outside.
struct Board<'s> {
    bench: &'s Bench,
    shared: &'s Arc<Shared>,
    handle: &'s Handle,
    device: usize,
    port: u16,
    sets: mpsc::Receiver<Set>,
    sensor: Option<Sensor>,
    faults: Faults,
    /// What happens next.
    next: Option<Event>,
    /// What happens now.
    fault: Option<Event>,
    /// What somebody set the sensor to.
    set: Option<f64>,
    /// When the sensor was given its value.
    measured: Option<Instant>,
    console: Arc<Mutex<Console>>,
}

impl Board<'_> {
    /// From a start to a power cut (which it returns), or to the end of everything.
    fn life(&mut self) -> Result<Option<Event>, String> {
        let mut machine = self.bench.start(self.shared, self.device, self.port)?;
        machine.listen(Arc::clone(&self.console));
        self.handle.view().standing = Standing::Offline;
        self.measured = None;
        loop {
            if self.shared.phase() == Phase::Stopped {
                return Ok(None);
            }
            if let Some(words) = machine.ended() {
                return Err(words);
            }
            self.measure(&mut machine)?;
            while let Ok(set) = self.sets.try_recv() {
                self.set(set, &mut machine);
            }
            if let Some(cut) = self.suffer(&mut machine)? {
                return Ok(Some(cut));
            }
            std::thread::sleep(TICK);
        }
    }

    /// Gives the sensor its value once a period.
    fn measure(&mut self, machine: &mut Machine) -> Result<(), String> {
        let period = Duration::from_millis(self.shared.profile.period_ms).max(TICK);
        if self.measured.is_some_and(|at| at.elapsed() < period) {
            return Ok(());
        }
        self.measured = Some(Instant::now());
        let waveform = self.sensor.as_mut().map(|sensor| sensor.read(self.shared.now_ms()));
        let Some(value) = self.set.or(waveform) else { return Ok(()) };
        let value = value.clamp(*CELSIUS.start(), *CELSIUS.end());
        machine.set_celsius(value)?;
        self.handle.view().values.insert(TEMPERATURE.to_owned(), value);
        Ok(())
    }

    /// As somebody wants it; what the emulated sensor says before and after is the answer.
    fn set(&mut self, Set { sensor, value, answer }: Set, machine: &mut Machine) {
        let mut set = || {
            if sensor != TEMPERATURE {
                return Err(format!("it has no sensor `{sensor}`, but: {TEMPERATURE}"));
            }
            if let Some(value) = value.filter(|value| !CELSIUS.contains(value)) {
                return Err(format!("its sensor measures from -40 to 125, not {value}"));
            }
            let before = machine.celsius()?;
            self.set = value;
            self.measured = None;
            self.measure(machine)?;
            Ok((before, machine.celsius()?))
        };
        // Whoever asked may have gone.
        let _ = answer.send(set());
    }

    /// Begins and ends faults; returns a power cut, which is done already.
    fn suffer(&mut self, machine: &mut Machine) -> Result<Option<Event>, String> {
        let (now_ms, is_over) = (self.shared.now_ms(), self.shared.phase() > Phase::Storm);
        if let Some(fault) = self.fault
            && (is_over || now_ms >= fault.until_ms)
        {
            self.fault = None;
            self.handle.view().fault = None;
            if fault.kind == FaultKind::Leave {
                machine.execute("cont", json!({}))?;
            }
            self.handle.link.send_replace(LinkState::Open);
        }
        if is_over || self.fault.is_some() {
            return Ok(None);
        }
        let Some(event) = self.next.filter(|event| now_ms >= event.at_ms) else { return Ok(None) };
        self.next = self.faults.next();
        if now_ms >= event.until_ms {
            // It would have been over by now: the machine was off, or busy.
            return Ok(None);
        }
        self.handle.view().fault = Some(event.kind.word());
        if event.kind == FaultKind::PowerCut {
            machine.kill();
            return Ok(Some(event));
        }
        self.handle.link.send_replace(LinkState::of(event.kind));
        if event.kind == FaultKind::Leave {
            machine.execute("stop", json!({}))?;
        }
        self.fault = Some(event);
        Ok(None)
    }

    /// Without power.
    fn dark(&mut self, cut: Event) {
        let mut view = self.handle.view();
        view.standing = Standing::Off;
        view.power_cuts += 1;
        drop(view);
        while self.shared.now_ms() < cut.until_ms && self.shared.phase() == Phase::Storm {
            std::thread::sleep(TICK);
        }
        self.handle.view().fault = None;
    }
}
