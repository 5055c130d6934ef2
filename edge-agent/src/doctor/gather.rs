//! Looking at the machine, the data folder and the agent, without changing any of it.

mod folder;
mod net;
mod process;
mod trust;

use std::path::Path;

use self::process::Asked;
use super::facts::{Agent, Clock, Facts, SettingsFile};
use crate::identity::Identity;
use crate::runtime::EngineSettings;
use crate::settings::Settings;
use crate::{backup, system_clock, tls};

/// Gathers what there is to know about the gateway of a configuration file. Takes up to half a
/// minute where nothing answers.
#[must_use]
pub fn gather(config: &Path) -> Facts {
    match read(config) {
        Ok(settings) => of(config, &settings),
        Err(bad) => Facts { settings: bad, log: process::log(None), ..Facts::default() },
    }
}

fn read(config: &Path) -> Result<Settings, SettingsFile> {
    let name = config.display();
    let bad =
        |problems, unread| SettingsFile { file: name.to_string(), name: None, problems, unread };
    let text = std::fs::read_to_string(config)
        .map_err(|err| bad(vec![format!("{name}: {err}")], Some(err.kind())))?;
    Settings::parse(&text).map_err(|problems| {
        bad(problems.iter().map(|problem| format!("{name}: {problem}")).collect(), None)
    })
}

fn of(config: &Path, settings: &Settings) -> Facts {
    let (data, socket) = (&settings.data_dir, &settings.control_socket);
    let file = config.display().to_string();
    let Asked { agent, process } = process::agent(socket);
    let is_down = matches!(agent, Agent::Down);
    let identity = Identity::load(data);
    Facts {
        settings: SettingsFile {
            file,
            name: Some(settings.name.clone()),
            problems: Vec::new(),
            unread: None,
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
        listeners: match &agent {
            // Who has a port would not be known.
            Agent::Hidden(_) => Vec::new(),
            _ => net::listeners(settings, !is_down),
        },
        disk: folder::disk(data),
        sizes: folder::sizes(data, settings.limits.store_bytes_max, is_down),
        left_over: backup::cut_off(data),
        half_restore: backup::half_of(data),
        memory: process::memory(),
        space: process::space(process, &EngineSettings::from(&settings.limits)),
        files: folder::files(settings),
        log: process::log(settings.log.as_ref().map(|log| log.file.as_path())),
        agent,
    }
}
