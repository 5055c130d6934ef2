//! The crash replay as a process of its own: `crash-replay OPTIONS.json`. `cargo xtask crash-replay`
//! builds it and writes its options.

use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
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
    if options.disk_lies {
        // A store that sees that messages are missing, and does not open, is right as well.
        let is_found = report.points.iter().any(|point| !point.problems.is_empty());
        return found(is_found, "a disk that does not flush");
    }
    conclude(&report, options.plant.as_deref())
}

fn conclude(report: &Report, plant: Option<&str>) -> Result<()> {
    let problems = report.problems();
    match plant {
        None if problems.is_empty() => {
            eprintln!("OK: what was acked is there, whole and once, at every cut");
            Ok(())
        }
        None => bail!("{} problem(s), listed above; seed {}", problems.len(), report.seed),
        Some(bug) => found(report.lost(), bug),
    }
}

fn found(is_found: bool, bug: &str) -> Result<()> {
    ensure!(is_found, "the planted fault was not found, the check is blind: {bug}");
    eprintln!("OK: the planted fault was found: {bug}");
    Ok(())
}
