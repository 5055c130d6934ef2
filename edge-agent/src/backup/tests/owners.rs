//! Files of others: what is in the way, and who owns what root made.

use super::*;

/// Whoever has a name like one of a half backup keeps it: a link, with what it leads to, and a file.
#[test]
fn a_backup_is_written_to_no_file_of_somebody_elses() {
    let rig = Rig::new();
    fs::write(rig.path("theirs"), "not mine").unwrap();
    fs::write(rig.path("backup.half"), "not mine either").unwrap();
    let half = |n: u32| format!(".holm-backup-{}-{n}.half", std::process::id());
    std::os::unix::fs::symlink(rig.path("theirs"), rig.path(&half(0))).unwrap();
    fs::create_dir(rig.path(&half(1))).unwrap();
    let done = rig.back_up().unwrap();
    // They may be left of backups that were cut off, so they are told.
    assert_eq!(done.left_over, [rig.path(&half(0)), rig.path(&half(1))]);
    assert_eq!(fs::read(rig.path("theirs")).unwrap(), b"not mine");
    assert_eq!(fs::read(rig.path("backup.half")).unwrap(), b"not mine either");
    let (first, second) = (half(0), half(1));
    let all = [first.as_str(), &second, "backup", "backup.half", "data", "theirs"];
    assert_eq!(rig.names(), all);
    let made = fs::symlink_metadata(rig.path("backup")).unwrap();
    assert!(made.is_file() && made.mode() & 0o777 == 0o600);
}

/// The name is free when it is looked at, and taken when the backup is whole.
#[test]
fn a_name_is_given_only_where_nothing_has_it() {
    let rig = Rig::new();
    let (half, whole) = (rig.path("half"), rig.path("whole"));
    fs::write(&half, "a backup").unwrap();
    fs::write(&whole, "somebody's").unwrap();
    let error = save::name_new(&half, &whole).expect_err("it is taken");
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&whole).unwrap(), b"somebody's");
    fs::remove_file(&whole).unwrap();
    save::name_new(&half, &whole).unwrap();
    assert_eq!(fs::read(&whole).unwrap(), b"a backup");
    assert!(!half.exists());
}

/// Root makes files on the way, and the agent's user owns the folder. Not root, nothing can be shown.
#[test]
fn after_a_reset_by_root_all_is_the_agents() {
    const AGENT: u32 = 4_321;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give files away");
        return;
    }
    let rig = Rig::new();
    let data = rig.data();
    let give = |at: &Path| std::os::unix::fs::chown(at, Some(AGENT), Some(AGENT)).unwrap();
    for folder in ["", "store", "library", "compiled", "partial"] {
        give(&data.join(folder));
    }
    for (path, _) in files(&data) {
        give(&data.join(path));
    }
    // An agent that never ran has no lock, so the reset makes it, and the store behind it as well.
    fs::remove_file(data.join("store/lock")).unwrap();
    reset(&data, &data.join("control.sock"), true).unwrap();
    let owner = |path: &str| fs::metadata(data.join(path)).unwrap().uid();
    for path in ["", "identity", "store", "store/lock"] {
        assert_eq!(owner(path), AGENT, "{path:?}");
    }
    // So does a backup, which takes the lock.
    for (path, contents) in store_files() {
        fs::write(data.join("store").join(path), contents).unwrap();
    }
    fs::remove_file(data.join("store/lock")).unwrap();
    rig.back_up().unwrap();
    assert_eq!(owner("store/lock"), AGENT);
}
