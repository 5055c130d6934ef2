//! Simulated devices: real firmware on a microcontroller that QEMU emulates, with its console, its
//! sensor, its network cable and its flash in the hands of the test.
//!
//! The kill is a SIGKILL: with a file for its flash ([`Options::flash`]) a device keeps what it has
//! written, and loses all else, as in a power cut between two writes.

mod elf;
mod firmware;
mod qmp;

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
pub use elf::Sizes;
pub use firmware::{Firmware, firmware};
use gateway_machine::plain;
pub use qmp::Qmp;

use crate::process::{self, Process, wait_for};

/// The program that emulates the devices.
pub const PROGRAM: &str = "qemu-system-arm";

/// Bytes of flash of an MPS2 machine, and of the file that keeps them.
pub const FLASH_BYTES: u64 = 16 << 20;

/// How long QEMU may take to listen for commands on a busy machine.
const LISTENS_WITHIN: Duration = Duration::from_secs(30);

/// How long a machine runs at a time in [`Device::run_until`].
const MOMENT: Duration = Duration::from_millis(1);

/// Whether devices can be emulated here.
#[must_use]
pub fn is_here() -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').any(|dir| Path::new(dir).join(PROGRAM).is_file())
}

/// How a device is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// What runs on it.
    pub kernel: PathBuf,
    /// QEMU's name of the machine.
    pub machine: String,
    /// Words of the firmware's command line.
    pub arguments: Vec<String>,
    /// Hardware address of the network card: the device's identity.
    pub mac: [u8; 6],
    /// The file that keeps the flash, made if missing; without one the flash is blank at each start.
    pub flash: Option<PathBuf>,
    /// It does nothing before [`Device::run_until`].
    pub stopped: bool,
    /// Further options of QEMU.
    pub more: Vec<String>,
}

impl Options {
    /// A device on `mps2-an385` that forgets its flash.
    #[must_use]
    pub fn new(kernel: &Path, arguments: &[&str]) -> Self {
        Self {
            kernel: kernel.to_owned(),
            machine: "mps2-an385".to_owned(),
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
            mac: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
            flash: None,
            stopped: false,
            more: Vec::new(),
        }
    }

    fn command(&self, socket: &Path) -> Result<Command> {
        let mut command = Command::new(PROGRAM);
        let mut machine = self.machine.clone();
        if let Some(flash) = &self.flash {
            let file = File::options().create(true).truncate(false).write(true).open(flash);
            file.and_then(|file| file.set_len(FLASH_BYTES)).context("the file of the flash")?;
            machine += ",memory-backend=psram";
            let path = plain(flash)?;
            command.arg("-object").arg(format!(
                "memory-backend-file,id=psram,size={FLASH_BYTES},mem-path={path},share=on"
            ));
        }
        let mac = self.mac.map(|byte| format!("{byte:02x}")).join(":");
        let words: String = self.arguments.iter().map(|word| format!(",arg={word}")).collect();
        command.args(["-machine", &machine, "-display", "none", "-monitor", "none"]);
        command.args(["-serial", "stdio", "-nic", &format!("user,id=net0,mac={mac}")]);
        command.args(["-device", "tmp105,id=sensor,address=0x48"]);
        let semihosting = format!("enable=on,target=native,arg=firmware{words}");
        command.args(["-semihosting-config", &semihosting]);
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", plain(socket)?));
        command.arg("-kernel").arg(&self.kernel).args(&self.more);
        if self.stopped {
            command.arg("-S");
        }
        Ok(command)
    }
}

/// A running device. Dropped, it is killed.
#[derive(Debug)]
pub struct Device {
    process: Process,
    qmp: Qmp,
    /// Bytes of the console that were looked at.
    console_read: usize,
}

impl Device {
    /// Starts a device; its console goes to `NAME.log` in `dir`, appended.
    ///
    /// # Errors
    /// QEMU is missing or refuses its options.
    pub fn start(name: &str, dir: &Path, options: &Options) -> Result<Self> {
        let socket = dir.join(format!("{name}.qmp"));
        // One of an earlier life would be taken for this one's.
        let _ = std::fs::remove_file(&socket);
        let log = dir.join(format!("{name}.log"));
        let console_read = std::fs::metadata(&log).map_or(0, |log| log.len());
        let mut process = Process::start(name, options.command(&socket)?, &log)?;
        let qmp = wait_for(LISTENS_WITHIN, "QEMU to take commands", || {
            if !process.is_running() {
                bail!("QEMU ended: {}", process.output());
            }
            Ok(Qmp::connect(&socket).ok())
        });
        Ok(Self { qmp: qmp?, process, console_read: usize::try_from(console_read)? })
    }

    /// Waits for a line of the console with `part` in it, and returns it. Lines before it are passed
    /// over, and are not found again.
    ///
    /// # Errors
    /// None comes in time; the message has the console.
    pub fn console_line(&mut self, part: &str, within: Duration) -> Result<String> {
        let (process, read) = (&mut self.process, &mut self.console_read);
        let line = wait_for(within, &format!("`{part}` on the console"), || {
            // Asked before the look: what it printed last is there when it has ended.
            let runs = process.is_running();
            let found = next_line(&process.output(), read, part);
            if found.is_none() && !runs {
                bail!("the device ended without `{part}`");
            }
            Ok(found)
        });
        line.with_context(|| format!("the console:\n{}", self.process.output()))
    }

    /// All that the console has shown.
    #[must_use]
    pub fn console(&self) -> String {
        self.process.output()
    }

    /// Waits until the firmware exits; returns its code.
    ///
    /// # Errors
    /// It does not in time, or QEMU was killed.
    pub fn exit_code(&mut self, within: Duration) -> Result<i32> {
        let status = self.process.wait_end(within)?;
        let code = status.code();
        code.with_context(|| format!("QEMU was killed by signal {:?}", status.signal()))
    }

    /// Kills it, as a power cut would.
    ///
    /// # Errors
    /// It has ended before.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Sets the temperature that its sensor measures.
    ///
    /// # Errors
    /// QEMU refuses: the sensor takes -40 to 125 degrees or so.
    pub fn set_temperature(&mut self, milli_c: i32) -> Result<()> {
        self.qmp.set_property("/machine/peripheral/sensor", "temperature", &milli_c.into())
    }

    /// Plugs its network cable in or out.
    ///
    /// # Errors
    /// QEMU refuses.
    pub fn set_link(&mut self, up: bool) -> Result<()> {
        self.qmp.set_link("net0", up)
    }

    /// Pushes its reset button.
    ///
    /// # Errors
    /// QEMU refuses.
    pub fn reset(&mut self) -> Result<()> {
        self.qmp.reset()
    }

    /// Lets it run for a moment at a time until `is_there`, and leaves it stopped: so it is caught within a moment, however
    /// busy the host is. It may be stopped at the beginning ([`Options::stopped`]).
    ///
    /// # Errors
    /// It never gets there; the message has the console.
    pub fn run_until(
        &mut self,
        within: Duration,
        mut is_there: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let until = Instant::now() + within;
        while !is_there()? {
            if Instant::now() > until {
                bail!("not there after {within:?}; the console:\n{}", self.process.output());
            }
            self.qmp.go_on()?;
            std::thread::sleep(MOMENT);
            self.qmp.stop()?;
        }
        Ok(())
    }

    /// Memory of its emulation, each shared page in parts.
    ///
    /// # Errors
    /// It has ended.
    pub fn pss_kib(&self) -> Result<u64> {
        process::pss_kib(self.process.id())
    }

    /// Processor time of its emulation so far.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu_time(&self) -> Result<Duration> {
        process::cpu_time(self.process.id())
    }
}

/// The next whole line of a console with `part` behind the `read` bytes that were looked at, which
/// move on.
pub fn next_line(console: &str, read: &mut usize, part: &str) -> Option<String> {
    while let Some(rest) = console.get(*read..) {
        let (line, _) = rest.split_once('\n')?;
        *read += line.len() + 1;
        if line.contains(part) {
            return Some(line.trim_end().to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::next_line;

    #[test]
    fn a_line_is_found_once_and_only_whole() {
        let mut read = 0;
        let console = "boot\r\nup 1\r\nup 2\r\nup 3";
        assert_eq!(next_line(console, &mut read, "up").as_deref(), Some("up 1"));
        assert_eq!(next_line(console, &mut read, "boot"), None);
        let mut read = 6;
        assert_eq!(next_line(console, &mut read, "up 2").as_deref(), Some("up 2"));
        assert_eq!(next_line(console, &mut read, "up 3"), None);
        assert_eq!(
            next_line("boot\r\nup 1\r\nup 2\r\nup 3\n", &mut read, "up").as_deref(),
            Some("up 3")
        );
    }
}
