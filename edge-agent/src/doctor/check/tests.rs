use std::net::SocketAddr;

use serde_json::{Value, json};

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
        "disk": { "life_written_bytes": 5 << 20 },
    });
    Facts {
        settings: SettingsFile {
            file: "agent.toml".to_owned(),
            name: Some("barn-3".to_owned()),
            problems: Vec::new(),
            unread: None,
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
        half_restore: None,
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
        log: LogPlace::Journal,
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
        access: Ok(Access { mode, writable: true, owner: 7, is_own: true }),
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
    let mend = |unread| {
        let findings = after(|facts| {
            (facts.settings.name, facts.settings.unread) = (None, unread);
            facts.settings.problems = vec!["agent.toml: no".to_owned()];
        });
        findings.into_iter().next().unwrap().mend
    };
    assert!(mend(None).starts_with("mend the file"));
    assert!(mend(Some(std::io::ErrorKind::NotFound)).contains("`--config FILE`"));
    assert!(mend(Some(std::io::ErrorKind::PermissionDenied)).contains("as root"));
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
    makes("store", State::Fault, |facts| facts.sizes.journal_bytes = 0);
    makes("store", State::Warning, |facts| facts.sizes.store_bytes_max = 6 << 20);
    assert_eq!(after(|facts| facts.sizes = Sizes::default()), [], "before the first start");
}

#[test]
fn what_was_cut_off_is_told_with_a_way_on_that_loses_nothing() {
    let left = makes("store", State::Warning, |facts| facts.left_over = Some("/x/.y".into()));
    assert!(left.what.contains("/x/.y"), "{left:?}");
    let half = makes("store", State::Warning, |facts| facts.half_restore = Some("/x/.z".into()));
    assert!(half.mend.contains("rm -r /x/.z") && half.what.contains("private key"), "{half:?}");
    let reset = |state, half| makes("store", state, |facts| facts.sizes.half_reset = Some(half));
    let kept = reset(State::Fault, HalfReset::Pending { keep_identity: true });
    assert!(kept.mend.ends_with("`edge-agent reset --yes --keep-identity`"), "{kept:?}");
    let all = reset(State::Fault, HalfReset::Pending { keep_identity: false });
    assert!(all.what.contains("the identity as well"), "{all:?}");
    let rest = reset(State::Warning, HalfReset::Rest);
    assert!(!rest.mend.contains("--yes"), "{rest:?}");
}

#[test]
fn a_store_that_no_agent_can_open_is_a_fault() {
    let bad = |trouble: fn(String) -> Trouble| Heads::Bad(trouble("no".to_owned()));
    let found = makes("store", State::Fault, |facts| facts.sizes.heads = bad(Trouble::Wrong));
    assert!(found.what.contains("cannot start") && found.mend.contains("edge-agent restore"));
    makes("store", State::Warning, |facts| facts.sizes.heads = bad(Trouble::Hidden));
    let half_made = |facts: &mut Facts| {
        facts.sizes = Sizes { journal_bytes: 1, has_store: true, ..Sizes::default() };
        facts.sizes.heads = Heads::Good;
    };
    assert_eq!(after(half_made), [], "a start goes on making it");
}

#[test]
fn the_reserve_is_missed_only_where_no_start_takes_it() {
    makes("store", State::Warning, |facts| facts.sizes.ballast_bytes = 0);
    let stopped = |free_bytes| {
        let found = after(|facts| {
            (facts.agent, facts.sizes.ballast_bytes) = (Agent::Down, 0);
            (facts.disk.free_bytes, facts.disk.all_bytes) = (free_bytes, 40 << 20);
        });
        let of_store: Vec<_> = found.iter().filter(|finding| finding.check == "store").collect();
        of_store.len()
    };
    assert_eq!([stopped(10 << 20), stopped((10 << 20) - 1)], [0, 1]);
}

#[test]
fn what_may_not_be_looked_at_is_a_warning() {
    let hidden = |facts: &mut Facts| {
        facts.agent = Agent::Hidden("x: denied".to_owned());
        facts.listeners.clear();
    };
    let found = makes("agent", State::Warning, hidden);
    assert!(found.what.contains("denied") && found.mend.contains("as root"), "{found:?}");
    let unlisted = |trouble: fn(String) -> Trouble| {
        move |facts: &mut Facts| {
            facts.sizes = Sizes { unlisted: Some(trouble("no".to_owned())), ..Sizes::default() };
        }
    };
    makes("store", State::Warning, unlisted(Trouble::Hidden));
    makes("store", State::Fault, unlisted(Trouble::Wrong));
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
    let other = Access { mode: 0o600, writable: true, owner: 0, is_own: true };
    fault(FileFact { access: Ok(other), ..file(FileKind::Owned, 0) });
    let unreadable = FileFact { access: Err("denied".to_owned()), ..file(FileKind::Owned, 0) };
    let found = makes("permissions", State::Warning, |facts| {
        facts.files.extend(vec![unreadable; 3]);
    });
    assert_eq!(found.what, "/data/x, and 2 more: denied");
    let closed = |is_own| {
        let access = Access { mode: 0o700, writable: false, owner: 7, is_own };
        FileFact { access: Ok(access), ..file(FileKind::Data, 0) }
    };
    makes("permissions", State::Fault, |facts| facts.files[0] = closed(true));
    let found = makes("permissions", State::Warning, |facts| facts.files[0] = closed(false));
    assert!(found.mend.contains("as the agent's user"), "{found:?}");
    makes("permissions", State::Warning, |facts| facts.files[0] = file(FileKind::Data, 0o777));
}

#[test]
fn ports_and_agent() {
    let port = |port: Port| move |facts: &mut Facts| facts.listeners[0].port = port;
    makes("ports", State::Fault, port(Port::Refused("in use".to_owned())));
    makes("ports", State::Fault, port(Port::Dead("no".to_owned())));
    assert_eq!(after(port(Port::Free)), []);
    let down = makes("agent", State::Warning, |facts| facts.agent = Agent::Down);
    assert!(down.mend.contains("`journalctl -u edge-agent"), "{down:?}");
    makes("agent", State::Fault, |facts| facts.agent = Agent::Silent("no".to_owned()));
    let found = makes("dead-letters", State::Warning, |facts| {
        let Agent::Up { status, letter } = &mut facts.agent else { unreachable!("it is up") };
        status["core"]["dead_letters"] = json!(2);
        *letter = Some(Letter { function: "a/b".to_owned(), error: "e".repeat(1_000) });
    });
    assert!(found.what.starts_with("2; the newest is of a/b") && found.what.len() < 300);
}

/// Puts something into the status of the agent.
fn told(field: &str, value: Value) -> impl FnOnce(&mut Facts) {
    move |facts: &mut Facts| {
        let Agent::Up { status, .. } = &mut facts.agent else { unreachable!("it is up") };
        status[field] = value;
    }
}

/// The reasons as `agent::status`, its stand-in and the buses word them.
#[test]
fn each_reason_of_the_agent_has_a_mend_of_its_own() {
    let fault = |reason: &str| makes("agent", State::Fault, told("degraded", json!([reason]))).mend;
    let warning =
        |reason: &str| makes("agent", State::Warning, told("degraded", json!([reason]))).mend;
    assert!(fault("safe mode: the process died 5 times in a row").contains("edge-agent resume"));
    assert!(fault("the store is full: nothing new is acked until").contains("make room"));
    assert!(
        fault("the store cannot be used, and is tried again by itself: EIO").contains("`dmesg`")
    );
    assert!(
        warning("the system clock differs from the control plane's by 9 ms").contains("`clock`")
    );
    assert!(warning("no control plane: a: revision 0 failed: x").contains("`dns`"));
    assert!(warning("a: revision 00 failed: below the floor").contains("deploy it again"));
    assert!(warning("bus hall: /dev/ttyUSB0 is not open: no").contains("`port` in [[buses]]"));
    let full = "3 messages wait for their acks: the queue of a function is full";
    assert!(warning(full).contains("`when_full`"));
    assert!(warning("a/f is paused after 5 faults in a row, for 2 s yet; 7 wait").contains("log"));
    assert!(warning("a/g is not deployed; 2 events wait for it").contains("deploy its app"));
    assert!(warning("a starts nothing: its revision failed the probation").contains("correct"));
    assert!(warning("what nobody thought of").contains("the reason says it"));
}

fn logged(level: &str, age_ms: u64, text: &str) -> Value {
    json!({ "level": level, "target": "x", "unix_ms": 7, "age_ms": age_ms, "text": text })
}

/// What is found about the errors that the log had.
fn of_log(rows: Value) -> Finding {
    let mut facts = well();
    told("errors", rows)(&mut facts);
    let found = check(&facts).into_iter().find(|finding| finding.check == "errors");
    found.expect("a finding")
}

#[test]
fn errors_of_the_last_hour_are_a_warning() {
    const HOUR_MS: u64 = 3_600_000;
    let without = check(&well());
    assert!(without.iter().all(|finding| finding.check != "errors"), "of an agent that keeps none");
    assert_eq!((of_log(json!([])).state, of_log(json!([])).mend.as_str()), (State::Ok, ""));
    let warnings = of_log(json!([logged("warn", 9_000, "message refused")]));
    assert_eq!(warnings.state, State::Ok);
    assert!(warnings.what.ends_with("\n9 s ago, warn: message refused"), "{warnings:?}");
    let old = of_log(json!([logged("warn", 0, "x"), logged("error", HOUR_MS, "the store failed")]));
    assert_eq!(old.state, State::Ok);
    assert!(old.what.ends_with("\n1 h ago, error: the store failed"), "{old:?}");
    let long = format!("two\nlines{}", "e".repeat(600));
    let rows = json!([
        logged("warn", 0, "message refused"),
        logged("error", HOUR_MS - 1, &long),
        logged("error", 200 * 24 * HOUR_MS, "an old one"),
    ]);
    let fresh = makes("errors", State::Warning, told("errors", rows));
    let lines: Vec<_> = fresh.what.lines().collect();
    assert_eq!((lines.len(), lines[2]), (3, "200 d ago, error: an old one"), "{fresh:?}");
    assert!(lines[1].starts_with("59 min ago, error: two lines") && lines[1].len() < 250);
    assert!(fresh.mend.contains("`journalctl -u edge-agent -n 2000`"), "{fresh:?}");
    let many: Vec<_> = (0..20).map(|n| logged("error", n * 1_000, "no")).collect();
    assert_eq!(of_log(json!(many)).what.lines().count(), 6);
}

#[test]
fn wear_by_what_is_used_and_by_the_years_that_are_left() {
    let disk = |used: f64, left: Value, ms: u64| {
        json!({
            "device_written_bytes": 7 << 20, "device_written_bytes_per_day": 5 << 20, "device_ms": ms,
            "life_written_bytes": 1, "life_written_bytes_per_day": 1, "life_ms": 1,
            "endurance_bytes": 300_u64 << 30,
            "life_used_percent": used, "years_left": left,
        })
    };
    let day = 86_400_000;
    let well = |disk: Value| assert_eq!(after(told("disk", disk)), []);
    well(disk(80.0, json!(2.0), day));
    well(disk(0.0, Value::Null, 0));
    // A new gateway on a small disk, of which making the store was all.
    well(disk(0.1, json!(0.4), day - 1));
    let worn = makes("wear", State::Warning, told("disk", disk(80.01, json!(9.0), day)));
    let expected = "5.0 MiB a day over its life; 80.01 % of the 300 GiB that it can take are used, \
                    9 years left at this rate";
    assert_eq!(worn.what, expected);
    assert!(worn.mend.contains("`commit_interval` in [disk]") && worn.mend.contains("backup"));
    let young = makes("wear", State::Warning, told("disk", disk(80.01, json!(0.1), day - 1)));
    let expected = "7.0 MiB written so far; 80.01 % of the 300 GiB that it can take are used";
    assert_eq!(young.what, expected);
    makes("wear", State::Warning, told("disk", disk(3.0, json!(1.9), day)));
    // By the store's own count where the system shows no block device.
    let mut store = disk(3.0, json!(1.9), 0);
    store["device_written_bytes"] = Value::Null;
    well(store.clone());
    store["life_ms"] = json!(day);
    makes("wear", State::Warning, told("disk", store));
    let unknown = json!({ "life_written_bytes": 5 << 20, "endurance_bytes": null });
    well(unknown);
}

/// As the stand-in for a gateway without its store answers.
#[test]
fn nothing_is_said_of_what_an_agent_without_its_store_cannot_count() {
    let findings = after(|facts| {
        let degraded = ["the store cannot be used, and is tried again by itself: EIO"];
        let status = json!({ "version": "1", "uptime_s": 1, "degraded": degraded, "errors": [] });
        facts.agent = Agent::Up { status: Box::new(status), letter: None };
    });
    assert_eq!(findings.len(), 1, "{findings:?}");
    let mut facts = well();
    told("core", Value::Null)(&mut facts);
    assert!(check(&facts).iter().all(|finding| finding.check != "dead-letters"));
}

#[test]
fn sizes_are_told_as_people_read_them() {
    let told = [0, 1_023, 1_024, 1_536, 100 << 10, 5 << 30].map(bytes);
    assert_eq!(told, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "100 KiB", "5.0 GiB"]);
}

#[test]
fn times_are_told_by_their_largest_unit() {
    let told = [0, 59_999, 60_000, 3_600_000, 86_399_999, 86_400_000].map(duration);
    assert_eq!(told, ["0 s", "59 s", "1 min", "1 h", "23 h", "1 d"]);
}
