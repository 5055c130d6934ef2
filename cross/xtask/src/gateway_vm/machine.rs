//! A gateway in QEMU: the image of the board `virt`, its console, and its power switch.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
pub(crate) use gateway_machine::HOST;
use gateway_machine::{Card, Forward, PROGRAM, Virt, plain};
use system_tests::interrupt::Interrupt;
use system_tests::process::{Process, wait_for};
use system_tests::qemu::next_line;

use crate::command::built;

/// Port of the listener of the gateway.
const LISTENER: u16 = 8_883;
/// Longest wait for QEMU to end in order.
const END_MAX: Duration = Duration::from_secs(60);

/// Longest wait for a line of the console. A start takes 10 s on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// What a machine is made of.
#[derive(Clone, Debug)]
pub(crate) struct Hardware {
    /// The card; it is written to.
    pub(crate) image: PathBuf,
    /// The boot loader.
    pub(crate) u_boot: PathBuf,
    /// The device tree of `raspi3b`; `None`: it is a `virt`.
    pub(crate) device_tree: Option<PathBuf>,
    /// Port of the host that leads to the TLS listener of the gateway, 8883.
    pub(crate) mqtt_port: u16,
    /// More ways in.
    pub(crate) forwards: Vec<Forward>,
    /// What is written to it is recorded; only of a `virt`.
    pub(crate) is_recorded: bool,
    /// MiB of memory.
    pub(crate) memory_mib: u32,
    /// Where the console is written, appended.
    pub(crate) log: PathBuf,
    /// Ends every wait: an emulator that nobody waits for must not be left behind.
    pub(crate) interrupt: Interrupt,
}

/// A machine that runs. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Machine {
    process: Process,
    log: PathBuf,
    read: usize,
    interrupt: Interrupt,
    /// When it was switched on.
    pub(crate) begun: Instant,
}

impl Hardware {
    /// Where devices find the gateway.
    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.mqtt_port).into()
    }

    /// Switches it on. Its clock shows 1970: like a board without a battery.
    pub(crate) fn start(&self) -> Result<Machine> {
        let command = match &self.device_tree {
            None => self.virt()?,
            Some(tree) => self.raspi3b(tree)?,
        };
        let read = std::fs::metadata(&self.log).map_or(0, |log| log.len());
        let process = Process::start("gateway-vm", command, &self.log)?;
        let (log, read) = (self.log.clone(), usize::try_from(read)?);
        let interrupt = self.interrupt.clone();
        Ok(Machine { process, log, read, interrupt, begun: Instant::now() })
    }

    fn virt(&self) -> Result<Command> {
        let image = self.image.clone();
        let mut forwards = vec![Forward { host: self.mqtt_port, guest: LISTENER }];
        forwards.extend(&self.forwards);
        let machine = Virt {
            card: if self.is_recorded { Card::Recorded(image) } else { Card::Own(image) },
            u_boot: self.u_boot.clone(),
            memory_mib: self.memory_mib,
            forwards,
            is_at_1970: true,
        };
        Ok(machine.command()?)
    }

    /// It has a gigabyte and no clock. Boot loader and kernel use the second serial line. Its network,
    /// on USB, does not work in QEMU.
    fn raspi3b(&self, tree: &Path) -> Result<Command> {
        let mut command = Command::new(PROGRAM);
        command.args(["-M", "raspi3b", "-display", "none", "-nodefaults"]);
        command.args(["-serial", "null", "-serial", "stdio", "-kernel"]);
        command.arg(&self.u_boot).arg("-dtb").arg(tree);
        let image = plain(&self.image)?;
        command.args(["-drive", &format!("file={image},if=sd,format=raw")]);
        Ok(command)
    }
}

/// A console as text, byte for byte. A serial line that is set up prints what is no UTF-8.
fn text(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    bytes.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }).collect()
}

impl Machine {
    /// Waits for a line of the console with `part` in it. Lines before it are passed over.
    pub(crate) fn expect(&mut self, part: &str, within: Duration) -> Result<String> {
        let (process, log, read) = (&mut self.process, &self.log, &mut self.read);
        let interrupt = &self.interrupt;
        let line = wait_for(within, &format!("`{part}` on the console"), || {
            interrupt.check()?;
            // Asked before the look: what it printed last is there when it has ended.
            let runs = process.is_running();
            let found = next_line(&text(log), read, part);
            if found.is_none() && !runs {
                bail!("QEMU ended without `{part}`");
            }
            std::thread::sleep(Duration::from_millis(40));
            Ok(found)
        });
        line.with_context(|| format!("the last of the console:\n{}", self.last_lines()))
    }

    /// Passes over all lines of the console so far.
    pub(crate) fn pass_over(&mut self) {
        self.read = text(&self.log).len();
    }

    /// Lets it run for so long.
    pub(crate) fn pause(&self, length: Duration) -> Result<()> {
        let until = Instant::now() + length;
        while Instant::now() < until {
            self.interrupt.check()?;
            std::thread::sleep(Duration::from_millis(100).min(length));
        }
        Ok(())
    }

    /// The console so far, over all lives of the machine.
    pub(crate) fn console(&self) -> String {
        text(&self.log)
    }

    fn last_lines(&self) -> String {
        let console = self.console();
        let lines: Vec<_> = console.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// Pulls the plug (SIGKILL). What the machine wrote stays in the caches of the host: this is a
    /// cut for the gateway's software, not for its card.
    pub(crate) fn cut_power(mut self) -> Result<()> {
        self.process.kill()
    }

    /// Ends QEMU in order (SIGTERM): it finishes what it is writing. The gateway is not told.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.process.stop(END_MAX)
    }

    /// Processor time that the emulation took.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        system_tests::process::cpu_time(self.process.id())
    }
}

/// The programs of this build that a control plane is made of.
pub(crate) fn check_programs() -> Result<()> {
    for program in ["cloud-sync", "holm"] {
        let path = built(program)?;
        if !path.is_file() {
            bail!("{program} is not built; leave out --no-build");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn a_console_with_noise_keeps_its_length() {
        let log = std::env::temp_dir().join(format!("holm-console-{}", std::process::id()));
        std::fs::write(&log, b"\xffholm: up\n").expect("a file");
        assert_eq!(text(&log), "?holm: up\n");
        std::fs::remove_file(&log).expect("it was made");
        assert_eq!(text(&log), "");
    }
}
