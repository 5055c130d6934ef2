//! `netsim`: runs scenarios and says what they came to. `cargo xtask netsim` builds and starts it.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Parser;
use netsim::run::{self, Report};
use netsim::scenario::{self, Scenario};

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Simulates gateways over networks that break.
#[derive(Parser)]
#[command(name = "cargo xtask netsim")]
struct Args {
    /// Only this scenario.
    #[arg(long)]
    scenario: Option<String>,
    /// How many seeds of each scenario [default: 5; with --minutes as many as fit].
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Stop after so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    /// Print every event of --seed in --scenario.
    #[arg(long, requires = "scenario", conflicts_with_all = ["seeds", "minutes"])]
    trace: bool,
}

fn main() -> ExitCode {
    match run_all(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("netsim: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn chosen(args: &Args) -> Result<Vec<&'static Scenario>> {
    let Some(name) = &args.scenario else { return Ok(scenario::ALL.iter().collect()) };
    if let Some(scenario) = scenario::named(name) {
        return Ok(vec![scenario]);
    }
    let names: Vec<_> = scenario::ALL.iter().map(|scenario| scenario.name).collect();
    bail!("there is no scenario {name:?}; there are {}", names.join(", "))
}

/// Whether all passed.
fn run_all(args: &Args) -> Result<bool> {
    let scenarios = chosen(args)?;
    if let Some(scenario) = scenarios.first().filter(|_| args.trace) {
        let report = run::trace(scenario, args.seed);
        eprint!("{}", describe(&report));
        return Ok(report.failure.is_none());
    }
    let begun = Instant::now();
    let until = args.minutes.map(|minutes| begun + Duration::from_secs(minutes * 60));
    let seeds = args.seeds.unwrap_or(if until.is_some() { u64::MAX } else { 5 });
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    let mut told = begun;
    'all: for seed in args.seed..args.seed.saturating_add(seeds) {
        for scenario in &scenarios {
            if until.is_some_and(|until| Instant::now() >= until) {
                break 'all;
            }
            let report = run::run(scenario, seed);
            eprint!("{}", describe(&report));
            sums.entry(scenario.name).or_default().add(&report);
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                eprintln!("seed {seed}, {:.0} s", begun.elapsed().as_secs_f64());
            }
        }
    }
    tell(&sums, begun.elapsed());
    Ok(sums.values().all(|sum| sum.failures.is_empty()))
}

/// A failure in words: the last events, the oracle, and how to see it again.
fn describe(report: &Report) -> String {
    let Some(failure) = &report.failure else { return String::new() };
    let recent: String = failure.recent.iter().map(|line| format!("  {line}\n")).collect();
    let (scenario, seed) = (report.scenario, report.seed);
    format!(
        "{scenario}, seed {seed}: {} at {:.6} s: {}\n{recent}\
         again: cargo xtask netsim --scenario {scenario} --seed {seed} --trace\n",
        failure.oracle,
        failure.at_us as f64 / 1e6,
        failure.text,
    )
}

/// What the seeds of a scenario came to.
#[derive(Default)]
struct Sum {
    seeds: u64,
    virtual_us: u64,
    acked: u64,
    ack_wait_us_max: u64,
    link_back_us_max: u64,
    faults: BTreeMap<&'static str, u64>,
    failures: Vec<u64>,
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.virtual_us += report.virtual_us;
        self.acked += report.acked;
        self.ack_wait_us_max = self.ack_wait_us_max.max(report.ack_wait_us_max);
        self.link_back_us_max = self.link_back_us_max.max(report.link_back_us_max);
        for (what, count) in &report.faults {
            *self.faults.entry(what).or_default() += count;
        }
        if report.failure.is_some() {
            self.failures.push(report.seed);
        }
    }
}

fn tell(sums: &BTreeMap<&str, Sum>, took: Duration) {
    for (name, sum) in sums {
        println!(
            "{name}: {} seeds, {:.1} simulated hours, {} acked, an ack after {:.2} s at most, the \
             uplink back after {:.1} s at most",
            sum.seeds,
            sum.virtual_us as f64 / 3.6e9,
            sum.acked,
            sum.ack_wait_us_max as f64 / 1e6,
            sum.link_back_us_max as f64 / 1e6,
        );
        for (what, count) in &sum.faults {
            println!("{count:>10} {what}");
        }
        if !sum.failures.is_empty() {
            println!("    failed: seeds {:?}", sum.failures);
        }
    }
    let seeds: u64 = sums.values().map(|sum| sum.seeds).sum();
    let failures: usize = sums.values().map(|sum| sum.failures.len()).sum();
    println!("{seeds} simulations in {:.1} s, {failures} failures", took.as_secs_f64());
}
