//! `--with-gateway`: a control plane and a gateway in this process, as `holm dev` has them, that know the devices. All of it
//! is in the folder of the simulation and begins anew with each one; what is kept is the build of the app.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::credentials::{Credentials, DAYS, OWN_HOST, WATCHER};
use super::profile::Profile;
use crate::app::Project;
use crate::args::Global;
use crate::build::Built;
use crate::dev::{GATEWAY, cloud::Plane, gateway::Running};
use crate::device::agent_toml::{self, Account};
use crate::device::{authority, sha256};
use crate::failure::{Done, Exit, Failure};
use crate::http::{Api, Method};
use crate::keys::{DEFAULT, KeyStore};
use crate::new;
use crate::out::Out;

/// How long the deployment of the app may take.
const DEPLOY_MAX: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(200);

/// What that app publishes.
pub(super) const OUTPUTS: &str = "simulated/+";

/// Files of the app that tells of every reading.
const APP: [(&str, &str); 3] = [
    ("Cargo.toml", include_str!("../../templates/simulate/Cargo.toml.txt")),
    ("src/lib.rs", include_str!("../../templates/simulate/lib.rs")),
    ("holm.toml", include_str!("../../templates/simulate/holm.toml")),
];

/// See the module.
pub(super) struct Own {
    plane: Plane,
    gateway: Running,
    api: Api,
}

/// What is started.
pub(super) struct Setup<'a> {
    pub(super) dir: &'a Path,
    pub(super) port: u16,
    /// Where devices connect with TLS, if they do.
    pub(super) tls: Option<&'a Tls>,
    pub(super) profile: &'a Profile,
    pub(super) credentials: &'a Credentials,
    /// The app to deploy; none: the one that tells of every reading.
    pub(super) app: Option<&'a Path>,
}

/// The listener for devices with TLS.
pub(super) struct Tls {
    port: u16,
    /// The folder of its authorities.
    pub(super) authorities: PathBuf,
}

impl Tls {
    /// Makes authorities, and a certificate for the gateway, in place of those of an earlier simulation.
    ///
    /// # Errors
    /// The port is in use, or files cannot be written.
    pub(super) fn new(dir: &Path, port: u16) -> Done<Self> {
        crate::dev::gateway::check_port(port)?;
        let authorities = dir.join("authorities");
        if authorities.exists() {
            std::fs::remove_dir_all(&authorities)
                .map_err(|error| Failure::file("empty", &authorities, &error))?;
        }
        let now = time::OffsetDateTime::now_utc();
        authority::create(&authorities, now)?;
        let hosts = [OWN_HOST.to_owned(), "127.0.0.1".to_owned()];
        let issued = authority::listener(&authorities, GATEWAY, &hosts, DAYS, now)?;
        let tls = Self { port, authorities };
        crate::secret_file::write(&tls.key(), issued.key.serialize_pem().as_bytes())?;
        crate::secret_file::write(&tls.certificate(), issued.certificate_pem.as_bytes())?;
        Ok(tls)
    }

    fn certificate(&self) -> PathBuf {
        self.authorities.join("listener.pem")
    }

    fn key(&self) -> PathBuf {
        self.authorities.join("listener.key")
    }

    /// Where devices connect.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The lines of the gateway's configuration.
    fn lines(&self) -> String {
        let client_ca = authority::Of::Devices.certificate(&self.authorities);
        let bind = self.address();
        agent_toml::listener(&bind, &self.certificate(), &self.key(), &client_ca)
    }
}

impl Own {
    /// Starts everything, and deploys the app.
    ///
    /// # Errors
    /// The port is in use, the app does not build, or something does not start.
    pub(super) fn start(setup: &Setup<'_>, global: &Global, io: &Runtime, out: &Out) -> Done<Self> {
        // What is wrong with these is told before anything runs.
        crate::dev::gateway::check_port(setup.port)?;
        let project = match setup.app {
            Some(dir) => Project::open(dir)?,
            None => Project::open(&write_app(setup)?)?,
        };
        let folder = setup.dir.join("own");
        if folder.exists() {
            std::fs::remove_dir_all(&folder)
                .map_err(|error| Failure::file("empty", &folder, &error))?;
        }
        std::fs::create_dir_all(&folder).map_err(|error| Failure::file("make", &folder, &error))?;
        let here = Global { config: Some(folder.join("config.toml")), ..global.clone() };
        let plane = Plane::start(&folder, &here, io, out)?;
        // Functions of devices are signed as they are built, by a key that the plane makes. The gateway starts after
        // the build: an app with mistakes starts none.
        let prepared = bundle(&project, &here, out).and_then(|bundle| {
            let api = Api::new(plane.context())?;
            let mut accounts = accounts(setup.profile, setup.credentials);
            accounts.extend(setup.tls.map(Tls::lines));
            let gateway = Running::start(&folder, &api, setup.port, &accounts, io, out)?;
            Ok((bundle, api, gateway))
        });
        let (bundle, api, gateway) = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => {
                io.block_on(plane.stop());
                return Err(failure);
            }
        };
        let own = Self { plane, gateway, api };
        match own.deploy(&project.app.name, &bundle, out) {
            Ok(()) => Ok(own),
            Err(failure) => {
                own.stop(io);
                Err(failure)
            }
        }
    }

    /// Returns when the app is at work: on probation, which takes a minute more, or for good.
    fn deploy(&self, app: &str, bundle: &[u8], out: &Out) -> Done {
        let kind = "application/octet-stream";
        let revision: Value = self.api.send(Method::Post, "/v1/revisions", kind, bundle)?;
        let body = json!({ "revision": revision["digest"], "gateways": [GATEWAY] });
        self.api.call::<Value>(Method::Post, "/v1/deployments", Some(&body))?;
        out.progress("Deploying", &format!("the app `{app}`"));
        let end = Instant::now() + DEPLOY_MAX;
        while Instant::now() < end {
            let gateway: Value = self.api.get(&format!("/v1/gateways/{GATEWAY}"))?;
            let app = &gateway["apps"][0];
            if app["running"].is_string() {
                return Ok(());
            }
            if matches!(app["phase"].as_str(), Some("failed" | "taken-back")) {
                let why = app["reason"].as_str().unwrap_or_default();
                return Err(Failure::failed(format!("the gateway does not take the app: {why}")));
            }
            std::thread::sleep(POLL);
        }
        Err(Failure::new(Exit::Timeout, "the gateway does not come to run the app"))
    }

    /// The control plane.
    pub(super) fn api(&self) -> Api {
        self.api.clone()
    }

    /// Ends both.
    pub(super) fn stop(self, io: &Runtime) {
        self.gateway.stop();
        io.block_on(self.plane.stop());
    }
}

/// The app as a bundle, all of it signed by the key that its plane trusts.
fn bundle(project: &Project, here: &Global, out: &Out) -> Done<Vec<u8>> {
    let key = KeyStore::open(here)?.load(DEFAULT)?;
    Ok(Built::new(project, Some(&key), out)?.bundle(Some(&key))?.1)
}

/// What the gateway's configuration says of the devices; anonymous clients may look.
fn accounts(profile: &Profile, credentials: &Credentials) -> String {
    let mut text = String::from("[anonymous]\nsubscribe = [\"#\"]\n[limits]\n");
    text.push_str("connections = 100000\nsessions = 100000\n");
    let publish = [profile.topic.clone()];
    for (name, account) in credentials.accounts() {
        text.push_str(&agent_toml::device(name, &account, &publish, &[]));
    }
    if let Some(token) = credentials.watcher() {
        let account = Account::TokenSha256(sha256(token));
        text.push_str(&agent_toml::device(WATCHER, &account, &[], &["#".to_owned()]));
    }
    text
}

/// Writes the app that tells of every reading; what is the same stays, so that its build does.
fn write_app(setup: &Setup<'_>) -> Done<PathBuf> {
    let dir = setup.dir.join("app");
    // As `holm new` finds it.
    let given = std::env::var_os("HOLM_SDK_PATH").map(PathBuf::from);
    let sdk = new::sdk_path(given.as_deref())?;
    let protocol = sdk.join("../../device-sdk/protocol");
    let quoted = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
    let filter = toml::Value::String(setup.profile.readings_filter()).to_string();
    for (path, text) in APP {
        let text = text.replace("@SDK@", &quoted(&sdk)).replace("@PROTOCOL@", &quoted(&protocol));
        let (path, text) = (dir.join(path), text.replace("@FILTER@", &filter));
        if std::fs::read_to_string(&path).is_ok_and(|before| before == text) {
            continue;
        }
        new::write(&path, &text)?;
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::credentials::name_of;

    #[test]
    fn the_app_and_the_accounts_are_sound() {
        let holm_toml = APP.iter().find(|(path, _)| *path == "holm.toml").unwrap().1;
        assert_eq!(
            crate::app::App::parse(&holm_toml.replace("@FILTER@", "\"sensors/+\"")).err(),
            None
        );
        let profile = Profile::parse("", &|_| Err(String::new())).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let tls = Tls::new(dir.path(), 0).unwrap();
        let names: Vec<_> = (1..=2_000).map(name_of).collect();
        for tls in [None, Some(&tls)] {
            let authorities = tls.map(|tls| tls.authorities.as_path());
            let credentials = Credentials::fresh(&names, authorities).unwrap();
            let text = format!(
                "name = \"x\"\n[[listeners]]\nbind = \"127.0.0.1:1\"\n{}{}",
                accounts(&profile, &credentials),
                tls.map(Tls::lines).unwrap_or_default()
            );
            let settings = edge_agent::settings::Settings::parse(&text);
            let settings = settings.unwrap_or_else(|problems| panic!("{problems:?}"));
            assert_eq!(settings.listeners.len(), 1 + usize::from(tls.is_some()));
            assert!(settings.limits.devices_max > 2_000, "no repeat of a device is forgotten");
        }
    }

    /// Functions of devices are signed as they are built: without the key of the plane nothing is built.
    #[test]
    fn the_key_is_there_before_the_build() {
        let dir = tempfile::tempdir().unwrap();
        let text = "[app]\nname = \"x\"\nversion = \"1.0.0\"\n[functions.smooth]\nwasm = \"none.wasm\"\n\
                    [device-function.press]\nfunction = \"smooth\"\ndevices = [\"sim-*\"]\n";
        std::fs::write(dir.path().join("holm.toml"), text).unwrap();
        let project = Project::open(dir.path()).unwrap();
        let config = Some(dir.path().join("config.toml"));
        let here = Global { json: false, quiet: true, config, context: None };
        let out = Out::new(false, true);
        let problem = || bundle(&project, &here, &out).unwrap_err().to_string();
        assert!(problem().contains("key `default`"), "{}", problem());
        KeyStore::open(&here).unwrap().create(DEFAULT).unwrap();
        assert!(problem().contains("none.wasm"), "{}", problem());
    }
}
