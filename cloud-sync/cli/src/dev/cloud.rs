//! The control plane of `holm dev`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use cloud_sync::{Clock, Config, InitOptions};
use tokio::runtime::Runtime;

use crate::args::Global;
use crate::context::{Context, Contexts};
use crate::failure::{Done, Failure};
use crate::keys::{DEFAULT, KeyStore};
use crate::out::Out;

const CONTEXT: &str = "dev";
const PEM_BYTES_MAX: u64 = 64 << 10;

/// A control plane that runs in this process.
pub(crate) struct Plane {
    running: cloud_sync::Running,
    context: Context,
}

impl Plane {
    /// Starts it in `folder`, made first if it is new.
    pub(crate) fn start(folder: &Path, here: &Global, io: &Runtime, out: &Out) -> Done<Self> {
        let dir = folder.join("cloud");
        if !dir.join("cloud.toml").exists() {
            out.progress("Making", &format!("a control plane in {}", dir.display()));
            init(&dir, here)?;
        }
        let port_file = folder.join("cloud-port");
        let port = std::fs::read_to_string(&port_file).ok().and_then(|text| text.parse().ok());
        let config = Config {
            http: Some(loopback(0)),
            // A gateway that is enrolled looks for it where it was.
            mqtt: Some(loopback(port.unwrap_or(0))),
            endpoint: port.map(|port| format!("localhost:{port}")),
            ..Config::new(&dir)
        };
        let running = io.block_on(cloud_sync::start(config)).map_err(|error| failed(&error))?;
        let port = running.mqtt_addr().port().to_string();
        std::fs::write(&port_file, port)
            .map_err(|error| Failure::file("write", &port_file, &error))?;
        let mut contexts = Contexts::load(here)?;
        let (_, mut context) = contexts.chosen(here)?;
        context.url = format!("https://localhost:{}", running.http_addr().port());
        contexts.put(CONTEXT, context.clone())?;
        Ok(Self { running, context })
    }

    /// How to talk to it.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    pub(crate) async fn stop(self) {
        self.running.stop().await;
    }
}

fn init(dir: &Path, here: &Global) -> Done {
    let options = InitOptions {
        names: Vec::new(),
        endpoint: None,
        author_key: KeyStore::open(here)?.path(DEFAULT)?,
        author: CONTEXT.to_owned(),
        operator: CONTEXT.to_owned(),
    };
    let report = cloud_sync::init(dir, &options, Clock::system().now_ms())
        .map_err(|error| failed(&error))?;
    let ca = crate::input::text(&report.gateway_ca, PEM_BYTES_MAX)?;
    let context = Context { url: String::new(), token: report.operator_token, ca };
    Contexts::load(here)?.put(CONTEXT, context)
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::failed(format!("the control plane does not start: {error}"))
}
