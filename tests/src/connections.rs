//! Many connections at one gateway: idle ones are held, busy ones are acked, and a thousand
//! clients with passwords that come back at once get in without disturbing those that are in.
//!
//! The story: the idle connect and stay to the end. Observers publish at a steady rate all the
//! time; what they see before is compared with what they see during each storm. In the first
//! storm no password is known, as after any start of the agent: each one costs argon2. Then these
//! clients are busy. Then all of them lose their connections and come back: a second storm, now
//! with passwords that the agent remembers.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::gateway::{Gateway, Setup};
use crate::mqtt::Login;
use crate::pki;
use crate::process::program;

mod crowd;
mod report;

pub use report::{Bounds, BusySeen, IdleSeen, Latency, Lost, Report, Storm};

use crowd::Crowd;

/// Soft limit of open files of a login shell or a unit that says nothing.
const USUAL_OPEN_FILES: u32 = 1_024;
const PASSWORD: &str = "meadow at dawn";

/// How many of what, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Folder of the gateway; it must not exist.
    pub dir: PathBuf,
    /// The app that works on what the busy and the observers publish: `tests/apps/counter`, built.
    pub bundle: PathBuf,
    /// Key of its author.
    pub author_key: String,
    /// Idle connections.
    pub idle: usize,
    /// Clients with passwords, which then are busy.
    pub busy: usize,
    /// Clients whose latency is watched.
    pub observers: usize,
    /// How long the idle are watched before anything else, and how long the busy are busy.
    pub hold: Duration,
    /// Interval of each busy client's publishes.
    pub busy_every: Duration,
    /// Whether all of it goes over TLS.
    pub tls: bool,
}

/// Runs the story. `tell` gets a line for each step.
///
/// # Errors
/// The gateway cannot be set up, or this process may not open as many files. What the gateway
/// does badly is in the report, not an error.
pub fn run(plan: &Plan, tell: &dyn Fn(&str)) -> Result<Report> {
    raise_open_files(plan)?;
    let identity = plan.tls.then(|| pki::server_identity(&plan.dir.join("pki"))).transpose()?;
    let mut setup = Setup {
        author_keys: vec![plan.author_key.clone()],
        more: accounts(plan)?,
        open_files: Some(USUAL_OPEN_FILES),
        ..Setup::open("crowded")
    };
    if let Some(identity) = &identity {
        setup = setup.with_tls(identity);
    }
    let mut gateway = Gateway::new(&plan.dir.join("gateway"), &setup)?;
    gateway.start()?;
    gateway.deploy(&plan.bundle)?;
    let base =
        Login { ca: identity.map(|files| files.ca), ..Login::anonymous(gateway.address(), "") };
    let crowd = Crowd { plan, tls: base.tls()?, base, agent: gateway.id()?, tell };

    let observers = crowd.observe()?;
    let io = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = io.block_on(crowd.story())?;
    report.observed(&observers.stop()?);
    let status = gateway.wait_idle(Duration::from_secs(60))?;
    report.done = status["core"]["counters"]["done"].as_u64().unwrap_or_default();
    gateway.stop()?;
    Ok(report)
}

/// A file for each connection, and some.
fn raise_open_files(plan: &Plan) -> Result<()> {
    let needed = (plan.idle + plan.busy + plan.observers + 200) as u64;
    let before = getrlimit(Resource::Nofile);
    if before.current.is_none_or(|soft| soft >= needed) {
        return Ok(());
    }
    let raised = Rlimit { current: Some(needed), ..before };
    setrlimit(Resource::Nofile, raised).with_context(|| {
        format!("{needed} open files are needed: raise `ulimit -Hn`, or ask for fewer clients")
    })
}

/// The accounts. All have one password and one hash, made by the command that users use; each is
/// asked of argon2 on its own nevertheless, as nothing is remembered across accounts.
fn accounts(plan: &Plan) -> Result<String> {
    let hash = password_hash()?;
    let names = (0..plan.busy).map(machine).chain((0..plan.observers).map(observer));
    let mut text = String::new();
    for name in names {
        writeln!(text, "[[devices]]\nname = {name:?}\n{hash}")?;
        writeln!(text, "publish = [\"sensors/{{device}}\"]\nsubscribe = []")?;
    }
    Ok(text)
}

/// The line that `edge-agent device-password` prints.
fn password_hash() -> Result<String> {
    let mut command = Command::new(program("edge-agent")?);
    let mut child = command
        .arg("device-password")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("edge-agent device-password")?;
    child.stdin.take().context("no standard input")?.write_all(PASSWORD.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("edge-agent device-password: {}", output.status);
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn machine(n: usize) -> String {
    format!("machine-{n}")
}

fn observer(n: usize) -> String {
    format!("observer-{n}")
}
