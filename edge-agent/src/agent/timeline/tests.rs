use std::time::Duration;

use super::super::seams::Clocks;
use super::*;

const TRUE_MS: u64 = 1_795_392_000_000;

fn unsynced(at: u64, unix_ms: u64) -> Now {
    let wall = WallTime { unix_ms, quality: ClockQuality::Unsynced };
    Now { at: Millis(at), wall }
}

/// A machine whose clock stands still.
struct Showing {
    at_ms: u64,
    said: Option<u64>,
}

impl Clocks for Showing {
    fn mono(&self) -> Duration {
        Duration::ZERO
    }

    fn unix_ms(&self) -> u64 {
        self.at_ms
    }

    fn disciplined(&self) -> Option<u64> {
        self.said
    }

    fn boot(&self) -> Option<Boot> {
        None
    }
}

fn boot(id: u64, since_ms: u64) -> Option<Boot> {
    Some(Boot { id, since_ms })
}

fn clock(epoch: u64, shown_ms: u64, true_ms: u64) -> Report {
    Report::Clock { epoch, shown_ms, true_ms }
}

#[test]
fn all_runs_of_the_boot_are_found_out_and_each_is_told_once() {
    let mut timeline = Timeline::default();
    timeline.begin(Epoch(1), unsynced(0, 500), boot(1, 10_000));
    timeline.begin(Epoch(2), unsynced(5_000, 700), boot(2, 8_000));
    // The process was down for a minute, and the system's clock was set back meanwhile.
    timeline.begin(Epoch(3), unsynced(9_000, 100), boot(2, 68_000));
    timeline.begin(Epoch(4), unsynced(9_500, 200), None);
    timeline.begin(Epoch(5), unsynced(9_900, 300), boot(2, 70_000));
    let moved = Move { shown_ms: 2_300, true_ms: TRUE_MS, first: true };
    let reports = timeline.found_out(Epoch(5), moved, boot(2, 72_000));
    let expected = [
        clock(2, 700, TRUE_MS - 64_000),
        clock(3, 100, TRUE_MS - 4_000),
        clock(5, 300, TRUE_MS - 2_000),
    ];
    assert_eq!(reports, expected);
    assert_eq!(timeline.found_out(Epoch(5), moved, boot(2, 72_000)), []);

    let label = |unix_ms| WallTime { unix_ms, quality: ClockQuality::Unsynced };
    let right = |unix_ms| WallTime { unix_ms, quality: ClockQuality::Synced };
    assert_eq!(timeline.of_run(Epoch(2), label(701)), right(TRUE_MS - 63_999));
    assert_eq!(timeline.of_run(Epoch(1), label(501)), label(501), "nobody knows");
    assert_eq!(timeline.of_run(Epoch(9), label(1)), label(1), "not one of its runs");
    assert_eq!(timeline.of_run(Epoch(2), right(701)), right(701), "that was right");
    assert_eq!(timeline.of_moment(Millis(9_400), label(500)), right(TRUE_MS - 3_600));
    assert_eq!(timeline.of_moment(Millis(9_600), label(300)), label(300));
    assert_eq!(timeline.of_moment(Millis(9_950), label(350)), right(TRUE_MS - 1_950));
}

#[test]
fn the_row_is_bounded_and_survives() {
    let mut timeline = Timeline::default();
    for epoch in 0..200 {
        timeline.begin(Epoch(epoch), unsynced(epoch, epoch), boot(u64::MAX, u64::MAX));
    }
    assert_eq!(timeline.runs.len(), RUNS_MAX);
    assert_eq!(timeline.runs[0].epoch, 136, "the oldest went");
    let unsynced = Clock::start(Millis(0), Box::new(Showing { at_ms: 0, said: None }));
    assert!(timeline.vouched(TRUE_MS / 1_000, &unsynced));
    assert!(!timeline.vouched(TRUE_MS / 1_000 + SAVE_EVERY_S - 1, &unsynced), "once an hour");
    assert!(!timeline.vouched(5, &unsynced), "it never goes back");
    let Op::Ledger(LedgerOp::Put { value, .. }) = timeline.op() else { panic!("not a row") };
    assert!(value.len() < 4_096, "{}", value.len());
    let again: Timeline = postcard::from_bytes(&value).expect("as written");
    assert_eq!((again.vouched_unix_s, again.runs), (timeline.vouched_unix_s, timeline.runs));
}

#[test]
fn a_control_plane_that_the_time_daemon_contradicts_raises_no_floor() {
    let ahead_s = TRUE_MS / 1_000 + 18 * 30 * 86_400;
    let mut timeline = Timeline::default();
    let synced = Clock::start(Millis(0), Box::new(Showing { at_ms: TRUE_MS, said: Some(1) }));
    assert!(!timeline.vouched(ahead_s, &synced));
    assert_eq!(timeline.vouched_unix_s(), 0);
    assert!(timeline.vouched(TRUE_MS / 1_000 + 3_600, &synced), "they agree");
    // Without a time daemon nobody knows better.
    let unsynced = Clock::start(Millis(0), Box::new(Showing { at_ms: TRUE_MS, said: None }));
    assert!(timeline.vouched(ahead_s, &unsynced));
}

#[test]
fn the_vouched_time_goes_with_the_enrolment_and_the_runs_stay() {
    let (old, new) = (Some(Digest::of(b"old")), Some(Digest::of(b"new")));
    let mut timeline = Timeline::default().under(old);
    timeline.begin(Epoch(1), unsynced(0, 500), None);
    let unsynced = Clock::start(Millis(0), Box::new(Showing { at_ms: 0, said: None }));
    assert!(timeline.vouched(TRUE_MS / 1_000, &unsynced));
    let timeline = timeline.under(old);
    assert_eq!(timeline.vouched_unix_s(), TRUE_MS / 1_000, "a restart");
    let timeline = timeline.under(new);
    assert_eq!((timeline.vouched_unix_s(), timeline.runs.len()), (0, 1), "enrolled anew");
}

/// What is renumbered stands under the run that sends it again, whose clock says nothing of it.
#[test]
fn a_label_of_an_unknown_run_is_not_left_to_the_clock_of_another_one() {
    let mut timeline = Timeline::default();
    timeline.begin(Epoch(1), unsynced(0, 500), boot(1, 10_000));
    timeline.begin(Epoch(2), unsynced(5_000, 700), boot(2, 8_000));
    let label = |unix_ms, quality| WallTime { unix_ms, quality };
    let (of_1970, synced) = (label(900, ClockQuality::Unsynced), label(900, ClockQuality::Synced));
    let carried = |timeline: &Timeline, label, from| timeline.carried(label, Epoch(from), Epoch(2));
    assert_eq!(carried(&timeline, of_1970, 2), of_1970, "the report on this run corrects it");
    let moved = Move { shown_ms: 2_700, true_ms: TRUE_MS, first: true };
    timeline.found_out(Epoch(2), moved, boot(2, 10_000));
    let right = label(TRUE_MS - 1_800, ClockQuality::Synced);
    assert_eq!(carried(&timeline, of_1970, 2), right);
    let unknown = label(900, ClockQuality::Unknown);
    for from in [1, 9] {
        assert_eq!(carried(&timeline, of_1970, from), unknown);
        assert_eq!(carried(&timeline, synced, from), synced, "that was right");
        assert_eq!(carried(&timeline, unknown, from), unknown, "renumbered again");
    }
    assert_eq!(carried(&timeline, unknown, 2), unknown);
}
