use proptest::prelude::*;

use super::*;

const YEAR_MS: u64 = 365 * 86_400_000;
/// 2026-11-23.
const TRUE_MS: u64 = 1_795_392_000_000;

fn at(mono_ms: u64, system_ms: u64) -> Reading {
    Reading { mono_ms, system_ms }
}

fn label(unix_ms: u64, quality: ClockQuality) -> WallTime {
    WallTime { unix_ms, quality }
}

fn unsynced(unix_ms: u64) -> WallTime {
    label(unix_ms, ClockQuality::Unsynced)
}

fn synced(unix_ms: u64) -> WallTime {
    label(unix_ms, ClockQuality::Synced)
}

#[test]
fn labels_of_1970_are_all_wrong_by_what_the_first_move_says() {
    let mut clock = WallClock::start(at(500, 7_000));
    assert_eq!(clock.label(at(1_500, 8_000)), unsynced(8_000));
    assert_eq!(clock.label(at(2_500, TRUE_MS)), unsynced(9_000), "set by nobody knows whom");
    let moved = clock.disciplined(at(3_500, TRUE_MS + 1_000));
    assert_eq!(moved, Some(Move { shown_ms: 10_000, true_ms: TRUE_MS + 1_000, first: true }));
    assert_eq!(clock.label(at(4_500, TRUE_MS + 2_000)), synced(TRUE_MS + 2_000));
    assert_eq!(clock.disciplined(at(5_500, TRUE_MS + 3_000)), None, "no news");
}

#[test]
fn a_jump_of_the_system_is_not_followed_until_somebody_vouches() {
    let mut clock = WallClock::start(at(0, TRUE_MS));
    clock.disciplined(at(0, TRUE_MS));
    for jumped in [TRUE_MS + 5 * YEAR_MS, 0] {
        assert_eq!(clock.label(at(60_000, jumped)), synced(TRUE_MS + 60_000));
    }
    assert_eq!(clock.label(at(61_000, TRUE_MS + 63_000)), synced(TRUE_MS + 63_000), "it is back");
    let moved = clock.disciplined(at(62_000, TRUE_MS + YEAR_MS));
    let expected = Move { shown_ms: TRUE_MS + 64_000, true_ms: TRUE_MS + YEAR_MS, first: false };
    assert_eq!(moved, Some(expected));
}

#[test]
fn only_a_time_daemon_whose_clock_has_not_jumped_contradicts() {
    let mut clock = WallClock::start(at(0, TRUE_MS));
    let far = TRUE_MS + YEAR_MS;
    assert!(!clock.contradicts(at(0, TRUE_MS), far), "nobody vouched");
    clock.disciplined(at(0, TRUE_MS));
    assert!(clock.contradicts(at(1_000, TRUE_MS + 1_000), far));
    assert!(clock.contradicts(at(1_000, TRUE_MS + 1_000), TRUE_MS - YEAR_MS));
    assert!(!clock.contradicts(at(1_000, TRUE_MS + 1_000), TRUE_MS + 86_400_000), "within a day");
    assert!(!clock.contradicts(at(1_000, far), far), "it jumped");
    clock.told(at(1_000, far), TRUE_MS + 2_000);
    assert!(!clock.contradicts(at(1_000, TRUE_MS + 2_000), far), "the control plane set it");
}

#[test]
fn the_control_plane_sets_a_clock_that_nobody_else_vouches_for() {
    let mut clock = WallClock::start(at(0, 0));
    let moved = clock.told(at(1_000, 1_000), TRUE_MS);
    assert_eq!(moved, Some(Move { shown_ms: 1_000, true_ms: TRUE_MS, first: true }));
    assert_eq!(clock.label(at(2_000, 2_000)), synced(TRUE_MS + 1_000));
    // The system's clock is set right by hand, and followed from then on.
    assert_eq!(clock.label(at(3_000, TRUE_MS + 3_000)), synced(TRUE_MS + 3_000));
    // Told again while the system's clock is years ahead.
    let moved = clock.told(at(4_000, TRUE_MS + YEAR_MS), TRUE_MS + 20_000);
    assert!(moved.is_some_and(|moved| !moved.first));
    assert_eq!(clock.label(at(5_000, 0)), synced(TRUE_MS + 21_000));
}

#[test]
fn a_time_daemon_knows_better_than_the_control_plane_until_its_clock_jumps() {
    let mut clock = WallClock::start(at(0, TRUE_MS));
    assert!(clock.disciplined(at(0, TRUE_MS)).is_some_and(|moved| moved.first));
    assert_eq!(clock.told(at(1_000, TRUE_MS + 1_000), 5), None);
    assert_eq!(clock.label(at(1_000, TRUE_MS + 1_000)), synced(TRUE_MS + 1_000));
    // A machine that slept: its monotonic clock stood still, the other one went on.
    let slept = TRUE_MS + 8 * 3_600_000;
    assert_eq!(clock.label(at(2_000, slept)), synced(TRUE_MS + 2_000));
    assert!(clock.told(at(2_000, slept), slept + 3).is_some());
    assert_eq!(clock.label(at(2_000, slept)), synced(slept));
}

proptest! {
    /// However the system's clock jumps, unsynced labels go on with monotonic time, so that one
    /// number corrects all of them; and synced ones stay within a jump of the truth.
    #[test]
    fn one_number_corrects_all_labels(
        jumps in prop::collection::vec((0_u64..600_000, 0_u64..2 * TRUE_MS), 1..40),
        vouched_at in 0_usize..40,
        by_daemon: bool,
    ) {
        let started_ms = jumps[0].1;
        let mut clock = WallClock::start(at(0, started_ms));
        let (mut mono, mut labels, mut correction) = (0, Vec::new(), None);
        for (n, (wait, system)) in jumps.into_iter().enumerate() {
            mono += wait;
            let truth = TRUE_MS + mono;
            if n == vouched_at {
                let moved = if by_daemon {
                    clock.disciplined(at(mono, truth))
                } else {
                    clock.told(at(mono, system), truth)
                };
                let moved = moved.expect("the first one is news");
                prop_assert!(moved.first);
                correction = Some(moved.true_ms.cast_signed() - moved.shown_ms.cast_signed());
            }
            let label = clock.label(at(mono, system));
            match label.quality {
                ClockQuality::Unknown => prop_assert!(false, "no clock shows that"),
                ClockQuality::Unsynced => labels.push((label.unix_ms, truth)),
                // Each step that is small enough to be followed may add to the error.
                ClockQuality::Synced => prop_assert!(
                    label.unix_ms.abs_diff(truth) <= (n as u64 + 1) * JUMP_MS_MAX
                ),
            }
        }
        if let Some(correction) = correction {
            for (label, truth) in labels {
                let corrected = label.saturating_add_signed(correction);
                prop_assert!(corrected.abs_diff(truth) <= JUMP_MS_MAX);
            }
        }
    }
}
