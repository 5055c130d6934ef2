//! A connection to the control plane: names, addresses, a proxy where there is one, and TLS from
//! end to end.
//!
//! # Bounds
//! - At most [`ADDRESSES_MAX`] addresses of a name are tried, one begun every [`NEXT_AFTER`] or as
//!   soon as one failed, and the first that answers is taken (RFC 8305): an address behind which
//!   nobody answers costs a quarter of a second, not the connection.
//! - Where TLS with that one fails, or takes over [`TLS_PATIENCE`], the others are tried as well, and so
//!   on: an address that takes connections and is of no use (another host, a path that swallows long
//!   packets) does not hide the others.
//! - A proxy's answer is at most [`ANSWER_BYTES_MAX`] long.
//! - All of it takes as long as its caller waits.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use sync_protocol::enroll::endpoint;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::proxy::{Proxy, Route, is_host};

/// Addresses of a name that are tried.
pub(crate) const ADDRESSES_MAX: usize = 8;
/// From one attempt to the next.
const NEXT_AFTER: Duration = Duration::from_millis(250);
/// How long TLS with one address may take until others are tried beside it, and how long those may then
/// take to answer.
const TLS_PATIENCE: Duration = Duration::from_secs(4);
/// Bytes of a proxy's answer.
const ANSWER_BYTES_MAX: usize = 8 << 10;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The route cannot be used.
    #[error("{0}")]
    Route(String),
    /// A name has no address.
    #[error("{host}: {source}")]
    Name {
        /// The name.
        host: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// No address takes a connection.
    #[error("{to}: {source}")]
    Connect {
        /// Where to.
        to: String,
        /// Of the last address that was tried.
        source: io::Error,
    },
    /// The proxy wants a login, or another one.
    #[error(
        "the proxy {0} wants a user and a password that it knows (407): `proxy = \
         \"http://user:password@host:port\"` in [uplink] of agent.toml"
    )]
    ProxyLogin(Proxy),
    /// The proxy does not allow the connection.
    #[error(
        "the proxy {proxy} does not allow {to} (403): let its operator allow CONNECT to that host and \
         port"
    )]
    ProxyForbids {
        /// Which.
        proxy: Proxy,
        /// Where to.
        to: String,
    },
    /// The proxy cannot or will not, for another reason.
    #[error("the proxy {proxy} does not connect to {to}: it answers {status}")]
    ProxyRefuses {
        /// Which.
        proxy: Proxy,
        /// Where to.
        to: String,
        /// Its status code.
        status: u16,
    },
    /// The proxy speaks something else.
    #[error("{proxy} does not answer as an HTTP proxy: {why}")]
    ProxyOdd {
        /// Which.
        proxy: Proxy,
        /// What it does instead.
        why: String,
    },
    /// TLS cannot be agreed on.
    #[error("TLS with {to}: {source}")]
    Tls {
        /// With whom.
        to: String,
        /// Why.
        source: io::Error,
    },
}

impl DialError {
    /// Whether it stays as it is until somebody mends it.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Route(_) | Self::ProxyLogin(_) | Self::ProxyForbids { .. })
    }
}

/// Connects to the control plane.
///
/// # Errors
/// See [`DialError`].
pub async fn dial(
    host: &str,
    port: u16,
    route: &Route,
    tls: Arc<rustls::ClientConfig>,
) -> Result<TlsStream<TcpStream>, DialError> {
    let failed = |source| DialError::Tls { to: endpoint(host, port), source };
    // A certificate knows no interface of this machine.
    let bare = host.split_once('%').map_or(host, |(address, _)| address);
    let name = ServerName::try_from(bare.to_owned())
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let server = Server { host, port, name, tls: tls.into(), patience: TLS_PATIENCE };
    match route {
        Route::Direct => server.dial(addresses(host, port).await?).await,
        Route::Proxy(_) | Route::Bad(_) => server.agree(tcp(host, port, route).await?).await,
    }
}

/// With whom TLS is agreed on.
struct Server<'a> {
    host: &'a str,
    port: u16,
    name: ServerName<'static>,
    tls: TlsConnector,
    patience: Duration,
}

type Dialling<'a> =
    Pin<Box<dyn Future<Output = Result<TlsStream<TcpStream>, DialError>> + Send + 'a>>;

impl Server<'_> {
    async fn agree(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, DialError> {
        let agreed = self.tls.connect(self.name.clone(), stream).await;
        agreed.map_err(|source| DialError::Tls { to: endpoint(self.host, self.port), source })
    }

    async fn dial(&self, all: Vec<SocketAddr>) -> Result<TlsStream<TcpStream>, DialError> {
        let (stream, left) = reach(self.host, self.port, all).await?;
        self.agree_with_one(stream, left).await
    }

    /// TLS over this connection, else with one of the addresses that are left. Each call has one less.
    fn agree_with_one(&self, stream: TcpStream, left: Vec<SocketAddr>) -> Dialling<'_> {
        Box::pin(async move {
            let mut this = pin!(self.agree(stream));
            if left.is_empty() {
                return this.await;
            }
            let failed = match timeout(self.patience, &mut this).await {
                Ok(Ok(agreed)) => return Ok(agreed),
                Ok(Err(error)) => Some(error),
                Err(_) => None,
            };
            let mut others = pin!(self.dial_others(left));
            if let Some(failed) = failed {
                return others.await.map_err(|last| last.unwrap_or(failed));
            }
            tokio::select! {
                agreed = &mut this => match agreed {
                    Ok(agreed) => Ok(agreed),
                    Err(failed) => others.await.map_err(|last| last.unwrap_or(failed)),
                },
                agreed = &mut others => match agreed {
                    Ok(agreed) => Ok(agreed),
                    // It is slow, and may come to an end.
                    Err(_) => this.await,
                },
            }
        })
    }

    /// No error: none of them takes a connection, which says less than whatever went wrong before.
    async fn dial_others(
        &self,
        left: Vec<SocketAddr>,
    ) -> Result<TlsStream<TcpStream>, Option<DialError>> {
        let reached = timeout(self.patience, reach(self.host, self.port, left)).await;
        let Ok(Ok((stream, left))) = reached else { return Err(None) };
        self.agree_with_one(stream, left).await.map_err(Some)
    }
}

/// A connection without TLS: whether the control plane, or its proxy, can be reached.
///
/// # Errors
/// See [`DialError`].
pub(crate) async fn tcp(host: &str, port: u16, route: &Route) -> Result<TcpStream, DialError> {
    match route {
        Route::Bad(why) => Err(DialError::Route(why.clone())),
        Route::Direct => connect(host, port).await,
        Route::Proxy(proxy) => {
            let mut stream = connect(&proxy.host, proxy.port).await?;
            through(&mut stream, proxy, host, port).await?;
            Ok(stream)
        }
    }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let (stream, _) = reach(host, port, addresses(host, port).await?).await?;
    Ok(stream)
}

/// The addresses of a name, in the order that they are tried; at least one.
async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
    let of_name = |source| DialError::Name { host: host.to_owned(), source };
    let found: Vec<_> = lookup_host((host, port)).await.map_err(of_name)?.collect();
    if found.is_empty() {
        let text = "its name has no address";
        return Err(of_name(io::Error::new(io::ErrorKind::NotFound, text)));
    }
    Ok(in_turns(found))
}

/// The first connection to one of these addresses, and the others.
async fn reach(
    host: &str,
    port: u16,
    mut all: Vec<SocketAddr>,
) -> Result<(TcpStream, Vec<SocketAddr>), DialError> {
    let reached = first_of(all.clone(), |address| async move {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok::<_, io::Error>((address, stream))
    });
    let (taken, stream) =
        reached.await.map_err(|source| DialError::Connect { to: endpoint(host, port), source })?;
    all.retain(|address| *address != taken);
    Ok((stream, all))
}

/// Addresses in the order that they are tried: as the resolver has them, but the families by turns, so
/// that a family that leads nowhere is not all that is tried first.
pub(crate) fn in_turns(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_first = found.first().map(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|address| Some(address.is_ipv6()) == is_first);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = Vec::new();
    while turns.len() < ADDRESSES_MAX {
        let before = turns.len();
        turns.extend(first.next());
        turns.extend(second.next());
        if turns.len() == before {
            break;
        }
    }
    turns.truncate(ADDRESSES_MAX);
    turns
}

/// The first connection that stands, of attempts that are begun one after the other.
async fn first_of<S, F>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<S>
where
    S: Send + 'static,
    F: Future<Output = io::Result<S>> + Send + 'static,
{
    let mut waiting = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut begin = |attempts: &mut JoinSet<io::Result<S>>| {
        if let Some(address) = waiting.next() {
            let told =
                move |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
            let attempt = connect(address);
            attempts.spawn(async move { attempt.await.map_err(told) });
        }
        waiting.len()
    };
    let mut left = begin(&mut attempts);
    loop {
        tokio::select! {
            ended = attempts.join_next() => match ended {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(failed) => {
                    left = begin(&mut attempts);
                    if attempts.is_empty() {
                        // The last one, with nothing behind it.
                        return failed.unwrap_or_else(|error| Err(io::Error::other(error)));
                    }
                }
                None => return Err(io::Error::new(io::ErrorKind::NotFound, "no address")),
            },
            () = sleep(NEXT_AFTER), if left > 0 => left = begin(&mut attempts),
        }
    }
}

/// Asks a proxy for a connection (RFC 9110, 9.3.6).
async fn through<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    proxy: &Proxy,
    host: &str,
    port: u16,
) -> Result<(), DialError> {
    let to = endpoint(host, port);
    let odd = |why: String| DialError::ProxyOdd { proxy: proxy.clone(), why };
    if !is_host(host) {
        return Err(odd(format!("{host:?} is no host that it could be asked for")));
    }
    let request = request(&to, proxy.login.as_ref());
    stream.write_all(request.as_bytes()).await.map_err(|error| odd(error.to_string()))?;
    let mut answer = Vec::new();
    loop {
        match status(&answer).map_err(odd)? {
            Some(200..=299) => return Ok(()),
            Some(407) => return Err(DialError::ProxyLogin(proxy.clone())),
            Some(403) => return Err(DialError::ProxyForbids { proxy: proxy.clone(), to }),
            Some(status) => {
                return Err(DialError::ProxyRefuses { proxy: proxy.clone(), to, status });
            }
            None => {}
        }
        let mut piece = [0; 512];
        match stream.read(&mut piece).await {
            Ok(0) => return Err(odd("it hangs up".to_owned())),
            Ok(read) => answer.extend_from_slice(&piece[..read]),
            Err(error) => return Err(odd(error.to_string())),
        }
    }
}

fn request(to: &str, login: Option<&(String, String)>) -> String {
    let login = login.map(|(user, password)| {
        let basic = STANDARD.encode(format!("{user}:{password}"));
        format!("Proxy-Authorization: Basic {basic}\r\n")
    });
    format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{}\r\n", login.unwrap_or_default())
}

/// The status of an answer; `None` while its head is not whole.
///
/// # Errors
/// It is no answer, too long, or has something behind it: who is connected to waits for TLS to
/// begin on this side.
fn status(answer: &[u8]) -> Result<Option<u16>, String> {
    let Some(head) = answer.windows(4).position(|end| end == b"\r\n\r\n") else {
        let is_http = answer.iter().zip(b"HTTP/1.").all(|(found, wanted)| found == wanted);
        return match answer.len() {
            _ if !is_http => Err("it does not speak HTTP".to_owned()),
            ANSWER_BYTES_MAX.. => Err("its answer does not end".to_owned()),
            _ => Ok(None),
        };
    };
    let status = answer.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
    let status = status.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u16>().ok());
    let status = status.ok_or("it does not speak HTTP")?;
    if (200..300).contains(&status) && answer.len() > head + 4 {
        return Err("something comes before anything was asked".to_owned());
    }
    Ok(Some(status))
}

#[cfg(test)]
mod tests;
