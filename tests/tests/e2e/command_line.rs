//! What the commands of `edge-agent` answer to programs: with `--json` one object, of a failure on standard error.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use system_tests::author::Author;
use system_tests::cloud::Cloud;
use system_tests::gateway::{Gateway, Setup};
use system_tests::process::program;

use crate::support::{author, bundle, wait_live};

fn agent(words: &[&str]) -> Result<Output> {
    Ok(Command::new(program("edge-agent")?).args(words).output()?)
}

/// What a command answers that does what it is asked.
fn answer(output: &Output) -> Result<Value> {
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && errors.is_empty(), "{errors}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Kind and problem of one that does not.
fn failure(output: &Output) -> Result<(String, String)> {
    ensure!(!output.status.success(), "it was done");
    let text = String::from_utf8_lossy(&output.stderr);
    let error = serde_json::from_str::<Value>(&text).context(text.into_owned())?["error"].take();
    let word = |value: &Value| value.as_str().context("no text").map(str::to_owned);
    Ok((word(&error["kind"])?, word(&error["problems"][0])?))
}

#[test]
fn deployments_by_hand_answer_in_json() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let setup = Setup { author_keys: vec![author().key()?], ..Setup::open("terse") };
    let mut gateway = Gateway::new(dir.path(), &setup)?;
    gateway.start()?;
    let file = bundle("counter");
    let file = file.to_str().context("UTF-8")?;
    let taken = answer(&gateway.agent(&["deploy", file, "--json"])?.output()?)?;
    assert_eq!((&taken["app"], &taken["phase"]), (&json!("counter"), &json!("verifying")));
    wait_live(&gateway, "counter")?;
    let app = gateway.status()?["deployments"]["apps"][0].take();
    assert_eq!(taken["revision"], app["revision"]);
    let again = answer(&gateway.agent(&["deploy", file, "--json"])?.output()?)?;
    assert_eq!((&again["version"], &again["phase"]), (&taken["version"], &app["phase"]));
    let told = gateway.agent(&["deploy", file])?.output()?;
    let line = format!("counter {}: ", taken["version"].as_str().context("no version")?);
    let told = String::from_utf8(told.stdout)?;
    assert!(told.starts_with(&line), "{told}");

    let unknown = gateway.agent(&["undeploy", "nothing", "--json"])?.output()?;
    assert!(unknown.stdout.is_empty());
    let (kind, problem) = failure(&unknown)?;
    assert_eq!(
        (kind.as_str(), problem.as_str()),
        ("failed", "no app \"nothing\" is deployed here")
    );
    let ended = answer(&gateway.agent(&["undeploy", "counter", "--json"])?.output()?)?;
    assert_eq!(ended, json!({ "app": "counter", "revision": app["revision"] }));
    gateway.stop()
}

#[test]
fn a_configuration_is_judged_in_json() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("agent.toml");
    let name = file.to_str().context("UTF-8")?;
    std::fs::write(&file, "name = \"terse\"\ndata_dir = \"data\"\n")?;
    let good = answer(&agent(&["check", name, "--json"])?)?;
    assert_eq!(good, json!({ "file": name, "gateway": "terse", "problems": [] }));
    std::fs::write(&file, "name = \"terse\"\ndata_dir = \"data\"\nnam = 1\n[limit]\n")?;
    let output = agent(&["check", name, "--json"])?;
    let (_, problem) = failure(&output)?;
    assert!(problem.starts_with("2 problem(s)"), "{problem}");
    let bad: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(bad["gateway"], Value::Null);
    let rows: Vec<_> = bad["problems"].as_array().into_iter().flatten().collect();
    let lines: Vec<_> = rows.iter().filter_map(|row| row["line"].as_u64()).collect();
    assert_eq!(lines, [3, 4], "{bad}");
    assert!(rows.iter().all(|row| row["message"].is_string()), "{bad}");
    Ok(())
}

#[test]
fn failures_are_objects_whatever_fails() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let gateway = Gateway::new(dir.path(), &Setup::open("terse"))?;
    for (words, expected, problem) in [
        (&["status", "--json"][..], "failed", "no agent answers"),
        (&["devices", "--json"][..], "failed", "no agent answers"),
        (&["reset", "--json"][..], "failed", "add --yes"),
        (&["backup", "file", "--json"][..], "failed", "there is no store"),
        (&["restore", "nothing.backup", "--json"][..], "failed", "opening nothing.backup"),
        (&["enroll", "no-token", "--json"][..], "failed", "not an enrolment token"),
        (&["reset", "--json", "--no"][..], "usage", "unexpected argument '--no'"),
    ] {
        let output = gateway.agent(words)?.current_dir(dir.path()).output()?;
        assert!(output.stdout.is_empty(), "{words:?}");
        let (kind, told) = failure(&output)?;
        assert!(kind == expected && told.contains(problem), "{words:?}: {kind}: {told}");
        assert_eq!(output.status.code(), Some(if kind == "usage" { 2 } else { 1 }));
    }
    Ok(())
}

#[test]
fn an_enrolment_answers_in_json() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let author = Author::new(&dir.path().join("author"))?;
    let _cloud = Cloud::start(&dir.path().join("cloud"), &author)?;
    let gateway = Gateway::new(&dir.path().join("gateway"), &Setup::open("terse"))?;
    let token = author.holm(&["gateway", "add", "terse"])?;
    let joined = answer(&gateway.agent(&["enroll", token.trim(), "--json"])?.output()?)?;
    assert_eq!(joined["gateway"], "terse");
    assert!(joined["endpoint"].as_str().is_some_and(|at| at.contains(':')), "{joined}");
    Ok(())
}
