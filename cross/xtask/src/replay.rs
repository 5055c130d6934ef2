//! `cargo xtask crash-replay`: power cuts at many points of a recorded run, judged by what clients
//! had seen.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;
use system_tests::host;
use system_tests::replay_options::Options;

use crate::command::{built, project_root, run as run_command};
use crate::setup::{self, Agent};

const EXAMPLES: &str = "\
An agent with two chained functions that keep state, four devices with message ids, one with QoS 2
and a subscriber with a persistent session work on a disk that records every block write. Clients
note what they were acked on the same disk. Then the power is cut at points of the record: what was
flushed is there, what was not is kept, dropped or torn by the seed. Each cut is mounted and its
store opened: whatever was acked must be there, whole, and once. At every 50th the whole agent comes
up and the clients go on.

Needs root, /dev/fuse, loop devices and qemu-storage-daemon; without them it is skipped (in CI it
fails).

Examples:
  cargo xtask crash-replay                             100 points
  cargo xtask crash-replay --points 2000 --seed 7      the long run
  cargo xtask crash-replay --again --seed 7            the kept record once more, the same points
  cargo xtask crash-replay --again --seed 7 --point 31 one of them
  cargo xtask crash-replay --plant ack-before-commit   must find the planted bug
";

/// Options of `cargo xtask crash-replay`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReplayArgs {
    /// How many points the power is cut at.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    points: u32,
    /// Chooses the points (default: by the clock; printed).
    #[arg(long)]
    seed: Option<u64>,
    /// Only the point with this number, of those that the seed chooses; with --again.
    #[arg(long, value_name = "N", requires_all = ["again", "seed"])]
    point: Option<usize>,
    /// Messages of each of the five devices.
    #[arg(long, default_value_t = 2_500, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    messages: u32,
    /// At every so-many-th point the whole agent is brought up.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    whole_every: u32,
    /// Cut the record that is there once more, and make none.
    #[arg(long)]
    again: bool,
    /// Keep the record; one with a finding stays in any case.
    #[arg(long)]
    keep: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    /// A bug to plant into the agent; the run succeeds if the cuts find it.
    #[arg(long, conflicts_with = "again")]
    plant: Option<String>,
    /// Where the record and logs are written.
    #[arg(long, default_value = ".holm/crash-replay")]
    dir: PathBuf,
}

/// Records, cuts and judges.
pub(crate) fn run(args: &ReplayArgs) -> Result<()> {
    setup::offer(setup::REPLAY, false)?;
    if let Some(why) = host::why_not() {
        println!("skipped: crash-replay: {why}");
        if std::env::var_os("CI").is_some() {
            bail!("in CI a skipped crash replay is a failure");
        }
        return Ok(());
    }
    let agent = Agent::planted_if(args.plant.is_some());
    setup::programs(agent)?;
    let seed = setup::seed(args.seed);
    let dir = project_root().join(&args.dir);
    eprintln!("seed {seed}; record and logs in {}", dir.display());
    let options = Options {
        dir,
        seed,
        points: usize::try_from(args.points)?,
        whole_every: usize::try_from(args.whole_every)?,
        messages: args.messages,
        only: args.point,
        disk_lies: false,
        agent: agent.program().to_owned(),
        plant: args.plant.clone(),
        again: args.again,
        keep: args.keep,
        json: args.json,
    };
    let file = options.dir.with_extension("json");
    std::fs::create_dir_all(&options.dir)?;
    std::fs::write(&file, serde_json::to_vec_pretty(&options)?)?;
    let mut command = Command::new(built("crash-replay")?);
    command.arg(file);
    run_command(command)
}
