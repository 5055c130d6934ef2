//! `cron(Min Hour DoM Mon DoW Year)` in the notation of Amazon `EventBridge`.

use super::civil::{self, Date};
use super::field::{Field, Numbers};
use super::{MINUTE_S, ScheduleError};

const FIRST_YEAR: u32 = 1970;
const LAST_YEAR: u32 = 2199;
const DAY_MINUTES: u64 = 24 * 60;
const SATURDAY: u32 = 6;
const SUNDAY: u32 = 0;

const MINUTE: Field = Field {
    name: "minute",
    hint: "0 to 59, with , - * /",
    low: 0,
    high: 59,
    names: &[],
    wraps: false,
};
const HOUR: Field = Field {
    name: "hour",
    hint: "0 to 23, with , - * /",
    low: 0,
    high: 23,
    names: &[],
    wraps: false,
};
const DAY_OF_MONTH: Field = Field {
    name: "day of the month",
    hint: "1 to 31, with , - * / ? L W",
    low: 1,
    high: 31,
    names: &[],
    wraps: false,
};
const MONTH: Field = Field {
    name: "month",
    hint: "1 to 12 or JAN to DEC, with , - * /",
    low: 1,
    high: 12,
    names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    wraps: false,
};
const DAY_OF_WEEK: Field = Field {
    name: "day of the week",
    hint: "1 (Sunday) to 7 or SUN to SAT, with , - * / ? L #",
    low: 1,
    high: 7,
    names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
    wraps: true,
};
const YEAR: Field = Field {
    name: "year",
    hint: "1970 to 2199, with , - * /",
    low: FIRST_YEAR,
    high: LAST_YEAR,
    names: &[],
    wraps: false,
};

/// A parsed expression. All numbers count from the lowest of their field: day and month 0 are the
/// first, weekday 0 is Sunday, year 0 is 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cron {
    minutes: Numbers,
    hours: Numbers,
    days: Days,
    months: Numbers,
    years: Numbers,
}

/// Which days of a month.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Days {
    OfMonth {
        days: Numbers,
        /// `L`
        last: bool,
        /// `15W`: the weekday nearest to that day, within the month.
        nearest_weekday: Numbers,
        /// `LW`
        last_weekday: bool,
    },
    OfWeek {
        days: Numbers,
        /// `6L`: the last one of the month.
        last: Numbers,
        /// `6#3`: the third one of the month; day, n.
        nth: Vec<(u32, u32)>,
    },
}

impl Cron {
    pub(super) fn parse(text: &str) -> Result<Self, ScheduleError> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day_of_month, month, day_of_week, year] = fields[..] else {
            let instead = instead(&fields);
            return Err(ScheduleError::Fields { count: fields.len(), instead });
        };
        let days = match (day_of_month, day_of_week) {
            ("?", "?") => return Err(ScheduleError::QuestionMark { instead: instead(&fields) }),
            (days, "?") => parse_days_of_month(days)?,
            ("?", days) => parse_days_of_week(days)?,
            _ => return Err(ScheduleError::QuestionMark { instead: instead(&fields) }),
        };
        Ok(Self {
            minutes: MINUTE.list(minute)?,
            hours: HOUR.list(hour)?,
            days,
            months: MONTH.list(month)?,
            years: YEAR.list(year)?,
        })
    }

    pub(super) fn next_after(&self, unix_s: u64) -> Option<u64> {
        let minute = unix_s / MINUTE_S + 1;
        let (today, of_day) = (minute / DAY_MINUTES, minute % DAY_MINUTES);
        if today > last_day() {
            return None;
        }
        if self.matches(today)
            && let Some(at) = self.in_day_from(of_day)
        {
            return Some((today * DAY_MINUTES + at) * MINUTE_S);
        }
        let mut day = today + 1;
        while day <= last_day() {
            let date = civil::date(day);
            if !self.years.contains(date.year - FIRST_YEAR) {
                day = civil::first_of(date.year + 1, 1);
            } else if !self.months.contains(date.month - 1) {
                day = if date.month == 12 {
                    civil::first_of(date.year + 1, 1)
                } else {
                    civil::first_of(date.year, date.month + 1)
                };
            } else if self.day_matches(day, date) {
                let at = self.in_day_from(0)?;
                return Some((day * DAY_MINUTES + at) * MINUTE_S);
            } else {
                day += 1;
            }
        }
        None
    }

    pub(super) fn last_at_or_before(&self, unix_s: u64) -> Option<u64> {
        let minute = (unix_s / MINUTE_S).min(last_day() * DAY_MINUTES + DAY_MINUTES - 1);
        let (today, of_day) = (minute / DAY_MINUTES, minute % DAY_MINUTES);
        if self.matches(today)
            && let Some(at) = self.in_day_until(of_day)
        {
            return Some((today * DAY_MINUTES + at) * MINUTE_S);
        }
        let mut day = today.checked_sub(1)?;
        loop {
            let date = civil::date(day);
            // The day before the year or month that does not count, or the day before this one.
            day = if !self.years.contains(date.year - FIRST_YEAR) {
                civil::first_of(date.year, 1).checked_sub(1)?
            } else if !self.months.contains(date.month - 1) {
                civil::first_of(date.year, date.month).checked_sub(1)?
            } else if self.day_matches(day, date) {
                let at = self.in_day_until(DAY_MINUTES - 1)?;
                return Some((day * DAY_MINUTES + at) * MINUTE_S);
            } else {
                day.checked_sub(1)?
            };
        }
    }

    fn matches(&self, day: u64) -> bool {
        let date = civil::date(day);
        self.years.contains(date.year - FIRST_YEAR)
            && self.months.contains(date.month - 1)
            && self.day_matches(day, date)
    }

    fn day_matches(&self, day: u64, date: Date) -> bool {
        let in_month = civil::days_in_month(date.year, date.month);
        let weekday = civil::weekday(day);
        match &self.days {
            Days::OfMonth { days, last, nearest_weekday, last_weekday } => {
                days.contains(date.day - 1)
                    || (*last && date.day == in_month)
                    || (*last_weekday && nearest_is(in_month, date.day, weekday, in_month))
                    || (1..=31).any(|wanted| {
                        nearest_weekday.contains(wanted - 1)
                            && wanted <= in_month
                            && nearest_is(wanted, date.day, weekday, in_month)
                    })
            }
            Days::OfWeek { days, last, nth } => {
                days.contains(weekday)
                    || (last.contains(weekday) && date.day + 7 > in_month)
                    || nth.contains(&(weekday, (date.day - 1) / 7 + 1))
            }
        }
    }

    /// First matching minute of a day at or after `from`.
    fn in_day_from(&self, from: u64) -> Option<u64> {
        let (hour, minute) = hour_and_minute(from);
        let same_hour = self.hours.contains(hour).then(|| self.minutes.at_or_after(minute));
        if let Some(minute) = same_hour.flatten() {
            return Some(minute_of_day(hour, minute));
        }
        let hour = self.hours.at_or_after(hour + 1)?;
        Some(minute_of_day(hour, self.minutes.at_or_after(0)?))
    }

    /// Last matching minute of a day at or before `until`.
    fn in_day_until(&self, until: u64) -> Option<u64> {
        let (hour, minute) = hour_and_minute(until);
        let same_hour = self.hours.contains(hour).then(|| self.minutes.at_or_before(minute));
        if let Some(minute) = same_hour.flatten() {
            return Some(minute_of_day(hour, minute));
        }
        let hour = self.hours.at_or_before(hour.checked_sub(1)?)?;
        Some(minute_of_day(hour, self.minutes.at_or_before(59)?))
    }
}

/// Whether `day`, which falls on `weekday`, is the weekday nearest to `wanted` within its month
/// of `in_month` days.
fn nearest_is(wanted: u32, day: u32, weekday: u32, in_month: u32) -> bool {
    if weekday == SATURDAY || weekday == SUNDAY {
        return false;
    }
    let (monday, friday) = (weekday == 1, weekday == 5);
    day == wanted
        // Saturday goes back to Friday, Sunday on to Monday ...
        || (friday && day + 1 == wanted)
        || (monday && day == wanted + 1)
        // ... but not over the ends of the month.
        || (monday && wanted == 1 && day == 3)
        || (friday && wanted == in_month && day + 2 == wanted)
}

fn last_day() -> u64 {
    civil::first_of(LAST_YEAR + 1, 1) - 1
}

fn hour_and_minute(of_day: u64) -> (u32, u32) {
    let small = |n: u64| u32::try_from(n).expect("invariant: below a day's minutes");
    (small(of_day / 60), small(of_day % 60))
}

fn minute_of_day(hour: u32, minute: u32) -> u64 {
    u64::from(hour * 60 + minute)
}

/// The expression that is probably meant: five fields are those of Unix, where both day fields
/// may be `*` and weekdays count from 0; their numbers are not guessed at.
fn instead(fields: &[&str]) -> String {
    const EXAMPLE: &str = "cron(0 6 ? * MON-FRI *)";
    let (minute, hour, of_month, month, of_week, year) = match *fields {
        [minute, hour, of_month, month, of_week] => (minute, hour, of_month, month, of_week, "*"),
        [minute, hour, of_month, month, of_week, year] => {
            (minute, hour, of_month, month, of_week, year)
        }
        _ => return EXAMPLE.to_owned(),
    };
    let (of_month, of_week) = match (of_month, of_week) {
        ("?", "?") => ("*", "?"),
        ("?", days) => ("?", days),
        (days, "*" | "?") => (days, "?"),
        ("*", days) => ("?", days),
        _ => return EXAMPLE.to_owned(),
    };
    let meant = format!("cron({minute} {hour} {of_month} {month} {of_week} {year})");
    let counts_otherwise = fields.len() == 5 && of_week.contains(|c: char| c.is_ascii_digit());
    let means_something = !counts_otherwise && super::Schedule::parse(&meant).is_ok();
    if means_something { meant } else { EXAMPLE.to_owned() }
}

fn parse_days_of_month(text: &str) -> Result<Days, ScheduleError> {
    let (mut days, mut nearest_weekday) = (Numbers::default(), Numbers::default());
    let (mut last, mut last_weekday) = (false, false);
    for element in text.split(',') {
        match element {
            "L" => last = true,
            "LW" => last_weekday = true,
            _ => match element.strip_suffix('W') {
                Some(day) => nearest_weekday.insert(DAY_OF_MONTH.number(day)?),
                None => DAY_OF_MONTH.element(element, &mut days)?,
            },
        }
    }
    Ok(Days::OfMonth { days, last, nearest_weekday, last_weekday })
}

fn parse_days_of_week(text: &str) -> Result<Days, ScheduleError> {
    let (mut days, mut last, mut nth) = (Numbers::default(), Numbers::default(), Vec::new());
    for element in text.split(',') {
        if let Some((day, n)) = element.split_once('#') {
            let n = n.parse().ok().filter(|n| (1..=5).contains(n));
            nth.push((DAY_OF_WEEK.number(day)?, n.ok_or_else(|| DAY_OF_WEEK.error(element))?));
        } else if element == "L" {
            days.insert(SATURDAY);
        } else if let Some(day) = element.strip_suffix('L') {
            last.insert(DAY_OF_WEEK.number(day)?);
        } else {
            DAY_OF_WEEK.element(element, &mut days)?;
        }
    }
    Ok(Days::OfWeek { days, last, nth })
}
