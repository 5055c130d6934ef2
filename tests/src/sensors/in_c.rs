//! The sensor in C on a serial line (`qemu-mps2-an385-c`): what its console tells, and what it takes.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};

use super::measure::{self, Run};
use super::{Id, PATIENCE, Site};
use crate::process::wait_for;
use crate::qemu::{Device, Firmware};

/// Its folder.
pub const FOLDER: &str = "qemu-mps2-an385-c";
const NAME: &str = "press-c";
/// So many readings wait at least when its gateway is back.
const BACKLOG: usize = 20;

/// What a console has told of readings in one life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Put into the queue, with their values in thousandths of a degree.
    pub kept: BTreeMap<Id, i64>,
    /// How often each was told to be on the gateway's disk, by sequence.
    pub acked: BTreeMap<u64, u32>,
    /// Dropped by the full queue.
    pub dropped: usize,
    /// Lines that tell of a refusal, a panic or a fault.
    pub bad: Vec<String>,
}

impl Told {
    /// Reads the whole lines of a console: the last one may be half written.
    ///
    /// # Errors
    /// A number is none.
    pub fn read(console: &str) -> Result<Self> {
        let (mut told, mut boot) = (Self::default(), 0);
        let lines = console.rsplit_once('\n').map_or("", |(lines, _)| lines);
        for line in lines.lines() {
            let words: Vec<&str> = line.split_whitespace().skip(1).collect();
            match words.as_slice() {
                ["device", _, "boot", number] => boot = u64::from_str_radix(number, 16)?,
                ["kept", sequence, milli_celsius] => {
                    let id = Id { boot, sequence: sequence.parse()? };
                    told.kept.insert(id, milli_celsius.parse()?);
                }
                ["acked", sequence] => *told.acked.entry(sequence.parse()?).or_default() += 1,
                ["dropped", _] => told.dropped += 1,
                ["refused" | "panic:" | "hard", ..] => told.bad.push(line.trim_end().to_owned()),
                _ => {}
            }
        }
        Ok(told)
    }
}

/// Waits until the gateway has what the device has measured so far and has not dropped.
///
/// # Errors
/// It does not get there in time.
pub fn all_acked(device: &Device) -> Result<()> {
    wait_for(PATIENCE, "all readings to be acked", || {
        let told = Told::read(&device.console())?;
        Ok((told.acked.len() + told.dropped == told.kept.len()).then_some(()))
    })
}

/// Ends the device as it was told to; its deepest stack, in bytes.
///
/// # Errors
/// It does not end with this code.
pub fn end(device: &mut Device, code: i32) -> Result<u64> {
    let line = device.console_line("stack high water", PATIENCE)?;
    let ended = device.exit_code(PATIENCE)?;
    ensure!(ended == code, "exit code {ended}, not {code}: {}", device.console());
    measure::number(&line, "water")
}

/// One life with a SIGKILL of its gateway, the drain of the queue that has filled meanwhile, and an end by command.
pub(super) fn measure(firmware: &Firmware, dir: &Path) -> Result<Run> {
    let mut site = Site::wire(dir, NAME)?;
    let mut device = site.boot(firmware, NAME, &["period_ms=250"])?;
    let first = device.console_line("] acked ", PATIENCE)?;
    let (gone, back) = ("] disconnected", "] connected");
    let reconnect_ms = measure::reconnect(&mut site.gateway, &mut device, gone, back)?;
    let rate_per_s = wait_for(PATIENCE, "the queue to be sent", || drain_rate(&device.console()))?;
    site.command(NAME, "rate", &["--u32", "3600000"])?;
    all_acked(&device)?;
    site.command(NAME, "exit", &["--hex", "00"])?;
    let stack_bytes = end(&mut device, 0)?;
    let told = Told::read(&device.console())?;
    let is_good = told.bad.is_empty() && told.acked.values().all(|times| *times == 1);
    ensure!(is_good && told.dropped == 0, "dropped {}, {:?}", told.dropped, told.bad);
    site.gateway.stop()?;
    Ok(Run {
        stack_bytes,
        boot_to_acked_ms: Some(measure::stamp(&first)?),
        rate_per_s: Some(rate_per_s),
        reconnect_ms: Some(reconnect_ms),
        event_instructions: None,
    })
}

/// Readings acknowledged a second, by the device's clock, while it sends what has waited for its last connection: its first
/// [`BACKLOG`]. Nothing while there are not so many.
fn drain_rate(console: &str) -> Result<Option<f64>> {
    let Some((_, since)) = console.rsplit_once("] connected") else { return Ok(None) };
    let acked = since.lines().filter(|line| line.contains("] acked ")).take(BACKLOG);
    let stamps = acked.map(measure::stamp).collect::<Result<Vec<_>>>()?;
    Ok(match stamps.as_slice() {
        [first, .., last] if stamps.len() == BACKLOG && last > first => {
            Some(f64::from(u32::try_from(BACKLOG - 1)?) * 1e3 / (last - first))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drain_is_timed_from_ack_to_ack_behind_the_last_connection() {
        let mut console =
            "[5] connected\n[9] acked 0\n[900] disconnected: trouble 1\n[950] connected\n"
                .to_owned();
        for n in 0..BACKLOG {
            assert_eq!(drain_rate(&console).unwrap(), None);
            console.push_str(&format!("[{}] acked {n}\n", 1_000 + 10 * n));
        }
        assert_eq!(drain_rate(&console).unwrap(), Some(100.0));
    }

    #[test]
    fn a_console_is_read_up_to_its_last_whole_line() {
        let told = Told::read(
            "[1] device press boot 00000000000000ff\r\n[2] kept 0 -21000\r\n[3] kept 1 5\r\n[4] dropped 0\r\n\
             [5] acked 1\r\n[6] refused 1, reason 151\r\n[7] kept 2",
        );
        let told = told.unwrap();
        let id = |sequence| Id { boot: 255, sequence };
        assert_eq!(told.kept, BTreeMap::from([(id(0), -21_000), (id(1), 5)]));
        assert_eq!((told.acked, told.dropped), (BTreeMap::from([(1, 1)]), 1));
        assert_eq!(told.bad, ["[6] refused 1, reason 151"]);
    }
}
