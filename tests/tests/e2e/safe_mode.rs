//! A crash loop ends in safe mode: messages are kept, deployments go on, nothing runs.

use std::time::Duration;

use anyhow::Result;
use system_tests::device::{self, Plan};
use system_tests::gateway::{Gateway, Setup};
use system_tests::ledger::Ledger;
use system_tests::mqtt::Login;
use system_tests::process::wait_for;
use system_tests::readings;

use crate::support::{PATIENCE, author, bundle, deploy_counter, planted_agent, publish, wait_live};

/// Attempts that have to end well for a revision to be kept.
const PROBATION: usize = 100;

#[test]
fn a_crash_loop_ends_in_safe_mode_and_an_operator_ends_that() -> Result<()> {
    let Some(agent) = planted_agent() else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let setup = Setup {
        author_keys: vec![author().key()?],
        agent,
        // Payloads name their device.
        plant: Some(r#"abort:"poison""#.to_owned()),
        safe_mode_after: Some(2),
        ..Setup::open("barn")
    };
    let mut gateway = Gateway::new(&dir.path().join("gateway"), &setup)?;
    gateway.start()?;
    deploy_counter(&gateway)?;
    publish(&gateway, 1, PROBATION)?;
    wait_for(PATIENCE, "the app to be past its probation", || {
        let status = gateway.status()?;
        Ok((status["deployments"]["apps"][0]["phase"] == "live").then_some(()))
    })?;
    crash_twice(dir.path(), &mut gateway)?;
    let status = wait_for(PATIENCE, "the agent to answer", || Ok(gateway.status().ok()))?;
    assert_eq!(status["core"]["safe_mode"], true);
    assert!(status["safe_mode_left_ms"].as_u64().is_some_and(|ms| ms > 500_000), "{status:#}");
    let says = status["degraded"][0].as_str().unwrap_or_default();
    assert!(says.starts_with("safe mode: the process died 2 times in a row"), "{says}");

    // What comes is acked and kept; a mended app could be deployed.
    publish(&gateway, 2, 5)?;
    gateway.deploy(&bundle("ticker"))?;
    wait_live(&gateway, "ticker")?;
    let status = gateway.status()?;
    assert!(status["core"]["jobs"].as_u64() >= Some(5), "{}", status["core"]);
    assert_eq!(status["core"]["running"], 0);
    assert_eq!(counted(&gateway)?, PROBATION as u64);

    let resume = || gateway.agent(&["resume"]).and_then(|mut command| Ok(command.output()?));
    assert!(resume()?.status.success());
    wait_for(PATIENCE, "the five to be counted", || {
        Ok((counted(&gateway)? == PROBATION as u64 + 5).then_some(()))
    })?;
    assert_eq!(gateway.status()?["safe_mode_left_ms"], serde_json::Value::Null);
    let again = String::from_utf8(resume()?.stderr)?;
    assert!(again.contains("the gateway is not in safe mode"), "{again}");
    gateway.stop()
}

/// A device sends what aborts the process until it is acked; the third life is up.
fn crash_twice(dir: &std::path::Path, gateway: &mut Gateway) -> Result<()> {
    let plan = Plan {
        login: Login::anonymous(gateway.address(), "poison"),
        topic: "sensors/poison".to_owned(),
        window: 1,
        rate_per_s: None,
        ids: true,
        patience: PATIENCE,
        stop: None,
    };
    let ledger = dir.join("poison.jsonl");
    std::thread::scope(|scope| {
        let poison = scope.spawn(move || {
            let readings = &readings::read(&readings::excerpt())?[..1];
            device::run(&plan, readings, 7, &mut Ledger::create(&ledger)?)
        });
        for _ in 0..2 {
            gateway.wait_end(Duration::from_secs(60))?;
            gateway.spawn()?;
        }
        poison.join().expect("no panic")
    })
}

fn counted(gateway: &Gateway) -> Result<u64> {
    // Anonymous clients are one device.
    let state = gateway.ask(&["state", "counter/counter"])?;
    Ok(state[0]["value"]["text"].as_str().unwrap_or("0").parse()?)
}
