//! `cargo xtask bench pipeline`: Holm against Mosquitto with a native handler.

use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;
use system_tests::bench::disk::file_system;
use system_tests::bench::run::Plan;

use crate::command::{cargo, project_root, run as run_command};
use crate::setup;

const EXAMPLES: &str = "Examples:
  cargo xtask bench pipeline                     3 rounds of 30 s for each load: about 12 minutes
  cargo xtask bench pipeline --quick             1 round of 5 s: does it work at all?
  cargo xtask bench pipeline --rounds 5 --json result.json
  cargo xtask bench pipeline --dir /mnt/card/b   measure another disk
  cargo xtask bench pipeline --before ../old/target/release/edge-agent
                                                 what a change costs, in one run with the build before it

It fails if a message is lost or no sync is seen. A target of speed that is not reached is printed
as MISSED. Run it on a quiet machine: the load average of each round is printed.";

/// Options of `cargo xtask bench pipeline`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PipelineArgs {
    /// Rounds of each contender, in turns; figures are their medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Measured seconds of each load.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// One round of 5 seconds.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Write the summary to this file too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where raw rounds, logs and data go; it must be on a disk [default: .holm/bench/pipeline-TIME]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Another release build of the agent, measured beside this one.
    #[arg(long, value_name = "AGENT")]
    before: Option<PathBuf>,
    /// Install Mosquitto where it is missing (needs root; as root it is the default).
    #[arg(long)]
    install: bool,
}

/// Measures, prints, and fails where a message is lost.
pub(crate) fn run(args: &PipelineArgs) -> Result<()> {
    mosquitto(args.install)?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let dir = args.dir.clone();
    let dir = dir.unwrap_or_else(|| format!(".holm/bench/pipeline-{}", since.as_secs()).into());
    let dir = project_root().join(dir);
    std::fs::create_dir_all(&dir)?;
    let before = args.before.as_ref().map(std::path::absolute).transpose()?;
    if let Some(missing) = before.as_ref().filter(|agent| !agent.is_file()) {
        bail!("--before: there is no program at {}", missing.display());
    }
    // A folder in memory is refused now, not after the build.
    file_system(&dir)?;
    setup::wasm_target()?;
    println!("building in the release profile: about 20 minutes on 2 cores the first time");
    let packages = ["-p", "edge-agent", "-p", "holm", "-p", "system-tests"];
    run_command(cargo(&[&["build", "--release", "--bins"], &packages[..]].concat()))?;
    let (rounds, seconds) = if args.quick { (1, 5) } else { (args.rounds, args.seconds) };
    let json = args.json.as_ref().map(std::path::absolute).transpose()?;
    let plan = dir.join("plan.json");
    let words = serde_json::to_vec_pretty(&Plan { dir, rounds, seconds, json, before })?;
    std::fs::write(&plan, words)?;
    let mut command = Command::new(released("bench-pipeline")?);
    command.arg(plan);
    run_command(command)
}

/// A program of the release profile: its folder lies beside the one of this program.
fn released(program: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(2).context("the build folder has no parent")?;
    Ok(target.join("release").join(program))
}

/// Sees to it that Mosquitto is here, or says how it gets here.
fn mosquitto(install: bool) -> Result<()> {
    let part = &setup::MOSQUITTO;
    if part.is_here() {
        return Ok(());
    }
    println!("`{}` wants: {}", part.suite, setup::apt_line(&[part]));
    if setup::has_apt() && (install || setup::is_root()) {
        return setup::install(&[part]);
    }
    bail!("{} is missing: install it with the line above, or with --install as root", part.program)
}
