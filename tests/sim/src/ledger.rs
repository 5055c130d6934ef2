//! The ledger of long runs: one line of JSON for each range of seeds, so that anyone can run a
//! range again and compare the hash.

use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::campaign::Summary;

/// What the simulation is made of, beside itself: a change elsewhere leaves its runs as they are.
const CORE: [&str; 3] = ["edge-agent", "cloud-sync/protocol", "tests/sim/src"];

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The last commit that changed what is simulated.
    pub core: String,
    /// There were changes that are in no commit.
    pub dirty: bool,
    /// First seed.
    pub from: u64,
    /// Last seed.
    pub to: u64,
    /// Simulated hours.
    pub hours: f64,
    /// Hash over the events of all seeds, in hexadecimal.
    pub hash: String,
    /// Seeds that failed, and by which oracle.
    pub failures: Vec<(u64, String)>,
}

/// What is simulated: commit, and whether it was changed since.
///
/// # Errors
/// `git` cannot be asked.
pub fn core_commit(root: &Path) -> io::Result<(String, bool)> {
    let git = |args: &[&str]| -> io::Result<String> {
        let output =
            Command::new("git").current_dir(root).args(args).arg("--").args(CORE).output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["log", "-1", "--format=%h"])?;
    let dirty = !git(&["status", "--porcelain"])?.is_empty();
    Ok((commit, dirty))
}

impl Line {
    /// The line of a range that was run.
    #[must_use]
    pub fn of(summary: &Summary, core: &str, dirty: bool) -> Self {
        let failures = summary
            .failures
            .iter()
            .filter_map(|report| Some((report.seed, report.failure.as_ref()?.oracle.clone())));
        Self {
            core: core.to_owned(),
            dirty,
            from: summary.from,
            to: summary.from + summary.seeds.saturating_sub(1),
            hours: (summary.hours() * 1_000.0).round() / 1_000.0,
            hash: format!("{:016x}", summary.hash.0),
            failures: failures.collect(),
        }
    }
}

/// The lines of a ledger; none where there is no file yet.
///
/// # Errors
/// It cannot be read, or a line is none.
pub fn read(path: &Path) -> io::Result<Vec<Line>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).map_err(io::Error::other)).collect()
}

/// Adds a line.
///
/// # Errors
/// It cannot be written.
pub fn append(path: &Path, line: &Line) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
    writeln!(file, "{}", serde_json::to_string(line).map_err(io::Error::other)?)
}

/// Where to go on: behind the last seed that was run of the same, unchanged core.
#[must_use]
pub fn next_seed(lines: &[Line], core: &str) -> u64 {
    let same = lines.iter().filter(|line| line.core == core && !line.dirty);
    same.map(|line| line.to + 1).max().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(core: &str, dirty: bool, to: u64) -> Line {
        let (core, hash) = (core.to_owned(), String::new());
        Line { core, dirty, from: 1, to, hours: 0.5, hash, failures: vec![(3, "a2".to_owned())] }
    }

    #[test]
    fn it_goes_on_behind_the_same_core_only() {
        let lines = [line("a", false, 10), line("b", false, 50), line("a", true, 90)];
        assert_eq!([next_seed(&lines, "a"), next_seed(&lines, "c")], [11, 1]);
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let text = serde_json::to_string(&line("a", false, 7)).unwrap();
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line("a", false, 7));
    }
}
