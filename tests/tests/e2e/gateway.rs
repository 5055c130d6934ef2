//! One gateway without a control plane: a message runs a function, its result survives SIGKILL.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use system_tests::device::{self, Plan};
use system_tests::gateway::{Gateway, Setup};
use system_tests::ledger::Ledger;
use system_tests::mqtt::Login;
use system_tests::readings;

use crate::support::{PATIENCE, acked, author, bundle, deploy_counter};

const DEVICES: usize = 3;
const READINGS: usize = 400;
const KILLS: usize = 4;

pub(crate) fn gateway_with_counter(dir: &std::path::Path) -> Result<Gateway> {
    let setup = Setup {
        author_keys: vec![author().key()?],
        devices: (0..DEVICES).map(|n| (format!("press-{n}"), format!("token-{n}"))).collect(),
        ..Setup::open("barn")
    };
    let mut gateway = Gateway::new(dir, &setup)?;
    gateway.start()?;
    deploy_counter(&gateway)?;
    Ok(gateway)
}

fn counted(gateway: &Gateway, device: &str) -> Result<u64> {
    let state = gateway.ask(&["state", "counter/counter", "--device", device])?;
    let text = state[0]["value"]["text"].as_str().unwrap_or("0");
    Ok(text.parse()?)
}

/// Devices send `readings` each while `act` does something to the gateway. In the end each reading
/// is acked, and counted once.
pub(crate) fn counts_once(
    dir: &std::path::Path,
    gateway: &mut Gateway,
    readings: usize,
    act: impl FnOnce(&mut Gateway) -> Result<()>,
) -> Result<()> {
    let sent = &readings::read(&readings::excerpt())?[..readings];
    let address = gateway.address();
    let ledger = |n: usize| dir.join(format!("press-{n}.jsonl"));
    std::thread::scope(|scope| -> Result<()> {
        let mut devices = Vec::new();
        for n in 0..DEVICES {
            let plan = Plan {
                login: Login {
                    password: Some(format!("token-{n}")),
                    ..Login::anonymous(address, &format!("press-{n}"))
                },
                topic: format!("sensors/press-{n}"),
                window: 20,
                rate_per_s: Some(120.0),
                ids: true,
                patience: PATIENCE,
                stop: None,
            };
            devices.push(scope.spawn(move || {
                device::run(&plan, sent, 7 + n as u64, &mut Ledger::create(&ledger(n))?)
            }));
        }
        act(gateway)?;
        for device in devices {
            device.join().expect("no panic")?;
        }
        Ok(())
    })?;
    gateway.wait_idle(PATIENCE)?;
    for n in 0..DEVICES {
        assert_eq!(acked(&ledger(n))?, readings);
        assert_eq!(counted(gateway, &format!("press-{n}"))?, readings as u64, "press-{n}");
    }
    assert_eq!(gateway.ask(&["dead-letters"])?, Value::Array(Vec::new()));
    Ok(())
}

/// Every acked message is worked on once, whatever the moment of the kill.
#[test]
fn acked_messages_survive_sigkill_and_count_once() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut gateway = gateway_with_counter(&dir.path().join("gateway"))?;
    let mut under_load = 0;
    counts_once(dir.path(), &mut gateway, READINGS, |gateway| {
        for kill in 0..KILLS {
            // Moments that differ from kill to kill and from run to run.
            std::thread::sleep(Duration::from_millis(350 + 97 * kill as u64));
            let before = gateway.status()?;
            gateway.kill()?;
            under_load += usize::from(before["core"]["counters"]["accepted"] != 0);
            gateway.start()?;
        }
        Ok(())
    })?;
    assert!(under_load > 0, "no kill hit a gateway under load");
    gateway.stop()
}

/// A revision of an unknown author, or tampered with, is refused with the reason; what runs goes on.
#[test]
fn unverified_revisions_are_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let gateway = gateway_with_counter(&dir.path().join("gateway"))?;
    let good = std::fs::read(bundle("counter"))?;
    let path = dir.path().join("bad.holm");
    let refused = |bytes: &[u8], why: &str| -> Result<()> {
        std::fs::write(&path, bytes)?;
        let err = gateway.hand_over(&path).expect_err(why);
        assert!(err.to_string().contains(why), "{why}: {err}");
        Ok(())
    };
    refused(b"", "bundle")?;
    refused(&good[..good.len() / 2], "bundle")?;
    let mut tampered = good.clone();
    let last = tampered.len() - 1;
    tampered[last] ^= 1;
    refused(&tampered, "artifact")?;
    let stranger = system_tests::author::Author::new(&dir.path().join("stranger"))?;
    let theirs = stranger.build(&system_tests::author::fixture("apps/counter"))?;
    refused(&std::fs::read(theirs)?, "not among the")?;
    let status = gateway.status()?;
    assert_eq!(status["deployments"]["apps"][0]["app"], "counter");
    Ok(())
}
