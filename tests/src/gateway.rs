//! A gateway under test: its configuration, its process and what it says of itself.

use std::fmt::Write;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::pki::ServerIdentity;
use crate::process::{Process, program, wait_for};

/// How long a gateway may take to be ready on a busy machine.
const READY_MAX: Duration = Duration::from_secs(60);

/// What a gateway is started with.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Gateway name.
    pub name: String,
    /// TLS of the device listener; `None` is plaintext on loopback.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// CA of device certificates.
    pub client_ca: Option<PathBuf>,
    /// Devices with their tokens; each may publish below `sensors/` and subscribe to everything.
    pub devices: Vec<(String, String)>,
    /// Whether anonymous clients may do everything.
    pub anonymous: bool,
    /// Author keys for local deployments.
    pub author_keys: Vec<String>,
    /// More lines of the configuration.
    pub more: String,
    /// The agent program; empty: `edge-agent`.
    pub agent: String,
    /// A planted bug of a test-only agent.
    pub plant: Option<String>,
    /// The only core that the gateway may use (`taskset`).
    pub pinned_to: Option<u32>,
    /// Ends of the process in a row that lead to safe mode; `None`: none do, because tests kill it.
    pub safe_mode_after: Option<u32>,
    /// Started by the launcher, with slots in the gateway's folder.
    pub launched: bool,
    /// Soft limit of open files that it is started with; `None`: that of this process.
    pub open_files: Option<u32>,
    /// Limit of address space in KiB that it is started with (`ulimit -v`).
    pub address_space_kib: Option<u64>,
    /// Environment of all its commands.
    pub environment: Vec<(String, String)>,
    /// What it shares with the helper of a card image, where it runs from one.
    pub image: Option<PathBuf>,
}

impl Setup {
    /// An open plaintext gateway.
    #[must_use]
    pub fn open(name: &str) -> Self {
        Self { name: name.to_owned(), anonymous: true, ..Self::default() }
    }

    /// Uses a server certificate.
    #[must_use]
    pub fn with_tls(mut self, identity: &ServerIdentity) -> Self {
        self.tls = Some((identity.certificate.clone(), identity.key.clone()));
        self
    }
}

/// A gateway under test.
#[derive(Debug)]
pub struct Gateway {
    name: String,
    dir: PathBuf,
    agent: String,
    plant: Option<String>,
    image: Option<PathBuf>,
    pinned_to: Option<u32>,
    open_files: Option<u32>,
    address_space_kib: Option<u64>,
    environment: Vec<(String, String)>,
    launched: bool,
    process: Option<Process>,
    address: SocketAddr,
}

impl Gateway {
    /// Writes the configuration into `dir`; nothing runs yet.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn new(dir: &Path, setup: &Setup) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        // A port of its own, so that a restarted gateway is where it was.
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut text = String::new();
        writeln!(text, "name = {:?}", setup.name)?;
        writeln!(text, "data_dir = {:?}", dir.join("data"))?;
        writeln!(text, "author_keys = {:?}", setup.author_keys)?;
        writeln!(text, "safe_mode_after = {}", setup.safe_mode_after.unwrap_or_default())?;
        writeln!(text, "{}", setup.more)?;
        writeln!(text, "[[listeners]]\nbind = \"{address}\"")?;
        if let Some((certificate, key)) = &setup.tls {
            writeln!(text, "certificate = {certificate:?}\nkey = {key:?}")?;
        }
        if let Some(ca) = &setup.client_ca {
            writeln!(text, "client_ca = {ca:?}")?;
        }
        if setup.anonymous {
            writeln!(text, "[anonymous]\npublish = [\"#\"]\nsubscribe = [\"#\"]")?;
        }
        for (name, token) in &setup.devices {
            let hash = crate::ledger::hash(token.as_bytes());
            writeln!(text, "[[devices]]\nname = {name:?}\ntoken_sha256 = {hash:?}")?;
            writeln!(text, "publish = [\"sensors/#\"]\nsubscribe = [\"#\"]")?;
        }
        std::fs::write(dir.join("agent.toml"), text)?;
        let agent = if setup.agent.is_empty() { "edge-agent" } else { &setup.agent };
        Ok(Self {
            name: setup.name.clone(),
            dir: dir.to_owned(),
            agent: agent.to_owned(),
            plant: setup.plant.clone(),
            pinned_to: setup.pinned_to,
            open_files: setup.open_files,
            address_space_kib: setup.address_space_kib,
            environment: setup.environment.clone(),
            image: setup.image.clone(),
            launched: setup.launched,
            process: None,
            address,
        })
    }

    /// Where devices connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the next process is started with, if the agent program is a planted one.
    pub fn set_plant(&mut self, plant: Option<String>) {
        self.plant = plant;
    }

    /// Starts the process and waits until it listens.
    ///
    /// # Errors
    /// It does not come up; the message names its log.
    pub fn start(&mut self) -> Result<()> {
        self.spawn()?;
        let (log, control) = (self.log(), self.data_dir().join("control.sock"));
        let process = self.process.as_mut().context("it was just started")?;
        let name = &self.name;
        wait_for(READY_MAX, &format!("{name} to listen (see {})", log.display()), || {
            if !process.is_running() {
                bail!("{name} ended: {}", process.output());
            }
            // Somebody else may have taken the port meanwhile; nobody else has this socket.
            let is_own = std::os::unix::net::UnixStream::connect(&control).is_ok();
            Ok(std::net::TcpStream::connect(self.address).ok().filter(|_| is_own))
        })?;
        Ok(())
    }

    /// Process id.
    ///
    /// # Errors
    /// It is not running.
    pub fn id(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("the gateway is not running")?.id())
    }

    /// Starts the process; it may not listen yet.
    ///
    /// # Errors
    /// The program is not built or cannot be started.
    pub fn spawn(&mut self) -> Result<()> {
        let mut command = if self.launched { self.launcher()? } else { self.agent(&["run"])? };
        if let Some(files) = self.open_files {
            command = with_limit(&format!("-S -n {files}"), &command);
        }
        if let Some(kib) = self.address_space_kib {
            command = with_limit(&format!("-v {kib}"), &command);
        }
        command.env("HOLM_LOG", std::env::var("HOLM_LOG").unwrap_or_else(|_| "info".to_owned()));
        if let Some(plant) = &self.plant {
            command.env("HOLM_PLANT", plant);
        }
        if let Some(image) = &self.image {
            command.env("HOLM_SYSTEM", image);
        }
        self.process = Some(Process::start(&self.name, command, &self.log())?);
        Ok(())
    }

    /// The launcher, with short times: the agents of tests are small.
    ///
    /// # Errors
    /// The agent's program is not there.
    pub fn launcher(&self) -> Result<Command> {
        let mut command = Command::new(program(&self.agent)?);
        command.args(["launch", "--slots"]).arg(self.slots());
        command.args(["--hang-after", "4 s", "--start-within", "60 s", "--stop-within", "5 s"]);
        command.args(["--", "run", "--config"]).arg(self.config());
        Ok(command)
    }

    /// Folder of its slots, if it is started by the launcher.
    #[must_use]
    pub fn slots(&self) -> PathBuf {
        self.dir.join("slots")
    }

    /// What it prints, over all its lives.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// Waits until the process ends by itself; returns the signal that ended it, if one did.
    ///
    /// # Errors
    /// It was not running, or does not end in time.
    pub fn wait_end(&mut self, within: Duration) -> Result<Option<i32>> {
        let mut process = self.process.take().context("the gateway is not running")?;
        Ok(process.wait_end(within)?.signal())
    }

    /// What it printed so far.
    #[must_use]
    pub fn printed(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Deploys a bundle and waits until its app works.
    ///
    /// # Errors
    /// It is refused, or not live in time.
    pub fn deploy(&self, bundle: &Path) -> Result<()> {
        let before = self.status()?;
        self.hand_over(bundle)?;
        wait_for(Duration::from_secs(60), &format!("{}: the app to work", self.name), || {
            let status = self.status()?;
            let apps = &status["deployments"]["apps"];
            let working = apps.as_array().into_iter().flatten().any(|app| {
                let known = before["deployments"]["apps"].as_array();
                let is_new = known.is_none_or(|known| !known.contains(app));
                is_new && (app["phase"] == "probation" || app["phase"] == "live")
            });
            Ok(working.then_some(()))
        })
    }

    /// Deploys a bundle, which the agent verifies; how far it comes is not waited for.
    ///
    /// # Errors
    /// It is refused; the message holds what was printed.
    pub fn hand_over(&self, bundle: &Path) -> Result<()> {
        let bundle = bundle.to_str().context("the path is not UTF-8")?;
        self.told(&["deploy", bundle])
    }

    /// Enrols it with a token of the control plane.
    ///
    /// # Errors
    /// The control plane refuses; the message holds what was printed.
    pub fn enroll(&self, token: &str) -> Result<()> {
        self.told(&["enroll", token])
    }

    fn told(&self, words: &[&str]) -> Result<()> {
        let output = self.agent(words)?.output()?;
        if !output.status.success() {
            bail!("{}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Its folder of data.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.join("agent.toml")
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// It was not running.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("the gateway is not running")?.kill()
    }

    /// SIGTERM, and it must end well.
    ///
    /// # Errors
    /// It does not.
    pub fn stop(&mut self) -> Result<()> {
        self.process.take().context("not running")?.stop(Duration::from_secs(30))
    }

    /// `edge-agent status --json`.
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self) -> Result<Value> {
        self.ask(&["status", "--json"])
    }

    /// Runs an `edge-agent` command against this gateway and reads its JSON.
    ///
    /// # Errors
    /// The command fails; the message holds what it printed.
    pub fn ask(&self, words: &[&str]) -> Result<Value> {
        let output = self.agent(words)?.output()?;
        if !output.status.success() {
            bail!("edge-agent {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Waits until nothing is queued or in work.
    ///
    /// # Errors
    /// It does not come to rest in time.
    pub fn wait_idle(&self, within: Duration) -> Result<Value> {
        wait_for(within, &format!("{} to work off its queue", self.name), || {
            let status = self.status()?;
            let idle = status["core"]["jobs"] == 0;
            Ok(idle.then_some(status))
        })
    }

    /// `edge-agent WORDS --config ...`.
    ///
    /// # Errors
    /// The program is not built.
    pub fn agent(&self, words: &[&str]) -> Result<Command> {
        let agent = program(&self.agent)?;
        let mut command = match self.pinned_to {
            None => Command::new(agent),
            Some(core) => {
                let mut taskset = Command::new("taskset");
                taskset.arg("-c").arg(core.to_string()).arg(agent);
                taskset
            }
        };
        command.args(words).arg("--config").arg(self.config());
        // What this machine has of a proxy is not the test's.
        for name in ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"] {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().cloned());
        Ok(command)
    }
}

/// `command` in a shell that lowers a limit first.
fn with_limit(limit: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("ulimit {limit} && exec \"$0\" \"$@\""));
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}
