//! What of the card beside the store must hold after a cut: configuration, token, identity.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use edge_agent::identity::Identity;

use super::card::{Card, Milestone};
use super::report::UNREADABLE;

/// The gateway's folder on the data partition.
const FOLDER: &str = "holm";

/// What has to be on a card, and how far its gateway had come.
#[derive(Debug)]
pub(super) struct OnCard {
    gateway: String,
    token: String,
    /// Files of the configuration, by name.
    config: BTreeMap<String, Vec<u8>>,
    reached: Option<Milestone>,
}

impl OnCard {
    /// Before anything was reached.
    pub(super) fn new(card: &Card) -> Result<Self> {
        let mut config = BTreeMap::new();
        let shown = || card.config.display().to_string();
        for file in fs::read_dir(&card.config).with_context(shown)? {
            let file = file?;
            let name = file.file_name().into_string().ok().context("a name that is no UTF-8")?;
            config.insert(name, fs::read(file.path())?);
        }
        let (gateway, token) = (card.gateway.clone(), card.token.trim().to_owned());
        Ok(Self { gateway, token, config, reached: None })
    }

    /// The data directory of the agent.
    pub(super) fn agent_data(mount: &Path) -> PathBuf {
        mount.join(FOLDER).join("data")
    }

    /// The gateway had come so far before the cut.
    pub(super) fn reached(&mut self, milestone: Milestone) {
        self.reached = self.reached.max(Some(milestone));
    }

    /// What must not be; empty when all is well.
    pub(super) fn judge(&self, mount: &Path) -> Result<Vec<String>> {
        let folder = mount.join(FOLDER);
        let mut problems = Vec::new();
        for (name, due) in &self.config {
            match read(&folder.join("etc").join(name))? {
                Some(found) if found == *due => {}
                Some(_) => problems.push(format!("configuration: {name} is not what it was")),
                None if self.reached.is_none() => {}
                None => problems.push(format!("configuration: {name} is LOST")),
            }
        }
        let identity = match Identity::load(&Self::agent_data(mount)) {
            Ok(identity) => identity,
            Err(error) => {
                problems.push(format!("identity: {UNREADABLE}: {error}"));
                return Ok(problems);
            }
        };
        let is_own = identity.as_ref().is_some_and(|identity| identity.gateway == self.gateway);
        if identity.is_some() && !is_own {
            problems.push("identity: it is that of another gateway".to_owned());
        }
        if self.reached >= Some(Milestone::Enrolled) && !is_own {
            problems.push("identity: LOST after the enrolment".to_owned());
        }
        let token = read(&folder.join("enroll-token"))?;
        let is_token = token.is_some_and(|token| token.trim_ascii() == self.token.as_bytes());
        if self.reached == Some(Milestone::Seeded) && !is_own && !is_token {
            problems.push("token: LOST before there is an identity".to_owned());
        }
        Ok(problems)
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::card::Part;

    #[test]
    fn what_a_gateway_cannot_do_without_is_missed() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let (config, mount) = (dir.path().join("config"), dir.path().join("mount"));
        fs::create_dir_all(&config)?;
        fs::create_dir_all(mount.join("holm/etc"))?;
        fs::create_dir_all(OnCard::agent_data(&mount))?;
        fs::write(config.join("agent.toml"), "name = \"barn\"")?;
        let mut card = OnCard::new(&Card {
            gateway: "barn".to_owned(),
            token: "secret\n".to_owned(),
            config,
            data: Part { start: 0, bytes: 0 },
        })?;
        assert_eq!(card.judge(&mount)?, [] as [String; 0], "nothing was promised yet");

        card.reached(Milestone::Seeded);
        let found = card.judge(&mount)?.join("; ");
        assert!(found.contains("agent.toml is LOST") && found.contains("token: LOST"), "{found}");
        fs::write(mount.join("holm/etc/agent.toml"), "name = \"barn\"")?;
        fs::write(mount.join("holm/enroll-token"), "secret")?;
        assert_eq!(card.judge(&mount)?, [] as [String; 0]);

        card.reached(Milestone::Enrolled);
        assert_eq!(card.judge(&mount)?, ["identity: LOST after the enrolment"]);
        fs::write(OnCard::agent_data(&mount).join("identity"), [7; 40])?;
        fs::write(mount.join("holm/etc/agent.toml"), "name = \"ba")?;
        let found = card.judge(&mount)?.join("; ");
        assert!(found.contains("is not what it was") && found.contains("UNREADABLE"), "{found}");
        Ok(())
    }
}
