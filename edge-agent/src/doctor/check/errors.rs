//! The last warnings and errors of the log, as the agent keeps them.

use std::fmt::Write;

use serde_json::Value;

use super::{clip, duration};
use crate::doctor::Finding;
use crate::doctor::facts::LogPlace;

const HOUR_MS: u64 = 3_600_000;
/// Lines that are shown; the status and a bundle have all.
const SHOWN_MAX: usize = 5;

/// An error of the last hour is worth a look; a warning is ordinary news. `None` of an agent that keeps
/// none.
pub(super) fn errors(status: &Value, log: &LogPlace) -> Option<Finding> {
    const CHECK: &str = "errors";
    let rows = status["errors"].as_array()?;
    let is_error = |row: &Value| row["level"] == "error";
    let is_fresh = |row: &Value| age_ms(row) < HOUR_MS;
    if rows.iter().any(|row| is_error(row) && is_fresh(row)) {
        let errors = rows.iter().filter(|row| is_error(row));
        let what = listed("the log has errors of the last hour; the newest first:", errors);
        let mend = format!("what went before them stands in the log: {}", log.shown());
        return Some(Finding::warning(CHECK, what, mend));
    }
    if rows.is_empty() {
        return Some(Finding::ok(CHECK, "the log has no warning and no error since the start"));
    }
    let what =
        "the log has no error of the last hour; earlier ones and warnings, the newest first:";
    Some(Finding::ok(CHECK, listed(what, rows.iter())))
}

fn listed<'r>(what: &str, rows: impl Iterator<Item = &'r Value>) -> String {
    let mut text = what.to_owned();
    for row in rows.take(SHOWN_MAX) {
        let word = |key: &str| row[key].as_str().unwrap_or_default();
        let (ago, level, told) = (duration(age_ms(row)), word("level"), clip(word("text")));
        write!(text, "\n{ago} ago, {level}: {told}")
            .expect("invariant: writing to a string succeeds");
    }
    text
}

fn age_ms(row: &Value) -> u64 {
    row["age_ms"].as_u64().unwrap_or_default()
}
