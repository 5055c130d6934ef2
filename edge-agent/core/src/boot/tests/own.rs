//! The launcher's own program: where it seeds a slot, and where it is offered as an update.

use super::*;

const OWN: u8 = 5;

fn own(version: u16) -> Own {
    let program = Program { digest: digest(OWN), version: Version(0, version, 0) };
    Own { program, formats: Formats { reads: 1, writes: 1 } }
}

fn with_own(mut found: Found, version: u16) -> Found {
    found.own = Some(own(version));
    found
}

/// Program 2, of version 0.2.0, is confirmed in slot b, program 1 in slot a was before it.
fn confirmed() -> State {
    State { offered: Some(digest(1)), ..on_trial(3).confirm(1, None) }
}

#[track_caller]
fn put(state: Option<&State>, found: &Found) -> (Slot, Option<State>, State) {
    match start(state, found) {
        Start::Put { slot, ahead, then } => (slot, ahead.map(|state| *state), *then),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_empty_slot_is_seeded_with_it() {
    let (slot, ahead, then) = put(None, &with_own(Found::default(), 3));
    assert_eq!((slot, ahead, then.confirmed), (Slot::A, None, Slot::A));
    assert_eq!(then.program(Slot::A), Some(&own(3).program));
    let seeded = with_own(found(present(OWN), Seen::Absent), 3);
    assert_eq!(run(Some(&then), &seeded), (Slot::A, then.clone()), "and is not offered as well");
    // Power went before the state was written.
    assert_eq!(run(None, &seeded), (Slot::A, then));
}

#[test]
fn damaged_slots_are_seeded_and_what_is_known_stays() {
    let state = State { floor: Version(0, 2, 0), ..confirmed() };
    let rotten = with_own(found(present(8), present(9)), 1);
    let (slot, ahead, then) = put(Some(&state), &rotten);
    assert_eq!((slot, ahead), (Slot::B, None), "in the place of the confirmed one");
    assert_eq!((then.confirmed, then.floor), (Slot::B, Version(0, 2, 0)));
    assert!(then.failure(digest(2)).is_some_and(|failure| !failure.barred));
    let (slot, _) = run(Some(&then), &with_own(found(present(8), present(OWN)), 1));
    assert_eq!(slot, Slot::B);
}

/// Else a bad block would take an update back that was kept.
#[test]
fn the_lost_program_itself_goes_before_the_one_before_it() {
    for lost in [present(9), Seen::Absent] {
        let mut found = found(present(1), lost);
        found.own = Some(Own { program: program(2), ..own(2) });
        let (slot, ahead, then) = put(Some(&confirmed()), &found);
        assert_eq!((slot, ahead, then.confirmed), (Slot::B, None, Slot::B));
        assert_eq!(then.program(Slot::B), Some(&program(2)));
    }
    // Where its slot cannot be read it goes into the other one, over the program before it.
    let mut found = found(present(1), Seen::Unreadable);
    found.own = Some(Own { program: program(2), ..own(2) });
    let (slot, _, then) = put(Some(&confirmed()), &found);
    assert_eq!((slot, then.confirmed), (Slot::A, Slot::A));
    let other = with_own(self::found(present(1), present(9)), 0);
    assert_eq!(run(Some(&confirmed()), &other).0, Slot::A, "another one does not");
}

/// The state was lost, and with it the version of the program that runs.
#[test]
fn a_program_that_was_adopted_makes_room_for_a_newer_package_and_for_no_older_one() {
    let adopted = Found { linked: Some(Slot::B), ..BOTH };
    let with = |version| Found { own: Some(own(version)), ..adopted.clone() };
    let ask = Start::Ask { slot: Slot::B };
    assert_eq!(start(None, &with(3)), ask);
    let (slot, _, then) = put(None, &asked(&with(3), Slot::B));
    assert_eq!((slot, then.on_trial(), then.confirmed), (Slot::A, Some(Slot::A), Slot::B));
    let (slot, state) = run(None, &with(1));
    assert_eq!((slot, state.on_trial(), state.offered), (Slot::B, None, Some(digest(OWN))));
}

#[test]
fn what_cannot_be_read_is_not_written_over() {
    let (slot, ..) = put(Some(&confirmed()), &with_own(found(present(8), Seen::Unreadable), 1));
    assert_eq!(slot, Slot::A);
    let nowhere = with_own(found(Seen::Unreadable, Seen::Unreadable), 1);
    assert_eq!(start(Some(&confirmed()), &nowhere), Start::Stuck(Stuck::Unreadable));
    assert_eq!(start(None, &nowhere), Start::Stuck(Stuck::Unreadable));
    let (slot, ..) = put(None, &with_own(found(Seen::Unreadable, Seen::Absent), 1));
    assert_eq!(slot, Slot::B);
}

#[test]
fn one_that_was_taken_back_seeds_nothing() {
    let taken_back = confirmed().begin_trial(&offer(OWN), terms(3)).take_back("it hung");
    let rotten = with_own(found(present(8), present(9)), OWN.into());
    assert_eq!(start(Some(&taken_back), &rotten), Start::Stuck(Stuck::Damaged));
}

#[test]
fn a_newer_package_is_put_on_trial_once() {
    let usual = Before { link_down: true, ill: 1 };
    let state = confirmed().note_usual(usual).unwrap();
    assert_eq!(state.note_usual(usual), None);
    let upgraded = with_own(BOTH, 3);
    let (slot, ahead, then) = put(Some(&state), &upgraded);
    assert_eq!((slot, then.on_trial()), (Slot::A, Some(Slot::A)));
    assert_eq!(ahead, Some(state.forget_free()));
    let trial = then.trial.as_ref().unwrap();
    assert_eq!((trial.by, trial.before, trial.tries_left), (Source::Package, usual, TRIES_DEFAULT));
    // It is kept, or not: it is not offered again.
    let written = with_own(found(present(OWN), present(2)), 3);
    let (slot, tried) = run(Some(&then), &written);
    assert_eq!(slot, Slot::A);
    assert_eq!(run(Some(&tried.confirm(1, None)), &written).0, Slot::A);
    let (slot, back) = run(Some(&tried.take_back("it hung")), &written);
    assert_eq!((slot, back.on_trial()), (Slot::B, None));
    assert_eq!(run(Some(&back), &written), (Slot::B, back));
}

#[test]
fn a_package_that_is_not_newer_or_not_allowed_is_passed_over_for_good() {
    let floor = State { floor: Version(0, 4, 0), ..confirmed() };
    let barred = confirmed().begin_trial(&offer(OWN), terms(3)).take_back("it hung");
    let data = State { data: 2, ..confirmed() };
    let same = Own { program: program(2), ..own(2) };
    for (state, own) in [
        (confirmed(), own(2)),
        (confirmed(), own(1)),
        (floor, own(3)),
        (barred, own(OWN.into())),
        (data, own(3)),
        (confirmed(), same),
    ] {
        let offered = Some(own.program.digest);
        let (slot, next) = run(Some(&state), &Found { own: Some(own), ..BOTH });
        assert_eq!((slot, next.on_trial(), next.offered), (Slot::B, None, offered));
    }
}

/// It may have been too slow to answer, for once.
#[test]
fn a_package_waits_while_the_agent_that_runs_does_not_say_which_version_it_is() {
    let mut unnamed = confirmed();
    unnamed.programs[1] = Some(Program { version: Version::default(), ..program(2) });
    let upgraded = with_own(BOTH, 3);
    assert_eq!(unnamed.wants(&own(3)), Err(Unwanted::Unknown));
    let (slot, next) = run(Some(&unnamed), &silent(&upgraded, Slot::B));
    assert_eq!((slot, &next), (Slot::B, &unnamed), "it is not used up");
    let (slot, _, then) = put(Some(&next), &asked(&upgraded, Slot::B));
    assert_eq!((slot, then.on_trial()), (Slot::A, Some(Slot::A)));
    let older = asked(&with_own(BOTH, 1), Slot::B);
    assert_eq!(run(Some(&next), &older).1.offered, Some(digest(OWN)), "now it is known");
}

#[test]
fn another_build_of_a_package_takes_the_place_of_the_one_before_it() {
    let state = State { offered: Some(digest(2)), ..confirmed() };
    let (slot, _, then) = put(Some(&state), &with_own(BOTH, 2));
    assert_eq!((slot, then.on_trial()), (Slot::A, Some(Slot::A)));
    assert_eq!(run(Some(&state), &with_own(BOTH, 1)).1.on_trial(), None, "but no older one");
}

#[test]
fn a_package_waits_for_the_trial_under_way_and_for_a_slot_that_can_be_written() {
    let upgraded = with_own(BOTH, 3);
    let (slot, next) = run(Some(&on_trial(3)), &upgraded);
    assert_eq!((slot, next.offered), (Slot::B, None));
    assert!(matches!(start(Some(&next.take_back("no")), &upgraded), Start::Put { .. }));
    let unwritable = with_own(found(Seen::Unreadable, present(2)), 3);
    let (slot, next) = run(Some(&confirmed()), &unwritable);
    assert_eq!((slot, next.offered), (Slot::B, Some(digest(1))));
}
