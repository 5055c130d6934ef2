//! `holm dev`: everything in one process and one folder, to try an app on a laptop.
//!
//! A real control plane, a real gateway enrolled with it over TLS, and a device that publishes over
//! MQTT: the same code as in the field, only the addresses are loopback. The app is built and
//! deployed, and again whenever its files change.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::app::Project;
use crate::args::{Dev, Global};
use crate::build::Built;
use crate::deploy;
use crate::failure::{Done, Failure};
use crate::http::Api;
use crate::keys::{DEFAULT, KeyStore};
use crate::out::Out;

pub(crate) mod cloud;
mod device;
pub(crate) mod gateway;
mod view;
mod watch;

/// Name of the gateway.
pub(crate) const GATEWAY: &str = "dev";
/// How long a deployment may take.
const DEPLOY_S: u64 = 120;
/// How often files are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// `holm dev`
///
/// # Errors
/// The app has mistakes at the start, or a part does not start (a port in use).
pub fn run(args: &Dev, global: &Global, out: &Out) -> Done {
    let project = Project::open(&args.dir)?;
    let device = device::Device::of(&project)?;
    gateway::check_port(args.port)?;
    let (folder, kept) = folder(args)?;
    let io = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let here = Global { config: Some(folder.join("config.toml")), ..global.clone() };
    let plane = cloud::Plane::start(&folder, &here, &io, out)?;
    let api = Api::new(plane.context())?;
    let gateway = gateway::Running::start(&folder, &api, args.port, &device.accounts(), &io, out)?;
    welcome(args, &plane, &folder, out);
    view::messages(args.port, out, &io);
    view::logs(api.clone(), out);
    let bench = Bench { args, dir: project.dir.clone(), api, keys: KeyStore::open(&here)? };
    if !args.no_device {
        device::start(args, &project, &device, &bench.api, &io, out)?;
    }
    if let Err(failure) = bench.deploy(out) {
        out.failure(&failure);
    }
    let ended = bench.follow(&io, out);
    out.progress("Stopping", "the gateway, then the control plane");
    gateway.stop();
    io.block_on(plane.stop());
    drop(kept);
    ended
}

/// The folder to work in; a temporary one goes when its guard does.
fn folder(args: &Dev) -> Done<(PathBuf, Option<tempfile::TempDir>)> {
    if let Some(dir) = &args.data {
        std::fs::create_dir_all(dir).map_err(|error| Failure::file("make", dir, &error))?;
        return Ok((dir.clone(), None));
    }
    let dir = tempfile::Builder::new()
        .prefix("holm-dev-")
        .tempdir()
        .map_err(|error| Failure::failed(format!("cannot make a temporary folder: {error}")))?;
    Ok((dir.path().to_owned(), Some(dir)))
}

fn welcome(args: &Dev, plane: &cloud::Plane, folder: &Path, out: &Out) {
    let config = folder.join("config.toml");
    let port = args.port;
    out.progress("Gateway", &format!("mqtt://127.0.0.1:{port} (no password needed)"));
    out.progress("Control", &format!("{} (web page and API)", plane.context().url));
    out.progress("Try", &format!("export HOLM_CONFIG={}", config.display()));
    let broker = if port == 1883 { String::new() } else { format!(" -b mqtt://127.0.0.1:{port}") };
    out.progress(
        "",
        &format!("holm status dev; holm sub '#'{broker}; holm pub TOPIC TEXT{broker}"),
    );
}

/// What is built and where it goes.
struct Bench<'a> {
    args: &'a Dev,
    dir: PathBuf,
    api: Api,
    keys: KeyStore,
}

impl Bench<'_> {
    fn deploy(&self, out: &Out) -> Done {
        let project = Project::open(&self.args.dir)?;
        let key = self.keys.load(DEFAULT)?;
        let (_, bundle) = Built::new(&project, Some(&key), out)?.bundle(Some(&key))?;
        let gateways = [GATEWAY.to_owned()];
        deploy::roll_out(&self.api, &bundle, Some(&gateways), Some(DEPLOY_S), out)
    }

    /// Deploys again on changes, until Ctrl-C or the end of `--for`.
    fn follow(&self, io: &tokio::runtime::Runtime, out: &Out) -> Done {
        let end = self.args.for_s.map(|s| Instant::now() + Duration::from_secs(s));
        let mut seen = watch::Stamp::of(&self.dir);
        let stopped = io.spawn(tokio::signal::ctrl_c());
        while !stopped.is_finished() && end.is_none_or(|end| Instant::now() < end) {
            std::thread::sleep(LOOK);
            let now = watch::Stamp::of(&self.dir);
            if now != seen {
                out.progress("Changed", &self.dir.display().to_string());
                if let Err(failure) = self.deploy(out) {
                    out.failure(&failure);
                }
                // What the build itself wrote, such as a lock file.
                seen = watch::Stamp::of(&self.dir);
            }
        }
        Ok(())
    }
}
