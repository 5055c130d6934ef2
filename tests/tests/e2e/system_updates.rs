//! The whole system of a card image is updated by an ordinary deployment: the agent and the image's helper as
//! they are, files in the place of a card, and this test in that of boot loader, init and keeper. The card itself
//! is played by `cargo xtask gateway-vm --systems`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use edge_agent::system::card;
use edge_core::boot::Slot;
use edge_core::boot::card::{BootRecord, COPIES_AT};
use serde_json::Value;
use sync_protocol::system_file::{Header, Part};
use system_tests::author::Author;
use system_tests::cloud::Cloud;
use system_tests::gateway::{Gateway, Setup};
use system_tests::process::{program, wait_for};

use crate::support::{PATIENCE, publish};

/// The helper wants the machine restarted, and the boot partition mounted.
const RESTART: i32 = 10;
const MOUNT: i32 = 11;

/// What a slot holds: root, kernel, initramfs.
type Contents = [Vec<u8>; 3];

fn contents(n: u8) -> Contents {
    [vec![n; 700_000], vec![n + 1; 90_000], vec![n + 2; 5_000]]
}

/// A gateway on a machine with a card.
struct Machine {
    dir: PathBuf,
    author: Author,
    gateway: Gateway,
    slot: Slot,
}

impl Machine {
    fn new(dir: &Path, author: Author) -> Result<Self> {
        for folder in ["shared/ask", "boot/a", "boot/b", "root"] {
            std::fs::create_dir_all(dir.join(folder))?;
        }
        let mut disk = vec![0; usize::try_from(COPIES_AT[1])? + 512];
        for at in COPIES_AT {
            let at = usize::try_from(at)?;
            disk[at..at + 512].copy_from_slice(&BootRecord::FRESH.encode());
        }
        std::fs::write(dir.join("disk"), disk)?;
        let setup = Setup {
            author_keys: vec![author.key()?],
            image: Some(dir.join("shared")),
            ..Setup::open("barn")
        };
        let gateway = Gateway::new(&dir.join("gateway"), &setup)?;
        let machine = Self { dir: dir.to_owned(), author, gateway, slot: Slot::A };
        for slot in Slot::ALL {
            for (path, bytes) in machine.paths(slot).iter().zip(contents(0)) {
                std::fs::write(path, bytes)?;
            }
        }
        Ok(machine)
    }

    fn paths(&self, slot: Slot) -> [PathBuf; 3] {
        let root = self.dir.join(format!("root-{}", slot.as_str()));
        let boot = self.dir.join("boot").join(slot.as_str());
        [root, boot.join("kernel.gz"), boot.join("initramfs.gz")]
    }

    fn holds(&self, slot: Slot, contents: &Contents) -> Result<bool> {
        for (path, part) in self.paths(slot).iter().zip(contents) {
            if std::fs::read(path)? != *part {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The helper, as the image's scripts start it; its exit code.
    fn helper(&self, words: &[&str]) -> Result<i32> {
        let mut command = Command::new(program("edge-agent")?);
        command.arg("system").args(words);
        command.arg("--shared").arg(self.dir.join("shared"));
        command.arg("--state").arg(self.dir.join("root/state"));
        command.arg("--disk").arg(self.dir.join("disk"));
        for slot in Slot::ALL {
            let [root, ..] = self.paths(slot);
            command.arg(format!("--root-{}", slot.as_str())).arg(root);
        }
        command.args(["--slot", self.slot.as_str(), "--board", "virt"]);
        let version = if self.slot == Slot::A { "0.1.0" } else { "0.2.0" };
        command.args(["--system-version", version]);
        command.arg("--data-dir").arg(self.gateway.data_dir());
        command.arg("--config").arg(self.gateway.config());
        command.status()?.code().context("a signal ended the helper")
    }

    fn boot(&mut self) -> Result<()> {
        let disk = self.dir.join("disk");
        std::fs::remove_dir_all(self.dir.join("shared"))?;
        std::fs::create_dir_all(self.dir.join("shared/ask"))?;
        let mut record = card::read(&disk)?;
        self.slot = record.good;
        if let Some(tries) = record.trial {
            record = record.with_trial(tries.checked_sub(1));
            card::write(&disk, record)?;
            if tries > 0 {
                self.slot = record.good.other();
            }
        }
        ensure!(self.helper(&["settle", "--at-start"])? == 0, "it does not settle");
        self.gateway.start()
    }

    /// A start of the system on trial that does not come as far as its data.
    fn dead_start(&self) -> Result<()> {
        let disk = self.dir.join("disk");
        let record = card::read(&disk)?;
        let tries = record.trial.filter(|tries| *tries > 0).context("no try is left")?;
        Ok(card::write(&disk, record.with_trial(Some(tries - 1)))?)
    }

    /// Does as root what the agent asks, until it asks for a restart; then the machine is off.
    fn serve_until_restart(&mut self) -> Result<()> {
        let request = self.dir.join("shared/ask/request");
        let boot = self.dir.join("boot");
        let boot = boot.to_str().context("UTF-8")?;
        wait_for(PATIENCE, "the agent to ask for a restart", || {
            if !request.exists() {
                return Ok(None);
            }
            let code = match self.helper(&["serve"])? {
                MOUNT => self.helper(&["serve", "--boot", boot])?,
                code => code,
            };
            match code {
                RESTART => Ok(Some(())),
                0 => Ok(None),
                other => bail!("the helper ended with {other}"),
            }
        })?;
        self.gateway.stop()
    }

    /// The keeper's part: the system that runs is well.
    fn keep(&self) -> Result<()> {
        ensure!(self.helper(&["settle", "--keep"])? == 0, "it is not kept");
        Ok(())
    }

    fn app(&self, version: &str, contents: &Contents) -> Result<PathBuf> {
        let folder = self.dir.join(format!("system-{version}"));
        system_app(&folder, version, contents)?;
        Ok(folder)
    }

    fn deploy(&self, version: &str, contents: &Contents) -> Result<()> {
        let bundle = self.author.build(&self.app(version, contents)?)?;
        self.gateway.hand_over(&bundle)?;
        Ok(())
    }

    fn wait_phase(&self, wanted: &str) -> Result<String> {
        wait_phase(&self.gateway, wanted)
    }
}

fn system_app(folder: &Path, version: &str, contents: &Contents) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let [root, kernel, initramfs] = contents;
    let header = Header {
        board: "virt".to_owned(),
        version: "0.2.0".to_owned(),
        root: Part::of(root),
        kernel: Part::of(kernel),
        initramfs: Part::of(initramfs),
    };
    let file = [header.to_bytes(), contents.concat()].concat();
    std::fs::write(folder.join("holm-virt.system"), file)?;
    let text = format!(
        "[app]\nname = \"system\"\nversion = \"{version}\"\n[system]\nversion = \"0.2.0\"\n\
         images = {{ \"virt\" = \"holm-virt.system\" }}\n"
    );
    Ok(std::fs::write(folder.join("holm.toml"), text)?)
}

fn wait_phase(gateway: &Gateway, wanted: &str) -> Result<String> {
    wait_for(PATIENCE, &format!("the app to be {wanted} (see {})", gateway.log().display()), || {
        let status = gateway.status()?;
        let mut apps = status["deployments"]["apps"].as_array().into_iter().flatten();
        let app = apps.find(|app| app["app"] == "system").cloned().unwrap_or_default();
        let reason = app["reason"].as_str().unwrap_or_default().to_owned();
        Ok((app["phase"] == wanted).then_some(reason))
    })
}

#[test]
fn a_good_system_is_kept_with_its_revision() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let author = Author::new(&dir.path().join("author"))?;
    let mut machine = Machine::new(dir.path(), author)?;
    machine.boot()?;
    let status = machine.gateway.status()?;
    assert_eq!(
        (&status["system"]["slot"], &status["system"]["version"]),
        (&"a".into(), &"0.1.0".into())
    );
    publish(&machine.gateway, 1, 20)?;
    machine.deploy("1.0.0", &contents(10))?;
    machine.serve_until_restart()?;
    assert!(machine.holds(Slot::B, &contents(10))? && machine.holds(Slot::A, &contents(0))?);
    machine.boot()?;
    assert_eq!(machine.slot, Slot::B);
    machine.wait_phase("probation")?;
    let status = machine.gateway.status()?;
    assert_eq!(status["system"]["state"], "trial");
    crate::status::assert_told(&status, "system")?;
    publish(&machine.gateway, 2, 20)?;
    machine.keep()?;
    machine.wait_phase("live")?;
    let status = machine.gateway.status()?;
    assert_eq!(status["system"]["state"], "confirmed", "{:#}", status["system"]);
    assert_eq!(status["system"]["taken_back"], serde_json::json!([]));
    // It is what starts from now on.
    machine.gateway.stop()?;
    machine.boot()?;
    assert_eq!(machine.slot, Slot::B);
    machine.wait_phase("live")?;
    machine.gateway.stop()
}

/// It is fetched from a control plane, does not come up, and the reason is told there.
#[test]
fn a_system_that_does_not_come_up_is_taken_back() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let author = Author::new(&dir.path().join("author"))?;
    let cloud = Cloud::start(&dir.path().join("cloud"), &author)?;
    let mut machine = Machine::new(dir.path(), author)?;
    let token = machine.author.holm(&["gateway", "add", "barn"])?;
    machine.gateway.enroll(token.trim())?;
    assert_eq!(machine.helper(&["settle", "--enrolled"])?, 0);
    machine.boot()?;
    let holm = |machine: &Machine, app: &Path| {
        machine.author.holm(&["deploy", app.to_str().expect("UTF-8"), "--all"])
    };
    holm(&machine, &machine.app("1.0.0", &contents(20))?)?;
    machine.serve_until_restart()?;
    machine.dead_start()?;
    machine.dead_start()?;
    machine.boot()?;
    assert_eq!(machine.slot, Slot::A);
    let reason = machine.wait_phase("taken-back")?;
    assert!(reason.contains("no start of it came as far as its data"), "{reason}");
    let status = machine.gateway.status()?;
    assert_eq!(status["system"]["taken_back"][0]["version"], "0.2.0");
    wait_for(PATIENCE, "the notice", || {
        let rows = cloud.stream("barn", 0)?;
        Ok(rows.iter().find(|row| row["code"] == "system-taken-back").map(|_| ()))
    })?;
    wait_for(PATIENCE, "the control plane to show it", || {
        let shown = machine.author.holm(&["status", "barn"])?;
        Ok((shown.contains("system 0.1.0 (slot a)") && shown.contains("no start of it"))
            .then_some(()))
    })?;
    holm(&machine, &machine.app("1.0.1", &contents(20))?)?;
    let reason = machine.wait_phase("failed")?;
    assert!(reason.contains("taken back here before"), "{reason}");
    machine.gateway.stop()
}

/// Somebody takes the app away during the trial: the system before it runs again, nobody is blamed.
#[test]
fn a_system_that_is_not_wanted_any_more_goes_without_blame() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let author = Author::new(&dir.path().join("author"))?;
    let mut machine = Machine::new(dir.path(), author)?;
    machine.boot()?;
    machine.deploy("1.0.0", &contents(10))?;
    machine.serve_until_restart()?;
    machine.boot()?;
    machine.wait_phase("probation")?;
    machine.gateway.agent(&["undeploy", "system"])?.status()?;
    machine.serve_until_restart()?;
    machine.boot()?;
    assert_eq!(machine.slot, Slot::A);
    let status = machine.gateway.status()?;
    assert_eq!(status["system"]["taken_back"], serde_json::json!([]), "{:#}", status["system"]);
    machine.gateway.stop()
}

#[test]
fn a_gateway_that_is_no_image_declines() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let author = Author::new(&dir.path().join("author"))?;
    let setup = Setup { author_keys: vec![author.key()?], ..Setup::open("barn") };
    let mut gateway = Gateway::new(&dir.path().join("gateway"), &setup)?;
    gateway.start()?;
    let folder = dir.path().join("system-app");
    system_app(&folder, "1.0.0", &contents(10))?;
    let bundle = author.build(&folder)?;
    gateway.hand_over(&bundle)?;
    let reason = wait_phase(&gateway, "failed")?;
    assert!(reason.contains("does not run from a card image"), "{reason}");
    assert_eq!(gateway.status()?["system"], Value::Null);
    gateway.stop()
}
