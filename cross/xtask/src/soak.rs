//! `cargo xtask soak`: real processes for a long time, under everything that happens in the field.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Args;
use system_tests::interrupt::Interrupt;
use system_tests::soak::{self, Options};

use crate::setup::{self, Agent};

const EXAMPLES: &str = "\
One control plane, two gateways, eight devices that never stop sending, visitors that come and go.
Devices lose their connections, good and bad versions are deployed, the link upstream is cut,
gateways and control plane are killed. In the end nothing may be lost or done twice, and memory, file
descriptors, threads, disk and queues must be flat in the last life of each process: the slope
(Theil-Sen) after a warm-up of a quarter of that life, at least 45 s. The first gateway and the control
plane are killed in the first 40 % of the time only, so that their last life is long. Charts and
samples are written to soak.html and soak.json.

Examples:
  cargo xtask soak                          10 minutes
  cargo xtask soak --minutes 60 --seed 7    the long one
";

/// Options of `cargo xtask soak`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SoakArgs {
    /// How long the devices send.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(3..=100_000))]
    minutes: u64,
    /// Chooses what happens when (default: by the clock; printed).
    #[arg(long)]
    seed: Option<u64>,
    /// Readings a second of each device.
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Where ledgers, logs and charts are written.
    #[arg(long, default_value = ".holm/soak")]
    dir: PathBuf,
}

/// Soaks and judges.
pub(crate) fn run(args: &SoakArgs) -> Result<()> {
    ensure!((0.1..=1_000.0).contains(&args.rate), "--rate must be from 0.1 to 1000");
    setup::programs(Agent::Shipped)?;
    let seed = setup::seed(args.seed);
    let dir = setup::empty_dir(&args.dir)?;
    println!("seed {seed}; ledgers and logs in {}", dir.display());
    let length = Duration::from_secs(args.minutes * 60);
    let options = Options { dir: dir.clone(), seed, length, rate_per_s: args.rate };
    let report = soak::run(&options, &Interrupt::watch()?, &mut |line| println!("{line}"))?;
    std::fs::write(dir.join("soak.html"), report.html())?;
    std::fs::write(dir.join("soak.json"), report.json()?)?;
    println!("\n{}", report.table());
    println!("  charts: {}", dir.join("soak.html").display());
    if !report.problems().is_empty() {
        bail!("{} problem(s), listed above; seed {seed}", report.problems().len());
    }
    println!("OK: nothing lost, nothing twice, curves flat");
    Ok(())
}
