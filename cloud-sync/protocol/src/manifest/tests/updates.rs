//! Apps that bring an agent or a system.

use super::*;

fn update(targets: &[&str]) -> Update {
    let program = |target: &&str| {
        let program = update::Program { artifact: Digest::of(target.as_bytes()), size: 9 };
        ((*target).to_owned(), program)
    };
    let programs = targets.iter().map(program).collect();
    Update { version: "0.2.0".to_owned(), floor: None, force: false, programs }
}

#[test]
fn an_app_may_be_an_agent_alone_and_others_do_not_mention_it() {
    assert!(!String::from_utf8(good().to_bytes()).unwrap().contains("agent"));
    let mut manifest = good();
    manifest.functions.clear();
    manifest.triggers.clear();
    manifest.agent = Some(update(&["aarch64-unknown-linux-musl"]));
    assert_eq!(manifest.problems(), []);
    let text = String::from_utf8(manifest.to_bytes()).unwrap();
    assert!(text.contains(r#""agent":{"version":"0.2.0","programs":{"aarch64-"#), "{text}");
    assert_eq!(Manifest::from_bytes(text.as_bytes()), Ok(manifest));
}

#[test]
fn a_gateway_needs_the_program_of_its_own_target_only() {
    let mut manifest = good();
    let before = manifest.artifacts();
    manifest.agent = Some(update(&["a-b", "c-d"]));
    assert_eq!(manifest.artifacts().len(), before.len() + 2);
    let own = manifest.artifacts_for("c-d", None);
    assert!(own.contains_key(&Digest::of(b"c-d")) && !own.contains_key(&Digest::of(b"a-b")));
    assert_eq!(manifest.artifacts_for("e-f", Some("c-d")), before);
}

#[test]
fn problems_of_an_agent_have_their_paths() {
    let mut manifest = good();
    let mut with = |update: Update| {
        manifest.agent = Some(update);
        paths(&manifest)
    };
    let good = || update(&["x86_64-unknown-linux-gnu"]);
    let floor = |text: &str| Update { floor: Some(text.to_owned()), ..good() };
    assert_eq!(with(Update { force: true, ..floor("0.2.0") }), [""; 0]);
    assert_eq!(with(floor("0.2.1")), ["agent.floor"]);
    assert_eq!(with(floor("0.1")), ["agent.floor"]);
    for version in ["", "1", "0.2.0-rc.1", "00.2.0"] {
        assert_eq!(with(Update { version: version.to_owned(), ..good() }), ["agent.version"]);
    }
    assert_eq!(with(update(&[])), ["agent.programs"]);
    for target in ["linux", "x86 64-linux", "../x-y", "a-b-c-d-e-f"] {
        assert_eq!(with(update(&[target])), [format!("agent.programs.{target}")]);
    }
}

/// An app that brings a system alone.
fn system(boards: &[&str]) -> Manifest {
    let mut manifest = good();
    manifest.functions.clear();
    manifest.triggers.clear();
    manifest.records.clear();
    manifest.firmware.clear();
    manifest.system = Some(update(boards));
    manifest
}

#[test]
fn a_gateway_needs_the_system_of_its_own_board_only() {
    let manifest = system(&["rpi4", "virt"]);
    assert_eq!(manifest.problems(), []);
    assert_eq!(manifest.artifacts().len(), 2);
    let own = manifest.artifacts_for("rpi4", Some("virt"));
    assert_eq!(own, [(Digest::of(b"virt"), 9)].into());
    assert_eq!(manifest.artifacts_for("virt", None), [].into());
    assert_eq!(Manifest::from_bytes(&manifest.to_bytes()), Ok(manifest));
}

#[test]
fn problems_of_a_system_have_their_paths() {
    assert_eq!(paths(&system(&["RPi4"])), ["system.programs.RPi4"]);
    assert_eq!(paths(&system(&[])), ["system.programs"]);
    let mut large = system(&["virt"]);
    let mut resize = |size| {
        large.system.as_mut().unwrap().programs.get_mut("virt").unwrap().size = size;
        paths(&large)
    };
    assert_eq!(resize(crate::limits::SYSTEM_BYTES_MAX), [""; 0]);
    assert_eq!(resize(crate::limits::SYSTEM_BYTES_MAX + 1), ["system.programs.virt.size"]);
    let mut crowded = system(&["virt"]);
    crowded.agent = Some(update(&["a-b"]));
    assert_eq!(paths(&crowded), ["system"]);
    let mut crowded = good();
    crowded.system = Some(update(&["virt"]));
    assert_eq!(paths(&crowded), ["system"]);
}
