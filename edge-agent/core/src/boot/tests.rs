use super::health::{Facts, Patience, Verdict, judge};
use super::restart::{Again, ENDS_MAX, Restarts, WELL_AFTER};
use super::*;
use crate::time::Millis;

mod power;
mod properties;

fn digest(n: u8) -> Digest {
    Digest([n; 32])
}

fn program(n: u8) -> Program {
    Program { digest: digest(n), version: Version(0, u16::from(n), 0) }
}

fn offer(n: u8) -> Offer {
    Offer { program: program(n), floor: Version::default(), force: false }
}

/// Program 1 in slot a is confirmed, program 2 in slot b has a trial.
fn on_trial(tries: u8) -> State {
    State::new(Slot::A, program(1)).begin_trial(&offer(2), Before::default(), tries, 1)
}

const BOTH: Found =
    Found { programs: [Some(Digest([1; 32])), Some(Digest([2; 32]))], linked: None };

#[test]
fn versions_are_three_numbers_and_compare_as_such() {
    for (text, shown) in [("0.1.0", "0.1.0"), ("1.10.2-rc.1", "1.10.2"), ("2.0.0+build", "2.0.0")] {
        assert_eq!(text.parse::<Version>().unwrap().to_string(), shown);
    }
    for bad in ["", "1", "1.2", "1.2.3.4", "1.2.x", "+1.2.3", "1.2.65536", "1..3", "v1.2.3"] {
        assert_eq!(bad.parse::<Version>(), Err(VersionError), "{bad}");
    }
    assert!(Version(0, 10, 0) > Version(0, 9, 9));
}

#[test]
fn a_try_is_counted_before_it_begins_and_the_last_one_leads_back() {
    let mut state = on_trial(2);
    for left in [1, 0] {
        let Start::Run { slot, state: next, changed: true } = start(Some(&state), &BOTH) else {
            panic!("a try");
        };
        assert_eq!((slot, next.trial.as_ref().unwrap().tries_left), (Slot::B, left));
        state = next.ended(Slot::B, End::Failed("it hung".to_owned())).unwrap();
    }
    let Start::Run { slot, state, changed: true } = start(Some(&state), &BOTH) else {
        panic!("the way back");
    };
    assert_eq!((slot, state.on_trial()), (Slot::A, None));
    let reason = &state.failure(digest(2)).unwrap().reason;
    assert_eq!(reason, "it was started 2 times; the last time it hung");
    // From now on nothing changes.
    let again = start(Some(&state), &BOTH);
    assert_eq!(again, Start::Run { slot: Slot::A, state, changed: false });
}

#[test]
fn a_stop_that_was_asked_for_costs_no_try() {
    let Start::Run { state, .. } = start(Some(&on_trial(1)), &BOTH) else { panic!("a try") };
    let state = state.ended(Slot::B, End::Stopped).unwrap();
    assert_eq!(state.trial.as_ref().unwrap().tries_left, 1);
    assert_eq!(state.ended(Slot::B, End::Stopped).unwrap(), state, "never more than it was given");
    assert_eq!(state.ended(Slot::B, End::Switch), None);
    assert_eq!(state.ended(Slot::A, End::Failed("x".to_owned())), None, "it is not on trial");
}

#[test]
fn what_is_found_well_is_confirmed_and_brings_its_floor() {
    let offer = Offer { floor: Version(0, 2, 0), ..offer(2) };
    let state = State::new(Slot::A, program(1)).begin_trial(&offer, Before::default(), 3, 1);
    let state = state.confirm(1);
    assert_eq!((state.confirmed, state.on_trial()), (Slot::B, None));
    let older = Offer { program: program(1), ..offer.clone() };
    let refused = Refusal::BelowFloor { version: Version(0, 1, 0), floor: Version(0, 2, 0) };
    assert_eq!(state.admit(&older), Err(refused));
    assert_eq!(state.admit(&Offer { force: true, ..older }), Ok(()), "who says so may");
    assert_eq!(state.free(), Slot::A);
}

#[test]
fn what_failed_is_refused_unless_somebody_says_so() {
    let state = on_trial(3);
    assert_eq!(state.admit(&offer(3)), Err(Refusal::OnTrial));
    let state = state.take_back("it hung");
    let refused = Refusal::FailedBefore { reason: "it hung".to_owned() };
    assert_eq!(state.admit(&offer(2)), Err(refused));
    let forced = Offer { force: true, ..offer(2) };
    assert_eq!((state.admit(&forced), state.admit(&offer(3))), (Ok(()), Ok(())));
    let state = state.begin_trial(&forced, Before::default(), 3, 1).confirm(1);
    assert_eq!(state.failures, [], "it is well after all");
}

#[test]
fn failures_are_told_once_and_bounded() {
    let mut state = State::new(Slot::A, program(1));
    for n in 2..60 {
        state = state.begin_trial(&offer(n), Before::default(), 3, 1).take_back(&"é".repeat(200));
        assert!(state.failures.len() <= FAILURES_MAX);
        let last = state.failures.last().unwrap();
        assert!(last.reason.len() <= REASON_BYTES_MAX && !last.told);
    }
    assert!(state.told().failures.iter().all(|failure| failure.told));
    assert!(state.failure(digest(59)).is_some() && state.failure(digest(2)).is_none());
    assert!(record::encode(&state, u64::MAX - 1).bytes.len() <= record::COPY_BYTES_MAX);
}

#[test]
fn formats_go_up_by_one_and_a_trial_writes_what_was_there() {
    let state = State::new(Slot::A, program(1));
    let check = |reads, writes, data| state.check_formats(Formats { reads, writes }, data);
    assert_eq!((check(1, 1, 1), check(1, 2, 1), check(1, 3, 2)), (Ok(()), Ok(()), Ok(())));
    assert!(matches!(check(2, 2, 1), Err(Refusal::CannotRead { .. })));
    assert!(
        matches!(check(1, 1, 2), Err(Refusal::CannotRead { .. })),
        "an older agent, newer data"
    );
    assert!(matches!(check(1, 3, 1), Err(Refusal::TooFar { writes: 3, data: 1 })));
    let formats = Formats { reads: 1, writes: 2 };
    assert_eq!((formats.to_write(1, true), formats.to_write(1, false)), (1, 2));
}

#[test]
fn without_a_state_the_link_decides_and_then_what_is_there() {
    let slot_of = |found: &Found| match start(None, found) {
        Start::Run { slot, changed: true, .. } => Some(slot),
        _ => None,
    };
    assert_eq!(slot_of(&Found { linked: Some(Slot::B), ..BOTH }), Some(Slot::B));
    assert_eq!(slot_of(&BOTH), Some(Slot::A));
    let only_b = Found { programs: [None, BOTH.programs[1]], linked: Some(Slot::A) };
    assert_eq!(slot_of(&only_b), Some(Slot::B), "a link to nothing");
    assert_eq!(start(None, &Found::default()), Start::Empty);
}

#[test]
fn a_damaged_program_does_not_run() {
    let state = on_trial(3).confirm(1);
    let found = Found { programs: [BOTH.programs[0], Some(digest(9))], linked: None };
    let Start::Run { slot, state: next, .. } = start(Some(&state), &found) else { panic!("a") };
    assert_eq!((slot, next.confirmed), (Slot::A, Slot::A));
    assert_eq!(next.failure(digest(2)).unwrap().reason, "its file is damaged or gone");
    let neither = Found { programs: [Some(digest(8)), Some(digest(9))], linked: None };
    assert_eq!(start(Some(&state), &neither), Start::Damaged);
    assert_eq!(start(Some(&state), &Found::default()), Start::Empty);
    // An update that was damaged before its first try goes at once.
    let Start::Run { slot, state, .. } = start(Some(&on_trial(3)), &found) else { panic!("a") };
    assert_eq!((slot, state.on_trial()), (Slot::A, None));
}

fn facts() -> Facts {
    Facts {
        alive: Millis(30_000),
        is_managed: true,
        reached: true,
        ill: 0,
        safe_mode: false,
        data: (1, 1),
    }
}

#[test]
fn an_agent_that_is_well_stays_after_it_settled() {
    let patience = Patience::default();
    let judge = |facts: &Facts| judge(Before::default(), facts, patience);
    let young = Facts { alive: Millis(29_999), ..facts() };
    assert_eq!(judge(&young), Verdict::Wait(patience.settle));
    assert_eq!(judge(&facts()), Verdict::Commit);
    let alone = Facts { is_managed: false, reached: false, ..facts() };
    assert_eq!(judge(&alone), Verdict::Commit, "nobody is to be reached");
}

#[test]
fn an_agent_that_is_not_well_goes_when_its_time_is_up() {
    let patience = Patience::default();
    let unreached = Facts { reached: false, ..facts() };
    let ill = Facts { ill: 1, ..facts() };
    let safe = Facts { safe_mode: true, ..facts() };
    for facts in [unreached, ill, safe] {
        assert_eq!(judge(Before::default(), &facts, patience), Verdict::Wait(patience.grace));
        let late = Facts { alive: patience.grace, ..facts };
        let verdict = judge(Before::default(), &late, patience);
        assert!(matches!(verdict, Verdict::TakeBack(_)), "{verdict:?}");
    }
    let surprise = Facts { alive: Millis(0), data: (1, 2), ..facts() };
    let verdict = judge(Before::default(), &surprise, patience);
    assert!(matches!(verdict, Verdict::TakeBack(_)), "at once: {verdict:?}");
}

#[test]
fn an_update_is_not_blamed_for_what_was_so_before_it() {
    let patience = Patience::default();
    let before = Before { link_down: true, ill: 2 };
    let facts = Facts { reached: false, ill: 2, ..facts() };
    assert_eq!(judge(before, &facts, patience), Verdict::Wait(patience.grace));
    let late = Facts { alive: patience.grace, ..facts };
    assert_eq!(judge(before, &late, patience), Verdict::Commit);
}

#[test]
fn restarts_slow_down_and_end() {
    let mut restarts = Restarts::default();
    let waits = [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000];
    for wait in waits {
        assert_eq!(restarts.ended(Millis(0)), Again::After(Millis(wait)));
    }
    assert_eq!(restarts.ended(WELL_AFTER), Again::After(Millis(500)), "a well life between them");
    let mut after = |_: &u32| matches!(restarts.ended(Millis(1)), Again::After(_));
    assert!((2..ENDS_MAX).all(|n| after(&n)), "slower and slower");
    assert_eq!(restarts.ended(Millis(1)), Again::GiveUp);
    restarts.begin_anew();
    assert_eq!(restarts.ended(Millis(1)), Again::After(Millis(500)));
}
