//! Days of the Gregorian calendar, counted from 1970-01-01. Proleptic, no leap seconds.

/// A day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    pub(super) year: u32,
    /// 1 to 12.
    pub(super) month: u32,
    /// 1 to 31.
    pub(super) day: u32,
}

/// Days from 1970-01-01 to the first of March of year 0, negated.
const DAYS_0000_03_01_TO_1970: u64 = 719_468;
const DAYS_PER_ERA: u64 = 146_097;

/// The date that is `days` days after 1970-01-01.
pub(super) fn date(days: u64) -> Date {
    // Years are counted from March, so that the leap day is the last of its year; an era is the
    // 400 years after which the calendar repeats.
    let days = days + DAYS_0000_03_01_TO_1970;
    let (era, in_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let leaps = in_era / 1_460 + in_era / 146_096 - in_era / 36_524;
    let year_of_era = (in_era - leaps) / 365;
    let in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March on, months have 31, 30, 31, 30, 31 days, twice and a part.
    let from_march = (5 * in_year + 2) / 153;
    let day = in_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let small = |n: u64| u32::try_from(n).expect("invariant: callers stay within year 2200");
    Date { year: small(year), month: small(month), day: small(day) }
}

/// Days from 1970-01-01 to the first day of a month of 1970 or later.
pub(super) fn first_of(year: u32, month: u32) -> u64 {
    let (year, month) = (u64::from(year), u64::from(month));
    let year_from_march = if month <= 2 { year - 1 } else { year };
    let from_march = (month + 9) % 12;
    let (era, of_era) = (year_from_march / 400, year_from_march % 400);
    let in_year = (153 * from_march + 2) / 5;
    let in_era = of_era * 365 + of_era / 4 - of_era / 100 + in_year;
    era * DAYS_PER_ERA + in_era - DAYS_0000_03_01_TO_1970
}

/// 0 for Sunday.
pub(super) fn weekday(days: u64) -> u32 {
    // 1970-01-01 was a Thursday.
    u32::try_from((days + 4) % 7).expect("invariant: below 7")
}

pub(super) fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_day_by_day_gives_the_same_dates() {
        let mut expected = Date { year: 1970, month: 1, day: 1 };
        for days in 0..84_006 {
            assert_eq!(date(days), expected);
            if expected.day == 1 {
                assert_eq!(first_of(expected.year, expected.month), days);
            }
            expected.day += 1;
            if expected.day > days_in_month(expected.year, expected.month) {
                expected = if expected.month == 12 {
                    Date { year: expected.year + 1, month: 1, day: 1 }
                } else {
                    Date { month: expected.month + 1, day: 1, ..expected }
                };
            }
        }
        assert_eq!(expected, Date { year: 2200, month: 1, day: 1 });
        assert_eq!(weekday(0), 4, "1970-01-01 was a Thursday");
        assert_eq!(weekday(first_of(2026, 11) + 22), 1, "2026-11-23 is a Monday");
    }
}
