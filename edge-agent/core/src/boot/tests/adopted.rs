//! What is taken for confirmed where no copy of the state is valid: programs say themselves what they are.

use super::*;

/// Another program than 1 and 2, of a later version.
fn own() -> Own {
    Own { program: program(5), formats: Formats { reads: 1, writes: 1 } }
}

fn unnamed(slot: Slot, n: u8) -> State {
    State::new(slot, Program { version: Version::default(), ..program(n) })
}

#[test]
fn a_program_that_is_adopted_says_itself_which_version_it_is() {
    assert_eq!(start(None, &BOTH), Start::Ask { slot: Slot::A });
    // Another one's answer is none.
    let found = answered(&BOTH, Slot::A, Said { digest: digest(2), version: None });
    assert_eq!(start(None, &found), Start::Ask { slot: Slot::A });
    let (_, named) = run(None, &BOTH);
    assert_eq!(named.program(Slot::A), Some(&program(1)));
    assert_eq!(run(Some(&named), &BOTH), (Slot::A, named), "and is not asked again");
    // One that was adopted by a launcher that did not ask.
    let unnamed = State { data: 1, ..unnamed(Slot::A, 1) };
    assert_eq!(start(Some(&unnamed), &BOTH), Start::Ask { slot: Slot::A });
    assert_eq!(run(Some(&unnamed), &BOTH).1.program(Slot::A), Some(&program(1)));
    let found = silent(&BOTH, Slot::A);
    assert_eq!(run(Some(&unnamed), &found), (Slot::A, unnamed.clone()), "it runs all the same");
    let lost = self::found(Seen::Absent, present(2));
    assert!(!matches!(start(Some(&unnamed), &lost), Start::Ask { .. }), "nobody to ask");
}

/// Without a state nobody knows the digest of a program, and with it whether it is damaged.
#[test]
fn one_that_does_not_answer_is_lost_and_the_other_one_is_asked() {
    for linked in Slot::ALL {
        let other = linked.other();
        let found = silent(&Found { linked: Some(linked), ..BOTH }, linked);
        for found in [found.clone(), Found { own: Some(own()), ..found }] {
            assert_eq!(start(None, &found), Start::Ask { slot: other });
            let state = match start(None, &asked(&found, other)) {
                Start::Run { slot, state, .. } => {
                    assert_eq!(slot, other);
                    *state
                }
                // The package is newer: its trial is in the place of what was lost.
                Start::Put { slot, ahead: Some(state), then } => {
                    assert_eq!((slot, then.on_trial()), (linked, Some(linked)));
                    *state
                }
                start => panic!("{start:?}"),
            };
            assert_eq!((state.confirmed, state.program(linked)), (other, None));
            let Seen::Present(lost) = found.program(linked) else { panic!("it is there") };
            let failure = state.failure(lost).unwrap();
            assert!(failure.reason.contains("does not say which version") && !failure.barred);
        }
    }
}

#[test]
fn where_none_answers_the_launchers_own_program_takes_the_place() {
    let own = || Some(own());
    let put = |found: &Found| match start(None, found) {
        Start::Put { slot, ahead: None, then } => {
            assert_eq!((then.confirmed, then.program(slot)), (slot, Some(&program(5))));
            assert!(then.failures.iter().all(|failure| !failure.barred));
            (slot, then.failures.len())
        }
        other => panic!("{other:?}"),
    };
    let both = silent(&silent(&BOTH, Slot::A), Slot::B);
    assert_eq!(put(&Found { own: own(), ..both.clone() }), (Slot::B, 2));
    assert_eq!(put(&Found { linked: Some(Slot::B), own: own(), ..both }), (Slot::A, 2));
    // It may have come to no answer only: it is written over where there is no other place.
    let alone = silent(&found(present(1), Seen::Absent), Slot::A);
    assert_eq!(put(&Found { own: own(), ..alone }), (Slot::B, 1));
    let alone = silent(&found(present(1), Seen::Unreadable), Slot::A);
    assert_eq!(put(&Found { own: own(), ..alone }), (Slot::A, 1));
    // Once it is there, it is not asked.
    let there = silent(&found(present(1), present(5)), Slot::A);
    let (slot, state) = run(None, &Found { own: own(), linked: Some(Slot::A), ..there });
    assert_eq!((slot, state.program(slot)), (Slot::B, Some(&program(5))));
}

/// Else a program that was adopted damaged, on a full disk, would be started for ever, whatever package comes.
#[test]
fn one_that_was_adopted_for_want_of_another_is_asked_again_until_it_has_worked() {
    let found = silent(&silent(&BOTH, Slot::A), Slot::B);
    let (slot, state) = run(None, &found);
    assert_eq!((slot, &state), (Slot::A, &unnamed(Slot::A, 1)), "it may be well");
    let again = start(Some(&state), &found);
    assert_eq!(again, Start::Run { slot, state: Box::new(state.clone()), changed: false });
    let upgraded = Found { own: Some(own()), ..found };
    let Start::Put { slot: Slot::B, then, .. } = start(Some(&state), &upgraded) else {
        panic!("not the launcher's own program")
    };
    assert_eq!(then.confirmed, Slot::B);
    // An agent that comes to work notes the format of the data.
    let worked = State { data: 1, ..state.clone() };
    assert_eq!(run(Some(&worked), &upgraded), (Slot::A, worked));
    // Its file has changed since: that is damage.
    let changed = Found { own: Some(own()), ..self::found(present(8), Seen::Absent) };
    assert!(matches!(start(Some(&state), &changed), Start::Put { .. }));
}

#[test]
fn what_was_taken_back_is_not_adopted() {
    let failed =
        State::new(Slot::B, program(7)).begin_trial(&offer(1), terms(1)).take_back("it hung");
    let state = State { failures: failed.failures, ..unnamed(Slot::B, 2) };
    let found = silent(&BOTH, Slot::B);
    assert_eq!(run(Some(&state), &found), (Slot::B, state.clone()));
    let barred = Found { own: Some(Own { program: program(1), ..own() }), ..found };
    assert_eq!(run(Some(&state), &barred), (Slot::B, state), "nor does it take the place");
}
