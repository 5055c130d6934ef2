use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const IDENTITY: [&str; 2] = ["identity", "enrolling.key"];

/// A data folder with a store that looks like one, and a file of somebody else.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["store", "library", "compiled"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
    }
    let files = ["store/checkpoint.redb", "library/00ff", "compiled/x", "lives", "photos"];
    for path in files.into_iter().chain(IDENTITY) {
        fs::write(dir.path().join(path), path).unwrap();
    }
    dir
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn socket(dir: &Path) -> std::path::PathBuf {
    dir.join("control.sock")
}

/// As on the first day, with or without an identity.
fn check_over(dir: &Path, keep_identity: bool) {
    let mut expected = vec!["photos", "store"];
    expected.extend(IDENTITY.iter().filter(|_| keep_identity));
    expected.sort_unstable();
    assert_eq!(names(dir), expected);
    assert_eq!(names(&dir.join("store")), ["lock"]);
    assert_eq!(HalfReset::find(dir).unwrap(), None);
}

/// A reset that is cut off behind its first step, with what is set in `gone` of the rest deleted. (On a
/// disk any of the deletions since the last sync may be kept.)
fn cut_off(dir: &Path, keep_identity: bool, gone: u32) {
    begin(dir, keep_identity).unwrap();
    let parts = PARTS.iter().filter(|part| !is_store(part));
    let parts = parts.filter(|part| !(part.is_identity && keep_identity));
    for (_, part) in (0..).zip(parts).filter(|(bit, _)| gone & (1 << bit) != 0) {
        delete(dir, part, &mut Emptied::default()).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_that_was_cut_off_is_told_and_finished_as_it_was_meant(
        keep_identity: bool,
        gone: u32,
        by_agent: bool,
    ) {
        let dir = folder();
        let dir = dir.path();
        cut_off(dir, keep_identity, gone);
        prop_assert_eq!(HalfReset::find(dir).unwrap(), Some(HalfReset::Pending { keep_identity }));
        let done = if by_agent {
            finish_reset(dir).unwrap().expect("there was one")
        } else {
            // Said without a word of the identity: what the first one said holds.
            reset(dir, &socket(dir), false).unwrap()
        };
        prop_assert!(done.finished && done.identity_stays == keep_identity, "{:?}", done);
        check_over(dir, keep_identity);
        // A second time it is nothing.
        prop_assert!(finish_reset(dir).unwrap().is_none());
    }
}

#[test]
fn nothing_is_deleted_before_it_can_be_told() {
    for keep_identity in [true, false] {
        let dir = folder();
        let dir = dir.path();
        let before = names(dir);
        begin(dir, keep_identity).unwrap();
        let mut after = names(dir);
        let marker = after.iter().position(|name| name.starts_with("store.reset")).unwrap();
        after[marker] = "store".to_owned();
        assert_eq!(after, before);
    }
}

#[test]
fn an_identity_is_spared_by_a_word_behind_the_cut() {
    let dir = folder();
    let dir = dir.path();
    cut_off(dir, false, 0);
    let done = reset(dir, &socket(dir), true).unwrap();
    assert!(done.finished && done.identity_stays, "{done:?}");
    check_over(dir, true);
}

#[test]
fn a_store_made_behind_the_cut_is_nobodys_to_delete() {
    for keep_identity in [true, false] {
        let dir = folder();
        let dir = dir.path();
        cut_off(dir, keep_identity, 0);
        fs::create_dir(dir.join("store")).unwrap();
        fs::write(dir.join("store/journal-00.seg"), "new").unwrap();
        assert_eq!(HalfReset::find(dir).unwrap(), Some(HalfReset::Rest));
        let mut expected = names(dir);
        expected.retain(|name| !name.starts_with("store.reset"));
        assert!(finish_reset(dir).unwrap().is_none());
        assert_eq!(names(dir), expected, "all that may be new stays");
        assert_eq!(names(&dir.join("store")), ["journal-00.seg", "lock"]);
    }
}

#[test]
fn one_that_is_at_it_is_not_disturbed() {
    let dir = folder();
    let dir = dir.path();
    cut_off(dir, false, 0);
    let at_it = Hold::of_store(dir, STORE).unwrap();
    let error = finish_reset(dir).expect_err("somebody has the lock");
    assert!(matches!(error, BackupError::Running(_)), "{error}");
    assert!(dir.join("identity").exists());
    drop(at_it);
    finish_reset(dir).unwrap();
    check_over(dir, false);
}
