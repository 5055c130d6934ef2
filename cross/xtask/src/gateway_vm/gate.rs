//! Gateways of a site by name: their configuration, their token, what becomes of deployments on them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use system_tests::author::fixture;

use super::site::Site;

/// Longest wait for a deployment on all gateways: each compiles it, in emulation.
const DEPLOY_MAX: Duration = Duration::from_secs(600);

/// Lines of `agent.toml`: in emulation, on a machine that others load, a compilation takes minutes.
pub(crate) const LIMITS: &str = "[limits]\ncompile_time = \"10 min\"\n\n";

/// A gateway of the site.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    /// Its name; files of its own are named by it.
    pub(crate) name: String,
    /// Its configuration.
    pub(crate) agent_toml: String,
    /// Files that the configuration names, beside certificate and key of the listener.
    pub(crate) files: Vec<PathBuf>,
}

impl Gate {
    /// One with a listener for devices; `more` are further lines of its configuration.
    pub(crate) fn new(name: &str, more: &str) -> Self {
        let agent_toml = format!(
            "name = \"{name}\"\n\n{LIMITS}\
             [[listeners]]\nbind = \"0.0.0.0:8883\"\n\
             certificate = \"/etc/holm/server.pem\"\nkey = \"/etc/holm/server.key\"\n\n{more}"
        );
        Self { name: name.to_owned(), agent_toml, files: Vec::new() }
    }
}

impl Site {
    /// A token for a new gateway.
    pub(crate) fn token(&self, gate: &Gate) -> Result<String> {
        Ok(self.author.holm(&["gateway", "add", &gate.name])?.trim().to_owned())
    }

    /// Where the configuration of a gateway lies, as it is put onto its card.
    pub(crate) fn config(&self, gate: &Gate) -> PathBuf {
        self.dir.join(format!("{}.config", gate.name))
    }

    /// Deploys an app of the tests to all gateways, and waits until its functions work on those named;
    /// how long each took.
    pub(crate) fn deploy_app(
        &self,
        app: &str,
        gateways: &[String],
    ) -> Result<BTreeMap<String, Duration>> {
        let app = fixture("apps").join(app);
        let begun = std::time::Instant::now();
        self.author.holm(&["deploy", app.to_str().context("not UTF-8")?, "--all"])?;
        let list = self.cloud.get("/v1/deployments?limit=1")?;
        let id = list["rows"][0]["id"].as_u64().context("no deployment")?;
        let mut works = BTreeMap::new();
        self.poll_within(DEPLOY_MAX, "the app to work on the gateways", || {
            let deployment = self.cloud.get(&format!("/v1/deployments/{id}"))?;
            for row in deployment["progress"].as_array().into_iter().flatten() {
                let gateway = row["gateway"].as_str().unwrap_or_default();
                match row["progress"].as_str() {
                    Some("failed" | "taken-back") => bail!("{gateway}: {}", row["reason"]),
                    Some("live" | "probation") => {
                        works.entry(gateway.to_owned()).or_insert_with(|| begun.elapsed());
                    }
                    _ => {}
                }
            }
            Ok(gateways.iter().all(|name| works.contains_key(name)).then_some(()))
        })?;
        Ok(works)
    }

    /// Rows of a gateway that are stored here, by stream.
    pub(crate) fn streams_of(&self, gateway: &str) -> Result<Vec<Vec<Value>>> {
        self.interrupt.check()?;
        (0..3).map(|stream| self.cloud.stream(gateway, stream)).collect()
    }
}
