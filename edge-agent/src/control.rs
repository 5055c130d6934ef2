//! The local control socket: one JSON request a line, one JSON answer a line.
//!
//! Only the owner of the socket file may connect (mode 0600). At most [`CLIENTS_MAX`] clients at
//! once, [`REQUEST_BYTES_MAX`] a request, [`ANSWER_MAX`] until the loop answers.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};

/// Clients at once.
pub const CLIENTS_MAX: usize = 8;
/// Bytes of a request.
pub const REQUEST_BYTES_MAX: u64 = 64 << 10;
/// How long a client waits for the loop.
pub const ANSWER_MAX: Duration = Duration::from_secs(120);

/// What a local command asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// What an operator may ask through the control plane too.
    Ask(sync_protocol::wire::Request),
    /// Deploys a bundle file of this host.
    Deploy {
        /// The file.
        bundle: PathBuf,
    },
    /// Takes an app away that was deployed from this host.
    Undeploy {
        /// The app.
        app: String,
    },
    /// Ends the pause of a function.
    ResumeFunction {
        /// `app/function`.
        function: String,
    },
    /// Ends safe mode.
    Resume,
    /// A page of the devices.
    Devices {
        /// The last one of the page before.
        after: Option<String>,
    },
    /// The last lines of the logs of devices.
    DeviceLogs {
        /// Only of this one.
        device: Option<String>,
    },
}

/// The loop's answer: a JSON value, or why not.
pub type Answer = Result<serde_json::Value, String>;

/// A request on its way to the loop.
#[derive(Debug)]
pub struct Asked {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes; a client that left is no error.
    pub answer: oneshot::Sender<Answer>,
}

/// Answer as it travels.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Ok(serde_json::Value),
    Error(String),
}

/// Binds the socket; a stale file of a dead process is replaced.
///
/// # Errors
/// The folder is missing or not ours, or another process answers on the socket.
pub fn bind(path: &Path) -> std::io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(std::io::Error::new(
            std::io::ErrorKind::AddrInUse,
            "another edge-agent answers on it",
        ));
    }
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves clients until the future is dropped; `tell` hands a request to the loop and never
/// blocks.
pub async fn serve(listener: UnixListener, tell: impl Fn(Asked) + Clone + Send + Sync + 'static) {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    let mut clients = tokio::task::JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while clients.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let tell = tell.clone();
                clients.spawn(async move {
                    let served = client(stream, &tell).await;
                    drop(place);
                    if let Err(err) = served {
                        tracing::debug!(%err, "control client left");
                    }
                });
            }
            Err(err) => {
                tracing::warn!(%err, "control socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn client(stream: UnixStream, tell: &(impl Fn(Asked) + Sync)) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(REQUEST_BYTES_MAX));
    while reader.read_line(&mut line).await? > 0 {
        let answer = match serde_json::from_str(&line) {
            Ok(request) => ask(request, tell).await,
            Err(err) => Err(format!("not a request: {err}")),
        };
        let answer = answer.map_or_else(Line::Error, Line::Ok);
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        write.write_all(&text).await?;
        line.clear();
        reader.get_mut().set_limit(REQUEST_BYTES_MAX);
    }
    Ok(())
}

async fn ask(request: Request, tell: &(impl Fn(Asked) + Sync)) -> Answer {
    let (answer, waiting) = oneshot::channel();
    let stopping = || "the agent is stopping".to_owned();
    tell(Asked { request, answer });
    match tokio::time::timeout(ANSWER_MAX, waiting).await {
        Ok(answered) => answered.unwrap_or_else(|_| Err(stopping())),
        Err(_) => Err(format!("no answer within {} s", ANSWER_MAX.as_secs())),
    }
}

/// Asks a running agent from another process.
///
/// # Errors
/// No agent answers on the socket (the text says what to do), or it says no.
pub fn request(socket: &Path, request: &Request) -> Answer {
    request_within(socket, request, ANSWER_MAX + Duration::from_secs(5))
}

/// As [`request()`], with a bound of one's own on each wait.
///
/// # Errors
/// As [`request()`].
pub fn request_within(socket: &Path, request: &Request, within: Duration) -> Answer {
    use std::io::{BufRead, Write};
    let unreachable = |err: std::io::Error| {
        format!("no agent answers on {}: {err}; is `edge-agent run` up?", socket.display())
    };
    let mut stream = std::os::unix::net::UnixStream::connect(socket).map_err(unreachable)?;
    let mut text = serde_json::to_vec(request).map_err(|err| err.to_string())?;
    text.push(b'\n');
    stream.set_write_timeout(Some(within)).map_err(unreachable)?;
    stream.set_read_timeout(Some(within)).map_err(unreachable)?;
    stream.write_all(&text).map_err(unreachable)?;
    let mut line = String::new();
    std::io::BufReader::new(stream).read_line(&mut line).map_err(unreachable)?;
    match serde_json::from_str(&line) {
        Ok(Line::Ok(value)) => Ok(value),
        Ok(Line::Error(text)) => Err(text),
        Err(err) => Err(format!("the agent's answer is not understood: {err}")),
    }
}
