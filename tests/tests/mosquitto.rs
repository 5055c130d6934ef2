//! Mosquitto's clients against our broker, and our scripts against Mosquitto's: somebody else's
//! reading of the protocol.
//!
//! `cargo xtask test` names this suite as skipped where the clients are missing, by
//! `HOLM_WITHOUT`; run directly without them it fails.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use system_tests::conformance::peer::Remote;
use system_tests::conformance::script::read_all;
use system_tests::gateway::{Gateway, Setup};
use system_tests::mosquitto;

fn skipped() -> bool {
    std::env::var("HOLM_WITHOUT")
        .is_ok_and(|parts| parts.split(',').any(|part| part == "mosquitto"))
}

fn client(gateway: &Gateway, program: &str, version: &str, words: &[&str]) -> Result<Output> {
    let port = gateway.address().port().to_string();
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-p", &port, "-V", version]).args(words);
    command.output().with_context(|| format!("{program}: apt-get install mosquitto-clients"))
}

/// Publishes at every QoS, retained messages and a persistent session survive a restart.
#[test]
fn mosquitto_clients_are_served_across_a_restart() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let mut gateway = Gateway::new(dir.path(), &Setup::open("barn"))?;
    gateway.start()?;
    for version in ["mqttv311", "mqttv5"] {
        let session = format!("session-{version}");
        let topic = format!("kept/{version}");
        // `-E`: subscribe, then leave; the session stays.
        let mut subscribe = vec!["-i", &session, "-c", "-q", "2", "-t", &topic, "-E"];
        if version == "mqttv5" {
            subscribe.extend(["-x", "3600"]);
        }
        let output = client(&gateway, "mosquitto_sub", version, &subscribe)?;
        assert!(output.status.success(), "{version}: {output:?}");
        for qos in ["1", "2"] {
            let words = ["-t", &topic, "-m", qos, "-q", qos];
            let output = client(&gateway, "mosquitto_pub", version, &words)?;
            assert!(output.status.success(), "{version} QoS {qos}: {output:?}");
        }
        let words = ["-t", "state/door", "-m", version, "-q", "1", "-r"];
        client(&gateway, "mosquitto_pub", version, &words)?;

        gateway.kill()?;
        gateway.start()?;
        let mut resume = vec!["-i", &session, "-c", "-q", "2", "-t", &topic, "-C", "2", "-W", "20"];
        if version == "mqttv5" {
            resume.extend(["-x", "3600"]);
        }
        let output = client(&gateway, "mosquitto_sub", version, &resume)?;
        assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n2\n", "{version}: {output:?}");
        let words = ["-t", "state/#", "-C", "1", "-W", "20"];
        let output = client(&gateway, "mosquitto_sub", version, &words)?;
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), version);
    }
    gateway.stop()
}

/// A check of the scripts: where they say nothing against it, Mosquitto behaves as they expect.
#[test]
fn the_scripts_hold_against_mosquitto() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let (address, mut broker) = mosquitto::start(dir.path(), "log_type error\n")?;
    let scripts = read_all(concat!(env!("CARGO_MANIFEST_DIR"), "/conformance").as_ref())?;
    let mut failures = Vec::new();
    for script in scripts.iter().filter(|script| script.is_for("mosquitto")) {
        if let Err(error) = script.run(&mut Remote::new(address, None)) {
            failures.push(format!("{error:#}"));
        }
    }
    broker.kill()?;
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}
