//! The scripts of `tests/conformance` against the running agent, restarts included.

use anyhow::{Result, ensure};
use system_tests::conformance::peer::Remote;
use system_tests::conformance::script::read_all;
use system_tests::gateway::{Gateway, Setup};

#[test]
fn the_agent_does_what_the_scripts_say() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut gateway = Gateway::new(dir.path(), &Setup::open("barn"))?;
    gateway.start()?;
    let address = gateway.address();
    let scripts = read_all(concat!(env!("CARGO_MANIFEST_DIR"), "/conformance").as_ref())?;
    let mut failures = Vec::new();
    for script in scripts.iter().filter(|script| script.is_for("agent")) {
        let mut restart = || {
            gateway.kill()?;
            gateway.start()
        };
        if let Err(error) = script.run(&mut Remote::new(address, Some(&mut restart))) {
            failures.push(format!("{error:#}"));
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    gateway.stop()
}
