//! What the end-to-end tests share: one author and one build of each app per run.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use system_tests::author::{Author, fixture};
use system_tests::cloud::Cloud;
use system_tests::device::{self, Plan};
use system_tests::gateway::{Gateway, Setup};
use system_tests::ledger::{self, Fact, Ledger};
use system_tests::mqtt::Login;
use system_tests::process::{program, wait_for};
use system_tests::readings;

/// Longest wait for anything on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

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
    gateway.hand_over(&bundle)?;
    wait_live(gateway, "counter")
}

/// The agent with planted ends, which `cargo xtask test` builds. Without it these tests are skipped
/// by name; in CI that is a failure.
pub(crate) fn planted_agent() -> Option<String> {
    let name = "edge-agent-planted";
    if program(name).is_ok() {
        return Some(name.to_owned());
    }
    let how = "cargo build --workspace --features edge-agent/plant --bin edge-agent-planted";
    assert!(std::env::var_os("CI").is_none(), "{name} is not built: {how}");
    eprintln!("skipped: {name} is not built: {how}");
    None
}

/// Waits until an app of the gateway runs.
pub(crate) fn wait_live(gateway: &Gateway, app: &str) -> Result<()> {
    wait_for(PATIENCE, &format!("{app} to be live"), || {
        let status = gateway.status()?;
        let mut apps = status["deployments"]["apps"].as_array().into_iter().flatten();
        let live = apps.any(|row| row["app"] == app && !row["running"].is_null());
        Ok(live.then_some(()))
    })
}

/// An open gateway of a control plane, with the app `counter`. Its author knows no other control
/// plane: tests may run beside each other.
pub(crate) fn managed_gateway(dir: &Path, name: &str) -> Result<(Cloud, Gateway)> {
    managed_gateway_with(dir, &Setup::open(name))
}

/// The same with a setup of its own.
pub(crate) fn managed_gateway_with(dir: &Path, setup: &Setup) -> Result<(Cloud, Gateway)> {
    let author = Author::new(&dir.join("author"))?;
    let cloud = Cloud::start(&dir.join("cloud"), &author)?;
    let mut gateway = Gateway::new(&dir.join("gateway"), setup)?;
    let token = author.holm(&["gateway", "add", &setup.name])?;
    gateway.enroll(token.trim())?;
    gateway.start()?;
    let app = fixture("apps").join("counter");
    author.holm(&["deploy", app.to_str().expect("UTF-8"), "--all"])?;
    wait_live(&gateway, "counter")?;
    Ok((cloud, gateway))
}

/// Publishes `count` readings as a fresh boot of a device; all are acked when it returns.
pub(crate) fn publish(gateway: &Gateway, boot: u64, count: usize) -> Result<()> {
    let plan = Plan {
        login: Login::anonymous(gateway.address(), "press"),
        topic: "sensors/press".to_owned(),
        window: 10,
        rate_per_s: None,
        ids: true,
        patience: PATIENCE,
        stop: None,
    };
    let readings = &readings::read(&readings::excerpt())?[..count];
    let file = tempfile::NamedTempFile::new()?;
    device::run(&plan, readings, boot, &mut Ledger::create(file.path())?)
}

/// Readings that a ledger shows as acked.
pub(crate) fn acked(path: &Path) -> Result<usize> {
    let facts = ledger::read(path)?;
    Ok(facts.iter().filter(|fact| matches!(fact, Fact::Acked { .. })).count())
}

/// Live records of a stream of the outbox.
pub(crate) fn records_of(status: &Value, stream: u64) -> Value {
    let mut streams = status["outbox"]["streams"].as_array().into_iter().flatten();
    let found = streams.find(|row| row["stream"] == stream);
    found.map_or(Value::Null, |row| row["records"].clone())
}

/// Waits until the control plane has receipted everything.
pub(crate) fn wait_drained(gateway: &Gateway) -> Result<()> {
    gateway.wait_idle(PATIENCE)?;
    wait_for(PATIENCE, "the outbox to drain", || {
        Ok((gateway.status()?["outbox"]["records"] == 0).then_some(()))
    })
}
