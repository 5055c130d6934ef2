//! Scenarios: runs that a file states, each the answer to something that users of other runtimes
//! complain about. One is a plan without its seed, and bounds that its figures must keep.
//!
//! `tests/sim/scenarios/README.md` has the format.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::figures::NAMES;
use crate::plan::Plan;
use crate::run::{self, Report};

mod file;

use file::File;

/// A scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Name of its file.
    pub name: String,
    /// What people complain about elsewhere.
    pub complaint: String,
    /// Public issues: `repository#number`.
    pub issues: Vec<String>,
    /// What it shows.
    pub shows: String,
    /// Seeds of a test run: 1 to this.
    pub seeds: u64,
    /// What its figures must keep to.
    pub holds: BTreeMap<String, Bound>,
    plan: Plan,
}

/// Bounds of a figure, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The least.
    pub least: u64,
    /// The most.
    pub most: u64,
}

/// Where the files are.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

impl Scenario {
    /// Reads a file's text.
    ///
    /// # Errors
    /// What is wrong with it, with the line where that is known.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| format!("{name}: {error}"))?;
        let scenario = file.scenario(name);
        for figure in scenario.holds.keys() {
            if !NAMES.iter().any(|(known, _)| known == figure) {
                return Err(format!("{name}: there is no figure {figure:?}; see figures.rs"));
            }
        }
        Ok(scenario)
    }

    /// The scenarios of a folder, by name.
    ///
    /// # Errors
    /// The folder or a file cannot be read.
    pub fn read_all(folder: &Path) -> Result<Vec<Self>, String> {
        let error = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        let mut scenarios = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(|it| error(folder, it))? {
            let path = entry.map_err(|it| error(folder, it))?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let text = std::fs::read_to_string(&path).map_err(|it| error(&path, it))?;
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                scenarios.push(Self::parse(&name, &text)?);
            }
        }
        scenarios.sort_by(|one, two| one.name.cmp(&two.name));
        Ok(scenarios)
    }

    /// Its plan with a seed.
    #[must_use]
    pub fn plan(&self, seed: u64) -> Plan {
        Plan { seed, ..self.plan.clone() }
    }

    /// What is wrong with a run of it; empty where it holds.
    #[must_use]
    pub fn problems(&self, report: &Report) -> Vec<String> {
        if let Some(failure) = &report.failure {
            return vec![format!("{}: {}", failure.oracle, failure.text)];
        }
        let figures = report.figures.iter();
        let out = figures.filter_map(|(name, value)| {
            let Bound { least, most } = self.holds.get(*name)?;
            let keeps = least <= value && value <= most;
            (!keeps).then(|| match *most {
                u64::MAX => format!("{name}: {value}, at least {least} is wanted"),
                most => format!("{name}: {value}, {least} to {most} is wanted"),
            })
        });
        out.collect()
    }
}

/// A run of a scenario.
#[derive(Clone, Debug)]
pub struct Played {
    /// Index of the scenario.
    pub scenario: usize,
    /// What came of it.
    pub report: Report,
    /// What is wrong; empty where it holds.
    pub problems: Vec<String>,
}

/// Runs each scenario with `seeds` from `from` on, or with as many as it says. The runs come back
/// in order; what they come to does not depend on the number of threads.
#[must_use]
pub fn play(
    scenarios: &[Scenario],
    from: u64,
    seeds: Option<u64>,
    threads: usize,
    bug: &str,
) -> Vec<Played> {
    let seeds_of = |scenario: &Scenario| from..from + seeds.unwrap_or(scenario.seeds);
    let jobs = scenarios.iter().enumerate();
    let jobs: Vec<(usize, u64)> =
        jobs.flat_map(|(n, scenario)| seeds_of(scenario).map(move |seed| (n, seed))).collect();
    let next = AtomicUsize::new(0);
    let played = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some((n, seed)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let scenario = &scenarios[*n];
                    let report = run::run_plan(scenario.plan(*seed), bug);
                    let problems = scenario.problems(&report);
                    let done = Played { scenario: *n, report, problems };
                    played.lock().unwrap_or_else(PoisonError::into_inner).push(done);
                }
            });
        }
    });
    let mut played = played.into_inner().unwrap_or_else(PoisonError::into_inner);
    played.sort_by_key(|done| (done.scenario, done.report.seed));
    played
}

#[cfg(test)]
mod tests;
