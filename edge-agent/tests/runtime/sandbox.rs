//! What an attempt gets and leaves.

use std::sync::Arc;

use bytes::Bytes;
use edge_agent::runtime::{MemoryState, PrepareError};
use edge_core::effect::Work;
use edge_core::id::{DeviceId, LaneKey};
use edge_core::message::QoS;
use edge_core::outcome::StateChange;

use super::harness::{
    component, domain, event, lane, member, outputs, prepare, profile, run, run_on, runtime,
};
use edge_agent::runtime::Attempt;

#[test]
fn publishes_state_and_records_come_out_together() {
    let counter = prepare("counter");
    let state = Arc::new(MemoryState::default());
    for n in 1_u8..=3 {
        let outputs = outputs(run_on(&counter, &state, "t", b""));
        let text = Bytes::from(n.to_string());
        assert_eq!(outputs.publishes.len(), 1);
        assert_eq!(outputs.publishes[0].topic.as_str(), "count/m1");
        assert_eq!(outputs.publishes[0].payload, text);
        assert_eq!(outputs.publishes[0].qos, QoS::AtLeastOnce);
        assert_eq!(
            outputs.publishes[0].properties.content_type.as_deref(),
            Some("application/json")
        );
        assert_eq!(outputs.records[0].name, "count");
        assert_eq!(outputs.state, [StateChange { key: "n".into(), value: Some(text) }]);
        state.apply(&domain(&counter), &outputs.state);
    }
}

#[test]
fn devices_do_not_see_each_others_state() {
    let counter = prepare("counter");
    let state = Arc::new(MemoryState::default());
    let first = outputs(run_on(&counter, &state, "t", b""));
    state.apply(&domain(&counter), &first.state);
    let other = Attempt {
        work: Work::One(member(event("t", b""))),
        lane: LaneKey::Device(DeviceId::new("m2")),
        state,
    };
    assert_eq!(outputs(counter.run(&other)).publishes[0].payload, "1");
}

#[test]
fn reads_see_the_attempts_own_writes() {
    let rogue = prepare("rogue");
    let state = Arc::new(MemoryState::default());
    let old = |key: &str| StateChange { key: key.into(), value: Some("old".into()) };
    state.apply(&domain(&rogue), &[old("a"), old("b"), old("c")]);
    let seen = outputs(run_on(&rogue, &state, "read-own", b""));
    // [[111,..]] are the bytes of the texts "old" and "new".
    assert_eq!(seen.publishes[0].payload, r#"[[111,108,100],[110,101,119],null,["a","b","d"]]"#);
    let keys: Vec<(&str, bool)> =
        seen.state.iter().map(|change| (change.key.as_str(), change.value.is_some())).collect();
    assert_eq!(keys, [("b", true), ("c", false), ("d", true)]);
}

#[test]
fn nothing_of_an_attempt_is_left_in_memory() {
    let rogue = prepare("rogue");
    for _ in 0..50 {
        let outputs = outputs(run(&rogue, "leak", b""));
        assert_eq!(outputs.publishes[0].payload, "[0,0]");
    }
}

#[test]
fn payloads_pass_unchanged() {
    let echo = prepare("echo");
    for payload in [&b""[..], b"\0\xff\xfe", &vec![7; 200_000]] {
        let outputs = outputs(run(&echo, "a/b", payload));
        assert_eq!(outputs.publishes[0].topic.as_str(), "echo/a/b");
        assert_eq!(outputs.publishes[0].payload, payload);
    }
}

#[test]
fn memory_in_use_is_told() {
    let rogue = prepare("rogue");
    let lean = run(&rogue, "fine", b"").stats.memory_peak_bytes;
    let heavy = run(&rogue, "touch", b"4194304").stats.memory_peak_bytes;
    assert!(lean < 512 << 10, "{lean}");
    assert!((4 << 20..8 << 20).contains(&heavy), "{heavy}");
}

#[test]
fn attempts_run_side_by_side() {
    let counter = prepare("counter");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(outputs(run(&counter, "t", b"")).publishes[0].payload, "1");
                }
            });
        }
    });
}

#[test]
fn a_component_that_wants_more_than_the_contract_is_refused() {
    let built = component_of_wasi_module();
    let Err(error) = runtime().prepare(&built, profile("wasi")) else { panic!("prepared") };
    let text = error.to_string();
    assert!(matches!(error, PrepareError::Import { .. }), "{text}");
    assert!(text.contains("imports `wasi:cli/environment@0.2.0`"), "{text}");
}

/// A minimal component, in the binary format, that imports an empty instance of a WASI name.
fn component_of_wasi_module() -> Vec<u8> {
    let name = b"wasi:cli/environment@0.2.0";
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    // Type section: one instance type without declarations.
    component.extend([7, 3, 1, 0x42, 0]);
    // Import section: one import of that instance type.
    let mut import = vec![1, 0, u8::try_from(name.len()).unwrap()];
    import.extend(name);
    import.extend([5, 0]);
    component.push(10);
    component.push(u8::try_from(import.len()).unwrap());
    component.extend(import);
    component
}

#[test]
fn what_is_no_function_is_refused_with_a_hint() {
    let refused = |bytes: &[u8]| match runtime().prepare(bytes, profile("x")) {
        Ok(_) => panic!("prepared"),
        Err(error) => error.to_string(),
    };
    let cases: &[(&[u8], &str)] = &[
        (b"", "not a WebAssembly component"),
        (b"\0asm\x01\0\0\0", "core WebAssembly module, not a component: `holm build`"),
        (b"\0asm\x0d\0\x01\0", "exports no `holm:function/handler@0.1.0`"),
        (b"\0asm\x0d\0\x01\0\xff\xff", "does not compile"),
        (b"\x7fELF\x02\x01\x01\0 and more", "deploy the component"),
    ];
    for (bytes, words) in cases {
        let text = refused(bytes);
        assert!(text.contains(words), "{text}");
    }
    let component = component("echo");
    for cut in [component.len() / 2, component.len() - 1] {
        refused(&component[..cut]);
    }
}

#[test]
fn a_function_may_not_ask_for_more_memory_than_the_gateway_gives() {
    let mut profile = profile("echo");
    profile.limits.memory_bytes = 64 << 20;
    let Err(error) = runtime().prepare(&component("echo"), profile) else { panic!("prepared") };
    assert!(error.to_string().contains("`function_memory` in [limits]"), "{error}");
}

#[test]
fn a_lane_without_a_device_is_one_too() {
    let counter = prepare("counter");
    let mut event = event("t", b"");
    event.device = None;
    let work = Work::One(member(event));
    let attempt = Attempt { work, lane: lane(), state: Arc::<MemoryState>::default() };
    assert_eq!(outputs(counter.run(&attempt)).publishes[0].topic.as_str(), "count/all");
}
