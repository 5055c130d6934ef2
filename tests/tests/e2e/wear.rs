//! `commit_interval` spares flash, and an ack is still a promise.

use anyhow::{Result, ensure};
use system_tests::device::{self, Plan};
use system_tests::gateway::{Gateway, Setup};
use system_tests::ledger::Ledger;
use system_tests::mqtt::Login;
use system_tests::process::wait_for;
use system_tests::readings;

use crate::support::{PATIENCE, author, deploy_counter};

/// Published one after the other, twenty a second.
const READINGS: usize = 60;
const RATE_PER_S: f64 = 20.0;

/// Syncs of the store while the readings come, and what was counted after a SIGKILL.
fn syncs_with(interval: &str) -> Result<u64> {
    let dir = tempfile::tempdir()?;
    let setup = Setup {
        author_keys: vec![author().key()?],
        more: format!("[disk]\ncommit_interval = \"{interval}\""),
        ..Setup::open("barn")
    };
    let mut gateway = Gateway::new(&dir.path().join("gateway"), &setup)?;
    gateway.start()?;
    deploy_counter(&gateway)?;
    gateway.wait_idle(PATIENCE)?;
    let syncs = || -> Result<u64> { Ok(gateway.status()?["disk"]["syncs"].as_u64().unwrap_or(0)) };
    let before = syncs()?;
    publish(&gateway)?;
    let taken = syncs()? - before;
    // All are acked, whatever of them is in work still.
    gateway.kill()?;
    gateway.start()?;
    wait_for(PATIENCE, "all readings to be counted", || {
        let state = gateway.ask(&["state", "counter/counter"])?;
        let counted = state[0]["value"]["text"].as_str().unwrap_or("0").parse::<usize>()?;
        ensure!(counted <= READINGS, "{counted} of {READINGS}: some were counted twice");
        Ok((counted == READINGS).then_some(()))
    })?;
    gateway.stop()?;
    Ok(taken)
}

/// All are acked when it returns.
fn publish(gateway: &Gateway) -> Result<()> {
    let plan = Plan {
        login: Login::anonymous(gateway.address(), "press"),
        topic: "sensors/press".to_owned(),
        window: 30,
        rate_per_s: Some(RATE_PER_S),
        ids: true,
        patience: PATIENCE,
        stop: None,
    };
    let readings = &readings::read(&readings::excerpt())?[..READINGS];
    let file = tempfile::NamedTempFile::new()?;
    device::run(&plan, readings, 1, &mut Ledger::create(file.path())?)
}

#[test]
fn an_interval_spares_writes_and_keeps_what_was_acked() -> Result<()> {
    let at_once = syncs_with("0 s")?;
    let spared = syncs_with("500 ms")?;
    // They come in three seconds. A machine that is busy makes the two more alike, never the other way round.
    ensure!(2 * spared < at_once, "{spared} syncs for {READINGS} readings, {at_once} without it");
    Ok(())
}
