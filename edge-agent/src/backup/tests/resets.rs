use std::fs;

use super::*;

#[test]
fn a_reset_leaves_what_is_not_the_agents() {
    let rig = Rig::new();
    let data = rig.data();
    fs::write(data.join("photos"), "mine").unwrap();
    // One before was cut off.
    fs::create_dir_all(data.join("store.reset/old")).unwrap();
    let socket = data.join("control.sock");
    let emptied = reset(&data, &socket, true).unwrap();
    let gone = ["breadcrumbs", "compiled", "library", "lives", "partial", "store"];
    assert_eq!(emptied.deleted, gone);
    assert_eq!(emptied.left, ["photos"]);
    assert_eq!(names(&data), ["identity", "photos", "store/lock"]);
    reset(&data, &socket, false).unwrap();
    assert_eq!(names(&data), ["photos", "store/lock"]);
    reset(&rig.path("nowhere"), &socket, false).expect_err("nothing there");
}

#[test]
fn what_was_reset_cannot_be_backed_up() {
    let rig = Rig::new();
    let socket = rig.data().join("control.sock");
    for keep_identity in [true, false] {
        reset(&rig.data(), &socket, keep_identity).unwrap();
        let error = rig.back_up().expect_err("there is nothing in it").to_string();
        assert!(error.contains("the store in") && error.contains("is empty"), "{error}");
        assert_eq!(rig.names(), ["data"]);
    }
}
