//! The benchmark as a process of its own, in the release profile: `bench-pipeline PLAN.json`.
//! `cargo xtask bench pipeline` builds it and writes its plan.

use std::process::ExitCode;

use anyhow::{Context, Result};
use system_tests::bench::run::{self, Plan};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench-pipeline: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let path = std::env::args().nth(1).context("usage: bench-pipeline PLAN.json")?;
    let plan: Plan = serde_json::from_slice(&std::fs::read(path)?)?;
    run::run(&plan)
}
