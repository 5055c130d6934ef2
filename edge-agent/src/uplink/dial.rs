//! A connection to the control plane: names, addresses, a proxy where there is one, and TLS from
//! end to end.
//!
//! # Bounds
//! - At most [`ADDRESSES_MAX`] addresses of a name are tried, one begun every [`NEXT_AFTER`] or as
//!   soon as one failed, and the first that answers is taken (RFC 8305): an address behind which
//!   nobody answers costs a quarter of a second, not the connection.
//! - A proxy's answer is at most [`ANSWER_BYTES_MAX`] long.
//! - All of it takes as long as its caller waits.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use sync_protocol::enroll::endpoint;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::proxy::{Proxy, Route, is_host};

/// Addresses of a name that are tried.
pub(crate) const ADDRESSES_MAX: usize = 8;
/// From one attempt to the next.
const NEXT_AFTER: Duration = Duration::from_millis(250);
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
    let stream = tcp(host, port, route).await?;
    TlsConnector::from(tls).connect(name, stream).await.map_err(failed)
}

/// The same without TLS: whether it can be reached.
///
/// # Errors
/// See [`DialError`].
pub(crate) async fn tcp(host: &str, port: u16, route: &Route) -> Result<TcpStream, DialError> {
    match route {
        Route::Bad(why) => Err(DialError::Route(why.clone())),
        Route::Direct => reach(host, port).await,
        Route::Proxy(proxy) => {
            let mut stream = reach(&proxy.host, proxy.port).await?;
            through(&mut stream, proxy, host, port).await?;
            Ok(stream)
        }
    }
}

async fn reach(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let of_name = |source| DialError::Name { host: host.to_owned(), source };
    let found: Vec<_> = lookup_host((host, port)).await.map_err(of_name)?.collect();
    if found.is_empty() {
        let text = "its name has no address";
        return Err(of_name(io::Error::new(io::ErrorKind::NotFound, text)));
    }
    let stream = first_of(in_turns(found), TcpStream::connect).await;
    let stream = stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
    stream.map_err(|source| DialError::Connect { to: endpoint(host, port), source })
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
