//! A power cut at every write of an update, each write lost, torn at every byte or whole. The ledger of
//! deployments is on the same disk, in a store that loses a write or has it whole.

use super::super::record::{self, Stored};
use super::*;

mod seeds;

const OLD: u8 = 1;
const NEW: u8 = 2;
const TRIES: u8 = 2;
/// More starts than any story has.
const STARTS_MAX: usize = 40;

/// How a write ends at which power is cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// So many of its bytes are there; of a file that gets its name when it is whole, none of it below
    /// [`WHOLE`].
    At(usize),
}

const WHOLE: usize = usize::MAX;

/// Power is gone.
#[derive(Debug)]
struct Gone;

/// How the new program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum New {
    Well,
    Crashes,
    SaysNo,
    /// A function of the revision that brought it fails during the trial.
    FunctionFails,
    /// Somebody deploys something else during the trial.
    Unwanted,
}

const STORIES: [New; 5] = [New::Well, New::Crashes, New::SaysNo, New::FunctionFails, New::Unwanted];

/// What the ledger says of the revision that brings the new program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ledger {
    OnProbation,
    Kept,
    TakenBack,
    Withdrawn,
}

/// A disk with two copies of the state, two programs, a link, and the ledger.
#[derive(Clone, Debug)]
struct Disk {
    copies: [Vec<u8>; 2],
    found: Found,
    ledger: Ledger,
    /// Writes until power is cut, with how that write ends; the next one last.
    cuts: Vec<(usize, Cut)>,
}

impl Disk {
    fn new(cuts: Vec<(usize, Cut)>) -> Self {
        let found = Found { linked: Some(Slot::A), ..found(present(OLD), Seen::Absent) };
        let (copies, ledger) = (Default::default(), Ledger::OnProbation);
        let mut disk = Self { copies, found, ledger, cuts: Vec::new() };
        disk.save(&State::new(Slot::A, program(OLD))).unwrap();
        disk.cuts = cuts;
        disk
    }

    fn load(&self) -> Option<Stored> {
        record::newest([&self.copies[0], &self.copies[1]])
    }

    /// How a write that begins now ends; `None`: well.
    fn next_cut(&mut self) -> Option<Cut> {
        let (left, cut) = self.cuts.last_mut()?;
        if *left > 0 {
            *left -= 1;
            return None;
        }
        let cut = *cut;
        self.cuts.pop();
        Some(cut)
    }

    fn save(&mut self, state: &State) -> Result<(), Gone> {
        let last = self.load().map_or(0, |stored| stored.generation);
        let written = record::encode(state, last);
        let Some(Cut::At(end)) = self.next_cut() else {
            self.copies[written.place] = written.bytes;
            return Ok(());
        };
        let end = end.min(written.bytes.len());
        let place = &mut self.copies[written.place];
        if place.len() < end {
            place.resize(end, 0xA5);
        }
        place[..end].copy_from_slice(&written.bytes[..end]);
        Err(Gone)
    }

    /// A change that is there as a whole or not at all: a name, a batch of the store.
    fn change(&mut self, done: impl FnOnce(&mut Self)) -> Result<(), Gone> {
        match self.next_cut() {
            None => done(self),
            Some(Cut::At(end)) => {
                if end == WHOLE {
                    done(self);
                }
                return Err(Gone);
            }
        }
        Ok(())
    }

    fn note(&mut self, ledger: Ledger) -> Result<(), Gone> {
        self.change(|disk| disk.ledger = ledger)
    }

    fn state(&self) -> State {
        self.load().unwrap().state
    }
}

/// What the launcher does: returns the slot that runs.
fn launch(disk: &mut Disk) -> Result<Slot, Gone> {
    for _ in 0..4 {
        let stored = disk.load();
        match start(stored.as_ref().map(|stored| &stored.state), &disk.found) {
            Start::Run { slot, state, changed } => {
                if changed {
                    disk.save(&state)?;
                }
                let confirmed = state.confirmed;
                if disk.found.linked != Some(confirmed) {
                    disk.change(|disk| disk.found.linked = Some(confirmed))?;
                }
                return Ok(slot);
            }
            Start::Put { slot, ahead, then } => {
                if let Some(ahead) = ahead {
                    disk.save(&ahead)?;
                }
                let own = disk.found.own.as_ref().unwrap().program.digest;
                disk.change(|disk| disk.found.programs[slot.index()] = Seen::Present(own))?;
                disk.save(&then)?;
            }
            Start::Ask { slot } => disk.found = asked(&disk.found, slot),
            stuck @ Start::Stuck(_) => panic!("{stuck:?}: {disk:?}"),
        }
    }
    panic!("a launcher that only writes: {disk:?}");
}

/// What the old agent does with a deployment of the new one.
fn stage(disk: &mut Disk) -> Result<(), Gone> {
    let state = disk.state();
    if disk.ledger != Ledger::OnProbation || state.admit(&offer(NEW)).is_err() {
        return Ok(());
    }
    let free = state.free();
    disk.save(&state.forget_free())?;
    disk.change(|disk| disk.found.programs[free.index()] = present(NEW))?;
    let state = disk.state();
    disk.save(&state.begin_trial(&offer(NEW), Terms { tries: TRIES, ..terms(TRIES) }))
}

/// What the new agent does on trial.
fn try_out(disk: &mut Disk, new: New) -> Result<(), Gone> {
    if disk.ledger == Ledger::Withdrawn {
        let state = disk.state().forget_free();
        return disk.save(&state);
    }
    let state = disk.state();
    match new {
        New::Well => {
            let state = state.confirm(1, Some(REVISION));
            disk.save(&state)?;
            disk.change(|disk| disk.found.linked = Some(state.confirmed))
        }
        New::Crashes => {
            let ended = state.ended(state.free(), End::Failed("crash".to_owned()));
            disk.save(&ended.unwrap())
        }
        New::SaysNo => disk.save(&state.take_back("no")),
        New::FunctionFails => {
            disk.save(&state.take_back("its revision failed"))?;
            disk.note(Ledger::TakenBack)
        }
        New::Unwanted => {
            disk.note(Ledger::Withdrawn)?;
            disk.save(&state.forget_free())
        }
    }
}

/// What a confirmed agent does first: the ledger follows what was decided by slots.
fn catch_up(disk: &mut Disk) -> Result<(), Gone> {
    let state = disk.state();
    if let Some(owed) = state.owed {
        assert_eq!(owed, REVISION);
        disk.note(Ledger::Kept)?;
        disk.save(&state.settled())?;
    }
    let state = disk.state();
    if state.failure(digest(NEW)).is_some_and(|failure| !failure.told) {
        if disk.ledger == Ledger::OnProbation {
            disk.note(Ledger::TakenBack)?;
        }
        disk.save(&state.told())?;
    }
    Ok(())
}

/// Plays an update to its end.
fn play(cuts: Vec<(usize, Cut)>, new: New) -> Disk {
    let told = cuts.clone();
    let mut disk = Disk::new(cuts);
    let (mut tries, mut cut) = (0, 0);
    let mut is_over = false;
    for _ in 0..STARTS_MAX {
        let Ok(slot) = launch(&mut disk) else {
            cut += 1;
            continue;
        };
        let running = disk.found.program(slot);
        assert!([present(OLD), present(NEW)].contains(&running), "{told:?}");
        if disk.state().on_trial() == Some(slot) {
            assert_eq!(running, present(NEW), "{told:?}");
            assert_ne!(disk.ledger, Ledger::Kept, "not before its program: {told:?}");
            tries += 1;
            cut += usize::from(try_out(&mut disk, new).is_err());
            continue;
        }
        if catch_up(&mut disk).is_err() {
            cut += 1;
            continue;
        }
        if disk.ledger != Ledger::OnProbation {
            is_over = true;
            break;
        }
        cut += usize::from(stage(&mut disk).is_err());
    }
    let state = disk.state();
    let confirmed = state.program(state.confirmed).unwrap().digest;
    assert_eq!(disk.found.program(state.confirmed), Seen::Present(confirmed), "{told:?}");
    assert!(is_over && state.trial.is_none() && state.owed.is_none(), "{told:?} {state:?}");
    let is_new = confirmed == digest(NEW);
    assert_eq!(is_new, disk.ledger == Ledger::Kept, "app and agent are one: {told:?} {state:?}");
    let is_blamed = state.failure(digest(NEW)).is_some();
    match new {
        // Cuts may cost the tries; then the old one goes on.
        New::Well => assert!(is_new || cut >= usize::from(TRIES), "{told:?}"),
        New::Crashes | New::SaysNo | New::FunctionFails => {
            assert!(!is_new && is_blamed, "{told:?}");
        }
        New::Unwanted => assert!(!is_new && (!is_blamed || cut >= usize::from(TRIES)), "{told:?}"),
    }
    assert!(tries <= usize::from(TRIES), "{tries} tries, {told:?}");
    disk
}

/// Writes of the longest story.
const WRITES: usize = 14;

#[test]
fn a_cut_at_every_byte_of_every_write_ends_well() {
    for new in STORIES {
        play(Vec::new(), new);
        for write in 0..WRITES {
            for end in (0..480).chain([WHOLE]) {
                play(vec![(write, Cut::At(end))], new);
            }
        }
    }
}

#[test]
fn three_cuts_in_a_row_end_well() {
    let ends = [0, 25, 90, WHOLE];
    for new in STORIES {
        for first in 0..WRITES {
            for second in 0..4 {
                for ends in ends.iter().flat_map(|a| ends.iter().map(move |b| (*a, *b))) {
                    let cuts = [(0, ends.0), (second, ends.1), (first, ends.0)];
                    play(cuts.map(|(write, end)| (write, Cut::At(end))).to_vec(), new);
                }
            }
        }
    }
}

#[test]
fn with_both_copies_gone_what_proved_itself_runs() {
    for (new, expected) in [(New::Well, NEW), (New::Crashes, OLD)] {
        let mut disk = play(Vec::new(), new);
        disk.copies = [vec![7; 300], Vec::new()];
        let slot = launch(&mut disk).unwrap();
        assert_eq!(disk.found.program(slot), present(expected));
        assert_eq!(disk.state().confirmed, slot);
    }
    // In the middle of a trial too: the link still leads to the old one.
    let mut disk = Disk::new(Vec::new());
    stage(&mut disk).unwrap();
    disk.copies = Default::default();
    assert_eq!(launch(&mut disk).unwrap(), Slot::A);
}
