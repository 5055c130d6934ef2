//! Seeds that failed once, kept in a file and run again by every test run.
//!
//! A line is `SEED COMMIT ORACLE`; what follows `#` is for people.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where they are kept.
#[must_use]
pub fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("failing-seeds.txt")
}

/// The seeds of a file's text.
///
/// # Errors
/// The first line that is none.
pub fn parse(text: &str) -> Result<Vec<u64>, String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let seed = line.split_whitespace().next().and_then(|seed| seed.parse().ok());
            seed.ok_or_else(|| format!("{line:?} does not begin with a seed"))
        })
        .collect()
}

/// Adds a seed.
///
/// # Errors
/// The file cannot be written.
pub fn add(path: &Path, seed: u64, commit: &str, oracle: &str) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
    writeln!(file, "{seed} {commit} {oracle}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_seeds() {
        assert_eq!(parse("# head\n7 abc a1\n\n9 def a2 # why\n"), Ok(vec![7, 9]));
        assert!(parse("seven").is_err());
    }

    #[test]
    fn the_file_is_well_formed() {
        let text = std::fs::read_to_string(path()).unwrap();
        parse(&text).unwrap();
    }
}
