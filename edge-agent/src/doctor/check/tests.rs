use std::net::SocketAddr;

use serde_json::json;

use super::*;
use crate::doctor::facts::*;
use crate::doctor::{State, worst};

const NOW: u64 = 1_800_000_000;
const DAY: i64 = 86_400;

/// A gateway with nothing wrong.
fn well() -> Facts {
    let status = json!({
        "version": "1", "uptime_s": 7_200, "degraded": [], "clock": { "synced": true },
        "devices": { "connected": 3 }, "core": { "dead_letters": 0 },
        "disk": { "life_written_bytes_per_day": 5 << 20 },
    });
    Facts {
        settings: SettingsFile {
            file: "agent.toml".to_owned(),
            name: Some("barn-3".to_owned()),
            problems: Vec::new(),
            log: None,
        },
        clock: Clock {
            unix_s: NOW,
            floor_unix_s: NOW - 1_000_000,
            store_unix_s: Some(NOW - 5),
            disciplined: true,
        },
        agent: Agent::Up { status: Box::new(status), letter: None },
        identity: Identity::Enrolled("barn-3".to_owned()),
        control_plane: Some(ControlPlane {
            endpoint: "cloud:8883".to_owned(),
            proxy: None,
            addresses: Ok(vec![address()]),
            reached: Some(Ok(())),
        }),
        certificates: vec![certificate(400, false), certificate(200, true)],
        listeners: vec![Listener { address: address(), port: Port::Answers }],
        disk: Disk {
            unknown: None,
            free_bytes: 1 << 30,
            all_bytes: 4 << 30,
            free_files: Some(9_999),
        },
        sizes: Sizes {
            journal_bytes: 20 << 20,
            checkpoint_bytes: 5 << 20,
            ballast_bytes: 2 << 20,
            has_store: true,
            store_bytes_max: 4 << 30,
            ..Sizes::default()
        },
        left_over: None,
        memory: Some(Memory { available_bytes: 300 << 20, all_bytes: 512 << 20 }),
        space: Space {
            limit_bytes: None,
            of: "x".to_owned(),
            pool_bytes: 128 << 20,
            bits: 64,
            workers: 8,
            workers_that_fit: 8,
        },
        files: vec![file(FileKind::Data, 0o700), file(FileKind::Secret, 0o600)],
    }
}

fn address() -> SocketAddr {
    "192.0.2.1:8883".parse().unwrap()
}

fn certificate(days: i64, renews_itself: bool) -> Certificate {
    let to_unix_s = NOW.cast_signed() + days * DAY;
    let validity = Ok(Validity { from_unix_s: to_unix_s - 500 * DAY, to_unix_s });
    Certificate { of: "x".to_owned(), validity, renews_itself }
}

fn file(kind: FileKind, mode: u32) -> FileFact {
    FileFact {
        path: "/data/x".to_owned(),
        kind,
        access: Ok(Access { mode, writable: true, owner: 7 }),
    }
}

/// The findings that are not well, after a change.
fn after(change: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    let mut facts = well();
    change(&mut facts);
    let findings = check(&facts);
    for finding in &findings {
        let needs_mend = finding.state != State::Ok;
        assert_eq!(needs_mend, !finding.mend.is_empty(), "{finding:?}");
        assert!(!finding.what.is_empty(), "{finding:?}");
    }
    findings.into_iter().filter(|finding| finding.state != State::Ok).collect()
}

/// That one change makes one finding of this check and state.
fn makes(check: &str, state: State, change: impl FnOnce(&mut Facts)) -> Finding {
    let findings = after(change);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!((findings[0].check, findings[0].state), (check, state), "{findings:?}");
    findings.into_iter().next().unwrap()
}

#[test]
fn a_gateway_that_is_well_has_no_finding_to_mend() {
    assert_eq!(after(|_| {}), []);
    assert_eq!(worst(&check(&well())), State::Ok);
}

#[test]
fn without_settings_nothing_else_is_judged() {
    let findings = after(|facts| {
        facts.settings.name = None;
        facts.settings.problems = vec!["line 3: no".to_owned()];
        facts.disk.free_bytes = 0;
    });
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].check, findings[0].state), ("settings", State::Fault));
    assert!(findings[0].what.contains("line 3"));
}

#[test]
fn clocks() {
    let wrong = |change: fn(&mut Facts)| makes("clock", State::Warning, change).what;
    assert!(wrong(|facts| facts.clock.unix_s = 7).contains("before this agent"));
    assert!(wrong(|facts| facts.clock.store_unix_s = Some(NOW + 61)).contains("61 s behind"));
    assert_eq!(after(|facts| facts.clock.store_unix_s = Some(NOW + 60)), []);
    let findings = after(|facts| facts.clock.unix_s = NOW * 2);
    assert!(findings.iter().any(|finding| finding.what.contains("decades")), "{findings:?}");
    let error = json!({ "clock": { "synced": true, "error_ms": -20_000 } });
    let found = after(|facts| facts.agent = Agent::Up { status: Box::new(error), letter: None });
    assert!(found[0].what.contains("-20000 ms"));
    let found = after(|facts| {
        facts.agent = Agent::Down;
        facts.clock.disciplined = false;
    });
    assert!(found[0].what.contains("nobody vouches"), "{found:?}");
}

#[test]
fn certificates_by_age() {
    let of = |days, itself| {
        let found = after(|facts| facts.certificates = vec![certificate(days, itself)]);
        found.first().map_or(State::Ok, |finding| finding.state)
    };
    let (ok, warning, fault) = (State::Ok, State::Warning, State::Fault);
    assert_eq!([31, 29, 0, -1].map(|days| of(days, false)), [ok, warning, warning, fault]);
    assert_eq!([31, 29, -1, -366].map(|days| of(days, true)), [ok, warning, warning, fault]);
    let found = makes("tls", warning, |facts| facts.certificates = vec![certificate(502, false)]);
    assert!(found.what.contains("valid in 3 days"), "{found:?}");
    let wrong = || Err(Trouble::Wrong("no".to_owned()));
    makes("tls", fault, |facts| facts.certificates[0].validity = wrong());
    let hidden = || Err(Trouble::Hidden("no".to_owned()));
    makes("tls", warning, |facts| facts.certificates[0].validity = hidden());
    // A clock before the release does not make a certificate of today one of tomorrow.
    let found = after(|facts| {
        facts.clock.unix_s = 7;
        facts.certificates = vec![certificate(400, true)];
    });
    assert!(found.iter().all(|finding| finding.check == "clock"), "{found:?}");
}

#[test]
fn identity_and_control_plane() {
    assert_eq!(after(|facts| facts.identity = Identity::None), []);
    let bad = |trouble: fn(String) -> Trouble| {
        move |facts: &mut Facts| facts.identity = Identity::Bad(trouble("no".to_owned()))
    };
    makes("identity", State::Fault, bad(Trouble::Wrong));
    makes("identity", State::Warning, bad(Trouble::Hidden));
    makes("identity", State::Fault, |facts| facts.identity = Identity::Enrolled("b".to_owned()));
    let plane = |change: fn(&mut ControlPlane)| {
        move |facts: &mut Facts| change(facts.control_plane.as_mut().unwrap())
    };
    makes("dns", State::Fault, plane(|plane| plane.addresses = Err("no".to_owned())));
    makes("dns", State::Fault, plane(|plane| plane.addresses = Ok(Vec::new())));
    let reached = plane(|plane| plane.reached = Some(Err("refused".to_owned())));
    makes("control-plane", State::Warning, reached);
    let proxied = plane(|plane| plane.proxy = Some("p:3128".to_owned()));
    let mut facts = well();
    proxied(&mut facts);
    let told: Vec<_> = check(&facts).into_iter().map(|finding| finding.what).collect();
    assert!(told.contains(&"the proxy p:3128 is 192.0.2.1".to_owned()), "{told:?}");
    assert!(told.contains(&"cloud:8883 takes connections through the proxy p:3128".to_owned()));
    let forbidden = plane(|plane| {
        plane.proxy = Some("p:3128".to_owned());
        plane.reached = Some(Err("the proxy p:3128 does not allow cloud:8883".to_owned()));
    });
    assert!(makes("control-plane", State::Warning, forbidden).mend.contains("allow CONNECT"));
    makes(
        "control-plane",
        State::Fault,
        plane(|plane| {
            plane.addresses = Ok(Vec::new());
            plane.reached = Some(Err("HTTPS_PROXY must begin with http://".to_owned()));
        }),
    );
}

#[test]
fn disk_and_store() {
    let disk = |free: u64, all: u64| {
        let change = |facts: &mut Facts| {
            (facts.disk.free_bytes, facts.disk.all_bytes) = (free, all);
        };
        after(change).first().map_or(State::Ok, |finding| finding.state)
    };
    assert_eq!(disk(8 << 20, 32 << 20), State::Ok, "a small disk that is a quarter free");
    assert_eq!(disk(63 << 20, 4 << 30), State::Warning);
    assert_eq!(disk(1 << 30, 64 << 30), State::Warning);
    assert_eq!(disk((8 << 20) - 1, 4 << 30), State::Fault);
    assert_eq!(disk(0, 0), State::Fault);
    makes("disk", State::Fault, |facts| facts.disk.free_files = Some(3));
    makes("disk", State::Fault, |facts| facts.disk.unknown = Some("gone".to_owned()));
    makes("store", State::Fault, |facts| facts.sizes.is_half_reset = true);
    makes("store", State::Fault, |facts| facts.sizes.journal_bytes = 0);
    makes("store", State::Warning, |facts| facts.sizes.ballast_bytes = 0);
    makes("store", State::Warning, |facts| facts.sizes.store_bytes_max = 6 << 20);
    let left = makes("store", State::Warning, |facts| facts.left_over = Some("/x/.y".into()));
    assert!(left.what.contains("/x/.y"), "{left:?}");
    assert_eq!(after(|facts| facts.sizes = Sizes::default()), [], "before the first start");
}

#[test]
fn memory_and_address_space() {
    let memory = |available: u64| {
        let all = Memory { available_bytes: available, all_bytes: 1 << 30 };
        after(|facts| facts.memory = Some(all)).first().map_or(State::Ok, |found| found.state)
    };
    let sizes = [48 << 20, 47 << 20, 15 << 20];
    assert_eq!(sizes.map(memory), [State::Ok, State::Warning, State::Fault]);
    makes("memory", State::Warning, |facts| facts.memory = None);
    let enough = |facts: &mut Facts| facts.space.limit_bytes = Some((128 + 512) << 20);
    assert_eq!(after(enough), []);
    let found = makes("address-space", State::Warning, |facts| {
        (facts.space.limit_bytes, facts.space.workers_that_fit) = (Some(600 << 20), 5);
    });
    assert!(found.what.contains("5 of 8 workers") && found.mend.contains("LimitAS="), "{found:?}");
    let found = makes("address-space", State::Fault, |facts| {
        (facts.space.bits, facts.space.workers_that_fit) = (32, 0);
    });
    assert!(found.mend.contains("32 bits"), "{found:?}");
}

#[test]
fn permissions() {
    let fault = |file: FileFact| {
        makes("permissions", State::Fault, |facts| facts.files.push(file));
    };
    fault(file(FileKind::Secret, 0o640));
    fault(file(FileKind::Key, 0o644));
    assert_eq!(after(|facts| facts.files.push(file(FileKind::Key, 0o640))), []);
    let other = Access { mode: 0o600, writable: true, owner: 0 };
    fault(FileFact { access: Ok(other), ..file(FileKind::Owned, 0) });
    let unreadable = FileFact { access: Err("denied".to_owned()), ..file(FileKind::Owned, 0) };
    makes("permissions", State::Warning, |facts| facts.files.push(unreadable));
    let closed = Access { mode: 0o700, writable: false, owner: 7 };
    let closed = FileFact { access: Ok(closed), ..file(FileKind::Data, 0) };
    makes("permissions", State::Fault, |facts| facts.files[0] = closed);
    makes("permissions", State::Warning, |facts| facts.files[0] = file(FileKind::Data, 0o777));
}

#[test]
fn ports_and_agent() {
    let port = |port: Port| move |facts: &mut Facts| facts.listeners[0].port = port;
    makes("ports", State::Fault, port(Port::Refused("in use".to_owned())));
    makes("ports", State::Fault, port(Port::Dead("no".to_owned())));
    assert_eq!(after(port(Port::Free)), []);
    makes("agent", State::Warning, |facts| facts.agent = Agent::Down);
    makes("agent", State::Fault, |facts| facts.agent = Agent::Silent("no".to_owned()));
    let degraded = |reason: &str| {
        let reason = reason.to_owned();
        move |facts: &mut Facts| {
            let Agent::Up { status, .. } = &mut facts.agent else { unreachable!("it is up") };
            status["degraded"] = json!([reason]);
        }
    };
    makes("agent", State::Warning, degraded("no control plane: refused"));
    makes("agent", State::Fault, degraded("safe mode: the process died 5 times"));
    makes("agent", State::Fault, degraded("the store is full: nothing new is acked"));
    let found = makes("dead-letters", State::Warning, |facts| {
        let Agent::Up { status, letter } = &mut facts.agent else { unreachable!("it is up") };
        status["core"]["dead_letters"] = json!(2);
        *letter = Some(Letter { function: "a/b".to_owned(), error: "e".repeat(1_000) });
    });
    assert!(found.what.starts_with("2; the newest is of a/b") && found.what.len() < 300);
}

#[test]
fn sizes_are_told_as_people_read_them() {
    let told = [0, 1_023, 1_024, 1_536, 100 << 10, 5 << 30].map(bytes);
    assert_eq!(told, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "100 KiB", "5.0 GiB"]);
}
