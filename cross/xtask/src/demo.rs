//! `cargo xtask demo` and `cargo xtask verify`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use system_tests::story::{Options, Story};
use system_tests::{readings, verify};

use crate::command::project_root;
use crate::setup::{self, Agent};

/// A bug planted into a test-only build of the agent.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Plant {
    /// The PUBACK leaves before its batch is durable.
    AckBeforeCommit,
    /// Some messages are worked on twice.
    DoubleApply,
    /// Some records never reach the outbox.
    DropOutbox,
}

const EXAMPLES: &str = "\
One control plane, two gateways and five devices as processes of this machine, over TLS. A new version is pushed while
messages flow, the link is cut, a gateway is killed under load, a bad version is deployed. Then the ledgers of the clients
must show that nothing was lost and nothing happened twice.

Examples:
  cargo xtask demo
  cargo xtask demo --seed 31                   the same moments again
  cargo xtask demo --times 20                  twenty stories, and how many ended well
  cargo xtask demo --keep                      leave it running, to look around
  cargo xtask demo --plant double-apply        a planted bug: the verification must find it
  cargo xtask verify                           recompute the proof of the last one
";

/// Options of `cargo xtask demo`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DemoArgs {
    /// Chooses the moments of push, cut and kill (default: by the clock; printed).
    #[arg(long)]
    seed: Option<u64>,
    /// Tell the story this many times, each with the next seed.
    #[arg(long, default_value_t = 1, conflicts_with = "keep")]
    times: u64,
    /// Leave everything running at the end, until Enter.
    #[arg(long)]
    keep: bool,
    /// Readings of each device.
    #[arg(long, default_value_t = 1_200)]
    readings: usize,
    /// Another file of `timestamp,value` lines.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Messages without ids (plain QoS 1): repeats are counted and explained, none is lost.
    #[arg(long)]
    plain_qos1: bool,
    /// Run with a planted bug: the verification must name the ids, and the demo must fail.
    #[arg(long)]
    plant: Option<Plant>,
    /// Where ledgers and logs are written.
    #[arg(long, default_value = ".holm/demo")]
    dir: PathBuf,
}

/// Runs the demonstration.
pub(crate) fn run(args: &DemoArgs) -> Result<()> {
    setup::programs(Agent::planted_if(args.plant.is_some()))?;
    let seed = setup::seed(args.seed);
    let dir = setup::empty_dir(&args.dir)?;
    if args.times == 1 {
        return tell(args, seed, &dir);
    }
    let mut failed = Vec::new();
    for seed in seed..seed + args.times {
        if let Err(err) = tell(args, seed, &dir.join(format!("seed-{seed}"))) {
            println!("seed {seed}: {err:#}");
            failed.push(seed);
        }
    }
    println!("\n{} of {} stories ended well", args.times - failed.len() as u64, args.times);
    if failed.is_empty() { Ok(()) } else { bail!("failed: seeds {failed:?}") }
}

fn tell(args: &DemoArgs, seed: u64, dir: &Path) -> Result<()> {
    println!("\nthe story, seed {seed}; ledgers and logs in {}", dir.display());
    let plant = args.plant.and_then(|plant| plant.to_possible_value());
    let mut story = Story::begin(Options {
        dir: dir.to_owned(),
        seed,
        readings: args.readings,
        data: args.data.clone().unwrap_or_else(readings::excerpt),
        ids: !args.plain_qos1,
        agent: Agent::planted_if(plant.is_some()).program().to_owned(),
        plant: plant.map(|plant| plant.get_name().to_owned()),
    })?;
    story.tell()?;
    let verdict = judge(dir);
    if args.keep {
        println!("\nstill running: {}; Enter ends it", story.addresses());
        std::io::stdin().read_line(&mut String::new())?;
    }
    story.end()?;
    verdict
}

/// Options of `cargo xtask verify`.
#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// Folder of a demonstration.
    #[arg(default_value = ".holm/demo")]
    dir: PathBuf,
}

/// Recomputes the verdict from the ledgers.
pub(crate) fn run_verify(args: &VerifyArgs) -> Result<()> {
    judge(&project_root().join(&args.dir))
}

fn judge(dir: &Path) -> Result<()> {
    let (facts, verdict) = verify::verify(dir)?;
    println!("\nrecomputed from the ledgers in {}:", dir.display());
    println!("{}", verify::table(&facts, &verdict));
    if verdict.problems.is_empty() {
        println!("OK: nothing lost, nothing twice, the state is that of the plain computation");
        return Ok(());
    }
    bail!("{} problem(s), listed above", verdict.problems.len())
}
