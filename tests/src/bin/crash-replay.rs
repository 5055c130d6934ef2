//! The crash replay as a process of its own: `crash-replay OPTIONS.json`. `cargo xtask crash-replay`
//! builds it and writes its options.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use system_tests::interrupt::Interrupt;
use system_tests::replay::{self, Options, Report};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crash-replay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let path = std::env::args().nth(1).context("usage: crash-replay OPTIONS.json")?;
    let options: Options = serde_json::from_slice(&std::fs::read(path)?)?;
    let report = replay::run(&options, &Interrupt::watch()?, &mut |line| eprintln!("{line}"))?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("\n{}", report.table());
    }
    let lies = options.disk_lies.then_some("a disk that does not flush");
    conclude(&report, options.plant.as_deref().or(lies))
}

fn conclude(report: &Report, plant: Option<&str>) -> Result<()> {
    let problems = report.problems();
    match plant {
        None if problems.is_empty() => {
            eprintln!("OK: what was acked is there, whole and once, at every cut");
            Ok(())
        }
        None => bail!("{} problem(s), listed above; seed {}", problems.len(), report.seed),
        Some(bug) if report.lost() => {
            eprintln!("OK: the planted fault was found: {bug}");
            Ok(())
        }
        Some(bug) => bail!("the planted fault was not found, the check is blind: {bug}"),
    }
}
