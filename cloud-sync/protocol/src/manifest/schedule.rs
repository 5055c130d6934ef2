//! Schedule expressions: `rate(5 minutes)` and `cron(0 6 * * MON)`.
//!
//! Here only the shape of a cron expression is checked (five fields of the usual characters);
//! the gateway reads its meaning when it prepares the revision, and refuses it with the reason.

use crate::limits::{SCHEDULE_PERIOD_S_MAX, SCHEDULE_PERIOD_S_MIN};

/// A schedule, read from its expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Every so many seconds of gateway time.
    Rate {
        /// The period.
        period_s: u64,
    },
    /// Five cron fields, in wall time (UTC): minute, hour, day of month, month, day of week.
    Cron {
        /// The fields, one space between them.
        fields: String,
    },
}

/// Why a text is no schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Neither of the two forms.
    #[error("is neither `rate(5 minutes)` nor `cron(0 6 * * MON)`")]
    Form,
    /// The rate has no whole number.
    #[error("needs a whole number and a unit, such as `rate(5 minutes)`")]
    Rate,
    /// The rate has an unknown unit.
    #[error("has an unknown unit: use seconds, minutes, hours or days")]
    Unit,
    /// The period is out of bounds.
    #[error(
        "has a period out of bounds: {SCHEDULE_PERIOD_S_MIN} to {SCHEDULE_PERIOD_S_MAX} seconds"
    )]
    Period,
    /// The cron expression has not five fields.
    #[error("needs five fields: minute, hour, day of month, month, day of week")]
    Fields,
    /// A cron field holds what no cron field holds.
    #[error("has a field with other characters than A-Z, 0-9 and `* / , - # ? L W`")]
    Characters,
}

impl Schedule {
    /// Reads an expression.
    ///
    /// # Errors
    /// [`ScheduleError`] says what a good one looks like.
    pub fn parse(expression: &str) -> Result<Self, ScheduleError> {
        let inner = |prefix: &str| {
            expression.trim().strip_prefix(prefix).and_then(|rest| rest.strip_suffix(')'))
        };
        if let Some(rate) = inner("rate(") {
            parse_rate(rate)
        } else if let Some(fields) = inner("cron(") {
            parse_cron(fields)
        } else {
            Err(ScheduleError::Form)
        }
    }
}

fn parse_rate(rate: &str) -> Result<Schedule, ScheduleError> {
    let mut words = rate.split_whitespace();
    let (Some(number), Some(unit), None) = (words.next(), words.next(), words.next()) else {
        return Err(ScheduleError::Rate);
    };
    let number: u64 = number.parse().map_err(|_| ScheduleError::Rate)?;
    let unit_s = match unit {
        "second" | "seconds" => 1,
        "minute" | "minutes" => 60,
        "hour" | "hours" => 3_600,
        "day" | "days" => 24 * 3_600,
        _ => return Err(ScheduleError::Unit),
    };
    match number.checked_mul(unit_s) {
        Some(period_s @ SCHEDULE_PERIOD_S_MIN..=SCHEDULE_PERIOD_S_MAX) => {
            Ok(Schedule::Rate { period_s })
        }
        Some(_) | None => Err(ScheduleError::Period),
    }
}

fn parse_cron(text: &str) -> Result<Schedule, ScheduleError> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != 5 {
        return Err(ScheduleError::Fields);
    }
    let usual = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || "*/,-#?".contains(c);
    if !fields.iter().all(|field| field.chars().all(usual)) {
        return Err(ScheduleError::Characters);
    }
    Ok(Schedule::Cron { fields: fields.join(" ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let period = |text| Schedule::parse(text);
        assert_eq!(period("rate(5 minutes)"), Ok(Schedule::Rate { period_s: 300 }));
        assert_eq!(period("rate(1 second)"), Ok(Schedule::Rate { period_s: 1 }));
        assert_eq!(period("rate(2 days)"), Ok(Schedule::Rate { period_s: 172_800 }));
        assert_eq!(period("rate(0 minutes)"), Err(ScheduleError::Period));
        assert_eq!(period("rate(18446744073709551615 days)"), Err(ScheduleError::Period));
        assert_eq!(period("rate(-1 minutes)"), Err(ScheduleError::Rate));
        assert_eq!(period("rate(5 fortnights)"), Err(ScheduleError::Unit));
        assert_eq!(period("rate(5)"), Err(ScheduleError::Rate));
    }

    #[test]
    fn crons() {
        let fields = "0 6 * * MON".to_owned();
        assert_eq!(Schedule::parse("cron(0 6  * * MON)"), Ok(Schedule::Cron { fields }));
        assert_eq!(Schedule::parse("cron(0 6 * *)"), Err(ScheduleError::Fields));
        assert_eq!(Schedule::parse("cron(0 6 * * ;rm)"), Err(ScheduleError::Characters));
        assert_eq!(Schedule::parse("every day"), Err(ScheduleError::Form));
        assert_eq!(Schedule::parse("rate(5 minutes"), Err(ScheduleError::Form));
    }
}
