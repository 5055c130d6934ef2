use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// Where a restore is cut off.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Begun,
    Filled,
    CalledWhole,
    Exchanged,
    Never,
}

const CUTS: [Cut; 5] = [Cut::Begun, Cut::Filled, Cut::CalledWhole, Cut::Exchanged, Cut::Never];

fn data(dir: &Path, who: &str) {
    fs::create_dir_all(dir.join("store")).unwrap();
    fs::write(dir.join("identity"), who).unwrap();
}

/// A forced restore of the gateway `who`, step by step as [`Place::take`] goes, to a cut.
fn restore(target: &Path, who: &str, cut: Cut) {
    let place = Place::judge(target, true).unwrap();
    place.begin().unwrap();
    assert_eq!(half_of(target).as_deref(), Some(place.folder()), "whoever looks is told of it");
    if matches!(cut, Cut::Begun) {
        return;
    }
    data(place.folder(), who);
    if matches!(cut, Cut::Filled) {
        return;
    }
    if matches!(cut, Cut::Never) {
        place.take().unwrap();
        return;
    }
    place.call_whole().unwrap();
    if matches!(cut, Cut::Exchanged) {
        place.exchange().unwrap();
    }
}

/// Names of what stands beside each other, with the gateway in each.
fn all(dir: &TempDir) -> Vec<(String, String)> {
    let mut all: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| {
            let at = entry.unwrap().path();
            let who = fs::read_to_string(at.join("identity")).unwrap_or_default();
            (at.file_name().unwrap().to_str().unwrap().to_owned(), who)
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_part_goes_and_what_may_be_whole_stays() {
    use Leftover::{Delete, Keep, None};
    let all = [(false, false), (true, false), (false, true), (true, true)];
    let all = all.map(|(half, whole)| leftovers(half, whole));
    assert_eq!(all, [(None, None), (Delete, None), (None, Keep), (Delete, Keep)]);
}

/// The data of before are in a folder that is not called so yet: a power cut just behind the exchange.
#[test]
fn a_second_restore_keeps_the_only_old_copy() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("holm");
    data(&target, "old");
    restore(&target, "first", Cut::Exchanged);
    let found = |name: &str, who: &str| (name.to_owned(), who.to_owned());
    assert_eq!(all(&dir), [found(".holm.restored", "old"), found("holm", "first")]);
    assert_eq!(cut_off(&target), Some(dir.path().join(".holm.restored")));
    let place = Place::judge(&target, true).unwrap();
    let kept = place.begin().unwrap();
    assert_eq!(kept, Some(dir.path().join("holm.before-restore")), "and it is told");
    place.give_up();
    drop(place);
    restore(&target, "second", Cut::Never);
    let expected = [
        found("holm", "second"),
        found("holm.before-restore", "old"),
        found("holm.before-restore-1", "first"),
    ];
    assert_eq!(all(&dir), expected);
    assert_eq!((cut_off(&target), half_of(&target)), (None, None));
}

#[test]
fn nothing_is_left_where_the_exchange_fails() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("holm");
    data(&target, "old");
    let place = Place::judge(&target, true).unwrap();
    place.begin().unwrap();
    data(place.folder(), "new");
    // Nothing can change places with a folder that is not there.
    fs::rename(&target, dir.path().join("elsewhere")).unwrap();
    let error = place.take().map(|_| ()).expect_err("the target is gone");
    assert!(matches!(error, BackupError::Io { .. }), "{error}");
    assert_eq!(all(&dir), [("elsewhere".to_owned(), "old".to_owned())]);
}

#[test]
fn what_fails_behind_the_exchange_is_told_as_that() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("holm");
    data(&target, "old");
    let place = Place::judge(&target, true).unwrap();
    place.begin().unwrap();
    data(place.folder(), "new");
    place.call_whole().unwrap();
    place.exchange().unwrap();
    // Somebody took it away.
    fs::rename(&place.whole, dir.path().join("away")).unwrap();
    let error = place.settle().map(|_| ()).expect_err("there is nothing to name");
    assert!(matches!(&error, BackupError::Placed { before: Some(_), .. }), "{error}");
    assert!(error.to_string().starts_with("the backup is in its place"), "{error}");
    assert_eq!(fs::read_to_string(target.join("identity")).unwrap(), "new");
}

#[test]
fn names_that_are_used_up_are_told_before_anything_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("holm");
    data(&target, "old");
    for n in 0..KEPT_MAX {
        let end = if n == 0 { String::new() } else { format!("-{n}") };
        fs::create_dir(dir.path().join(format!("holm.before-restore{end}"))).unwrap();
    }
    let place = Place::judge(&target, true).unwrap();
    let error = place.begin().expect_err("no name is free").to_string();
    assert!(error.contains("delete those that nobody needs"), "{error}");
    assert!(!place.folder().exists());
}

proptest! {
    #[test]
    fn nothing_that_was_in_place_is_lost_wherever_restores_are_cut_off(
        cuts in proptest::collection::vec(0..CUTS.len(), 1..7),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("holm");
        data(&target, "old");
        let mut placed = vec!["old".to_owned()];
        for (n, cut) in cuts.iter().enumerate() {
            let who = format!("restore {n}");
            restore(&target, &who, CUTS[*cut]);
            if matches!(CUTS[*cut], Cut::Exchanged | Cut::Never) {
                placed.push(who);
            }
            let there = all(&dir);
            let in_place = fs::read_to_string(target.join("identity")).unwrap();
            prop_assert_eq!(Some(&in_place), placed.last(), "{:?}", there);
            for who in &placed {
                prop_assert!(there.iter().any(|(_, found)| found == who), "{} of {:?}", who, there);
            }
        }
    }
}
