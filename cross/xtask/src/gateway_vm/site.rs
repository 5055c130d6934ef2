//! What surrounds the gateway on this machine: control plane, author, the image for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use system_tests::author::{Author, fixture};
use system_tests::cloud::Cloud;
use system_tests::interrupt::Interrupt;
use system_tests::ledger;
use system_tests::mqtt::Login;
use system_tests::pki::{ServerIdentity, server_identity};
use system_tests::process::wait_for;

use super::gate::Gate;
use super::machine::{HOST, Hardware};
use crate::image::{Board, Built, Request, Seed, Sources, Versions, build};

/// Name of the gateway.
pub(crate) const GATEWAY: &str = "gw-vm";
/// Name of the device.
pub(crate) const DEVICE: &str = "press-1";
const TOKEN: &str = "token-of-press-1";

/// The image's idea of now, 2020-09-13: before any certificate of the control plane begins, so that
/// the gateway meets it as a board does that was stored for years and has no battery.
const BUILT_AT: u64 = 1_600_000_000;

/// Seconds from status line to status line.
const STATUS_EVERY_S: u32 = 5;

/// Longest wait for a deployment: the gateway compiles it, in emulation.
const DEPLOY_MAX: Duration = Duration::from_secs(300);

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
        let gate = Gate { name: GATEWAY.to_owned(), agent_toml: agent_toml(), files: Vec::new() };
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
            settings: vec![format!("STATUS_EVERY_S={STATUS_EVERY_S}")],
        })?;
        build(&Request {
            board: Board::Virt,
            agent: agent.to_owned(),
            seed,
            out: self.dir.join(format!("{}.img", gate.name)),
            parts: parts.to_owned(),
            versions: Versions::AsBefore,
            built_at: Some(BUILT_AT),
        })
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
            block_log: None,
            memory_mib,
            log: self.dir.join("console.log"),
            interrupt: self.interrupt.clone(),
        })
    }

    /// Deploys the app of the demonstration; returns once its functions work.
    pub(crate) fn deploy(&self) -> Result<()> {
        let app = fixture("apps/cold-chain");
        self.author.holm(&["deploy", app.to_str().context("not UTF-8")?, "--all"])?;
        let list = self.cloud.get("/v1/deployments?limit=1")?;
        let id = list["rows"][0]["id"].as_u64().context("no deployment")?;
        wait_for(DEPLOY_MAX, "the app to work on the gateway", || {
            self.interrupt.check()?;
            std::thread::sleep(Duration::from_millis(200));
            let deployment = self.cloud.get(&format!("/v1/deployments/{id}"))?;
            let row = &deployment["progress"][0];
            match row["progress"].as_str() {
                Some("failed" | "taken-back") => bail!("{}", row["reason"]),
                Some("live" | "probation") => Ok(Some(())),
                _ => Ok(None),
            }
        })
    }

    /// How the device connects to the machine.
    pub(crate) fn login(&self, hardware: &Hardware) -> Login {
        Login {
            ca: Some(self.identity.ca.clone()),
            password: Some(TOKEN.to_owned()),
            clean: false,
            session_expiry_s: 3_600,
            ..Login::anonymous(([127, 0, 0, 1], hardware.mqtt_port).into(), DEVICE)
        }
    }

    /// Records and dead letters of the gateway that are stored here, by stream.
    pub(crate) fn streams(&self) -> Result<Vec<Vec<serde_json::Value>>> {
        self.interrupt.check()?;
        (0..3).map(|stream| self.cloud.stream(GATEWAY, stream)).collect()
    }
}

fn agent_toml() -> String {
    let hash = ledger::hash(TOKEN.as_bytes());
    format!(
        "name = \"{GATEWAY}\"\n\n\
         [[listeners]]\nbind = \"0.0.0.0:8883\"\n\
         certificate = \"/etc/holm/server.pem\"\nkey = \"/etc/holm/server.key\"\n\n\
         [[devices]]\nname = \"{DEVICE}\"\ntoken_sha256 = \"{hash}\"\n\
         publish = [\"sensors/#\"]\nsubscribe = [\"#\"]\n"
    )
}
