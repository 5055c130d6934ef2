//! Long work, step by step: each is named when it begins, and its time is kept.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Steps under way.
#[derive(Debug, Default)]
pub(crate) struct Steps(Vec<(String, Duration)>);

impl Steps {
    /// Does one that prints nothing itself.
    pub(crate) fn step<T>(&mut self, name: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        eprint!("{name} ...");
        let begun = Instant::now();
        let value = act().with_context(|| name.to_owned());
        let took = begun.elapsed();
        eprintln!(" {:.1} s", took.as_secs_f64());
        self.0.push((name.to_owned(), took));
        value
    }

    /// Does one that prints lines of its own.
    pub(crate) fn work<T>(&mut self, name: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let begun = Instant::now();
        eprintln!("{name} ...");
        let value = act().with_context(|| name.to_owned())?;
        self.0.push((name.to_owned(), begun.elapsed()));
        Ok(value)
    }

    /// Names and times.
    pub(crate) fn into_inner(self) -> Vec<(String, Duration)> {
        self.0
    }
}
