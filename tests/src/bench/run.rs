//! The order of a benchmark run: interleaved rounds, raw figures kept as they come.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::contender::{Holm, Native, Stored};
use super::disk;
use super::load::{self, Pace};
use super::meter;
use super::report::Summary;
use super::row::{Contender, Machine, Row, mib};
use crate::author::{Author, fixture};
use crate::process::program;

/// What is to be run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Where raw rounds, logs and data go; on the disk that is to be measured.
    pub dir: PathBuf,
    /// Rounds of each contender.
    pub rounds: u32,
    /// Measured seconds of each load.
    pub seconds: u64,
    /// Where the summary is written too, as JSON.
    pub json: Option<PathBuf>,
    /// Another build of the agent, measured beside this one: the state before a change.
    pub before: Option<PathBuf>,
}

/// A load that all contenders get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Its name in tables and rows.
    pub name: &'static str,
    /// Publishing connections.
    pub connections: u16,
    /// Unfinished messages of each.
    pub in_flight: u16,
    /// When messages are sent.
    pub pace: Pace,
}

/// Most messages in flight.
pub const WIDE: Load =
    Load { name: "100 x 50", connections: 100, in_flight: 50, pace: Pace::Closed };
/// One message in flight for each device.
pub const NARROW: Load =
    Load { name: "100 x 1", connections: 100, in_flight: 1, pace: Pace::Closed };
/// A steady stream, for latencies.
pub const STEADY: Load =
    Load { name: "500/s", connections: 100, in_flight: 50, pace: Pace::PerSecond(500) };
/// A quiet gateway, for wear; Holm alone.
pub const QUIET: Load =
    Load { name: "10/s", connections: 10, in_flight: 50, pace: Pace::PerSecond(10) };

/// Longest time that is not measured at the begin of a load.
const WARM_UP_MAX: Duration = Duration::from_secs(2);
/// How long the disk's sync rate is looked at.
const PROBE: Duration = Duration::from_secs(1);
/// How long an idle agent is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);
/// The quiet load lasts four times as long as the others, so that checkpoints are in it.
const QUIET_TIMES: u64 = 4;

/// Runs all rounds; prints progress, the table and the verdict. Returns whether nothing was lost
/// and syncs were seen.
///
/// # Errors
/// The folder is in memory, something does not start or a connection is lost.
pub fn run(plan: &Plan) -> Result<bool> {
    std::fs::create_dir_all(&plan.dir)?;
    let file_system = disk::file_system(&plan.dir)?;
    println!("disk: {file_system}; load average {:.2}", meter::load_average());
    let author = Author::new(&plan.dir.join("author"))?;
    let bundle = author.build(&fixture("apps/pipeline"))?;
    let rows = File::create(plan.dir.join("rounds.jsonl"))?;
    let mut run = Run { plan, key: author.key()?, bundle, raw: rows, rows: Vec::new() };
    let mut machines = Vec::new();
    for round in 1..=plan.rounds {
        machines.push(run.round(round)?);
    }
    let summary = Summary::new(file_system, plan.seconds, machines, run.rows);
    println!("\n{}", summary.table());
    for verdict in summary.verdicts() {
        println!("{verdict}");
    }
    println!("raw rounds: {}", plan.dir.join("rounds.jsonl").display());
    if let Some(path) = &plan.json {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        serde_json::to_writer_pretty(file, &summary)?;
    }
    Ok(summary.is_sound())
}

struct Run<'a> {
    plan: &'a Plan,
    key: String,
    bundle: PathBuf,
    raw: File,
    rows: Vec<Row>,
}

impl Run<'_> {
    fn round(&mut self, round: u32) -> Result<Machine> {
        let dir = self.plan.dir.join(format!("round-{round}"));
        let field = self.start(&dir)?;
        std::thread::sleep(SETTLE);
        let mut machine = Machine {
            round,
            load_average: meter::load_average(),
            syncs_per_s: disk::syncs_per_s(&dir, PROBE)?,
            idle_pss_kib: meter::pss_kib(&field.holm.pids()?)?,
            turn_p99_us: 0,
            turn_longest_us: 0,
        };
        println!(
            "round {round} of {}: load average {:.2}, {:.0} syncs/s, idle agent {:.1} MiB",
            self.plan.rounds,
            machine.load_average,
            machine.syncs_per_s,
            mib(machine.idle_pss_kib)
        );
        for load in [WIDE, NARROW, STEADY] {
            // In turning order, so that none always follows the same other.
            let mut order = field.contenders();
            if round.is_multiple_of(2) {
                order.reverse();
            }
            for contender in order {
                self.load(round, contender, load, self.plan.seconds, &field)?;
            }
        }
        if round == self.plan.rounds {
            let seconds = self.plan.seconds * QUIET_TIMES;
            self.load(round, Contender::Holm, QUIET, seconds, &field)?;
        }
        (machine.turn_p99_us, machine.turn_longest_us) = field.holm.turns_us()?;
        self.keep(&machine)?;
        field.stop()?;
        remove_data(&dir)?;
        Ok(machine)
    }

    fn start(&self, dir: &Path) -> Result<Field> {
        let holm = |name: &str, program: &Path| {
            let (key, in_flight) = (self.key.clone(), WIDE.in_flight);
            Holm::start(&dir.join(name), program, key, &self.bundle, in_flight)
        };
        Ok(Field {
            holm: holm("holm", &program("edge-agent")?)?,
            before: self.plan.before.as_deref().map(|agent| holm("before", agent)).transpose()?,
            native: Native::start(dir)?,
        })
    }

    fn load(
        &mut self,
        round: u32,
        contender: Contender,
        load: Load,
        seconds: u64,
        field: &Field,
    ) -> Result<()> {
        let holm = field.gateway(contender);
        let (address, pids) = match holm {
            Some(holm) => (holm.address(), holm.pids()?),
            None => (field.native.address(), field.native.pids()),
        };
        let measured = Duration::from_secs(seconds);
        let plan = load::Plan {
            address,
            connections: load.connections,
            in_flight: load.in_flight,
            pace: load.pace,
            warm_up: WARM_UP_MAX.min(measured / 5),
            measured,
            pids: pids.clone(),
        };
        let stored = || holm.map(Holm::stored).transpose();
        let before = stored()?;
        let written = meter::used(&pids)?.write_bytes;
        let outcome = load::run(&plan);
        let outcome = outcome.with_context(|| format!("{contender}, {}", load.name))?;
        let stored = before.zip(stored()?).map(|(before, after)| Stored {
            syncs: after.syncs - before.syncs,
            disk_bytes: after.disk_bytes - before.disk_bytes,
        });
        let written = meter::used(&pids)?.write_bytes - written;
        let pss_kib = meter::pss_kib(&pids)?;
        let row = Row::new((round, contender, load.name), &outcome, stored, written, pss_kib);
        println!("  {}", row.line());
        self.keep(&row)?;
        self.rows.push(row);
        Ok(())
    }

    fn keep(&mut self, fact: &impl Serialize) -> Result<()> {
        serde_json::to_writer(&mut self.raw, fact)?;
        Ok(self.raw.write_all(b"\n")?)
    }
}

/// The contenders of a round.
struct Field {
    holm: Holm,
    before: Option<Holm>,
    native: Native,
}

impl Field {
    fn contenders(&self) -> Vec<Contender> {
        let before = self.before.as_ref().map(|_| Contender::Before);
        [Contender::Holm].into_iter().chain(before).chain([Contender::Native]).collect()
    }

    /// The gateway that a contender is; `None` for the native handler.
    fn gateway(&self, contender: Contender) -> Option<&Holm> {
        match contender {
            Contender::Holm => Some(&self.holm),
            Contender::Before => self.before.as_ref(),
            Contender::Native => None,
        }
    }

    fn stop(self) -> Result<()> {
        self.holm.stop()?;
        self.before.map_or(Ok(()), Holm::stop)
    }
}

/// The stores of a round are large and say nothing afterwards; the logs stay.
fn remove_data(dir: &Path) -> Result<()> {
    for data in ["holm/data", "before/data"].map(|data| dir.join(data)) {
        if data.exists() {
            std::fs::remove_dir_all(&data).with_context(|| data.display().to_string())?;
        }
    }
    Ok(())
}
