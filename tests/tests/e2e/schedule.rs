//! A schedule through the whole agent: manifest, core, worker, state.

use std::time::Instant;

use anyhow::Result;
use serde_json::Value;
use system_tests::gateway::{Gateway, Setup};
use system_tests::process::wait_for;

use crate::support::{PATIENCE, author, bundle, wait_live};

fn counted(gateway: &Gateway) -> Result<u64> {
    let state = gateway.ask(&["state", "ticker/counter"])?;
    Ok(state[0]["value"]["text"].as_str().unwrap_or("0").parse()?)
}

/// A rate needs no clock that somebody vouches for. It goes on after a SIGKILL, and the time
/// without the process brings no burst.
#[test]
fn a_rate_fires_once_a_slot_and_goes_on_after_a_kill() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let setup = Setup { author_keys: vec![author().key()?], ..Setup::open("ticking") };
    let mut gateway = Gateway::new(&dir.path().join("gateway"), &setup)?;
    gateway.start()?;
    let since = Instant::now();
    gateway.hand_over(&bundle("ticker"))?;
    wait_live(&gateway, "ticker")?;
    let before = wait_for(PATIENCE, "three slots", || {
        Ok(Some(counted(&gateway)?).filter(|count| *count >= 3))
    })?;
    gateway.kill()?;
    gateway.start()?;
    let after = wait_for(PATIENCE, "three more", || {
        Ok(Some(counted(&gateway)?).filter(|count| *count >= before + 3))
    })?;
    let seconds = since.elapsed().as_secs();
    assert!(after <= seconds + 1, "{after} events in {seconds} s");
    let status = gateway.status()?;
    assert_eq!(status["core"]["counters"]["slots_missed"], 0);
    assert_eq!(gateway.ask(&["dead-letters"])?, Value::Array(Vec::new()));
    gateway.stop()
}
