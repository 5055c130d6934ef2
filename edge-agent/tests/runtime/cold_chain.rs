//! The demonstration's functions in WebAssembly against the plain computation.

use std::path::Path;
use std::sync::Arc;

use cold_chain_model::{Alarm, Moving, Reading, SmoothedMessage, Thresholds};
use edge_agent::runtime::{BuildOptions, FunctionProfile, MemoryState, Prepared, build_function};
use edge_core::topic::TopicFilter;

use super::harness::{domain, functions_dir, outputs, profile, run_on, runtime};

fn prepare(name: &str) -> Arc<Prepared> {
    let app = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/apps/cold-chain");
    // Shared, so that the SDK is built once.
    let target_dir = Some(functions_dir().join("target"));
    let options = BuildOptions { target_dir, ..BuildOptions::default() };
    let component = build_function(&app.join("functions").join(name), &options).unwrap();
    let mut profile: FunctionProfile = profile(name);
    profile.grants.publish = vec![TopicFilter::new(&format!("{name}/+")).unwrap()];
    profile.grants.record = vec!["temperature".to_owned()];
    runtime().prepare(&component, profile).unwrap()
}

/// A walk with jumps, from a linear congruential generator: awkward numbers, the same everywhere.
fn readings(count: u64) -> impl Iterator<Item = Reading> {
    let mut random = 1_u64;
    let mut value = 71.3;
    (1..=count).map(move |seq| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let unit = f64::from(u32::try_from(random >> 32).unwrap()) / f64::from(u32::MAX);
        value += (unit - 0.5) / 3.0;
        let jump = if seq % 97 == 0 { 15.0 } else { 0.0 };
        Reading { device: "m1".to_owned(), seq, value: value + jump }
    })
}

#[test]
fn states_equal_the_plain_computation_to_the_last_bit() {
    let (smooth, alarm) = (prepare("smooth"), prepare("alarm"));
    let state = Arc::new(MemoryState::default());
    let (mut moving, mut judged) = (Moving::default(), Alarm::default());
    let mut told = 0;
    for reading in readings(1_000) {
        let payload = serde_json::to_vec(&reading).unwrap();
        let smoothed = outputs(run_on(&smooth, &state, "machines/m1", &payload));
        state.apply(&domain(&smooth), &smoothed.state);
        let expected = moving.observe(&reading);
        let message = SmoothedMessage { smoothed: expected.clone(), attempt: 1 };
        assert_eq!(smoothed.publishes[0].payload, serde_json::to_vec(&message).unwrap());

        let alarmed = outputs(run_on(&alarm, &state, "smooth/m1", &smoothed.publishes[0].payload));
        state.apply(&domain(&alarm), &alarmed.state);
        let change = judged.judge(&expected, Thresholds::default());
        assert_eq!(alarmed.publishes.len(), usize::from(change.is_some()));
        assert_eq!(alarmed.records.len(), 1);
        told += alarmed.publishes.len();
    }
    assert!(told >= 4, "the readings raise alarms: {told}");
    let kept = |prepared: &Prepared| state.entries(&domain(prepared)).remove(0).1;
    assert_eq!(kept(&smooth), serde_json::to_vec(&moving).unwrap());
    assert_eq!(kept(&alarm), serde_json::to_vec(&judged).unwrap());
}
