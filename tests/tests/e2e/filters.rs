//! Event filters in a running gateway: what nobody wants is acked, costs no run, and is counted.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use system_tests::author::fixture;
use system_tests::gateway::{Gateway, Setup};
use system_tests::process::wait_for;

use crate::support::{PATIENCE, author};

/// The app `counter`, woken by hot readings only.
fn hot_counter(dir: &std::path::Path) -> Result<std::path::PathBuf> {
    let app = fixture("apps").join("counter");
    let manifest = std::fs::read_to_string(app.join("holm.toml"))?;
    let functions = fixture("functions");
    let functions = functions.to_str().context("UTF-8")?;
    let manifest = manifest.replace("../../functions", functions);
    anyhow::ensure!(manifest.contains(functions), "the app has moved: {manifest}");
    let filter = "\nfilter = [{ body = { celsius = [{ numeric = [\">\", 80] }] } }]\n";
    let (before, after) = manifest.split_once("[[triggers]]").context("a trigger")?;
    let own = dir.join("hot");
    std::fs::create_dir_all(&own)?;
    std::fs::write(own.join("holm.toml"), format!("{before}[[triggers]]{filter}{after}"))?;
    author().build(&own)
}

#[test]
fn only_wanted_events_cost_a_run() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let setup = Setup { author_keys: vec![author().key()?], ..Setup::open("barn") };
    let mut gateway = Gateway::new(&dir.path().join("gateway"), &setup)?;
    gateway.start()?;
    gateway.deploy(&hot_counter(dir.path())?)?;
    let broker = format!("mqtt://{}", gateway.address());
    let payloads = ["{\"celsius\": 21.5}", "{\"celsius\": 81}", "hello", "{\"celsius\": 80}", "{}"];
    for payload in payloads {
        // `holm pub` sends with QoS 1 and fails without an ack.
        author().holm(&["pub", "sensors/press", payload, "--broker", &broker])?;
    }
    wait_for(PATIENCE, "the hot reading to be worked on", || {
        let status = gateway.status()?;
        Ok((status["core"]["counters"]["done"] == 1 && status["queue"]["jobs"] == 0).then_some(()))
    })?;
    let status = gateway.status()?;
    let expected = json!([{ "trigger": "counter/counter", "filtered": 3, "filtered_not_json": 1 }]);
    assert_eq!(status["filters"], expected);
    assert_eq!(status["core"]["counters"]["accepted"], payloads.len());
    assert_eq!(status["core"]["dead_letters"], 0);
    gateway.stop()
}

#[test]
fn holm_filter_test_says_which_field_does_not_match() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let pattern = dir.path().join("pattern.json");
    std::fs::write(&pattern, "{\"body\": {\"celsius\": [{\"numeric\": [\">\", 80]}]}}")?;
    let pattern = pattern.to_str().context("UTF-8")?;
    let run = |payload: &str| -> Result<(Option<i32>, Value)> {
        let words = [
            "filter",
            "test",
            "--pattern",
            pattern,
            "--topic",
            "t",
            "--payload",
            payload,
            "--json",
        ];
        let output = author().command(&words)?.output()?;
        Ok((output.status.code(), serde_json::from_slice(&output.stdout)?))
    };
    let (code, answer) = run("{\"celsius\": 81}")?;
    assert_eq!((code, &answer["matches"]), (Some(0), &json!(true)));
    let (code, answer) = run("{\"celsius\": 75}")?;
    assert_eq!((code, &answer["matches"]), (Some(1), &json!(false)));
    let miss = &answer["patterns"][0]["misses"][0];
    assert_eq!((&miss["path"], &miss["found"]), (&json!("body.celsius"), &json!(75)));
    let (_, answer) = run("hello")?;
    assert_eq!(answer["not_json"], true);
    Ok(())
}
