//! Puts the control plane together and runs it.

use std::fs::File;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener as _;
use rustix::fs::{FlockOperation, flock};
use sync_protocol::enroll::Token;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::api::{self, ApiParts, Desk};
use crate::blobs::Blobs;
use crate::clock::Clock;
use crate::enrolment::{self, Office};
use crate::failure::Failure;
use crate::http::HttpListener;
use crate::identity::{IdentityError, Settings, TlsFiles, random};
use crate::limits::SHUTDOWN_MS_MAX;
use crate::mqtt::{Commands, Hub, HubParts, MqttSocket};
use crate::store::sqlite::SqliteStore;
use crate::store::{self, Store, StoreError};
use crate::web::{self, WebParts};

/// How a control plane is run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its directory, made by [`init`](crate::init).
    pub dir: PathBuf,
    /// Where HTTP binds; `None`: as `cloud.toml` says. Port 0 takes a free one.
    pub http: Option<SocketAddr>,
    /// Where MQTT binds; `None`: as `cloud.toml` says. Port 0 takes a free one, which then stands
    /// in the tokens of new gateways.
    pub mqtt: Option<SocketAddr>,
    /// `host:port` for gateways; `None`: as `cloud.toml` says.
    pub endpoint: Option<String>,
    /// Whether HTTP goes without TLS.
    pub http_plaintext: Plaintext,
}

impl Config {
    /// Everything as `cloud.toml` in `dir` says.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let http_plaintext = Plaintext::Never;
        Self { dir: dir.into(), http: None, mqtt: None, endpoint: None, http_plaintext }
    }
}

/// Where HTTP may go without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plaintext {
    /// Nowhere.
    #[default]
    Never,
    /// On a loopback address.
    OnLoopback,
    /// Anywhere: somebody else encrypts.
    Anywhere,
}

/// Why the control plane does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Its directory.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another process uses the directory.
    #[error("{0} is in use by another cloud-sync; stop that one first")]
    InUse(PathBuf),
    /// An address.
    #[error(
        "cannot listen on {address}: {source}; stop what listens there, or choose another address \
         with --http or --mqtt or in cloud.toml"
    )]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// An address that is none.
    #[error("{0:?} is not an address such as 127.0.0.1:8080")]
    Address(String),
    /// Plaintext HTTP that everybody could read.
    #[error(
        "HTTP without TLS on {0}: anybody on the way could read the operator's token; bind to \
             a loopback address, use TLS, or say --http-plaintext-anywhere"
    )]
    Exposed(SocketAddr),
    /// A file, a thread or a task.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> ServeError {
    move |source| ServeError::Io { what, source }
}

/// A control plane that runs until it is stopped. Dropping it stops it without waiting.
pub struct Running {
    http: SocketAddr,
    mqtt: SocketAddr,
    endpoint: String,
    plaintext: bool,
    stop_hub: oneshot::Sender<()>,
    stop_http: oneshot::Sender<()>,
    hub: JoinHandle<()>,
    server: JoinHandle<io::Result<()>>,
    _lock: DirLock,
}

impl Running {
    /// The bound HTTP address.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// The bound MQTT address.
    #[must_use]
    pub fn mqtt_addr(&self) -> SocketAddr {
        self.mqtt
    }

    /// `host:port` that new gateways are told.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The beginning of URLs of the API and the page.
    #[must_use]
    pub fn http_url(&self) -> String {
        let scheme = if self.plaintext { "http" } else { "https" };
        format!("{scheme}://{}", self.http)
    }

    /// Stops: connections end, everything taken is made durable.
    pub async fn stop(self) {
        let Self { stop_hub, stop_http, hub, mut server, .. } = self;
        // Either may have ended by itself.
        let _ = stop_http.send(());
        let _ = stop_hub.send(());
        let patience = Duration::from_millis(SHUTDOWN_MS_MAX);
        if tokio::time::timeout(patience, &mut server).await.is_err() {
            server.abort(); // Somebody follows a log for ever.
        }
        if hub.await.is_err() {
            tracing::error!("the MQTT loop did not end well");
        }
    }

    /// Waits until a part of it ends by itself, which it should not.
    async fn broken(&mut self) {
        tokio::select! {
            _ = &mut self.hub => tracing::error!("the MQTT loop has ended"),
            _ = &mut self.server => tracing::error!("the HTTP server has ended"),
        }
    }
}

/// Runs a control plane until `shutdown` is ready.
///
/// # Errors
/// [`ServeError`] when it cannot start, or a part of it ended by itself.
pub async fn serve(
    config: Config,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let mut running = start(config).await?;
    tokio::select! {
        () = shutdown => {
            running.stop().await;
            Ok(())
        }
        () = running.broken() => {
            let source = io::Error::other("see the log");
            Err(ServeError::Io { what: "a part of the server has ended", source })
        }
    }
}

/// Starts a control plane. Must be called within a tokio runtime with I/O and time.
///
/// # Errors
/// [`ServeError`] when it cannot start.
pub async fn start(config: Config) -> Result<Running, ServeError> {
    let clock = Clock::system();
    let settings = Settings::load(&config.dir)?;
    let lock = DirLock::take(&config.dir)?;
    let tls = TlsFiles::load(&config.dir, &settings, clock.now_ms())?;
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&config.dir.join("cloud.db"))?);
    check_instance(&*store, &settings)?;
    let blobs = Blobs::open(&config.dir.join("blobs")).map_err(io_error("the blob store"))?;

    let mqtt_address = address(config.mqtt, &settings.mqtt)?;
    let http_address = address(config.http, &settings.http)?;
    let http_tls = http_tls(config.http_plaintext, http_address, &tls)?;
    let plaintext = http_tls.is_none();
    let listen = |address| move |source| ServeError::Listen { address, source };
    let socket = MqttSocket::bind(mqtt_address, tls.mqtt()?).map_err(listen(mqtt_address))?;
    let listener =
        HttpListener::bind(http_address, http_tls).await.map_err(listen(http_address))?;
    let (mqtt, http) = (socket.local_addr(), listener.local_addr().unwrap_or(http_address));
    let endpoint = config.endpoint.unwrap_or(settings.endpoint);
    let endpoint = if mqtt_address.port() == 0 { with_port(&endpoint, mqtt) } else { endpoint };

    let seed = u64::from_le_bytes(random()?);
    let parts = HubParts {
        office: Arc::new(Office {
            ca: tls.gateway_ca,
            endpoint: endpoint.clone(),
            instance: settings.instance,
        }),
        store,
        blobs: Arc::new(blobs),
        live: Arc::default(),
        // Half of the range is left to count in.
        commands: Arc::new(Commands::starting_at(seed >> 1)),
        logs: Arc::default(),
        clock,
    };
    let hub = Hub::start(parts.clone(), socket, seed).map_err(io_error("the MQTT threads"))?;
    let router = router(&api_parts(&parts, &hub), plaintext);
    let (stop_hub, hub_stopped) = oneshot::channel();
    let (stop_http, http_stopped) = oneshot::channel();
    let server = tokio::spawn(serve_http(listener, router, http_stopped));
    let hub = tokio::spawn(hub.run(hub_stopped));
    tracing::info!(%http, %mqtt, endpoint, plaintext, "the control plane is up");
    Ok(Running { http, mqtt, endpoint, plaintext, stop_hub, stop_http, hub, server, _lock: lock })
}

fn api_parts(parts: &HubParts, hub: &Hub) -> ApiParts {
    ApiParts {
        desk: Desk { store: Arc::clone(&parts.store), clock: parts.clock },
        blobs: Arc::clone(&parts.blobs),
        office: Arc::clone(&parts.office),
        live: Arc::clone(&parts.live),
        commands: Arc::clone(&parts.commands),
        logs: Arc::clone(&parts.logs),
        hub: hub.handle(),
        store_failures: hub.failures(),
    }
}

fn router(parts: &ApiParts, plaintext: bool) -> Router {
    let pages = WebParts {
        desk: parts.desk.clone(),
        live: Arc::clone(&parts.live),
        instance: parts.office.instance,
        secure: !plaintext,
    };
    api::router(parts)
        .merge(web::router(&pages))
        .fallback(api::no_such_route)
        .method_not_allowed_fallback(api::no_such_method)
}

async fn serve_http(
    listener: HttpListener,
    router: Router,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let stopped = async {
        // A dropped sender stops as well.
        let _ = stopped.await;
    };
    axum::serve(listener, router).with_graceful_shutdown(stopped).await
}

/// One process for one directory.
struct DirLock(File);

impl DirLock {
    fn take(dir: &Path) -> Result<Self, ServeError> {
        let file = File::create(dir.join("lock")).map_err(io_error("the lock file"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(_) => Err(ServeError::InUse(dir.to_owned())),
        }
    }
}

impl Drop for DirLock {
    fn drop(&mut self) {
        // Closing the file is not enough while a child of this process is being started.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

fn check_instance(store: &dyn Store, settings: &Settings) -> Result<(), ServeError> {
    let stored = store::read(store, |rows| rows.instance())?;
    if stored == Some(settings.instance) {
        return Ok(());
    }
    let text = "cloud.db and cloud.toml are of different control planes: restore both together";
    Err(StoreError::Damaged(text.into()).into())
}

fn address(asked: Option<SocketAddr>, text: &str) -> Result<SocketAddr, ServeError> {
    if let Some(address) = asked {
        return Ok(address);
    }
    let found = text.to_socket_addrs().ok().and_then(|mut found| found.next());
    let found = found.ok_or_else(|| ServeError::Address(text.to_owned()))?;
    Ok(if found.ip() == Ipv6Addr::UNSPECIFIED && !has_ipv6() {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, found.port()))
    } else {
        found
    })
}

/// Whether the kernel knows IPv6 (`ipv6.disable=1`: it does not, and has no address for all).
fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

fn http_tls(
    plaintext: Plaintext,
    address: SocketAddr,
    tls: &TlsFiles,
) -> Result<Option<Arc<rustls::ServerConfig>>, ServeError> {
    match plaintext {
        Plaintext::Never => Ok(Some(tls.http()?)),
        Plaintext::OnLoopback if !address.ip().is_loopback() => Err(ServeError::Exposed(address)),
        Plaintext::OnLoopback | Plaintext::Anywhere => Ok(None),
    }
}

/// The host of an endpoint with the port that was bound.
fn with_port(endpoint: &str, bound: SocketAddr) -> String {
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
    format!("{host}:{}", bound.port())
}

/// Adds a gateway to the control plane in `dir`, running or not, and gives its one-time token.
///
/// # Errors
/// [`Failure`] says what is wrong and what to do.
pub fn add_gateway(dir: &Path, name: &str, clock: &Clock) -> Result<Token, Failure> {
    let refuse = |error: IdentityError| Failure::internal(error.to_string());
    let settings = Settings::load(dir).map_err(refuse)?;
    let tls = TlsFiles::load(dir, &settings, clock.now_ms()).map_err(refuse)?;
    let store = SqliteStore::open(&dir.join("cloud.db"))?;
    let (ca, now_ms) = (tls.gateway_ca.digest(), clock.now_ms());
    store::write(&store, |rows| enrolment::add_gateway(rows, name, &settings.endpoint, ca, now_ms))
}
