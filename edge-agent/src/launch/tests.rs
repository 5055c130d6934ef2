use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use edge_core::boot::record;
use edge_core::boot::{Before, Formats, Offer, Program, Seen, Slot, Source, State, Version};
use edge_core::id::Digest;

use super::install::{Update, install};
use super::probe::{self, About};
use super::slots::{Slots, digest_of};

fn sha256(bytes: &[u8]) -> Digest {
    Digest(sync_protocol::id::Digest::of(bytes).0)
}

/// A program that says of itself what it is told to say.
fn script(about: &About, more: &str) -> Vec<u8> {
    let text = serde_json::to_string(about).unwrap();
    format!("#!/bin/sh\n{more}\necho '{text}'\n").into_bytes()
}

fn about(version: &str) -> About {
    About { version: version.to_owned(), ..About::own() }
}

fn offer(bytes: &[u8], version: Version) -> Offer {
    let program = Program { digest: sha256(bytes), version };
    Offer { program, floor: Version::default(), force: false }
}

fn try_install(slots: &Slots, offer: &Offer, bytes: &[u8]) -> Result<(), String> {
    let (by, before) = (Source::Revision(Digest([7; 32])), Before::default());
    install(slots, &Update { offer, bytes, running: Slot::A, by, before, data: 1 })
}

/// Slots whose slot a holds a confirmed program.
fn slots(dir: &Path) -> Slots {
    let slots = Slots::open(dir).unwrap();
    slots.install(Slot::A, b"old", sha256(b"old")).unwrap();
    let program = Program { digest: sha256(b"old"), version: Version(0, 1, 0) };
    slots.save(&State::new(Slot::A, program)).unwrap();
    slots
}

/// A block of a card that has gone bad gives an error, not other bytes.
#[test]
fn a_copy_that_cannot_be_read_leaves_the_other_and_without_one_nothing_is_guessed() {
    let dir = tempfile::tempdir().unwrap();
    let slots = slots(dir.path());
    let state = slots.load().unwrap().unwrap().state;
    let path = |n: u32| dir.path().join(format!("state-{n}"));
    let newest = (0..2).find(|n| path(*n).exists()).unwrap();
    fs::create_dir(path(1 - newest)).unwrap();
    assert_eq!(slots.load().unwrap().unwrap().state, state);
    fs::remove_file(path(newest)).unwrap();
    assert!(slots.load().is_err());
}

/// The disk took the bytes, and said at the sync that it did not: what is read then may be gone with the power.
#[test]
fn a_state_that_was_perhaps_not_synced_is_written_again_though_it_reads_as_wished() {
    let dir = tempfile::tempdir().unwrap();
    let slots = slots(dir.path());
    let wished = |state: &State| Some(State { floor: Version(0, 0, 7), ..state.clone() });
    let before = slots.load().unwrap().unwrap();
    let after = record::encode(&wished(&before.state).unwrap(), before.generation);
    let path = dir.path().join(format!("state-{}", after.place));
    // It takes what is written, and cannot be synced.
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    slots.change(wished).unwrap_err();
    fs::remove_file(&path).unwrap();
    fs::write(&path, &after.bytes).unwrap();
    let other = dir.path().join(format!("state-{}", 1 - after.place));
    let sure = fs::read(&other).unwrap();
    let written = || fs::metadata(&path).unwrap().modified().unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    let forget = || fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago);
    forget().unwrap();
    assert_eq!(slots.change(wished).unwrap().floor, Version(0, 0, 7));
    assert!(written() > long_ago, "it was not written");
    assert_eq!(fs::read(&other).unwrap(), sure, "over the copy that is surely there");
    forget().unwrap();
    slots.change(wished).unwrap();
    assert_eq!(written(), long_ago, "more than once");
}

#[test]
fn the_state_goes_over_its_older_copy_and_damage_leaves_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let slots = slots(dir.path());
    let first = slots.load().unwrap().unwrap();
    let next = first.state.told().confirm(7, None);
    slots.save(&next).unwrap();
    assert_eq!(slots.load().unwrap().unwrap().state, next);
    let newest = dir.path().join("state-0");
    let mut bytes = fs::read(&newest).unwrap();
    bytes[30] ^= 1;
    fs::write(&newest, bytes).unwrap();
    assert_eq!(slots.load().unwrap().unwrap(), first);
    fs::write(dir.path().join("state-1"), "damaged").unwrap();
    assert_eq!(slots.load().unwrap(), None);
    slots.save(&next).unwrap();
    assert_eq!(slots.load().unwrap().unwrap().state, next);
}

#[test]
fn whether_the_state_can_be_written_is_found_out_without_a_change() {
    let dir = tempfile::tempdir().unwrap();
    let slots = slots(dir.path());
    let before = slots.load().unwrap().unwrap();
    slots.rewrite().unwrap();
    let after = slots.load().unwrap().unwrap();
    assert_eq!((after.generation, after.state), (before.generation + 1, before.state));
    let older = dir.path().join(format!("state-{}", before.generation % 2));
    fs::remove_file(&older).unwrap();
    fs::create_dir(&older).unwrap();
    slots.rewrite().unwrap_err();
}

#[test]
fn a_program_is_named_when_it_is_whole_and_may_be_run() {
    let dir = tempfile::tempdir().unwrap();
    let slots = slots(dir.path());
    let refused = slots.install(Slot::A, b"new", sha256(b"other")).unwrap_err();
    assert!(refused.to_string().contains("read back"), "{refused}");
    assert_eq!(digest_of(&slots.program(Slot::A)).unwrap(), sha256(b"old"));
    assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 1, "nothing is left over");
    let mode = fs::metadata(slots.program(Slot::A)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    let found = slots.found(None);
    let old = Seen::Present(sha256(b"old"));
    assert_eq!((found.programs, found.linked), ([old, Seen::Absent], None));
    for slot in [Slot::B, Slot::A] {
        slots.link(slot).unwrap();
        assert_eq!(slots.found(None).linked, Some(slot));
    }
}

#[test]
fn one_launcher_has_the_slots() {
    let dir = tempfile::tempdir().unwrap();
    let slots = slots(dir.path());
    let held = slots.lock().unwrap();
    let refused = slots.lock().unwrap_err().to_string();
    assert!(refused.contains("stop it first"), "{refused}");
    drop(held);
    slots.lock().unwrap();
}

#[test]
fn an_update_that_fits_has_its_trial() {
    let dir = tempfile::tempdir().unwrap();
    let slots = slots(dir.path());
    let new = script(&about("0.2.0-rc.1"), "");
    let offer = offer(&new, Version(0, 2, 0));
    try_install(&slots, &offer, &new).unwrap();
    let state = slots.load().unwrap().unwrap().state;
    assert_eq!((state.on_trial(), state.confirmed), (Some(Slot::B), Slot::A));
    let present = [sha256(b"old"), offer.program.digest].map(Seen::Present);
    assert_eq!(slots.found(None).programs, present);
    // A second one, after a store failure: the first was not heard of.
    try_install(&slots, &offer, &new).unwrap();
    assert_eq!(slots.load().unwrap().unwrap().state, state);
    let third = script(&about("0.2.0"), "");
    let refused = try_install(&slots, &self::offer(&third, Version(0, 2, 0)), &third);
    assert!(refused.unwrap_err().contains("itself on trial"));
}

/// The launcher started the one in slot a because that in slot b was damaged, and could not write it down.
#[test]
fn an_update_is_not_written_over_the_program_that_runs() {
    let dir = tempfile::tempdir().unwrap();
    let slots = slots(dir.path());
    let lost = Program { digest: sha256(b"lost"), version: Version(0, 1, 1) };
    let mut state = State::new(Slot::B, lost);
    state.programs[0] = slots.state().unwrap().programs[0].clone();
    slots.save(&state).unwrap();
    let new = script(&about("0.2.0"), "");
    let refused = try_install(&slots, &offer(&new, Version(0, 2, 0)), &new).unwrap_err();
    assert!(refused.contains("restart the service"), "{refused}");
    assert_eq!(slots.state().unwrap(), state);
    assert_eq!(slots.found(None).programs[0], Seen::Present(sha256(b"old")));
    assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 1, "nor beside it");
}

/// The store fails while an update is written, and the next life writes it as well; meanwhile the
/// control plane was told of a failure.
#[test]
fn what_is_written_at_once_is_written_one_after_the_other() {
    const CHANGES: u16 = 200;
    let dir = tempfile::tempdir().unwrap();
    let slots = slots(dir.path());
    let new = script(&about("0.2.0"), "sleep 0.2");
    let offer = offer(&new, Version(0, 2, 0));
    std::thread::scope(|scope| {
        let writing = [(); 2].map(|()| scope.spawn(|| try_install(&slots, &offer, &new)));
        for _ in 0..CHANGES {
            let bump = |state: &State| State { floor: bumped(state.floor), ..state.clone() };
            slots.change(|state| Some(bump(state))).unwrap();
        }
        for written in writing {
            written.join().unwrap().unwrap();
        }
    });
    let state = slots.load().unwrap().unwrap().state;
    assert_eq!(state.floor, Version(0, 0, CHANGES), "none is lost");
    assert_eq!(state.on_trial(), Some(Slot::B));
    assert_eq!(fs::read_dir(dir.path().join("b")).unwrap().count(), 1, "nothing is left over");
}

fn bumped(Version(major, minor, patch): Version) -> Version {
    Version(major, minor, patch + 1)
}

#[test]
fn the_program_before_stays_until_an_update_has_passed_all_questions() {
    let dir = tempfile::tempdir().unwrap();
    let slots = slots(dir.path());
    slots.install(Slot::B, b"before", sha256(b"before")).unwrap();
    let before = Program { digest: sha256(b"before"), version: Version(0, 0, 9) };
    let named = |state: &State| {
        let mut next = state.clone();
        next.programs[1] = Some(before.clone());
        Some(next)
    };
    let state = slots.change(named).unwrap();
    let bad = script(&about("0.3.0"), "");
    try_install(&slots, &offer(&bad, Version(0, 2, 0)), &bad).unwrap_err();
    assert_eq!(slots.load().unwrap().unwrap().state, state);
    assert_eq!(slots.found(None).programs[1], Seen::Present(sha256(b"before")));
}

#[test]
fn a_program_that_cannot_be_read_is_not_one_that_is_absent() {
    let dir = tempfile::tempdir().unwrap();
    let slots = slots(dir.path());
    fs::create_dir(slots.program(Slot::B)).unwrap();
    let present = Seen::Present(sha256(b"old"));
    assert_eq!(slots.found(None).programs, [present, Seen::Unreadable]);
    fs::remove_dir(slots.program(Slot::B)).unwrap();
    assert_eq!(slots.found(None).programs, [present, Seen::Absent]);
}

#[test]
fn what_does_not_fit_is_declined_before_anything_depends_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let slots = slots(dir.path());
    let newer = About { formats: Formats { reads: 2, writes: 2 }, ..about("0.2.0") };
    let foreign = About { target: "pdp11-dec-unix".to_owned(), ..about("0.2.0") };
    for (bytes, why) in [
        (script(&about("0.3.0"), ""), "it calls itself 0.3.0, its deployment 0.2.0"),
        (script(&newer, ""), "it reads data of the formats 2 to 2"),
        (script(&foreign, ""), "it is built for pdp11-dec-unix"),
        (script(&about("0.2.0"), "exit 3"), "is it an agent of Holm?"),
        (b"#!/bin/sh\necho hello\n".to_vec(), "cannot be read"),
        (b"\x7fELF of another processor".to_vec(), "it does not start on this machine"),
    ] {
        let offer = offer(&bytes, Version(0, 2, 0));
        let declined = try_install(&slots, &offer, &bytes).unwrap_err();
        assert!(declined.contains(why), "{declined}");
        let state = slots.load().unwrap().unwrap().state;
        assert_eq!((state.on_trial(), state.confirmed), (None, Slot::A));
        assert_eq!(slots.found(None).programs[0], Seen::Present(sha256(b"old")));
    }
    let other = offer(b"other", Version(0, 2, 0));
    let declined = try_install(&slots, &other, b"new").unwrap_err();
    assert!(declined.contains("read back"), "{declined}");
}

#[test]
fn what_a_program_leaves_behind_when_it_was_asked_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let slots = slots(dir.path());
    let new = script(&about("0.2.0"), "sleep 60 &");
    let begun = std::time::Instant::now();
    try_install(&slots, &offer(&new, Version(0, 2, 0)), &new).unwrap();
    assert!(begun.elapsed() < std::time::Duration::from_secs(40), "until the pipe was closed");
}

#[test]
fn this_program_knows_the_format_that_it_writes() {
    let own = About::own();
    assert!(own.formats.reads(crate::store::FORMAT) && own.target.contains("linux"));
    let text = serde_json::to_string(&own).unwrap();
    assert_eq!(serde_json::from_str::<About>(&text).unwrap(), own);
    let missing = probe::ask(Path::new("/no/such/program")).unwrap_err().to_string();
    assert!(missing.contains("does not start"), "{missing}");
}
