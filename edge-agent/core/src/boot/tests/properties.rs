//! Whatever happens in whatever order.

use proptest::prelude::*;

use super::super::record;
use super::*;

/// Something that happens to a gateway.
#[derive(Clone, Copy, Debug)]
enum Event {
    Launch,
    Stage(u8),
    Confirm,
    TakeBack,
    Withdraw,
    Fail,
    Stop,
    See(usize, Seen),
    Upgrade(u8),
    Floor(u16),
}

fn event() -> impl Strategy<Value = Event> {
    let seen = prop_oneof![Just(Seen::Absent), Just(Seen::Unreadable), Just(present(200))];
    prop_oneof![
        6 => Just(Event::Launch),
        2 => (2..6_u8).prop_map(Event::Stage),
        2 => Just(Event::Confirm),
        1 => Just(Event::TakeBack),
        1 => Just(Event::Withdraw),
        2 => Just(Event::Fail),
        1 => Just(Event::Stop),
        1 => (0..2_usize, seen).prop_map(|(slot, seen)| Event::See(slot, seen)),
        1 => (1..9_u8).prop_map(Event::Upgrade),
        1 => (0..4_u16).prop_map(Event::Floor),
    ]
}

/// A gateway: its disk, and the starts that its update has left.
struct Site {
    found: Found,
    state: State,
    starts_left: u32,
}

impl Site {
    fn is_whole(&self, slot: Slot) -> bool {
        let named = self.state.program(slot).map(|program| Seen::Present(program.digest));
        named == Some(self.found.program(slot))
    }

    fn launch(&mut self) -> Result<(), TestCaseError> {
        match start(Some(&self.state), &self.found) {
            Start::Run { slot, state, .. } => {
                let named = state.program(slot).map(|program| Seen::Present(program.digest));
                prop_assert_eq!(named, Some(self.found.program(slot)));
                if state.on_trial() == Some(slot) {
                    prop_assert!(self.starts_left > 0);
                    self.starts_left -= 1;
                } else {
                    prop_assert_eq!(slot, state.confirmed);
                }
                self.state = *state;
            }
            Start::Put { slot, then, .. } => {
                prop_assert_ne!(self.found.program(slot), Seen::Unreadable);
                let overwrites = slot == self.state.confirmed && self.is_whole(slot);
                prop_assert!(!overwrites, "what proved itself is not written over");
                let own = self.found.own.as_ref().map(|own| own.program.clone()).unwrap();
                if then.on_trial() == Some(slot) {
                    self.starts_left = u32::from(TRIES_DEFAULT);
                    prop_assert!(own.version >= self.state.floor);
                    prop_assert!(self.state.offered != Some(own.digest), "offered once");
                }
                self.found.programs[slot.index()] = Seen::Present(own.digest);
                self.state = *then;
            }
            Start::Ask { .. } => prop_assert!(false, "all are named"),
            Start::Stuck(_) => prop_assert!(!self.is_whole(self.state.confirmed)),
        }
        Ok(())
    }

    fn take(&mut self, event: Event) -> Result<(), TestCaseError> {
        let state = self.state.clone();
        let next = match event {
            Event::Launch => return self.launch(),
            Event::Stage(n) => {
                // The agent that runs wants no other copy of itself.
                let running = state.program(state.confirmed).map(|program| program.digest);
                if running == Some(digest(n)) || state.admit(&offer(n)).is_err() {
                    return Ok(());
                }
                self.found.programs[state.free().index()] = present(n);
                self.starts_left = 3;
                state.begin_trial(&offer(n), terms(3))
            }
            Event::Confirm => state.confirm(1, None),
            Event::TakeBack => state.take_back("x"),
            Event::Withdraw if state.trial.is_some() => state.forget_free(),
            Event::Withdraw => return Ok(()),
            Event::Fail => {
                let failed = End::Failed("x".to_owned());
                state.ended(state.free(), failed).unwrap_or(state)
            }
            Event::Stop => match state.ended(state.free(), End::Stopped) {
                Some(next) if next != state => {
                    self.starts_left += 1;
                    next
                }
                _ => state,
            },
            Event::See(slot, seen) => {
                self.found.programs[slot] = seen;
                state
            }
            Event::Upgrade(n) => {
                let formats = Formats { reads: 1, writes: 1 };
                self.found.own = Some(Own { program: program(n), formats });
                state
            }
            Event::Floor(minor) => State { floor: state.floor.max(Version(0, minor, 0)), ..state },
        };
        self.state = next;
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_whole_program_always_runs_and_no_trial_is_endless(
        events in prop::collection::vec(event(), 1..60),
    ) {
        let found = found(present(1), Seen::Absent);
        let state = State::new(Slot::A, program(1));
        let mut site = Site { found, state, starts_left: 0 };
        for event in events {
            site.take(event)?;
            let state = &site.state;
            prop_assert!(state.failures.len() <= FAILURES_MAX);
            let confirmed = state.program(state.confirmed).unwrap().digest;
            prop_assert!(state.bar(confirmed).is_none(), "what was taken back is not confirmed");
            let stored = record::newest([&record::encode(state, 7).bytes, &[]]);
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
