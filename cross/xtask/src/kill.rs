//! `cargo xtask kill`: SIGKILL of a gateway under load, judged from the outside.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Args;
use system_tests::crash::{self, Campaign, Evidence, MOMENTS, Options, disk, full};

use crate::setup::{self, Agent};

const EXAMPLES: &str = "\
A control plane, one gateway with two chained functions that keep state, five devices (one of them
plain QoS 1). The gateway is killed at random moments of its life, its start included, while the
devices go on sending. Afterwards every acked message must be done or a visible dead letter, none
with an id twice, and records and state must be those of a serial run.

Examples:
  cargo xtask kill                          100 random kills
  cargo xtask kill --times 20 --seed 7      the same 20 moments again, as far as the machine is the same
  cargo xtask kill --points                 once or more at each named moment, by a planted agent
  cargo xtask kill --full-disk              on a disk that fills up (root: it mounts a small one)
";

/// Options of `cargo xtask kill`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct KillArgs {
    /// How often the gateway is killed at random moments.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    times: u32,
    /// Chooses the moments (default: by the clock; printed).
    #[arg(long)]
    seed: Option<u64>,
    /// About how long the kills may take: lives of the gateway are made shorter to fit.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    minutes: u32,
    /// Instead of random moments: before and after admit, seal, sync, ack, route and receipt.
    #[arg(long, conflicts_with_all = ["times", "minutes"])]
    points: bool,
    /// Instead: a disk that fills up, one kill on the full disk; acks stop, nothing is lost, it heals.
    #[arg(long, conflicts_with_all = ["times", "minutes", "points"])]
    full_disk: bool,
    /// Readings a second of each device [default: 200; on a full disk 300].
    #[arg(long)]
    rate: Option<f64>,
    /// Where ledgers and logs are written.
    #[arg(long, default_value = ".holm/kill")]
    dir: PathBuf,
}

/// Longest life of a gateway between two kills.
const LIFE_MAX: Duration = Duration::from_millis(2_500);
/// Shortest bound that is of use: a start takes a part of it.
const LIFE_MIN: Duration = Duration::from_millis(600);
/// Devices with message ids.
const DEVICES: usize = 4;

/// Kills and judges.
pub(crate) fn run(args: &KillArgs) -> Result<()> {
    let rate = args.rate.unwrap_or(if args.full_disk { 300.0 } else { 200.0 });
    ensure!((0.1..=10_000.0).contains(&rate), "--rate must be from 0.1 to 10000");
    if let Some(why) = disk::why_no_small_disk().filter(|_| args.full_disk) {
        bail!("--full-disk: {why}");
    }
    let agent = Agent::planted_if(args.points);
    setup::programs(agent)?;
    let seed = setup::seed(args.seed);
    let dir = setup::empty_dir(&args.dir)?;
    println!("seed {seed}; ledgers and logs in {}", dir.display());
    let begun = Instant::now();
    let options = Options {
        dir,
        seed,
        devices: DEVICES,
        rate_per_s: rate,
        agent: agent.program().to_owned(),
    };
    let evidence = if args.full_disk { full_disk(options)? } else { kill(options, args)? };
    let verdict = crash::judge(&evidence);
    println!("\n{}", crash::table(&evidence, &verdict));
    println!("  took {:.0} s", begun.elapsed().as_secs_f64());
    if !verdict.problems.is_empty() {
        bail!("{} problem(s), listed above; seed {seed}", verdict.problems.len());
    }
    println!("OK: nothing lost, nothing twice, the state is that of a serial run");
    Ok(())
}

fn kill(options: Options, args: &KillArgs) -> Result<Evidence> {
    let mut campaign = Campaign::begin(options)?;
    println!("the load is under way");
    if args.points {
        println!("the planted agent ends itself at {} named moments", MOMENTS.len());
        campaign.kill_at(MOMENTS)?;
    } else {
        kill_at_random(&mut campaign, args)?;
    }
    println!("the load ends; waiting until everything is worked off and stored upstream");
    campaign.finish()
}

fn full_disk(options: Options) -> Result<Evidence> {
    println!("filling a small disk under load; this takes a minute");
    let crash::Report { evidence, steps, degraded } = full::run(options)?;
    for (step, took) in steps {
        println!("  {step:<50} after {:>5.1} s", took.as_secs_f64());
    }
    println!("  status said: {degraded}");
    Ok(evidence)
}

fn kill_at_random(campaign: &mut Campaign, args: &KillArgs) -> Result<()> {
    let begun = Instant::now();
    // Moments are spread evenly over a life, so that the mean is half of it.
    let share = Duration::from_secs(u64::from(args.minutes) * 60) * 2 / args.times;
    let life_max = share.clamp(LIFE_MIN, LIFE_MAX);
    for n in 1..=args.times {
        campaign.kill_at_random(life_max)?;
        if n % 10 == 0 || n == args.times {
            println!("  kill {n:>4} of {}   {:>4.0} s", args.times, begun.elapsed().as_secs_f64());
        }
    }
    Ok(())
}
