//! A control plane with one gateway, for tests of what an operator does.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use system_tests::author::{Author, fixture};
use system_tests::cloud::Cloud;
use system_tests::gateway::{Gateway, Setup};
use system_tests::process::wait_for;

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// The gateway.
pub(crate) const GATEWAY: &str = "gw-1";

/// The processes, and the author who is the operator, too.
pub(crate) struct Fleet {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) author: Author,
    pub(crate) cloud: Cloud,
    pub(crate) gateway: Gateway,
}

impl Fleet {
    /// Starts them with a gateway that is enrolled and online.
    pub(crate) fn start(setup: impl FnOnce(Setup) -> Result<Setup>) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let author = Author::new(&dir.path().join("home"))?;
        let cloud = Cloud::start(&dir.path().join("cloud"), &author)?;
        let setup = setup(Setup { name: GATEWAY.to_owned(), ..Setup::default() })?;
        let mut gateway = Gateway::new(&dir.path().join(GATEWAY), &setup)?;
        let token = author.holm(&["gateway", "add", GATEWAY])?;
        gateway.enroll(token.trim())?;
        gateway.start()?;
        let fleet = Self { dir, author, cloud, gateway };
        fleet.wait_online()?;
        Ok(fleet)
    }

    /// Waits until the control plane has the gateway's connection.
    pub(crate) fn wait_online(&self) -> Result<()> {
        wait_for(PATIENCE, "the gateway to be online", || {
            let gateway = self.cloud.get(&format!("/v1/gateways/{GATEWAY}"))?;
            Ok((gateway["online"] == true).then_some(()))
        })
    }

    /// Deploys an app below `tests/apps` and waits until it works.
    pub(crate) fn deploy(&self, app: &str) -> Result<()> {
        let dir = fixture("apps").join(app);
        let dir = dir.to_str().expect("UTF-8");
        self.author.holm(&["deploy", dir, "--to", GATEWAY, "--quiet"])?;
        self.wait_running()
    }

    /// Waits until an app is at work, on probation (which lasts a minute) or live.
    pub(crate) fn wait_running(&self) -> Result<()> {
        wait_for(PATIENCE, "the app to run", || {
            let gateway = self.cloud.get(&format!("/v1/gateways/{GATEWAY}"))?;
            Ok(gateway["apps"][0]["running"].is_string().then_some(()))
        })
    }

    /// A file in the folder of the test.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}
