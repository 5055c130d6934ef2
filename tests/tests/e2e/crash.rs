//! Ends of the process at named moments, and the message that causes one.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use system_tests::crash::{self, Campaign, MOMENTS, Options, Report, disk, full, read_only};
use system_tests::device::{self, Plan};
use system_tests::gateway::{Gateway, Setup};
use system_tests::ledger::Ledger;
use system_tests::mqtt::Login;
use system_tests::process::wait_for;
use system_tests::readings::{self, Reading};

use crate::support::{author, deploy_counter, planted_agent};

/// Before and after admit, seal, sync, ack, route and receipt: whatever was acked is done once, and
/// the state is that of a serial run.
#[test]
fn kills_at_every_named_moment_lose_and_double_nothing() -> Result<()> {
    let Some(agent) = planted_agent() else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let mut campaign = Campaign::begin(Options {
        dir: dir.path().to_owned(),
        seed: 1,
        devices: 3,
        rate_per_s: 60.0,
        agent,
    })?;
    campaign.kill_at(MOMENTS)?;
    let evidence = campaign.finish()?;
    let verdict = crash::judge(&evidence);
    println!("{}", crash::table(&evidence, &verdict));
    assert_eq!(verdict.problems, [] as [String; 0]);
    assert_eq!(evidence.kills.len(), MOMENTS.len());
    Ok(())
}

/// The device that sends it does not stop sending it until it is acked, other devices are at work
/// beside it, and after two tries it is a dead letter and the agent is up.
#[test]
fn a_message_that_aborts_the_process_is_dead_lettered_after_two_tries() -> Result<()> {
    const SIGABRT: i32 = 6;
    const READINGS: usize = 300;
    let Some(agent) = planted_agent() else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let names = ["press-1", "press-2", "poison"];
    let setup = Setup {
        author_keys: vec![author().key()?],
        devices: names.iter().map(|name| ((*name).to_owned(), (*name).to_owned())).collect(),
        agent,
        // Payloads name their device.
        plant: Some(r#"abort:"poison","seq":1"#.to_owned()),
        ..Setup::open("barn")
    };
    let mut gateway = Gateway::new(&dir.path().join("gateway"), &setup)?;
    gateway.start()?;
    deploy_counter(&gateway)?;
    let readings = &readings::read(&readings::excerpt())?[..READINGS];
    let address = gateway.address();
    let ends = std::thread::scope(|scope| -> Result<Vec<Option<i32>>> {
        let device = |name: &str, readings: &'static [Reading], rate| {
            let plan = Plan {
                login: Login { password: Some(name.to_owned()), ..Login::anonymous(address, name) },
                topic: format!("sensors/{name}"),
                window: 8,
                rate_per_s: Some(rate),
                ids: name != "press-2",
                patience: Duration::from_secs(60),
                stop: None,
            };
            let path = dir.path().join(format!("{name}.jsonl"));
            scope.spawn(move || device::run(&plan, readings, 7, &mut Ledger::create(&path)?))
        };
        let readings: &'static [Reading] = Vec::leak(readings.to_vec());
        let beside = [device("press-1", readings, 100.0), device("press-2", readings, 100.0)];
        // On probation the revision would answer for it, and be taken back.
        wait_for(Duration::from_secs(60), "the app to be past its probation", || {
            let status = gateway.status()?;
            Ok((status["deployments"]["apps"][0]["phase"] == "live").then_some(()))
        })?;
        let poison = device("poison", &readings[..3], 20.0);
        let mut ends = Vec::new();
        for _ in 0..2 {
            ends.push(gateway.wait_end(Duration::from_secs(60))?);
            gateway.spawn()?;
        }
        for device in beside.into_iter().chain([poison]) {
            device.join().expect("no panic")?;
        }
        Ok(ends)
    })?;
    assert_eq!(ends, [Some(SIGABRT), Some(SIGABRT)]);
    wait_for(Duration::from_secs(60), "the agent to answer", || Ok(gateway.status().ok()))?;
    gateway.wait_idle(Duration::from_secs(30))?;
    let letters = gateway.ask(&["dead-letters"])?;
    let letters = letters.as_array().context("a list")?;
    let told: Vec<(&Value, &Value)> =
        letters.iter().map(|letter| (&letter["device"], &letter["reason"])).collect();
    assert_eq!(told, [(&"poison".into(), &"crashed".into())], "{letters:?}");
    let counted = |device: &str| -> Result<u64> {
        let state = gateway.ask(&["state", "counter/counter", "--device", device])?;
        Ok(state[0]["value"]["text"].as_str().unwrap_or("0").parse()?)
    };
    // Those before and after it are done, and nobody beside it suffered for it.
    assert_eq!(counted("poison")?, 2);
    assert_eq!(counted("press-1")?, READINGS as u64);
    assert!(counted("press-2")? >= READINGS as u64, "plain QoS 1: at least once");
    gateway.stop()
}

/// A full disk stops acks, not the gateway; it heals through receipts alone, and when space returns.
#[test]
fn a_full_disk_stops_acks_and_heals() -> Result<()> {
    let Some(report) = on_a_small_disk(300.0, full::run)? else { return Ok(()) };
    assert!(report.degraded.contains("nothing new is acked"), "{}", report.degraded);
    Ok(())
}

/// A disk that turns read-only stops acks, not the gateway; nothing acked before is lost.
#[test]
fn a_disk_that_turns_read_only_loses_nothing() -> Result<()> {
    let Some(report) = on_a_small_disk(100.0, read_only::run)? else { return Ok(()) };
    assert!(report.degraded.contains("Read-only file system"), "{}", report.degraded);
    Ok(())
}

/// `None` where no small disk can be mounted.
fn on_a_small_disk(
    rate_per_s: f64,
    run: impl FnOnce(Options) -> Result<Report>,
) -> Result<Option<Report>> {
    if let Some(why) = disk::why_no_small_disk() {
        assert!(std::env::var_os("CI").is_none(), "{why}");
        eprintln!("skipped: {why}");
        return Ok(None);
    }
    let dir = tempfile::tempdir()?;
    let report = run(Options {
        dir: dir.path().to_owned(),
        seed: 1,
        devices: 3,
        rate_per_s,
        agent: "edge-agent".to_owned(),
    })?;
    let verdict = crash::judge(&report.evidence);
    println!("{}\n{:?}", crash::table(&report.evidence, &verdict), report.steps);
    assert_eq!(verdict.problems, [] as [String; 0]);
    Ok(Some(report))
}
