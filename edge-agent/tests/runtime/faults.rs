//! Every way to misbehave ends within its limit, with words that name the limit and the setting
//! that raises it, or the trap and the function's own symbols.

use std::time::{Duration, Instant};

use edge_agent::runtime::{LogLevel, Prepared};
use edge_core::outcome::{FaultKind, Outcome};
use edge_core::release::StateScope;

use super::harness::{fault, outputs, prepare, prepare_with, run};

#[track_caller]
fn check(prepared: &Prepared, how: &str, payload: &str, kind: FaultKind, words: &[&str]) {
    let fault = fault(run(prepared, how, payload.as_bytes()));
    assert_eq!(fault.kind, kind, "{how}: {}", fault.message);
    for word in words {
        assert!(fault.message.contains(word), "{how}: no `{word}` in: {}", fault.message);
    }
    assert!(fault.message.len() <= 4096);
    // The next attempt finds a sound sandbox.
    outputs(run(prepared, "fine", b""));
}

const RAISE: &str = "in [functions.rogue] of holm.toml";

#[test]
fn limits_are_named_with_the_setting_that_raises_them() {
    let rogue = prepare("rogue");
    let cases: &[(&str, FaultKind, &[&str])] = &[
        ("loop", FaultKind::Timeout, &["time limit 500 ms reached: raise `time`", "rogue::"]),
        ("allocate", FaultKind::Memory, &["memory limit 16 MiB reached: raise `memory`"]),
        ("recurse", FaultKind::Stack, &["stack limit 64 KiB reached: raise `stack`", "recurse"]),
        ("log", FaultKind::Outputs, &["log text per attempt 64 KiB reached: raise `log_bytes`"]),
        ("log-empty", FaultKind::Outputs, &["raise `log_bytes`"]),
        ("publish", FaultKind::Outputs, &["publishes per attempt 64 reached: raise `publishes`"]),
        ("publish-bytes", FaultKind::Outputs, &["256 KiB reached: raise `publish_bytes`"]),
        ("record", FaultKind::Outputs, &["telemetry records per attempt 64", "`records`"]),
        ("state-flood", FaultKind::Outputs, &["1 MiB reached: raise `state_write_bytes`"]),
    ];
    for (how, kind, words) in cases {
        check(&rogue, how, "", *kind, words);
        check(&rogue, how, "", *kind, &[RAISE]);
    }
}

#[test]
fn what_one_call_hands_over_is_bounded_before_it_is_copied() {
    let rogue = prepare("rogue");
    for how in ["publish-huge", "publish-properties"] {
        let words = "limit of what one call hands over 1088 KiB reached: raise `publish_bytes`,";
        check(&rogue, how, "", FaultKind::Outputs, &[words, RAISE]);
    }
}

#[test]
fn what_is_not_granted_is_refused_with_the_grant_to_add() {
    let rogue = prepare_with("rogue", |profile| profile.grants.record.clear());
    let cases = [
        ("denied-publish", "publishing to `secret/door` is not granted: add \"secret/door\""),
        ("denied-publish", "to `publish` in [functions.rogue] of holm.toml"),
        ("denied-record", "recording `secret` is not granted: add \"secret\" to `record` in"),
        ("wildcard", "`rogue/+` cannot be published to"),
    ];
    for (how, words) in cases {
        check(&rogue, how, "", FaultKind::Denied, &[words]);
    }
    let stateless = prepare_with("rogue", |profile| profile.grants.state = StateScope::None);
    let words = "set `state` to \"device\", \"function\" or \"lane\" in [functions.rogue]";
    check(&stateless, "state", "", FaultKind::Denied, &[words]);
}

#[test]
fn traps_carry_the_words_of_the_panic_and_the_functions_own_symbols() {
    let rogue = prepare("rogue");
    let cases: &[(&str, &[&str])] = &[
        ("panic", &["panicked at", "on purpose: boom", "rogue.rs", "\n  0: rogue::rogue"]),
        ("index", &["index out of bounds: the len is 4 but the index is 10000"]),
    ];
    for (how, words) in cases {
        check(&rogue, how, "boom", FaultKind::Trap, words);
    }
    check(&rogue, "divide", "", FaultKind::Trap, &["attempt to divide by zero"]);
    let report = run(&rogue, "panic", b"boom");
    assert_eq!(report.logs.last().unwrap().level, LogLevel::Panic);
}

#[test]
fn the_native_stack_has_a_limit_of_its_own() {
    let rogue = prepare("rogue");
    check(
        &rogue,
        "recurse-lean",
        "",
        FaultKind::Stack,
        &["raise `call_stack` in [limits]", "recurse_lean"],
    );
}

#[test]
fn a_frame_larger_than_the_stack_hints_at_the_stack() {
    let rogue = prepare("rogue");
    let fault = fault(run(&rogue, "big-frame", b""));
    assert!(fault.message.contains("big_frame"), "{}", fault.message);
    assert!(fault.message.contains("`stack`"), "{}", fault.message);
}

#[test]
fn a_state_key_has_bounds() {
    let rogue = prepare("rogue");
    check(&rogue, "state-key", "", FaultKind::Outputs, &["1 to 256 bytes, not 257"]);
}

#[test]
fn state_kept_in_all_is_bounded() {
    let rogue = prepare_with("rogue", |profile| {
        profile.limits.state_bytes = 64 << 10;
    });
    let words = "limit of state kept 64 KiB reached: raise `state_bytes`";
    check(&rogue, "state-flood", "", FaultKind::Outputs, &[words]);
}

#[test]
fn retry_and_reject_are_no_faults() {
    let counter = prepare("counter");
    let asked = |payload: &[u8]| run(&counter, "t", payload);
    let reason = "asked to, at 1".to_owned();
    assert_eq!(asked(b"retry").outcome, Outcome::Retry { reason: reason.clone() });
    assert_eq!(asked(b"reject").outcome, Outcome::Reject { reason });
    assert_eq!(asked(b"retry").logs[0].text, "counted to 1");
}

#[test]
fn a_loop_ends_soon_after_its_time() {
    let rogue = prepare_with("rogue", |profile| profile.limits.time_ms = 100);
    let started = Instant::now();
    let report = run(&rogue, "loop", b"");
    let took = started.elapsed();
    assert_eq!(fault(report).kind, FaultKind::Timeout);
    assert!(took >= Duration::from_millis(100), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}
