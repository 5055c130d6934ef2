//! The agent updates itself by an ordinary deployment, and takes an update back.
//!
//! A new version is a stripped copy of the agent with a byte behind its end, which no loader looks at: it
//! has another digest. A bad one is a stripped copy of the planted agent (`HOLM_PLANT=agent:...`); the
//! agent before it knows nothing of plants.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use system_tests::author::{Author, fixture};
use system_tests::cloud::Cloud;
use system_tests::device::{self, Plan};
use system_tests::gateway::{Gateway, Setup};
use system_tests::ledger::Ledger;
use system_tests::mqtt::Login;
use system_tests::process::{Process, program, wait_for};
use system_tests::readings;

use crate::functions::Device;
use crate::support::{PATIENCE, acked, author, deploy_counter, planted_agent, publish, wait_live};

/// Three tries of an update that hangs, on a busy machine.
const UPDATE: Duration = Duration::from_secs(180);
/// Judged soon, but after an agent that hangs has hung; and given up soon.
const SOON: &str = "[update]\nsettle = \"3 s\"\ngrace = \"8 s\"\n";

/// A gateway with slots, and the author of its agents.
struct Site {
    dir: PathBuf,
    agents: Author,
    gateway: Gateway,
}

impl Site {
    /// Without a control plane, with the app `counter`; `plant` is for the agents that know of plants.
    fn start(dir: &Path, plant: Option<&str>) -> Result<Self> {
        let agents = Author::new(&dir.join("author"))?;
        let setup = Setup {
            author_keys: vec![author().key()?, agents.key()?],
            more: SOON.to_owned(),
            launched: true,
            plant: plant.map(str::to_owned),
            // Ends of an update must not be held against the agent before it.
            safe_mode_after: Some(2),
            ..Setup::open("barn")
        };
        let mut gateway = Gateway::new(&dir.join("gateway"), &setup)?;
        gateway.start()?;
        deploy_counter(&gateway)?;
        Ok(Self { dir: dir.to_owned(), agents, gateway })
    }

    /// Builds an app that brings this program as the agent.
    fn app(&self, version: &str, bytes: &[u8]) -> Result<PathBuf> {
        let folder = self.dir.join(format!("agent-{version}"));
        agent_app(&folder, version, bytes)?;
        Ok(folder)
    }

    fn deploy(&self, version: &str, bytes: &[u8]) -> Result<()> {
        let bundle = self.agents.build(&self.app(version, bytes)?)?;
        self.gateway.hand_over(&bundle)?;
        Ok(())
    }

    /// An app that brings the next version of the agent and the function `rogue`, so that it has a
    /// probation of a minute.
    fn app_with_function(&self, version: &str) -> Result<PathBuf> {
        let folder = self.app(version, &new_version(&self.dir)?)?;
        let path = folder.join("holm.toml");
        let functions = fixture("functions");
        let more = format!(
            "[functions.rogue]\npath = {functions:?}\nexample = \"rogue\"\npublish = [\"rogue/#\"]\n\
             record = [\"n\"]\n[[triggers]]\nfunction = \"rogue\"\nmqtt = [\"rogue-in/+\"]\nretries = 0\n"
        );
        std::fs::write(&path, std::fs::read_to_string(&path)? + &more)?;
        let bundle = self.agents.build(&folder)?;
        self.gateway.hand_over(&bundle)?;
        Ok(bundle)
    }

    /// Waits until the status of the agent is so.
    fn wait_agent(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        wait_agent(&self.gateway, what, is_so)
    }

    /// Events that were worked on; anonymous clients are one device.
    fn counted(&self) -> Result<usize> {
        counted(&self.gateway)
    }
}

fn wait_agent(gateway: &Gateway, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
    let log = gateway.log();
    wait_for(UPDATE, &format!("{what} (see {})", log.display()), || {
        // It is away while it changes.
        let status = gateway.status().ok();
        Ok(status.filter(|status| is_so(&status["agent"])))
    })
}

fn counted(gateway: &Gateway) -> Result<usize> {
    gateway.wait_idle(PATIENCE)?;
    let state = gateway.ask(&["state", "counter/counter"])?;
    Ok(state[0]["value"]["text"].as_str().unwrap_or("0").parse()?)
}

fn agent_app(folder: &Path, version: &str, bytes: &[u8]) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("program"), bytes)?;
    let about: Value = serde_json::from_slice(
        &Command::new(program("edge-agent")?).arg("about").output()?.stdout,
    )?;
    let (target, own) = (&about["target"], &about["version"]);
    let text = format!(
        "[app]\nname = \"agent\"\nversion = \"{version}\"\n[agent]\nversion = {own}\n\
         programs = {{ {target} = \"program\" }}\n"
    );
    Ok(std::fs::write(folder.join("holm.toml"), text)?)
}

/// A stripped copy of a program of this workspace: one with symbols is too long for a deployment.
fn stripped(dir: &Path, name: &str) -> Result<Vec<u8>> {
    let copy = dir.join(format!("{name}.stripped"));
    let strip = Command::new("strip").arg("-o").arg(&copy).arg(program(name)?).status();
    ensure!(strip.context("strip (Debian package binutils)")?.success(), "strip {name}");
    Ok(std::fs::read(copy)?)
}

/// The agent as a new version: the same program with a byte behind its end.
fn new_version(dir: &Path) -> Result<Vec<u8>> {
    let mut bytes = stripped(dir, "edge-agent")?;
    bytes.push(b'2');
    Ok(bytes)
}

/// A device that sends until it is told to stop; then all that it sent is acked.
struct Sending {
    stop: Arc<AtomicBool>,
    ledger: PathBuf,
    thread: std::thread::JoinHandle<Result<()>>,
}

impl Sending {
    fn start(dir: &Path, gateway: &Gateway, device: &str) -> Self {
        let (stop, ledger) = (Arc::<AtomicBool>::default(), dir.join("sending.jsonl"));
        let plan = Plan {
            login: Login::anonymous(gateway.address(), device),
            topic: format!("sensors/{device}"),
            window: 5,
            rate_per_s: Some(10.0),
            ids: true,
            patience: UPDATE,
            stop: Some(Arc::clone(&stop)),
        };
        let path = ledger.clone();
        let thread = std::thread::spawn(move || {
            let readings = readings::read(&readings::excerpt())?;
            device::run(&plan, &readings, 77, &mut Ledger::create(&path)?)
        });
        Self { stop, ledger, thread }
    }

    /// How many were sent and acked.
    fn stop(self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic")?;
        acked(&self.ledger)
    }
}

fn phase(status: &Value) -> (String, String) {
    let mut apps = status["deployments"]["apps"].as_array().into_iter().flatten();
    let agent = apps.find(|app| app["app"] == "agent").cloned().unwrap_or_default();
    let word = |key: &str| agent[key].as_str().unwrap_or_default().to_owned();
    (word("phase"), word("reason"))
}

#[test]
fn a_good_update_stays_and_no_message_is_lost() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut site = Site::start(dir.path(), None)?;
    site.wait_agent("a first slot", |agent| agent["slot"] == "a" && agent["state"] == "confirmed")?;
    publish(&site.gateway, 1, 20)?;
    let sending = Sending::start(dir.path(), &site.gateway, "press");
    site.deploy("1.0.0", &new_version(dir.path())?)?;
    let status = site.wait_agent("the update to be kept", |agent| {
        agent["slot"] == "b" && agent["state"] == "confirmed"
    })?;
    assert_eq!(status["agent"]["taken_back"], serde_json::json!([]), "{:#}", status["agent"]);
    assert_eq!(std::fs::read_link(site.gateway.slots().join("current"))?, Path::new("b"));
    let sent = sending.stop()?;
    publish(&site.gateway, 2, 20)?;
    assert_eq!(site.counted()?, sent + 40);
    assert!(sent > 5, "{sent} sent while it changed");
    // It is what starts from now on, after a kill too.
    site.gateway.kill()?;
    wait_for(PATIENCE, "the agent to notice that its launcher is gone", || {
        Ok(site.gateway.status().err().map(|_| ()))
    })?;
    site.gateway.start()?;
    site.wait_agent("the same slot", |agent| {
        agent["slot"] == "b" && agent["state"] == "confirmed"
    })?;
    assert_eq!(site.counted()?, sent + 40);
    site.gateway.stop()
}

/// The launcher's own program is its agent as well. An upgrade puts another file in the place of theirs, and
/// whoever runs goes on until it is told to stop.
#[test]
fn functions_are_compiled_though_the_package_is_gone() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let setup = Setup { author_keys: vec![author().key()?], launched: true, ..Setup::open("barn") };
    let gateway = Gateway::new(&dir.path().join("gateway"), &setup)?;
    let package = dir.path().join("package");
    let own = program("edge-agent")?;
    // A link, but where the folder is on another disk.
    std::fs::hard_link(&own, &package).or_else(|_| std::fs::copy(&own, &package).map(|_| ()))?;
    let mut launcher = Command::new(&package);
    launcher.args(gateway.launcher()?.get_args());
    let mut launcher = Process::start("the package", launcher, &gateway.log())?;
    wait_agent(&gateway, "the agent", |agent| agent["slot"] == "a")?;
    std::fs::remove_file(&package)?;
    deploy_counter(&gateway)?;
    publish(&gateway, 1, 20)?;
    assert_eq!(counted(&gateway)?, 20);
    launcher.stop(PATIENCE)
}

/// An update that does not stay: the agent before it goes on, says why, and takes it no more.
fn comes_back(plant: &str, device: &str, reason: &str) -> Result<()> {
    let Some(planted) = planted_agent() else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let mut site = Site::start(dir.path(), Some(plant))?;
    publish(&site.gateway, 1, 20)?;
    let bad = stripped(dir.path(), &planted)?;
    let sending = Sending::start(dir.path(), &site.gateway, device);
    site.deploy("1.0.0", &bad)?;
    let is_back = |agent: &Value| agent["slot"] == "a" && agent["taken_back"][0].is_object();
    let status = site.wait_agent("the agent before to be back", is_back)?;
    let why = status["agent"]["taken_back"][0]["reason"].as_str().unwrap_or_default();
    assert!(why.contains(reason), "{why}");
    assert_eq!(status["agent"]["state"], "confirmed");
    assert_eq!(status["safe_mode_left_ms"], Value::Null, "{:#}", status["degraded"]);
    let told = wait_for(PATIENCE, "the deployment to be taken back", || {
        let (phase, told) = phase(&site.gateway.status()?);
        Ok((phase == "taken-back").then_some(told))
    })?;
    assert!(told.contains(reason), "{told}");

    site.deploy("1.0.1", &bad)?;
    let told = wait_for(PATIENCE, "the same program to be refused", || {
        let (phase, told) = phase(&site.gateway.status()?);
        Ok((phase == "failed").then_some(told))
    })?;
    assert!(told.contains("taken back here before"), "{told}");
    let sent = sending.stop()?;
    publish(&site.gateway, 2, 20)?;
    assert_eq!(site.counted()?, sent + 40);
    assert_eq!(site.gateway.status()?["core"]["dead_letters"], 0, "no message is to blame");
    site.gateway.stop()
}

#[test]
fn an_update_that_crashes_comes_back() -> Result<()> {
    comes_back(
        "agent:crash",
        "press",
        "it was started 3 times; the last time it was ended by signal 6",
    )
}

/// Payloads name their device: the update dies of each of its messages, the agent before it of none.
#[test]
fn an_update_that_crashes_at_work_comes_back_and_no_message_is_blamed() -> Result<()> {
    let reason = "it was started 3 times; the last time it was ended by signal 6";
    comes_back(r#"abort:"poison""#, "poison", reason)
}

#[test]
fn an_update_that_hangs_comes_back() -> Result<()> {
    comes_back("agent:hang", "press", "it was started 3 times; the last time it hung")
}

/// The revision that brought the update fails by its function, long after the update itself was well.
#[test]
fn an_update_goes_with_the_revision_that_brought_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut site = Site::start(dir.path(), None)?;
    site.app_with_function("1.0.0")?;
    site.wait_agent("the update on trial", |agent| agent["state"] == "trial")?;
    // It has settled; the probation of the function goes on.
    wait_for(UPDATE, "the update to be well", || {
        Ok(site.gateway.printed().contains("this agent is well: it stays if").then_some(()))
    })?;
    let status = site.gateway.status()?;
    assert_eq!(status["agent"]["state"], "trial", "it waits for the function: {status:#}");
    misbehave(&site.gateway)?;
    let is_back = |agent: &Value| agent["slot"] == "a" && agent["taken_back"][0].is_object();
    let status = site.wait_agent("the agent before to be back", is_back)?;
    let why = status["agent"]["taken_back"][0]["reason"].as_str().unwrap_or_default();
    assert!(why.contains("its revision failed"), "{why}");
    wait_for(PATIENCE, "the revision to be taken back", || {
        Ok((phase(&site.gateway.status()?).0 == "taken-back").then_some(()))
    })?;
    site.gateway.stop()
}

/// Somebody takes the app away during the trial: the agent before it is back, the update is not blamed,
/// and the same deployment has another trial.
#[test]
fn an_update_that_is_not_wanted_any_more_goes_without_blame() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut site = Site::start(dir.path(), None)?;
    let bundle = site.app_with_function("1.0.0")?;
    let on_trial = |agent: &Value| agent["state"] == "trial" && agent["slot"] == "b";
    site.wait_agent("the update on trial", on_trial)?;
    site.gateway.agent(&["undeploy", "agent"])?.status()?;
    let status = site.wait_agent("the agent before to be back", |agent| {
        agent["slot"] == "a" && agent["state"] == "confirmed"
    })?;
    assert_eq!(status["agent"]["taken_back"], serde_json::json!([]), "{:#}", status["agent"]);
    assert_eq!(status["agent"]["other"], Value::Null);
    site.gateway.hand_over(&bundle)?;
    site.wait_agent("the update on trial again", on_trial)?;
    let status = site.wait_agent("both to be kept", |agent| {
        agent["slot"] == "b" && agent["state"] == "confirmed"
    })?;
    let kept = wait_for(PATIENCE, "the revision to be kept", || {
        Ok(Some(phase(&site.gateway.status()?).0).filter(|phase| phase == "live"))
    });
    assert!(kept.is_ok(), "{:#}", status["deployments"]);
    site.gateway.stop()
}

/// Lets the function `rogue` fault.
fn misbehave(gateway: &Gateway) -> Result<()> {
    let mut device = Device::new(gateway, "vandal")?;
    device.send("rogue-in/panic", "x")?;
    // Acked or not: the agent may make room before the message is durable.
    let _ = device.acks(1, PATIENCE);
    Ok(())
}

#[test]
fn an_update_that_does_not_reach_the_control_plane_comes_back() -> Result<()> {
    let Some(planted) = planted_agent() else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let agents = Author::new(&dir.path().join("author"))?;
    let cloud = Cloud::start(&dir.path().join("cloud"), &agents)?;
    let setup = Setup {
        more: SOON.to_owned(),
        launched: true,
        plant: Some("agent:deaf".to_owned()),
        ..Setup::open("barn")
    };
    let mut gateway = Gateway::new(&dir.path().join("gateway"), &setup)?;
    gateway.enroll(agents.holm(&["gateway", "add", "barn"])?.trim())?;
    gateway.start()?;
    let deploy = |app: &Path| agents.holm(&["deploy", app.to_str().expect("UTF-8"), "--all"]);
    deploy(&fixture("apps").join("counter"))?;
    wait_live(&gateway, "counter")?;
    publish(&gateway, 1, 20)?;

    let folder = dir.path().join("agent-app");
    agent_app(&folder, "1.0.0", &stripped(dir.path(), &planted)?)?;
    let sending = Sending::start(dir.path(), &gateway, "press");
    deploy(&folder)?;
    wait_agent(&gateway, "the update on trial", |agent| agent["state"] == "trial")?;
    let is_back = |agent: &Value| agent["slot"] == "a" && agent["taken_back"][0].is_object();
    let status = wait_agent(&gateway, "the agent before to be back", is_back)?;
    let why = status["agent"]["taken_back"][0]["reason"].as_str().unwrap_or_default();
    assert_eq!(why, "it did not reach the control plane, which the agent before it did");
    let sent = sending.stop()?;
    assert_eq!(counted(&gateway)?, sent + 20);

    // The control plane shows slot, reason and alarm; and the next update that can reach it stays.
    wait_for(PATIENCE, "the control plane to be told", || {
        let shown = agents.holm(&["status", "barn"])?;
        Ok((shown.contains("(slot a)") && shown.contains("did not reach")).then_some(()))
    })?;
    wait_for(PATIENCE, "the notice", || {
        let rows = cloud.stream("barn", 0)?;
        Ok(rows.iter().find(|row| row["code"] == "agent-taken-back").map(|_| ()))
    })?;
    agent_app(&folder, "1.0.1", &new_version(dir.path())?)?;
    deploy(&folder)?;
    wait_agent(&gateway, "a good update to be kept", |agent| {
        agent["slot"] == "b" && agent["state"] == "confirmed"
    })?;
    assert_eq!(counted(&gateway)?, sent + 20);
    gateway.stop()
}

#[test]
fn an_agent_without_a_launcher_declines() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let agents = Author::new(&dir.path().join("author"))?;
    let setup = Setup { author_keys: vec![agents.key()?], ..Setup::open("barn") };
    let mut gateway = Gateway::new(&dir.path().join("gateway"), &setup)?;
    gateway.start()?;
    let folder = dir.path().join("agent-app");
    agent_app(&folder, "1.0.0", b"any program")?;
    let bundle = agents.build(&folder)?;
    gateway.hand_over(&bundle)?;
    let told = wait_for(PATIENCE, "the app to be declined", || {
        let (phase, told) = phase(&gateway.status()?);
        Ok((phase == "failed").then_some(told))
    })?;
    assert!(told.contains("not started by `edge-agent launch`"), "{told}");
    assert_eq!(gateway.status()?["agent"]["slot"], Value::Null);
    gateway.stop()
}
