//! Files of others: what is in the way, and who owns what root made.

use super::*;

/// Somebody put a link at the name that the half backup has: what it leads to stays as it is.
#[test]
fn a_backup_is_written_to_no_file_of_somebody_elses() {
    let rig = Rig::new();
    fs::write(rig.path("theirs"), "not mine").unwrap();
    std::os::unix::fs::symlink(rig.path("theirs"), rig.path("backup.half")).unwrap();
    rig.back_up().unwrap();
    assert_eq!(fs::read(rig.path("theirs")).unwrap(), b"not mine");
    assert_eq!(rig.names(), ["backup", "data", "theirs"]);
    let made = fs::symlink_metadata(rig.path("backup")).unwrap();
    assert!(made.is_file() && made.mode() & 0o777 == 0o600);
    fs::remove_file(rig.path("backup")).unwrap();
    fs::create_dir(rig.path("backup.half")).unwrap();
    rig.back_up().expect_err("a folder is in the way, and stays");
    assert_eq!(rig.names(), ["backup.half", "data", "theirs"]);
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
    fs::remove_file(data.join("store/lock")).unwrap();
    rig.back_up().unwrap();
    assert_eq!(owner("store/lock"), AGENT);
}
