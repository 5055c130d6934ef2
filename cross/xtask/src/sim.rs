//! `cargo xtask sim`: seeded simulation of the gateway.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::command::{built, cargo, run as run_command};

const EXAMPLES: &str = "\
The gateway's own loop and store on a simulated disk, network and cloud, in virtual time: power cuts,
torn writes, failed syncs, full disks, kills, broken connections, bad revisions, restored clouds. One
seed decides everything; oracles judge what must always hold. A seed that fails is added to
tests/sim/failing-seeds.txt, which every test run runs again. A scenario is a file that states what
happens when, and what the run must come to: tests/sim/scenarios.

Examples:
  cargo xtask sim                                    200 seeds
  cargo xtask sim --seeds 1 --seed 77                one seed again
  cargo xtask sim --minutes 30 --ledger              goes on where the ledger of this core ends
  cargo xtask sim --scenario all                     every scenario
  cargo xtask sim --scenario boot-at-1970 --trace    every event of one
";

/// Options of `cargo xtask sim`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SimArgs {
    /// Play a scenario of tests/sim/scenarios, or `all`.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["minutes", "ledger", "json"])]
    scenario: Option<String>,
    /// How many seeds, at most [default: 200; with --minutes as many as fit; as the scenario says].
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed [default: 1; with --ledger behind the last one of this core].
    #[arg(long)]
    seed: Option<u64>,
    /// Stop after so many minutes, whatever --seeds says.
    #[arg(long)]
    minutes: Option<u64>,
    /// Threads; the outcome does not depend on it [default: 1].
    #[arg(long)]
    threads: Option<u64>,
    /// Add a line to docs/evidence/sim.jsonl: commit, range, hours, hash, failures.
    #[arg(long)]
    ledger: bool,
    /// Print one line of JSON instead of words.
    #[arg(long)]
    json: bool,
    /// Print every event of --seed, or of the scenario with it [default: 1].
    #[arg(long, conflicts_with_all = ["seeds", "minutes", "ledger", "json"])]
    trace: bool,
}

/// Builds the simulator and starts it.
pub(crate) fn run(args: &SimArgs) -> Result<()> {
    // As a part of the workspace: alone it would need other features of its dependencies.
    run_command(cargo(&["build", "--workspace", "--bin", "sim"]))?;
    let mut command = Command::new(built("sim")?);
    for (name, value) in [
        ("--seeds", args.seeds),
        ("--seed", args.seed),
        ("--minutes", args.minutes),
        ("--threads", args.threads),
    ] {
        if let Some(value) = value {
            command.arg(name).arg(value.to_string());
        }
    }
    if let Some(scenario) = &args.scenario {
        command.arg("--scenario").arg(scenario);
    }
    for (name, is_set) in
        [("--ledger", args.ledger), ("--json", args.json), ("--trace", args.trace)]
    {
        if is_set {
            command.arg(name);
        }
    }
    run_command(command)
}
