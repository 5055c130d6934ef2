//! What the end-to-end tests share: one author and one build of each app per run.

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Result;
use system_tests::author::{Author, fixture};
use system_tests::gateway::Gateway;
use system_tests::process::{program, wait_for};

/// The author of this run.
pub(crate) fn author() -> &'static Author {
    static AUTHOR: OnceLock<Author> = OnceLock::new();
    AUTHOR.get_or_init(|| {
        let home = tempfile::tempdir().expect("a folder").keep();
        Author::new(&home).expect("a key")
    })
}

/// The bundle of an app below `tests/apps`, signed by [`author`].
pub(crate) fn bundle(app: &str) -> PathBuf {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _one_cargo = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    author().build(&fixture("apps").join(app)).expect("the app builds")
}

/// Deploys the app `counter` and waits until it is live.
pub(crate) fn deploy_counter(gateway: &Gateway) -> Result<()> {
    let bundle = bundle("counter");
    gateway.ask(&["deploy", bundle.to_str().expect("UTF-8")])?;
    wait_for(Duration::from_secs(60), "the app to be live", || {
        let status = gateway.status()?;
        let phase = &status["deployments"]["apps"][0]["phase"];
        Ok((phase == "probation" || phase == "live").then_some(()))
    })
}

/// The agent with planted ends, which `cargo xtask test` builds. Without it these tests are skipped
/// by name; in CI that is a failure.
pub(crate) fn planted_agent() -> Option<String> {
    let name = "edge-agent-planted";
    if program(name).is_ok() {
        return Some(name.to_owned());
    }
    let how = "cargo build -p edge-agent --features plant --bin edge-agent-planted";
    assert!(std::env::var_os("CI").is_none(), "{name} is not built: {how}");
    eprintln!("skipped: {name} is not built: {how}");
    None
}
