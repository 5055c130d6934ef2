//! Slots against dates worked out by hand, and the two directions of search against each other.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Schedule {
    Schedule::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Unix seconds of `YYYY-MM-DD hh:mm`.
fn at(text: &str) -> u64 {
    let n = |range: std::ops::Range<usize>| text[range].parse::<u32>().unwrap();
    let day = civil::first_of(n(0..4), n(5..7)) + u64::from(n(8..10)) - 1;
    day * 86_400 + u64::from(n(11..13) * 3_600 + n(14..16) * 60)
}

fn show(unix_s: u64) -> String {
    let date = civil::date(unix_s / 86_400);
    let (hour, minute) = (unix_s / 3_600 % 24, unix_s / 60 % 60);
    format!("{}-{:02}-{:02} {hour:02}:{minute:02}", date.year, date.month, date.day)
}

/// The next slots after a moment are these, and going back from each finds it and the one before.
fn check(text: &str, from: &str, slots: &[&str]) {
    let schedule = parse(text);
    let mut now = at(from);
    let mut before = None;
    for slot in slots {
        now = schedule.next_after(now).unwrap_or_else(|| panic!("{text}: ends before {slot}"));
        assert_eq!(&show(now), slot, "{text}");
        assert_eq!(schedule.last_at_or_before(now), Some(now), "{text}");
        assert_eq!(schedule.last_at_or_before(now + 59), Some(now), "{text}");
        if let Some(before) = before {
            assert_eq!(schedule.last_at_or_before(now - 1), Some(before), "{text}");
        }
        before = Some(now);
    }
}

#[test]
fn rates_are_multiples_of_their_period() {
    check("rate(5 minutes)", "2026-11-23 10:02", &["2026-11-23 10:05", "2026-11-23 10:10"]);
    check("rate(1 hour)", "2026-11-23 10:00", &["2026-11-23 11:00", "2026-11-23 12:00"]);
    check("rate(1 day)", "2026-11-23 10:00", &["2026-11-24 00:00", "2026-11-25 00:00"]);
    assert_eq!(parse("rate(10 seconds)").next_after(25), Some(30));
    let number = |text: &str| ScheduleError::Number(text.to_owned());
    assert_eq!(Schedule::parse("rate(1 minutes)"), Err(number("rate(1 minute)")));
    assert_eq!(Schedule::parse("rate(5 minute)"), Err(number("rate(5 minutes)")));
    for bad in ["rate(0 minutes)", "rate(5 fortnights)", "rate(-1 days)", "rate(5)", "rate()"] {
        assert!(matches!(Schedule::parse(bad), Err(ScheduleError::Rate(_))), "{bad}");
    }
    assert!(Schedule::parse("rate(18446744073709551615 days)").is_err());
    assert_eq!(parse("rate(1 day)").next_after(u64::MAX), None);
}

#[test]
fn cron_as_documented_for_eventbridge() {
    let from = "2026-11-23 10:00"; // a Monday
    check("cron(0 10 * * ? *)", from, &["2026-11-24 10:00", "2026-11-25 10:00"]);
    check("cron(15 12 * * ? *)", from, &["2026-11-23 12:15"]);
    check("cron(0 18 ? * MON-FRI *)", "2026-11-27 18:00", &["2026-11-30 18:00"]);
    check("cron(0 8 1 * ? *)", from, &["2026-12-01 08:00", "2027-01-01 08:00"]);
    check("cron(0/15 * * * ? *)", from, &["2026-11-23 10:15", "2026-11-23 10:30"]);
    check("cron(0/10 * ? * MON-FRI *)", "2026-11-27 23:50", &["2026-11-30 00:00"]);
}

#[test]
fn last_weekday_and_nth() {
    let from = "2026-01-01 00:00";
    check("cron(0 0 L * ? *)", from, &["2026-01-31 00:00", "2026-02-28 00:00"]);
    check("cron(0 0 L 2 ? *)", "2027-03-01 00:00", &["2028-02-29 00:00"]);
    // 2026-08-01 is a Saturday, so its nearest weekday is Monday 3; 2026-05-31 is a Sunday.
    check("cron(0 0 1W 8 ? 2026)", from, &["2026-08-03 00:00"]);
    check("cron(0 0 31W 5 ? 2026)", from, &["2026-05-29 00:00"]);
    check("cron(0 0 15W 2-3 ? 2026)", from, &["2026-02-16 00:00", "2026-03-16 00:00"]);
    check("cron(0 0 LW * ? 2026)", from, &["2026-01-30 00:00", "2026-02-27 00:00"]);
    check("cron(0 0 1,15W * ? 2026)", from, &["2026-01-15 00:00", "2026-02-01 00:00"]);
    check("cron(0 0 ? * 6L *)", from, &["2026-01-30 00:00", "2026-02-27 00:00"]);
    check("cron(0 0 ? * FRIL *)", from, &["2026-01-30 00:00"]);
    check("cron(0 0 ? * L *)", from, &["2026-01-03 00:00", "2026-01-10 00:00"]);
    check("cron(0 0 ? * 3#2 *)", from, &["2026-01-13 00:00", "2026-02-10 00:00"]);
    check("cron(0 0 ? * TUE#5 *)", from, &["2026-03-31 00:00", "2026-06-30 00:00"]);
    check("cron(0 0 ? * SAT-MON *)", from, &["2026-01-03 00:00", "2026-01-04 00:00"]);
    check("cron(0 0 ? * 1 *)", from, &["2026-01-04 00:00"]);
}

#[test]
fn years_end() {
    check("cron(0 0 29 2 ? *)", "2096-02-29 00:00", &["2104-02-29 00:00"]);
    check("cron(59 23 31 12 ? 2199)", "2026-01-01 00:00", &["2199-12-31 23:59"]);
    let schedule = parse("cron(59 23 31 12 ? 2199)");
    assert_eq!(schedule.next_after(at("2199-12-31 23:59")), None);
    assert_eq!(schedule.next_after(u64::MAX), None);
    assert_eq!(schedule.last_at_or_before(u64::MAX), Some(at("2199-12-31 23:59")));
    assert_eq!(schedule.last_at_or_before(at("2199-12-31 23:58")), None);
    assert_eq!(parse("cron(0 0 1 1 ? 2020)").next_after(at("2026-01-01 00:00")), None);
}

#[test]
fn what_is_no_cron_is_refused_with_the_field() {
    let field = |text: &str| match Schedule::parse(text) {
        Err(ScheduleError::Field { field, .. }) => field,
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(field("cron(60 * * * ? *)"), "minute");
    assert_eq!(field("cron(0 20-2 * * ? *)"), "hour");
    assert_eq!(field("cron(0 0 0 * ? *)"), "day of the month");
    assert_eq!(field("cron(0 0 32W * ? *)"), "day of the month");
    assert_eq!(field("cron(0 0 1 JANUARY ? *)"), "month");
    assert_eq!(field("cron(0 0 ? * 8 *)"), "day of the week");
    assert_eq!(field("cron(0 0 ? * 2#6 *)"), "day of the week");
    assert_eq!(field("cron(0 0 1 1 ? 1969)"), "year");
    assert_eq!(field("cron(0/0 0 1 1 ? *)"), "minute");
    assert_eq!(field("cron(, 0 1 1 ? *)"), "minute");
    assert_eq!(field("cron(+1 0 1 1 ? *)"), "minute");
    assert_eq!(Schedule::parse("cron(0 0 31 2 ? *)"), Err(ScheduleError::Never));
    assert_eq!(Schedule::parse("every 5 minutes"), Err(ScheduleError::Form));
    assert_eq!(parse(" cron(0 0 1 1 ? *) ").as_str(), "cron(0 0 1 1 ? *)");
}

/// Who knows Unix cron is told what the same is here.
#[test]
fn the_wrong_fields_are_answered_with_the_right_ones() {
    for (wrong, right) in [
        ("cron(0 6 * * MON)", "cron(0 6 ? * MON *)"),
        ("cron(*/5 * * * *)", "cron(*/5 * * * ? *)"),
        ("cron(0 0 1 * *)", "cron(0 0 1 * ? *)"),
        ("cron(0 0 * * ?)", "cron(0 0 * * ? *)"),
        ("cron(0 0 * * * *)", "cron(0 0 * * ? *)"),
        ("cron(0 0 ? * ? *)", "cron(0 0 * * ? *)"),
        ("cron(0 0 * * 2 2030)", "cron(0 0 ? * 2 2030)"),
        // Monday there, Sunday here: nothing is guessed.
        ("cron(0 6 * * 1)", "cron(0 6 ? * MON-FRI *)"),
        ("cron(0 6 13 * FRI)", "cron(0 6 ? * MON-FRI *)"),
        ("cron(0 6 * *)", "cron(0 6 ? * MON-FRI *)"),
        ("cron()", "cron(0 6 ? * MON-FRI *)"),
        ("cron(99 6 * * MON)", "cron(0 6 ? * MON-FRI *)"),
    ] {
        let error = Schedule::parse(wrong).unwrap_err().to_string();
        assert!(error.ends_with(&format!("write `{right}`")), "{wrong}: {error}");
        parse(right);
    }
}

proptest! {
    #[test]
    fn next_and_last_agree(
        minute in prop_oneof!["[0-5]?[0-9]", Just("*/7".to_owned()), Just("10-20".to_owned())],
        hour in prop_oneof![Just("*".to_owned()), Just("1,23".to_owned()), Just("5/6".to_owned())],
        day in prop_oneof!["[1-9] \\* \\?", "L \\* \\?", "[1-9]W \\* \\?", "\\? \\* [1-7]"],
        start in 0..100_000u64,
    ) {
        let schedule = parse(&format!("cron({minute} {hour} {day} *)"));
        let Kind::Cron(cron) = &schedule.kind else { unreachable!() };
        let start = at("2026-01-01 00:00") + start * 60 + 30;
        let next = schedule.next_after(start).unwrap();
        prop_assert!(next > start && next.is_multiple_of(60));
        prop_assert_eq!(schedule.last_at_or_before(next), Some(next));
        // Nothing lies between: the last slot before `next` is not after `start`.
        if let Some(last) = schedule.last_at_or_before(next - 1) {
            prop_assert!(last <= start);
            prop_assert_eq!(cron.next_after(last), Some(next));
        }
    }

    #[test]
    fn no_text_panics(text in "(rate|cron)\\([-0-9*/?,LW#A-Z ]{0,24}\\)") {
        if let Ok(schedule) = Schedule::parse(&text) {
            let _ = schedule.next_after(1_800_000_000);
            let _ = schedule.last_at_or_before(1_800_000_000);
        }
    }
}
