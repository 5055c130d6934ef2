//! `cargo xtask netsim`: the gateway's shell over a simulated network.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::command::{built, cargo, run as run_command};

const EXAMPLES: &str = "\
The broker's transport and the uplink with its MQTT client and TLS, over a network that a seed breaks,
in virtual time: half-open connections, partitions, cuts within packets, slow links, restarts of both
ends, clients that do not read, storms of connects. `cargo xtask sim` simulates what lies above.

Examples:
  cargo xtask netsim                                    5 seeds of every scenario
  cargo xtask netsim --minutes 20 --seed 100            as many as fit
  cargo xtask netsim --scenario slow-links --seed 7 --trace
";

/// Options of `cargo xtask netsim`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct NetsimArgs {
    /// Only this scenario.
    #[arg(long)]
    scenario: Option<String>,
    /// How many seeds of each scenario [default: 5; with --minutes as many as fit].
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed [default: 1].
    #[arg(long)]
    seed: Option<u64>,
    /// Stop after so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    /// Print every event of --seed in --scenario.
    #[arg(long, requires = "scenario", conflicts_with_all = ["seeds", "minutes"])]
    trace: bool,
}

/// Builds the simulation and starts it.
pub(crate) fn run(args: &NetsimArgs) -> Result<()> {
    // As a part of the workspace: alone it would need other features of its dependencies.
    run_command(cargo(&["build", "--workspace", "--bin", "netsim"]))?;
    let mut command = Command::new(built("netsim")?);
    for (name, value) in
        [("--seeds", args.seeds), ("--seed", args.seed), ("--minutes", args.minutes)]
    {
        if let Some(value) = value {
            command.arg(name).arg(value.to_string());
        }
    }
    if let Some(scenario) = &args.scenario {
        command.arg("--scenario").arg(scenario);
    }
    if args.trace {
        command.arg("--trace");
    }
    run_command(command)
}
