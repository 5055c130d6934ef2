//! Looking at the machine, the data folder and the agent, without changing any of it.

mod folder;
mod net;
mod process;
mod trust;

use std::path::Path;

use super::facts::{Agent, Clock, Facts, SettingsFile};
use crate::identity::Identity;
use crate::runtime::EngineSettings;
use crate::settings::Settings;
use crate::{system_clock, tls};

/// Gathers what there is to know about the gateway of a configuration file. Takes up to half a
/// minute where nothing answers.
#[must_use]
pub fn gather(config: &Path) -> Facts {
    match read(config) {
        Ok(settings) => of(config, &settings),
        Err(problems) => Facts {
            settings: SettingsFile {
                file: config.display().to_string(),
                problems,
                ..Default::default()
            },
            ..Facts::default()
        },
    }
}

fn read(config: &Path) -> Result<Settings, Vec<String>> {
    let name = config.display();
    let text = std::fs::read_to_string(config).map_err(|err| vec![format!("{name}: {err}")])?;
    Settings::parse(&text)
        .map_err(|problems| problems.iter().map(|problem| format!("{name}: {problem}")).collect())
}

fn of(config: &Path, settings: &Settings) -> Facts {
    let (data, socket) = (&settings.data_dir, &settings.control_socket);
    let file = config.display().to_string();
    let (agent, process) = process::agent(socket);
    let identity = Identity::load(data);
    Facts {
        settings: SettingsFile {
            file,
            name: Some(settings.name.clone()),
            problems: Vec::new(),
            log: settings.log.as_ref().map(|log| log.file.clone()),
        },
        clock: Clock {
            unix_s: system_clock::unix_ms() / 1_000,
            floor_unix_s: tls::BUILD_FLOOR_UNIX_S,
            store_unix_s: folder::written_unix_s(data),
            disciplined: system_clock::disciplined().is_some(),
        },
        certificates: trust::certificates(
            settings,
            identity.as_ref().ok().and_then(Option::as_ref),
        ),
        control_plane: match &identity {
            Ok(Some(identity)) => {
                Some(net::control_plane(&identity.enrolled.endpoint, &settings.proxy))
            }
            Ok(None) | Err(_) => None,
        },
        identity: trust::identity(identity),
        listeners: net::listeners(settings, !matches!(agent, Agent::Down)),
        disk: folder::disk(data),
        sizes: folder::sizes(data, settings.limits.store_bytes_max),
        left_over: crate::backup::cut_off(data),
        memory: process::memory(),
        space: process::space(process, &EngineSettings::from(&settings.limits)),
        files: folder::files(settings),
        agent,
    }
}
