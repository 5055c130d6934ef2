//! `sim`: runs seeds and says what they came to. `cargo xtask sim` builds and starts it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use simulator::campaign::{Summary, run_range};
use simulator::plan::Plan;
use simulator::run::{self, Report};
use simulator::scenario::{self, Played, Scenario};
use simulator::{known, ledger};

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Simulates gateways: the same seed is the same run.
#[derive(Parser)]
#[command(name = "cargo xtask sim")]
struct Args {
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
    /// Threads; the outcome does not depend on it.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Add a line to docs/evidence/sim.jsonl: commit, range, hours, hash, failures.
    #[arg(long)]
    ledger: bool,
    /// Print one line of JSON instead of words.
    #[arg(long)]
    json: bool,
    /// Print every event of --seed, or of the scenario with it [default: 1].
    #[arg(long, conflicts_with_all = ["seeds", "minutes", "ledger", "json"])]
    trace: bool,
    /// Plant a bug (needs a build with the feature `plant`); nothing is noted in files.
    #[arg(long, default_value = "")]
    plant: String,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let held = match &args.scenario {
        Some(name) => play(&args, name),
        None => run_seeds(&args),
    };
    match held {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).expect("invariant: the simulator lies two folders deep").to_owned()
}

/// Whether all seeds passed.
fn run_seeds(args: &Args) -> Result<bool> {
    if args.trace {
        let seed = args.seed.context("--trace needs --seed or --scenario")?;
        let report = run::trace(Plan::new(seed), &args.plant);
        eprint!("{}", describe(&report));
        return Ok(report.failure.is_none());
    }
    let path = root().join("docs/evidence/sim.jsonl");
    let (core, dirty) = match ledger::core_commit(&root()) {
        Ok(known) => known,
        Err(error) if args.ledger => return Err(error).context("asking git for the commit"),
        Err(_) => ("unknown".to_owned(), true),
    };
    let from = match args.seed {
        Some(seed) => seed,
        None if args.ledger => ledger::next_seed(&ledger::read(&path)?, &core),
        None => 1,
    };
    let begun = Instant::now();
    let until = args.minutes.map(|minutes| begun + Duration::from_secs(minutes * 60));
    let seeds = args.seeds.unwrap_or(if until.is_some() { u64::MAX } else { 200 });
    let go_on = || until.is_none_or(|until| Instant::now() < until);
    let mut told = Instant::now();
    let mut done = 0;
    let summary = run_range(from, seeds, args.threads, &args.plant, &go_on, |report| {
        done += 1;
        if report.failure.is_some() {
            eprint!("{}", describe(report));
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            eprintln!(
                "{done} seeds, {:.1} a second",
                f64::from(done) / begun.elapsed().as_secs_f64()
            );
        }
    });
    if args.plant.is_empty() {
        note(args, &summary, &path, &core, dirty)?;
    }
    tell(args, &summary, &core, dirty, begun.elapsed());
    Ok(summary.failures.is_empty())
}

/// Plays scenarios. Whether all of them held.
fn play(args: &Args, name: &str) -> Result<bool> {
    let mut scenarios = Scenario::read_all(&scenario::folder()).map_err(anyhow::Error::msg)?;
    if name != "all" {
        let names: Vec<String> = scenarios.iter().map(|one| one.name.clone()).collect();
        scenarios.retain(|one| one.name == name);
        let known = names.join(", ");
        anyhow::ensure!(!scenarios.is_empty(), "no scenario {name:?}; there are: all, {known}");
    }
    let from = args.seed.unwrap_or(1);
    let begun = Instant::now();
    let played = if args.trace {
        let trace = |(n, one): (usize, &Scenario)| {
            println!("{}", one.name);
            let report = run::trace(one.plan(from), &args.plant);
            Played { scenario: n, problems: one.problems(&report), report }
        };
        scenarios.iter().enumerate().map(trace).collect()
    } else {
        scenario::play(&scenarios, from, args.seeds, args.threads, &args.plant)
    };
    let mut hours = 0.0;
    for one in &played {
        hours += one.report.virtual_us as f64 / 3.6e9;
        tell_played(&scenarios[one.scenario], &one.report, &one.problems);
    }
    let broken = played.iter().filter(|one| !one.problems.is_empty()).count();
    println!(
        "{} runs, {hours:.0} simulated hours in {:.1} s, {broken} failures",
        played.len(),
        begun.elapsed().as_secs_f64()
    );
    Ok(broken == 0)
}

/// One run of a scenario: the figures that it is held to, and what is wrong.
fn tell_played(scenario: &Scenario, report: &Report, problems: &[String]) {
    let figures = report.figures.iter().filter(|(name, _)| scenario.holds.contains_key(**name));
    let figures: Vec<String> = figures.map(|(name, value)| format!("{name} {value}")).collect();
    println!("{} seed {}: {}", scenario.name, report.seed, figures.join(", "));
    for problem in problems {
        println!("  FAILS {problem}");
    }
    if let Some(failure) = &report.failure {
        failure.recent.iter().for_each(|line| println!("    {line}"));
    }
}

fn note(args: &Args, summary: &Summary, path: &Path, core: &str, dirty: bool) -> Result<()> {
    let text = std::fs::read_to_string(known::path()).unwrap_or_default();
    let already = known::parse(&text).map_err(anyhow::Error::msg)?;
    for report in &summary.failures {
        if let Some(failure) = report.failure.as_ref().filter(|_| !already.contains(&report.seed)) {
            known::add(&known::path(), report.seed, core, &failure.oracle)?;
        }
    }
    if args.ledger && summary.seeds > 0 {
        ledger::append(path, &ledger::Line::of(summary, core, dirty))?;
    }
    Ok(())
}

/// A failure in words: the last events, the oracle, and how to see it again.
fn describe(report: &Report) -> String {
    let Some(failure) = &report.failure else { return String::new() };
    let recent: String = failure.recent.iter().map(|line| format!("  {line}\n")).collect();
    format!(
        "seed {}: {} at {:.6} s: {}\n{recent}again: cargo xtask sim --seeds 1 --seed {}\n",
        report.seed,
        failure.oracle,
        failure.at_us as f64 / 1e6,
        failure.text,
        report.seed,
    )
}

fn tell(args: &Args, summary: &Summary, core: &str, dirty: bool, took: Duration) {
    let line = ledger::Line::of(summary, core, dirty);
    if args.json {
        println!("{}", serde_json::to_string(&line).unwrap_or_default());
        return;
    }
    let (seeds, rate) = (summary.seeds, summary.seeds as f64 / took.as_secs_f64());
    println!("core {core}{}", if dirty { " (changed)" } else { "" });
    println!(
        "seeds {} to {}: {seeds} in {:.1} s, {rate:.1} a second",
        line.from,
        line.to,
        took.as_secs_f64()
    );
    println!(
        "{:.1} simulated hours, {} events, hash {}",
        summary.hours(),
        summary.events,
        line.hash
    );
    for (what, count) in &summary.faults {
        println!("{count:>10} {what}");
    }
    println!("{} failures", summary.failures.len());
    for (seed, oracle) in &line.failures {
        println!("{seed:>10} {oracle}");
    }
}
