//! `cargo xtask devices`: builds the firmware of the examples, runs it on emulated machines at a real gateway, and holds
//! it to its budgets.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Args;
use system_tests::interrupt::Interrupt;
use system_tests::sensors::{fleet, in_c, measure};

use crate::command::project_root;
use crate::setup::{self, Agent, Part};

const EXAMPLES: &str = "\
Builds what is in firmware-examples/ under each of its budgets ([package.metadata.holm.budget] of its Cargo.toml, or
budget.toml), runs all firmware that QEMU has a machine for, and fails where a budget is broken.

  flash               code, constants and initial data, in bytes
  RAM                 data, bss and the deepest stack
  first acked         from reset to the first message that the gateway has acknowledged
  messages/s          acknowledged, of a device that has more to publish
  reconnect           from a gateway that listens again after SIGKILL to the device being online
  instructions/event  of a function on the device, its fresh sandbox included

`-` is what a firmware has not: the one that takes events from a file has no gateway, a sensor no function. Firmware
for real boards is built only. A function on the device comes by an ordinary deployment, from a control plane.

With --fleet: many such devices with TLS and their queue in flash, at a gateway with a control plane; gateway
kills, cut cables and power cuts by a seed. In the end every reading kept in flash is in the control plane, once.

Examples:
  cargo xtask devices
  cargo xtask devices --only qemu-mps2-an385 --json
  cargo xtask devices --only qemu-mps2-an386-edge   the sensor with a function of its own
  cargo xtask devices --sizes                       build all; run nothing
  cargo xtask devices --fleet                       20 devices, 10 minutes
  cargo xtask devices --fleet --devices 5 --minutes 2 --seed 7
";

/// Options of `cargo xtask devices`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DevicesArgs {
    /// Only the firmware in this folder.
    #[arg(long, value_name = "FOLDER")]
    only: Option<String>,
    /// Build and measure, run nothing: no gateway and no emulator are needed.
    #[arg(long)]
    sizes: bool,
    /// Print the rows as JSON, a line each.
    #[arg(long)]
    json: bool,
    /// Run a fleet instead.
    #[arg(long, conflicts_with_all = ["only", "json", "sizes"])]
    fleet: bool,
    /// Devices of the fleet.
    #[arg(long, default_value_t = 20, requires = "fleet", value_parser = clap::value_parser!(u16).range(1..=100))]
    devices: u16,
    /// How long things go wrong for the fleet.
    #[arg(long, default_value_t = 10, requires = "fleet", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// Milliseconds from reading to reading.
    #[arg(long, default_value_t = 1_000, requires = "fleet", value_parser = clap::value_parser!(u32).range(10..))]
    period_ms: u32,
    /// Chooses what goes wrong when (default: by the clock; printed).
    #[arg(long, requires = "fleet")]
    seed: Option<u64>,
    /// Take agent, control plane and command line as they were built last.
    #[arg(long)]
    no_build: bool,
    /// Where logs and flash files are written.
    #[arg(long, default_value = ".holm/devices")]
    dir: PathBuf,
}

/// Builds, runs, judges.
pub(crate) fn run(args: &DevicesArgs) -> Result<()> {
    let missing = setup::offer(needed(args), false)?;
    ensure!(missing.is_empty(), "missing: {}", setup::apt_line(&missing));
    if !args.no_build && !args.sizes {
        setup::programs(Agent::Shipped)?;
    }
    let dir = setup::empty_dir(&args.dir)?;
    if args.fleet { run_fleet(args, dir) } else { run_table(args, &dir) }
}

/// A compiler for C only where there is C to be built, an emulator only where something runs.
fn needed(args: &DevicesArgs) -> &'static [Part] {
    let is_c = args.only.as_deref().is_none_or(|only| only == in_c::FOLDER) && !args.fleet;
    match (args.sizes, is_c) {
        (false, true) => setup::DEVICES,
        (false, false) => setup::EMULATED,
        (true, true) => setup::IN_C,
        (true, false) => &[],
    }
}

fn run_table(args: &DevicesArgs, dir: &std::path::Path) -> Result<()> {
    let root = project_root().join("firmware-examples");
    let mut examples = measure::examples(&root)?;
    if let Some(only) = &args.only {
        ensure!(
            examples.contains(only),
            "no firmware in firmware-examples/{only}; there are {}",
            examples.join(", ")
        );
        examples.retain(|example| example == only);
    }
    let mut rows = Vec::new();
    for example in examples {
        eprintln!("{example} ...");
        let work = (!args.sizes).then_some(dir);
        measure::example(&example, &root, work, &mut |row| rows.push(row.clone()))?;
    }
    if args.json {
        for row in &rows {
            println!("{}", serde_json::to_string(row)?);
        }
    } else {
        println!("\n{}", measure::table(&rows));
    }
    let over = rows.iter().filter(|row| !row.breaches.is_empty()).count();
    if over > 0 {
        bail!("{over} build(s) over budget");
    }
    Ok(())
}

fn run_fleet(args: &DevicesArgs, dir: PathBuf) -> Result<()> {
    let seed = setup::seed(args.seed);
    println!("seed {seed}; logs and flash files in {}", dir.display());
    let options = fleet::Options {
        dir,
        seed,
        devices: args.devices.into(),
        length: Duration::from_secs(args.minutes * 60),
        period_ms: args.period_ms,
    };
    let report = fleet::run(&options, &Interrupt::watch()?, &mut |line| println!("{line}"))?;
    println!("\n{}", fleet::table(&report));
    if !report.problems.is_empty() {
        bail!("{} problem(s), listed above; seed {seed}", report.problems.len());
    }
    println!("OK: every reading that was kept is in the control plane, once");
    Ok(())
}
