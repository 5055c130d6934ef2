//! `commit_interval` spares flash, and an ack is still a promise.

use anyhow::{Result, ensure};
use system_tests::gateway::{Gateway, Setup};
use system_tests::process::wait_for;

use crate::support::{PATIENCE, author, deploy_counter, publish};

/// Published ten at a time.
const READINGS: usize = 60;

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
    publish(&gateway, 1, READINGS)?;
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

#[test]
fn an_interval_spares_writes_and_keeps_what_was_acked() -> Result<()> {
    let at_once = syncs_with("0 s")?;
    let spared = syncs_with("200 ms")?;
    // Six windows of ten, each with its acks in one write, and a few outcomes beside them.
    ensure!(spared <= 20, "{spared} syncs for {READINGS} readings, {at_once} without an interval");
    ensure!(spared < at_once, "{spared} syncs are not fewer than {at_once}");
    Ok(())
}
