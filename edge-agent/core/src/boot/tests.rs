use super::health::{Facts, Patience, Revision, Verdict, judge};
use super::restart::{Again, ENDS_MAX, Restarts, WELL_AFTER};
use super::*;
use crate::time::Millis;

mod adopted;
mod own;
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

/// The revision that brings updates.
const REVISION: Digest = Digest([77; 32]);

fn terms(tries: u8) -> Terms {
    Terms { by: Source::Revision(REVISION), before: Before::default(), tries, data: 1 }
}

/// Program 1 in slot a is confirmed, program 2 in slot b has a trial.
fn on_trial(tries: u8) -> State {
    State::new(Slot::A, program(1)).begin_trial(&offer(2), terms(tries))
}

const fn present(n: u8) -> Seen {
    Seen::Present(Digest([n; 32]))
}

const fn found(a: Seen, b: Seen) -> Found {
    Found { programs: [a, b], linked: None, own: None, said: [None; 2] }
}

const BOTH: Found = found(present(1), present(2));

/// What the launcher finds after it asked: programs know who they are.
fn asked(found: &Found, slot: Slot) -> Found {
    let Seen::Present(digest) = found.program(slot) else { panic!("nobody to ask: {found:?}") };
    let Digest([n, ..]) = digest;
    answered(found, slot, Said { digest, version: Some(Version(0, n.into(), 0)) })
}

fn answered(found: &Found, slot: Slot, said: Said) -> Found {
    let mut found = found.clone();
    found.said[slot.index()] = Some(said);
    found
}

/// The same where the program of a slot says nothing.
fn silent(found: &Found, slot: Slot) -> Found {
    let Seen::Present(digest) = found.program(slot) else { panic!("nobody to ask: {found:?}") };
    answered(found, slot, Said { digest, version: None })
}

/// What is run, and the state after it.
#[track_caller]
fn run(state: Option<&State>, found: &Found) -> (Slot, State) {
    match start(state, found) {
        Start::Ask { slot } => run(state, &asked(found, slot)),
        Start::Run { slot, state, .. } => (slot, *state),
        other => panic!("{other:?}"),
    }
}

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
    let state = State::new(Slot::A, program(1)).begin_trial(&offer, terms(3));
    let state = state.confirm(1, Some(REVISION));
    assert_eq!((state.confirmed, state.on_trial()), (Slot::B, None));
    assert_eq!((state.owed, state.settled().owed), (Some(REVISION), None));
    let older = Offer { program: program(1), ..offer.clone() };
    let refused = Refusal::BelowFloor { version: Version(0, 1, 0), floor: Version(0, 2, 0) };
    assert_eq!(state.admit(&older), Err(refused.clone()));
    // Else any deployment that was ever signed with it would bring the holes of its time back.
    assert_eq!(state.admit(&Offer { force: true, ..older }), Err(refused), "nobody goes below it");
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
    let state = state.begin_trial(&forced, terms(3)).confirm(1, None);
    assert_eq!(state.failures, [], "it is well after all");
}

#[test]
fn failures_are_told_once_and_bounded() {
    let mut state = State::new(Slot::A, program(1));
    for n in 2..60 {
        state = state.begin_trial(&offer(n), terms(3)).take_back(&"é".repeat(200));
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
fn an_update_that_nobody_wants_any_more_goes_without_blame() {
    let state = on_trial(3).forget_free();
    assert_eq!((state.on_trial(), state.program(Slot::B), state.failures.len()), (None, None, 0));
    assert_eq!(state.admit(&offer(2)), Ok(()), "it may come again");
}

#[test]
fn without_a_state_the_link_decides_and_then_what_is_there() {
    let slot_of = |found: &Found| run(None, found).0;
    assert_eq!(slot_of(&Found { linked: Some(Slot::B), ..BOTH }), Slot::B);
    assert_eq!(slot_of(&BOTH), Slot::A);
    let only_b = found(Seen::Absent, present(2));
    assert_eq!(slot_of(&Found { linked: Some(Slot::A), ..only_b }), Slot::B, "a link to nothing");
    assert_eq!(slot_of(&found(Seen::Unreadable, present(2))), Slot::B);
    let other = run(None, &BOTH).1.program(Slot::B).cloned();
    assert_eq!(other, None, "nobody knows whether it proved itself");
    assert_eq!(start(None, &Found::default()), Start::Stuck(Stuck::Damaged));
}

#[test]
fn a_try_that_cannot_be_counted_is_not_made() {
    let (slot, tried) = run(Some(&on_trial(3)), &BOTH);
    assert_eq!((slot, instead_of_try(&tried, &BOTH)), (Slot::B, Some(Slot::A)));
    // Nor is it made because there is nothing else.
    for lost in [Seen::Absent, Seen::Unreadable, present(9)] {
        assert_eq!(instead_of_try(&tried, &found(lost, present(2))), None);
    }
}

#[test]
fn a_bar_outlives_a_damaged_file() {
    let barred = on_trial(3).take_back("it hung");
    let forced = Offer { force: true, ..offer(2) };
    let refused = Err(Refusal::FailedBefore { reason: "its file is damaged or gone".to_owned() });
    // In a trial that somebody forced, before its first try.
    let again = barred.begin_trial(&forced, terms(3));
    let (slot, state) = run(Some(&again), &found(present(1), present(9)));
    assert_eq!((slot, state.on_trial()), (Slot::A, None));
    assert_eq!(state.admit(&offer(2)), refused);
    assert_eq!(state.admit(&forced), Ok(()));
}

#[test]
fn a_damaged_program_does_not_run() {
    let state = on_trial(3).confirm(1, None);
    let rotten = found(present(1), present(9));
    let (slot, next) = run(Some(&state), &rotten);
    assert_eq!((slot, next.confirmed), (Slot::A, Slot::A));
    assert_eq!(next.failure(digest(2)).unwrap().reason, "its file is damaged or gone");
    assert_eq!(next.admit(&offer(2)), Ok(()), "the program did nothing wrong");
    let neither = found(present(8), present(9));
    assert_eq!(start(Some(&state), &neither), Start::Stuck(Stuck::Damaged));
    assert_eq!(start(Some(&state), &Found::default()), Start::Stuck(Stuck::Damaged));
    // An update that was damaged before its first try goes at once.
    let (slot, state) = run(Some(&on_trial(3)), &rotten);
    assert_eq!((slot, state.on_trial()), (Slot::A, None));
}

#[test]
fn what_cannot_be_read_does_not_run_either_and_is_not_taken_for_gone() {
    let state = on_trial(3).confirm(1, None);
    let (slot, next) = run(Some(&state), &found(present(1), Seen::Unreadable));
    assert_eq!(slot, Slot::A);
    assert_eq!(next.failure(digest(2)).unwrap().reason, "its file cannot be read");
    for found in [found(Seen::Unreadable, Seen::Unreadable), found(Seen::Absent, Seen::Unreadable)]
    {
        assert_eq!(start(Some(&state), &found), Start::Stuck(Stuck::Unreadable));
    }
    let (slot, state) = run(Some(&on_trial(3)), &found(present(1), Seen::Unreadable));
    assert_eq!((slot, state.on_trial()), (Slot::A, None));
}

#[test]
fn a_program_that_was_taken_back_never_takes_the_place_of_the_confirmed_one() {
    let state = on_trial(3).take_back("it hung");
    let rotten = found(present(9), present(2));
    assert_eq!(start(Some(&state), &rotten), Start::Stuck(Stuck::Damaged));
}

fn facts() -> Facts {
    Facts {
        alive: Millis(30_000),
        is_managed: true,
        reached: true,
        ill: 0,
        safe_mode: false,
        data: (1, 1),
        revision: Revision::Passed,
    }
}

#[test]
fn an_agent_that_is_well_stays_after_it_settled() {
    let patience = Patience::default();
    let judge = |facts: &Facts| judge(Before::default(), facts, patience);
    let young = Facts { alive: Millis(29_999), ..facts() };
    assert_eq!(judge(&young), Verdict::Wait);
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
        assert_eq!(judge(Before::default(), &facts, patience), Verdict::Wait);
        let late = Facts { alive: patience.grace, ..facts };
        let verdict = judge(Before::default(), &late, patience);
        assert!(matches!(verdict, Verdict::TakeBack(_)), "{verdict:?}");
    }
    let surprise = Facts { alive: Millis(0), data: (1, 2), ..facts() };
    let verdict = judge(Before::default(), &surprise, patience);
    assert!(matches!(verdict, Verdict::TakeBack(_)), "at once: {verdict:?}");
    let unsaid = Facts { data: (0, 2), ..facts() };
    assert_eq!(judge(Before::default(), &unsaid, patience), Verdict::Commit);
}

#[test]
fn an_agent_and_the_revision_that_brought_it_stand_and_fall_together() {
    let patience = Patience::default();
    let judge = |facts: &Facts| judge(Before::default(), facts, patience);
    let waiting = Facts { revision: Revision::OnProbation, ..facts() };
    assert_eq!(judge(&waiting), Verdict::WaitForRevision, "not before its functions");
    let young = Facts { alive: Millis(29_999), ..waiting };
    assert_eq!(judge(&young), Verdict::Wait);
    let late = Facts { alive: Millis(patience.grace.0 + 50_000), ..waiting };
    assert_eq!(judge(&late), Verdict::WaitForRevision, "a probation has an end of its own");
    let lonely = Facts { reached: false, ..late };
    assert!(matches!(judge(&lonely), Verdict::TakeBack(_)));
    let gone = Facts { revision: Revision::Gone, alive: Millis(0), ..facts() };
    assert_eq!(judge(&gone), Verdict::Withdraw, "at once");
}

#[test]
fn an_update_is_not_blamed_for_what_was_so_before_it() {
    let patience = Patience::default();
    let before = Before { link_down: true, ill: 2 };
    let facts = Facts { reached: false, ill: 2, ..facts() };
    assert_eq!(judge(before, &facts, patience), Verdict::Wait);
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
