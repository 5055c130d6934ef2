//! `cargo xtask bench memory`: what an agent holds of a machine's memory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};
use system_tests::bench::memory::{self, Figure, Figures, Plan};
use system_tests::bench::meter::Memory;

use crate::setup::{self, Agent};
use crate::targets::{build, list};

/// PSS of an idle agent with one function: 10 MB.
pub(crate) const IDLE_KIB_MAX: u64 = 10_000_000 / 1_024;
/// PSS of one at work: 15 MB.
pub(crate) const BUSY_KIB_MAX: u64 = 15_000_000 / 1_024;

/// Options of `cargo xtask bench memory`.
#[derive(Args)]
#[command(after_help = "\
Memory of the program that gateways get (profile `dist`, static), built for the processor of this machine
unless --agent names one. It has one function deployed. First nothing happens; then 100 devices send messages of 200
bytes. Each time half of --minutes is warm-up; then the median of samples of PSS counts, from `smaps_rollup`.

  own      heap, stacks, compiled functions, and what the loader wrote to
  program  pages of the program that are mapped: the kernel takes them back where memory is short

It fails over 10 MB (10^6 bytes) at rest or 15 MB at work. On arm64, in an emulated gateway, the same is
measured by `cargo xtask gateway-vm --test --idle 15 --busy 15`.

Examples:
  cargo xtask bench memory
  cargo xtask bench memory --minutes 2 --rate 200
  cargo xtask bench memory --json > memory.json
  cargo xtask bench memory --agent ../other/edge-agent")]
pub(crate) struct MemoryArgs {
    /// How long samples are taken, each at rest and at work, after half as long of warm-up.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    minutes: u64,
    /// Messages a second, of all devices together.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Another agent, for this machine.
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// Measures, prints, and fails over a budget.
pub(crate) fn run(args: &MemoryArgs) -> Result<()> {
    setup::programs(Agent::Shipped)?;
    let agent = match &args.agent {
        Some(agent) if !agent.is_file() => bail!("there is no program at {}", agent.display()),
        Some(agent) => std::path::absolute(agent)?,
        None => {
            let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
            build::build(list::named(&triple)?)?.program
        }
    };
    let dir = setup::empty_dir(Path::new(".holm/memory"))?;
    let measured = Duration::from_secs(args.minutes * 60);
    let plan = Plan { dir: dir.clone(), agent, warm_up: measured / 2, measured, rate: args.rate };
    eprintln!("{} minutes at rest, then as long at work", args.minutes * 3 / 2);
    let figures = memory::measure(&plan)?;
    std::fs::remove_dir_all(&dir)?;
    if args.json {
        println!("{:#}", json(&figures));
        return memory::judge(&figures, IDLE_KIB_MAX, BUSY_KIB_MAX);
    }
    println!("               samples   PSS KiB       own   program      most");
    row("idle", &figures.idle);
    row(&format!("{}/s", figures.rate), &figures.busy);
    memory::judge(&figures, IDLE_KIB_MAX, BUSY_KIB_MAX)?;
    println!("OK: within {IDLE_KIB_MAX} and {BUSY_KIB_MAX} KiB");
    Ok(())
}

fn json(figures: &Figures) -> Value {
    let part = |figure: &Figure, budget_kib: u64| {
        let Memory { pss_kib, own_kib, file_kib } = figure.median;
        json!({
            "samples": figure.samples, "pss_kib": pss_kib, "own_kib": own_kib, "program_kib": file_kib,
            "most_kib": figure.most_kib, "budget_kib": budget_kib,
        })
    };
    json!({
        "idle": part(&figures.idle, IDLE_KIB_MAX),
        "busy": part(&figures.busy, BUSY_KIB_MAX),
        "messages_per_s": figures.rate,
    })
}

fn row(name: &str, figure: &Figure) {
    let Memory { pss_kib, own_kib, file_kib } = figure.median;
    let (samples, most) = (figure.samples, figure.most_kib);
    println!("  {name:<10}{samples:>10}{pss_kib:>10}{own_kib:>10}{file_kib:>10}{most:>10}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_data() {
        let figure = |pss_kib| Figure {
            samples: 3,
            median: Memory { pss_kib, own_kib: 1, file_kib: pss_kib - 1 },
            most_kib: pss_kib,
        };
        let told = json(&Figures { idle: figure(10), busy: figure(15), rate: 1_000 });
        assert_eq!(
            (&told["busy"]["pss_kib"], &told["messages_per_s"]),
            (&15.into(), &1_000.into())
        );
        assert_eq!(told["idle"]["budget_kib"], IDLE_KIB_MAX);
    }
}
