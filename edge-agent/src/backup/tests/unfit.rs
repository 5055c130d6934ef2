//! Folders that are not to become a backup: no gateway could go on with one.

use super::*;

fn refused(rig: &Rig) -> String {
    let before = files(&rig.data());
    let error = rig.back_up().expect_err("no gateway could go on with it");
    assert!(matches!(error, BackupError::Refused(_)), "{error}");
    assert_eq!(rig.names(), ["data"], "no half of one is left");
    assert!(files(&rig.data()) == before, "it was changed");
    error.to_string()
}

#[test]
fn a_store_that_no_agent_can_open() {
    for file in ["checkpoint.redb", "journal-00.seg"] {
        let rig = Rig::new();
        let at = rig.data().join("store").join(file);
        let bytes = fs::read(&at).unwrap();
        fs::write(&at, vec![0xA5; bytes.len()]).unwrap();
        let error = refused(&rig);
        assert!(error.contains(&format!("{file} does not belong to this store")), "{error}");
        assert!(error.contains("cp -a"), "{error}");
        fs::write(&at, bytes).unwrap();
        rig.back_up().unwrap();
    }
    let rig = Rig::new();
    fs::remove_file(rig.data().join("store/checkpoint.redb")).unwrap();
    assert!(refused(&rig).contains("checkpoint.redb is gone"));
}

#[test]
fn a_reset_that_was_cut_off() {
    let rig = Rig::new();
    let data = rig.data();
    fs::rename(data.join("store"), data.join("store.reset")).unwrap();
    fs::create_dir(data.join("store")).unwrap();
    fs::write(data.join("store/lock"), "").unwrap();
    assert!(refused(&rig).contains("a reset of"));
    finish_reset(&data).unwrap().expect("there is one");
    assert!(refused(&rig).contains("is empty"));
}
