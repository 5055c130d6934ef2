//! Whatever happens in whatever order.

use proptest::prelude::*;

use super::super::record;
use super::*;

/// Something that happens to a gateway.
#[derive(Clone, Debug)]
enum Event {
    Launch,
    Stage(u8),
    Confirm,
    TakeBack,
    Fail,
    Stop,
    Rot(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Launch),
        2 => (2..6_u8).prop_map(Event::Stage),
        1 => Just(Event::Confirm),
        1 => Just(Event::TakeBack),
        2 => Just(Event::Fail),
        1 => Just(Event::Stop),
        1 => (0..2_usize).prop_map(Event::Rot),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_whole_program_always_runs_and_no_trial_is_endless(
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut found = Found { programs: [Some(digest(1)), None], linked: Some(Slot::A) };
        let mut state = State::new(Slot::A, program(1));
        let mut starts_left = 0_u32;
        for event in events {
            let before = state.clone();
            match event {
                Event::Launch => match start(Some(&state), &found) {
                    Start::Run { slot, state: next, .. } => {
                        let named = next.program(slot).map(|program| program.digest);
                        prop_assert_eq!(named, found.program(slot));
                        if next.on_trial() == Some(slot) {
                            prop_assert!(starts_left > 0);
                            starts_left -= 1;
                        } else {
                            prop_assert_eq!(slot, next.confirmed);
                        }
                        state = *next;
                    }
                    other => {
                        let is_whole = |slot| state.program(slot).is_some_and(|program| {
                            found.program(slot) == Some(program.digest)
                        });
                        prop_assert!(!is_whole(state.confirmed), "{:?}", other);
                    }
                },
                Event::Stage(n) => if state.admit(&offer(n)).is_ok() {
                    let free = state.free();
                    found.programs[free.index()] = Some(digest(n));
                    state = state.begin_trial(&offer(n), Before::default(), 3, 1);
                    starts_left = 3;
                    prop_assert_eq!(state.program(state.confirmed), before.program(before.confirmed));
                },
                Event::Confirm => state = state.confirm(1),
                Event::TakeBack => state = state.take_back("x"),
                Event::Fail => {
                    let failed = End::Failed("x".to_owned());
                    state = state.ended(state.free(), failed).unwrap_or(state);
                }
                Event::Stop => {
                    let next = state.ended(state.free(), End::Stopped);
                    if let Some(next) = next.filter(|next| *next != state) {
                        starts_left += 1;
                        state = next;
                    }
                }
                Event::Rot(slot) => found.programs[slot] = Some(digest(200)),
            }
            prop_assert!(state.failures.len() <= FAILURES_MAX);
            let stored = record::newest([&record::encode(&state, 7).bytes, &[]]);
            prop_assert_eq!(stored.map(|stored| stored.state), Some(state.clone()));
        }
    }

    #[test]
    fn bytes_that_were_changed_are_no_state(at in 0..200_usize, by in 1..=255_u8) {
        let mut bytes = record::encode(&on_trial(3), 0).bytes;
        let at = at % bytes.len();
        bytes[at] ^= by;
        prop_assert_eq!(record::newest([&bytes, &[]]), None);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert_eq!(record::newest([&bytes, &bytes]), None);
    }
}
