use proptest::prelude::*;

use super::super::card::{BootRecord, TRIES};
use super::*;

const OLD: Slot = Slot::A;

fn offer(n: u8) -> Offer {
    let program = Program { digest: Digest([n; 32]), version: Version(1, 0, n.into()) };
    Offer { program, floor: Version(0, 9, 0), force: false }
}

fn by(n: u8) -> Digest {
    Digest([n + 100; 32])
}

fn wanted(n: u8) -> Wanted {
    Wanted { revision: by(n), offer: offer(n) }
}

/// The boot loader, as `boot.cmd` is written.
fn load(record: &mut BootRecord) -> Slot {
    match record.trial {
        Some(0) => *record = record.with_trial(None),
        Some(tries) => {
            *record = record.with_trial(Some(tries - 1));
            return record.good.other();
        }
        None => {}
    }
    record.good
}

/// A machine: the card's record, the helper's state, what runs.
#[derive(Clone, Debug)]
struct Machine {
    record: BootRecord,
    system: System,
    running: Slot,
    refused: Option<Refused>,
}

impl Machine {
    fn new() -> Self {
        let (system, refused) = (System::default(), None);
        Self { record: BootRecord::FRESH, system, running: OLD, refused }
    }

    fn install(&mut self, n: u8) {
        let free = self.running.other();
        self.system = self.system.written(free, &offer(n), by(n), self.record);
        self.record = self.record.with_trial(Some(TRIES));
    }

    fn settle(&mut self, when: When) {
        let Settled { system, record } = self.system.settle(self.record, self.running, when);
        self.system = system;
        self.record = record.unwrap_or(self.record);
    }

    fn boot(&mut self) {
        self.running = load(&mut self.record);
        self.settle(When::AtStart);
    }

    /// A start that does not come as far as the data.
    fn dead_start(&mut self) {
        self.running = load(&mut self.record);
    }

    /// `holm-slot commit`.
    fn keep(&mut self) {
        self.record = BootRecord { good: self.running, ..self.record.with_trial(None) };
    }

    fn view(&self) -> View {
        View {
            board: "virt".to_owned(),
            version: Version(1, 0, 0),
            slot: self.running,
            system: self.system.clone(),
            refused: self.refused.clone(),
        }
    }

    fn next(&self, n: u8, asked: Option<u64>) -> Next {
        next(&self.view(), Some(&wanted(n)), asked)
    }
}

#[test]
fn a_good_system_is_kept_with_its_revision() {
    let mut machine = Machine::new();
    assert_eq!(machine.next(1, None), Next::Install);
    assert_eq!(machine.next(1, Some(7)), Next::Wait);
    machine.install(1);
    assert_eq!(machine.next(1, Some(7)), Next::Restart);
    machine.boot();
    assert_eq!(machine.running, Slot::B);
    assert_eq!(machine.next(1, None), Next::Wait);
    machine.settle(When::Later);
    assert_eq!(machine.next(1, None), Next::Wait, "the boot record alone keeps it");
    machine.keep();
    machine.settle(When::Later);
    assert_eq!(machine.next(1, None), Next::Keep);
    assert_eq!(machine.system.floor, Version(0, 9, 0));
    assert_eq!(next(&machine.view(), None, None), Next::Nothing);
    machine.boot();
    assert_eq!(machine.running, Slot::B);
    assert_eq!(machine.next(1, None), Next::Keep, "until the ledger says so too");
}

#[test]
fn a_cut_right_after_it_was_kept_changes_nothing() {
    let mut machine = Machine::new();
    machine.install(1);
    machine.boot();
    machine.keep();
    machine.boot();
    assert_eq!((machine.running, machine.next(1, None)), (Slot::B, Next::Keep));
}

#[test]
fn a_system_that_does_not_come_up_is_taken_back_and_not_tried_again() {
    let mut machine = Machine::new();
    machine.install(1);
    machine.dead_start();
    machine.dead_start();
    machine.boot();
    assert_eq!(machine.running, OLD);
    let Next::Fail(reason) = machine.next(1, None) else { panic!("{machine:?}") };
    assert!(reason.contains("no start of it came as far"), "{reason}");
    // Another revision with the same system.
    let another = Wanted { revision: by(9), ..wanted(1) };
    let refused = next(&machine.view(), Some(&another), None);
    assert!(
        matches!(&refused, Next::Fail(why) if why.contains("taken back here before")),
        "{refused:?}"
    );
    let forced = Wanted { offer: Offer { force: true, ..offer(1) }, ..another };
    assert_eq!(next(&machine.view(), Some(&forced), None), Next::Install);
    // Force is for one trial of one revision.
    let same = Wanted { offer: Offer { force: true, ..offer(1) }, ..wanted(1) };
    assert!(matches!(next(&machine.view(), Some(&same), None), Next::Fail(_)));
}

#[test]
fn one_that_comes_up_and_is_not_well_says_so() {
    let mut machine = Machine::new();
    machine.install(1);
    machine.boot();
    machine.boot();
    machine.boot();
    assert_eq!(machine.running, OLD);
    let Next::Fail(reason) = machine.next(1, None) else { panic!("{machine:?}") };
    assert!(reason.contains("it came up 2 times, and was not kept"), "{reason}");
}

#[test]
fn a_trial_that_never_began_is_asked_for_again() {
    let mut machine = Machine::new();
    machine.system = machine.system.written(Slot::B, &offer(1), by(1), machine.record);
    machine.boot();
    assert_eq!((machine.running, machine.next(1, None)), (OLD, Next::Install));
    assert_eq!(machine.system.failures, []);
}

/// A boot loader that cannot write its record makes no trial.
#[test]
fn one_that_is_passed_over_is_given_up() {
    let mut machine = Machine::new();
    machine.install(1);
    for _ in 0..2 {
        machine.settle(When::AtStart);
        assert_eq!(machine.next(1, None), Next::Restart);
    }
    machine.settle(When::AtStart);
    assert!(matches!(machine.next(1, None), Next::Fail(why) if why.contains("passed it over")));
    assert_eq!(machine.record.trial, None);
}

#[test]
fn what_nobody_wants_any_more_goes_without_blame() {
    let mut machine = Machine::new();
    machine.install(1);
    assert_eq!(next(&machine.view(), None, None), Next::CallOff);
    assert_eq!(machine.next(2, None), Next::CallOff);
    machine.boot();
    assert_eq!(machine.next(2, None), Next::CallOff);
    machine.system = machine.system.calling_off();
    machine.settle(When::Later);
    assert_eq!(machine.record.trial, None);
    assert_ne!(machine.next(1, None), Next::Keep, "it runs on, until the restart");
    machine.boot();
    assert_eq!((machine.running, machine.next(1, None)), (OLD, Next::Install));
}

#[test]
fn refusals_have_reasons() {
    let mut machine = Machine::new();
    machine.refused = Some(Refused { ask: 7, reason: "it is for another board".to_owned() });
    assert_eq!(machine.next(1, Some(7)), Next::Fail("it is for another board".to_owned()));
    assert_eq!(machine.next(1, Some(8)), Next::Wait, "that was another question");
    machine.system.floor = Version(2, 0, 0);
    assert!(
        matches!(machine.next(1, None), Next::Fail(why) if why.contains("below the floor 2.0.0"))
    );
}

/// What happens to a machine.
#[derive(Clone, Copy, Debug)]
enum Event {
    Boot,
    DeadStart,
    Keep,
    Look,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::Boot),
        3 => Just(Event::DeadStart),
        1 => Just(Event::Keep),
        2 => Just(Event::Look),
    ]
}

proptest! {
    /// Whatever happens: the good slot changes only by a commit of what runs, and in the end the revision is
    /// kept with what runs or has failed with what ran before.
    #[test]
    fn every_trial_has_one_end(events in prop::collection::vec(event(), 0..20)) {
        let mut machine = Machine::new();
        machine.install(1);
        for event in events {
            match event {
                Event::Boot => machine.boot(),
                Event::DeadStart => machine.dead_start(),
                // The keeper keeps nothing but what is on trial, and only where it came up.
                Event::Keep if machine.view().is_on_trial() && machine.running != machine.record.good => {
                    machine.keep();
                }
                Event::Keep => {}
                Event::Look => machine.settle(When::Later),
            }
            prop_assert!(machine.system.failures.len() <= 1);
        }
        for _ in 0..=TRIES {
            machine.boot();
        }
        match machine.next(1, None) {
            Next::Keep => prop_assert_eq!((machine.running, machine.record.good), (Slot::B, Slot::B)),
            Next::Fail(_) => prop_assert_eq!((machine.running, machine.record.good), (OLD, OLD)),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

/// The keeper and the agent do not wait for each other.
#[test]
fn what_was_kept_before_it_was_called_off_stays() {
    let mut machine = Machine::new();
    machine.install(1);
    machine.boot();
    machine.keep();
    machine.system = machine.system.calling_off();
    machine.settle(When::Later);
    assert_eq!(machine.system.program(machine.running), Some(&offer(1).program));
    assert_eq!((machine.system.trial.as_ref(), machine.system.floor), (None, offer(1).floor));
    machine.boot();
    assert_eq!(machine.running, OLD.other());
}
