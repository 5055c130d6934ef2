//! Power cuts while the launcher's own program is written: into empty or damaged slots, and as the update
//! that a package brings.

use super::*;

const OWN: u8 = NEW;

fn own() -> Own {
    Own { program: program(OWN), formats: Formats { reads: 1, writes: 1 } }
}

/// Starts until the launcher's own program is confirmed; returns how often it was tried.
fn play_own(mut disk: Disk, cuts: &[(usize, Cut)]) -> (Disk, usize) {
    disk.cuts = cuts.to_vec();
    disk.found.own = Some(own());
    let mut tries = 0;
    for _ in 0..STARTS_MAX {
        let before = disk.found.programs;
        let launched = launch(&mut disk);
        if let Some(state) = disk.load() {
            let confirmed = state.state.confirmed.index();
            let is_moved = before[confirmed] != disk.found.programs[confirmed];
            let was_whole = before[confirmed] == present(OLD);
            assert!(!is_moved || !was_whole, "what proved itself is not written over: {cuts:?}");
        }
        let Ok(slot) = launched else { continue };
        if disk.state().on_trial() == Some(slot) {
            tries += 1;
            assert_eq!(disk.found.program(slot), present(OWN), "{cuts:?}");
            let state = disk.state().confirm(1, None);
            // A cut: it is on trial again.
            let _ = disk.save(&state);
        } else {
            let is_own = disk.found.program(slot) == present(OWN);
            assert!(is_own || disk.state().failure(digest(OWN)).is_some(), "{cuts:?} {disk:?}");
            return (disk, tries);
        }
    }
    panic!("it comes to no end: {cuts:?} {disk:?}");
}

fn every_cut(mut played: impl FnMut(&[(usize, Cut)])) {
    played(&[]);
    for write in 0..8 {
        for end in (0..480).chain([WHOLE]) {
            played(&[(write, Cut::At(end))]);
        }
        for (first, second) in [(0, 0), (0, WHOLE), (WHOLE, 0), (WHOLE, WHOLE), (90, 90)] {
            played(&[(1, Cut::At(second)), (0, Cut::At(second)), (write, Cut::At(first))]);
        }
    }
}

#[test]
fn an_empty_slot_is_seeded_in_the_end() {
    every_cut(|cuts| {
        let (copies, found) = (Default::default(), Found::default());
        let disk = Disk { copies, found, ledger: Ledger::Kept, cuts: Vec::new() };
        let (disk, tries) = play_own(disk, cuts);
        let state = disk.state();
        assert_eq!((state.program(state.confirmed), tries), (Some(&own().program), 0));
    });
}

#[test]
fn damaged_slots_are_seeded_in_the_end() {
    every_cut(|cuts| {
        let mut disk = Disk::new(Vec::new());
        disk.found.programs[0] = present(9);
        let (disk, tries) = play_own(disk, cuts);
        assert_eq!((disk.found.program(Slot::A), tries), (present(OWN), 0));
    });
}

#[test]
fn the_update_of_a_package_is_written_again_until_it_has_its_trial() {
    every_cut(|cuts| {
        let (disk, tries) = play_own(Disk::new(Vec::new()), cuts);
        let state = disk.state();
        let is_kept = state.program(state.confirmed) == Some(&own().program);
        assert!(is_kept || cuts.len() >= usize::from(TRIES_DEFAULT), "{cuts:?} {state:?}");
        assert!(tries <= usize::from(TRIES_DEFAULT) && state.offered == Some(digest(OWN)));
    });
}
