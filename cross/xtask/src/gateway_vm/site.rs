//! What surrounds the gateway on this machine: control plane, author, the image for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edge_core::boot::Version;
use system_tests::author::Author;
use system_tests::cloud::Cloud;
use system_tests::interrupt::Interrupt;
use system_tests::ledger;
use system_tests::mqtt::Login;
use system_tests::pki::{ServerIdentity, server_identity};
use system_tests::process::wait_for;

use super::gate::Gate;
use super::machine::{HOST, Hardware};
use crate::image::system::own_version;
use crate::image::{Board, Built, Request, Seed, Sources, Versions, build};

/// From a deployment to its end. A program has 13 MB, a system 30, which come over an emulated network; one that hangs is
/// waited for three times.
pub(crate) const UPDATE_MAX: Duration = Duration::from_secs(900);
/// From one question to the control plane to the next.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// Name of the gateway.
pub(crate) const GATEWAY: &str = "gw-vm";
/// Name of the device that sends as fast as it may.
pub(crate) const DEVICE: &str = "press-1";
/// Name of the one that sends while the agent is updated.
pub(crate) const STEADY_DEVICE: &str = "press-2";
/// Name of the one that sends while the system is updated.
pub(crate) const PATIENT_DEVICE: &str = "press-3";
/// Name of the one that sends while memory is measured.
pub(crate) const BUSY_DEVICE: &str = "press-4";
const TOKEN: &str = "token-of-all";

/// The image's idea of now, 2020-09-13: before any certificate of the control plane begins, so that
/// the gateway meets it as a board does that was stored for years and has no battery.
const BUILT_AT: u64 = 1_600_000_000;

/// Seconds from status line to status line.
const STATUS_EVERY_S: u32 = 5;

/// An agent that is silent for so long hangs: on an emulated machine that others load, too.
const HANG_AFTER_S: u32 = 20;

/// Control plane, author and listener's certificate.
pub(crate) struct Site {
    pub(super) dir: PathBuf,
    pub(super) author: Author,
    /// The control plane.
    pub(crate) cloud: Cloud,
    pub(super) identity: ServerIdentity,
    pub(super) interrupt: Interrupt,
}

impl Site {
    /// Starts the control plane.
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        let author = Author::new(&dir.join("author"))?;
        let cloud = Cloud::start_as(&dir.join("cloud"), &author, HOST)?;
        let identity = server_identity(&dir.join("pki"))?;
        let interrupt = Interrupt::watch()?;
        Ok(Self { dir: dir.to_owned(), author, cloud, identity, interrupt })
    }

    /// Builds an image that enrols here.
    pub(crate) fn image(&self, agent: &Path, parts: &Path) -> Result<Built> {
        let devices = [DEVICE, STEADY_DEVICE, PATIENT_DEVICE, BUSY_DEVICE].map(device_toml);
        // An update is judged as in the field, and given up sooner.
        let update = "[update]\nsettle = \"30 s\"\ngrace = \"75 s\"\n";
        let gate = Gate::new(GATEWAY, &(update.to_owned() + &devices.concat()));
        self.image_of(&gate, &self.token(&gate)?, agent, parts)
    }

    /// Builds the image of a gateway that enrols here by `token`.
    pub(crate) fn image_of(
        &self,
        gate: &Gate,
        token: &str,
        agent: &Path,
        parts: &Path,
    ) -> Result<Built> {
        let config = self.config(gate);
        std::fs::create_dir_all(&config)?;
        for file in &gate.files {
            std::fs::copy(file, config.join(file.file_name().context("it has a name")?))?;
        }
        std::fs::copy(&self.identity.certificate, config.join("server.pem"))?;
        std::fs::copy(&self.identity.key, config.join("server.key"))?;
        std::fs::write(config.join("agent.toml"), &gate.agent_toml)?;
        let seed = Seed::read(&Sources {
            config: Some(&config),
            token: Some(token.trim()),
            ssh_key: None,
            wifi: None,
            settings: vec![
                format!("STATUS_EVERY_S={STATUS_EVERY_S}"),
                format!("HANG_AFTER_S={HANG_AFTER_S}"),
            ],
        })?;
        build(&Request {
            board: Board::Virt,
            agent: agent.to_owned(),
            seed,
            out: self.dir.join(format!("{}.img", gate.name)),
            parts: parts.to_owned(),
            versions: Versions::AsBefore,
            version: own_version(),
            built_at: Some(BUILT_AT),
        })
    }

    /// Another system for the gateway, as a file to deploy.
    pub(crate) fn system(&self, version: Version, agent: &Path, parts: &Path) -> Result<PathBuf> {
        let built = build(&Request {
            board: Board::Virt,
            agent: agent.to_owned(),
            seed: Seed::read(&Sources::default())?,
            out: self.dir.join("next.img"),
            parts: parts.to_owned(),
            versions: Versions::AsBefore,
            version,
            built_at: Some(BUILT_AT),
        })?;
        std::fs::remove_file(&built.image)?;
        Ok(built.system)
    }

    /// The machine that boots it.
    pub(crate) fn hardware(&self, built: &Built, memory_mib: u32) -> Result<Hardware> {
        let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        Ok(Hardware {
            image: built.image.clone(),
            u_boot: built.u_boot.clone().context("the board `virt` has a boot loader")?,
            device_tree: None,
            mqtt_port: free.port(),
            forwards: Vec::new(),
            is_recorded: false,
            memory_mib,
            log: self.dir.join("console.log"),
            interrupt: self.interrupt.clone(),
        })
    }

    /// Deploys the app in a folder; the deployment's number.
    pub(crate) fn deploy(&self, app: &Path) -> Result<u64> {
        self.author.holm(&["deploy", app.to_str().context("not UTF-8")?, "--all"])?;
        let list = self.cloud.get("/v1/deployments?limit=1")?;
        list["rows"][0]["id"].as_u64().context("no deployment")
    }

    /// How far a deployment is on the gateway, and the reason if it failed.
    pub(crate) fn progress(&self, deployment: u64) -> Result<(String, String)> {
        self.interrupt.check()?;
        let deployment = self.cloud.get(&format!("/v1/deployments/{deployment}"))?;
        let row = &deployment["progress"][0];
        let word = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        Ok((word("progress"), word("reason")))
    }

    /// Waits until a deployment is live; it must not fail on the way.
    pub(crate) fn wait_live(&self, deployment: u64) -> Result<()> {
        self.poll("the deployment to be live", || {
            let (progress, reason) = self.progress(deployment)?;
            ensure!(!["failed", "taken-back"].contains(&progress.as_str()), "{reason}");
            Ok((progress == "live").then_some(()))
        })
    }

    /// Waits until the gateway took a deployment back; its reason.
    pub(crate) fn wait_taken_back(&self, deployment: u64) -> Result<String> {
        self.poll("the deployment to be taken back", || {
            let (progress, reason) = self.progress(deployment)?;
            ensure!(progress != "failed", "it was declined: {reason}");
            Ok((progress == "taken-back").then_some(reason))
        })
    }

    /// Waits for a notice of the gateway with `part` in it.
    pub(crate) fn wait_notice(&self, code: &str, part: &str) -> Result<String> {
        self.poll(&format!("the notice {code}"), || {
            let told = self.notices(code)?;
            Ok(told.into_iter().find(|text| text.contains(part)))
        })
    }

    /// Asks the control plane again and again for what an update comes to. Not oftener than that: it shares this
    /// machine with the emulator.
    pub(crate) fn poll<T>(
        &self,
        what: &str,
        ready: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        self.poll_within(UPDATE_MAX, what, ready)
    }

    /// The same for so long at most.
    pub(crate) fn poll_within<T>(
        &self,
        within: Duration,
        what: &str,
        mut ready: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        wait_for(within, what, || {
            self.interrupt.check()?;
            std::thread::sleep(POLL_EVERY);
            ready()
        })
    }

    /// Version and slot of the agent, as the control plane knows them: `0.1.0 (slot a)`.
    pub(crate) fn agent_version(&self) -> Result<String> {
        self.versions().map(|(agent, _)| agent)
    }

    /// Version and slot of agent and system: `0.1.0 (slot a)`, `system 0.1.0 (slot b)`.
    pub(crate) fn versions(&self) -> Result<(String, String)> {
        self.interrupt.check()?;
        let gateway = self.cloud.get(&format!("/v1/gateways/{GATEWAY}"))?;
        let label = gateway["agent_version"].as_str().context("no version of the agent")?;
        let (agent, system) = label.split_once(", ").context("no version of the system")?;
        Ok((agent.to_owned(), system.to_owned()))
    }

    /// Texts of the notices of a kind that the gateway has sent.
    pub(crate) fn notices(&self, code: &str) -> Result<Vec<String>> {
        let rows = self.streams_of(GATEWAY)?.into_iter().flatten();
        let notices = rows.filter(|row| row["code"] == code);
        Ok(notices.map(|row| row["text"].as_str().unwrap_or_default().to_owned()).collect())
    }

    /// Where the gateway finds the control plane.
    pub(crate) fn endpoint(&self) -> String {
        format!("{HOST}:{}", self.cloud.link.address().port())
    }

    /// How a device connects to the machine.
    pub(crate) fn login(&self, hardware: &Hardware, device: &str) -> Login {
        Login {
            ca: Some(self.identity.ca.clone()),
            password: Some(TOKEN.to_owned()),
            clean: false,
            session_expiry_s: 3_600,
            ..Login::anonymous(([127, 0, 0, 1], hardware.mqtt_port).into(), device)
        }
    }
}

/// Lines of `agent.toml` for a device.
pub(crate) fn device_toml(name: &str) -> String {
    let hash = ledger::hash(TOKEN.as_bytes());
    format!(
        "[[devices]]\nname = \"{name}\"\ntoken_sha256 = \"{hash}\"\n\
         publish = [\"sensors/#\"]\nsubscribe = [\"#\"]\n"
    )
}
