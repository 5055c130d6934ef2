//! Schedules of triggers: `rate(5 minutes)` and `cron(Min Hour DoM Mon DoW Year)`.
//!
//! # Invariants
//! - Pure: a schedule is a set of slots, in whole seconds. Those of a rate are the multiples of its
//!   period in gateway time, so that they are the same after a restart and need no clock that
//!   anybody vouches for. Those of cron are whole minutes of wall time, in UTC since 1970.
//! - [`Schedule::next_after`] is strictly later, [`Schedule::last_at_or_before`] is not later, and
//!   both end after a bounded search (cron: the years 1970 to 2199).
//!
//! The notation is that of Amazon `EventBridge`: exactly one of day-of-month and day-of-week is
//! `?`, Sunday is 1, and `L`, `W` and `#` mean the last day, the nearest weekday and the n-th.

mod civil;
mod cron;
mod field;

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use cron::Cron;

const MINUTE_S: u64 = 60;
/// Longest period of a rate.
const RATE_DAYS_MAX: u64 = 3_660;

/// A parsed schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Rate { period_s: u64 },
    Cron(Box<Cron>),
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScheduleError {
    /// Neither form.
    #[error("write `rate(5 minutes)` or `cron(0 6 ? * MON-FRI *)`")]
    Form,
    /// A rate that is none.
    #[error(
        "`{0}` is no rate: a whole number of seconds, minutes, hours or days; `rate(1 minute)`"
    )]
    Rate(String),
    /// 1 takes the singular, all others the plural.
    #[error("write `{0}`")]
    Number(String),
    /// Not six fields.
    #[error(
        "cron has six fields (minute hour day-of-month month day-of-week year), not {count}: write \
         `{instead}`"
    )]
    Fields {
        /// How many there are.
        count: usize,
        /// What is probably meant, or an example.
        instead: String,
    },
    /// Neither or both of the day fields are `?`.
    #[error("exactly one of day-of-month and day-of-week must be `?`: write `{instead}`")]
    QuestionMark {
        /// What is probably meant, or an example.
        instead: String,
    },
    /// A field that is none.
    #[error("`{text}` is no {field}: {hint}")]
    Field {
        /// Which.
        field: &'static str,
        /// What was written.
        text: String,
        /// What may be written.
        hint: &'static str,
    },
    /// A cron expression without a slot in 1970 to 2199.
    #[error("this schedule never comes: no such day exists in its months and years")]
    Never,
}

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let trimmed = text.trim();
        let kind = if let Some(inner) = call(trimmed, "rate") {
            Kind::Rate { period_s: parse_rate(inner)? }
        } else if let Some(inner) = call(trimmed, "cron") {
            let cron = Cron::parse(inner)?;
            cron.next_after(0).ok_or(ScheduleError::Never)?;
            Kind::Cron(Box::new(cron))
        } else {
            return Err(ScheduleError::Form);
        };
        Ok(Self { text: trimmed.to_owned(), kind })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether its slots are moments of wall time (Unix seconds), not of gateway time.
    #[must_use]
    pub fn is_on_wall_time(&self) -> bool {
        matches!(self.kind, Kind::Cron(_))
    }

    /// First slot after a moment; both in seconds on its clock.
    #[must_use]
    pub fn next_after(&self, at_s: u64) -> Option<u64> {
        match &self.kind {
            Kind::Rate { period_s } => (at_s / period_s).checked_add(1)?.checked_mul(*period_s),
            Kind::Cron(cron) => cron.next_after(at_s),
        }
    }

    /// Last slot at or before a moment; both in seconds on its clock.
    #[must_use]
    pub fn last_at_or_before(&self, at_s: u64) -> Option<u64> {
        match &self.kind {
            Kind::Rate { period_s } => Some(at_s / period_s * period_s),
            Kind::Cron(cron) => cron.last_at_or_before(at_s),
        }
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        Self::parse(text)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The arguments, if `text` is a call of `name`.
fn call<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.strip_prefix(name)?.trim_start().strip_prefix('(')?.strip_suffix(')')
}

fn parse_rate(text: &str) -> Result<u64, ScheduleError> {
    let bad = || ScheduleError::Rate(text.trim().to_owned());
    let mut words = text.split_whitespace();
    let (Some(number), Some(unit), None) = (words.next(), words.next(), words.next()) else {
        return Err(bad());
    };
    let count: u64 = number.parse().map_err(|_| bad())?;
    let singular = unit.strip_suffix('s').unwrap_or(unit);
    let unit_s = match singular {
        "second" => 1,
        "minute" => MINUTE_S,
        "hour" => 60 * MINUTE_S,
        "day" => 24 * 60 * MINUTE_S,
        _ => return Err(bad()),
    };
    let right = if count == 1 { singular.to_owned() } else { format!("{singular}s") };
    if unit != right {
        return Err(ScheduleError::Number(format!("rate({count} {right})")));
    }
    let most = RATE_DAYS_MAX * 24 * 60 * MINUTE_S;
    count.checked_mul(unit_s).filter(|period| (1..=most).contains(period)).ok_or_else(bad)
}

#[cfg(test)]
mod tests;
