//! What the agent holds of the guest's memory, at rest and at work: medians of its PSS, which the gateway
//! reads from `smaps_rollup` and tells with its status every few seconds.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use system_tests::ledger::Fact;

use super::machine::{Hardware, Machine};
use super::sending::Sending;
use super::site::{BUSY_DEVICE, Site};
use super::status::{self, median};
use super::story::{Line, Options};
use crate::bench::memory::{BUSY_KIB_MAX, IDLE_KIB_MAX};

/// Readings a second at work. An emulated processor on a busy machine finishes 15, functions and all; what is more
/// fills queues until they dead-letter.
const RATE: f64 = 10.0;
/// Fewer acks a second are no work.
const RATE_MIN: u64 = 5;
/// From one status line to the next, at the most, on a busy machine.
const STATUS_EVERY_MAX: Duration = Duration::from_secs(20);
/// How long the device goes without an ack.
const PATIENCE: Duration = Duration::from_secs(120);

/// What was measured.
pub(crate) struct Memory {
    lines: Vec<Line>,
    over: Vec<String>,
}

impl Memory {
    /// Lines of the table.
    pub(crate) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Fails where a budget was exceeded, after everything else has been told.
    pub(crate) fn judge(&self) -> Result<()> {
        match self.over.as_slice() {
            [] => Ok(()),
            over => bail!("memory: {}", over.join("; ")),
        }
    }

    /// Without messages; a third of the time is warm-up.
    pub(crate) fn idle(machine: &Machine, length: Duration) -> Result<Self> {
        println!("idle for {} min, for the memory of the agent", length.as_secs() / 60);
        sample(machine, length, "idle", IDLE_KIB_MAX)
    }

    /// With messages of a device, and what became of these; a third of the time is warm-up.
    pub(crate) fn busy(
        options: &Options,
        site: &Site,
        hardware: &Hardware,
        machine: &Machine,
    ) -> Result<(Self, Vec<Fact>)> {
        let length = options.busy;
        println!("{RATE} messages a second for {} min, for the same", length.as_secs() / 60);
        let dir = &options.basis.dir;
        let sending = Sending::start(BUSY_DEVICE, RATE, PATIENCE, site, hardware, dir)?;
        let mut memory = sample(machine, length, "at work", BUSY_KIB_MAX)?;
        let facts = sending.stop()?;
        let acked = facts.iter().filter(|fact| matches!(fact, Fact::Acked { .. })).count();
        let rate = u64::try_from(acked)? / length.as_secs();
        // Memory of one that does nothing is none at work.
        ensure!(rate >= RATE_MIN, "{rate} messages a second were acked, of {RATE} that were to be");
        memory.lines.push(("acked messages a second at work".to_owned(), rate.to_string()));
        Ok((memory, facts))
    }
}

fn sample(machine: &Machine, length: Duration, name: &str, kib_max: u64) -> Result<Memory> {
    machine.pause(length / 3)?;
    let from = status::all(&machine.console()).len();
    machine.pause(length - length / 3)?;
    let seen = status::all(&machine.console()).split_off(from);
    // One that dies and is started again has lines without memory, which do not count.
    let least = (length - length / 3).as_secs() / STATUS_EVERY_MAX.as_secs();
    ensure!(seen.len() as u64 >= least, "only {} status lines {name}", seen.len());
    let of = |kib: fn(&status::Status) -> u64| seen.iter().map(kib).collect::<Vec<_>>();
    let middle = |kib| median(of(kib)).context("no status line in that time");
    let (agent, launcher) = (middle(|seen| seen.pss_kib)?, middle(|seen| seen.launcher_kib)?);
    let most = of(|seen| seen.pss_kib).into_iter().max().unwrap_or_default();
    let over = (agent > kib_max).then(|| format!("{name} {agent} KiB of at most {kib_max}"));
    let lines = vec![
        (format!("PSS {name}, median of {}", seen.len()), format!("{agent} KiB")),
        (format!("PSS {name}, budget"), format!("{kib_max} KiB")),
        (format!("PSS {name}, most"), format!("{most} KiB")),
        (format!("PSS of the launcher {name}"), format!("{launcher} KiB")),
    ];
    Ok(Memory { lines, over: over.into_iter().collect() })
}
