//! The network of a device, in the hands of the simulation: it can be cut, slow, or swallow everything.
//!
//! # Invariants
//! - A read that is dropped before it ends has taken no bytes.
//! - A connection that has lost bytes carries none any more: it is dead until one side gives up, [`DEAD_MAX`] at most.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::profile::FaultKind;

/// After so long a dead connection is closed.
const DEAD_MAX: Duration = Duration::from_secs(60);
/// Connections of one emulated device at a time; what is beyond waits.
const CONNECTIONS_MAX: usize = 8;
const BUFFER_BYTES: usize = 4096;

/// What a link does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LinkState {
    /// It carries.
    #[default]
    Open,
    /// Connections break, and new ones are refused.
    Cut,
    /// So many bytes a second, each way.
    Slow(u32),
    /// Bytes vanish.
    HalfOpen,
}

impl LinkState {
    /// What a fault does to the link.
    pub(super) fn of(fault: FaultKind) -> Self {
        match fault {
            FaultKind::Leave | FaultKind::Cut | FaultKind::PowerCut => Self::Cut,
            FaultKind::Slow { bytes_per_s } => Self::Slow(bytes_per_s),
            FaultKind::HalfOpen => Self::HalfOpen,
        }
    }
}

/// One connection's view of its link.
#[derive(Clone, Debug)]
pub(super) struct Valve {
    state: watch::Receiver<LinkState>,
    is_dead: bool,
}

impl Valve {
    /// Of the link that this says the state of.
    pub(super) fn new(state: watch::Receiver<LinkState>) -> Self {
        Self { state, is_dead: false }
    }

    /// Reads some bytes, when the link carries them.
    pub(super) async fn read(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        loop {
            let state = self.look()?;
            if self.is_dead {
                self.wait_dead().await?;
                continue;
            }
            let part = match state {
                LinkState::Slow(bytes_per_s) => {
                    let (part, pause) = slow(buffer.len(), bytes_per_s);
                    sleep(pause).await;
                    part
                }
                _ => buffer.len(),
            };
            tokio::select! {
                read = from.read(&mut buffer[..part]) => return read,
                _ = self.state.changed() => {}
            }
        }
    }

    /// Writes some bytes; into nowhere, if the link is half open.
    pub(super) async fn write(
        &mut self,
        to: &mut (impl AsyncWrite + Unpin),
        bytes: &[u8],
    ) -> io::Result<usize> {
        loop {
            let state = self.look()?;
            if self.is_dead {
                return Ok(bytes.len());
            }
            let part = match state {
                LinkState::Slow(bytes_per_s) => {
                    let (part, pause) = slow(bytes.len(), bytes_per_s);
                    sleep(pause).await;
                    part
                }
                _ => bytes.len(),
            };
            tokio::select! {
                written = to.write(&bytes[..part]) => return written,
                _ = self.state.changed() => {}
            }
        }
    }

    /// The state now; a cut is an error, and half open kills the connection for good.
    fn look(&mut self) -> io::Result<LinkState> {
        let state = *self.state.borrow_and_update();
        match state {
            LinkState::Cut => return Err(io::ErrorKind::ConnectionReset.into()),
            LinkState::HalfOpen => self.is_dead = true,
            LinkState::Open | LinkState::Slow(_) => {}
        }
        Ok(state)
    }

    async fn wait_dead(&mut self) -> io::Result<()> {
        match timeout(DEAD_MAX, self.state.changed()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Waits until a connection can be begun.
    pub(super) async fn connect(&mut self, address: &str) -> io::Result<TcpStream> {
        loop {
            match *self.state.borrow_and_update() {
                LinkState::Cut => return Err(io::ErrorKind::ConnectionRefused.into()),
                LinkState::HalfOpen => {}
                LinkState::Open | LinkState::Slow(_) => break,
            }
            self.state.changed().await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
        }
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// How much of `bytes` goes over at a time, and how long that takes.
fn slow(bytes: usize, bytes_per_s: u32) -> (usize, Duration) {
    let rate = usize::try_from(bytes_per_s.max(1)).unwrap_or(usize::MAX);
    let part = bytes.min((rate / 10).max(1));
    (part, Duration::from_secs_f64(part as f64 / rate as f64))
}

/// Before the gateway, for an emulated device: forwards a port of loopback as the link allows.
///
/// # Errors
/// No port can be bound.
pub(super) async fn proxy(
    gateway: String,
    state: watch::Receiver<LinkState>,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::spawn(async move {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let Ok((client, _)) = listener.accept().await else {
                // Out of files, for example: it may pass.
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (gateway, valve) = (gateway.clone(), Valve::new(state.clone()));
            tokio::spawn(async move {
                // A broken connection is what devices are made for.
                let _ = forward(client, &gateway, valve).await;
                drop(place);
            });
        }
    });
    Ok(address)
}

async fn forward(client: TcpStream, gateway: &str, mut valve: Valve) -> io::Result<()> {
    client.set_nodelay(true)?;
    let server = valve.connect(gateway).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = pump(valve.clone(), &mut from_client, &mut to_server);
    let down = pump(valve, &mut from_server, &mut to_client);
    // Whoever ends it, ends both ways.
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}

async fn pump(
    mut valve: Valve,
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut buffer = [0; BUFFER_BYTES];
    loop {
        let read = valve.read(from, &mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let mut done = 0;
        while done < read {
            done += valve.write(to, &buffer[done..read]).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What says hello on a connection, and then what it hears.
    async fn echo() -> (String, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = [0; 64];
                    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                        stream.write_all(&buffer[..read]).await.unwrap();
                    }
                });
            }
        });
        (address, task)
    }

    async fn says(stream: &mut TcpStream, words: &[u8]) -> io::Result<Vec<u8>> {
        stream.write_all(words).await?;
        let mut answer = vec![0; words.len()];
        timeout(Duration::from_millis(500), stream.read_exact(&mut answer)).await??;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_link_carries_breaks_and_mends() {
        let (gateway, _echo) = echo().await;
        let (link, state) = watch::channel(LinkState::Open);
        let address = proxy(gateway, state).await.unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(says(&mut stream, b"hello").await.unwrap(), b"hello");
        link.send_replace(LinkState::Cut);
        let mut rest = [0; 1];
        let ended = timeout(Duration::from_secs(5), stream.read(&mut rest)).await.unwrap();
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        let mut refused = TcpStream::connect(address).await.unwrap();
        assert!(says(&mut refused, b"x").await.is_err());
        link.send_replace(LinkState::Open);
        let mut again = TcpStream::connect(address).await.unwrap();
        assert_eq!(says(&mut again, b"again").await.unwrap(), b"again");
    }

    #[tokio::test]
    async fn a_half_open_connection_stays_dead_and_a_new_one_lives() {
        let (gateway, _echo) = echo().await;
        let (link, state) = watch::channel(LinkState::Open);
        let address = proxy(gateway, state).await.unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(says(&mut stream, b"one").await.unwrap(), b"one");
        link.send_replace(LinkState::HalfOpen);
        assert!(says(&mut stream, b"lost").await.is_err(), "no answer, and no end");
        link.send_replace(LinkState::Open);
        assert!(says(&mut stream, b"lost").await.is_err(), "it has lost bytes");
        let mut again = TcpStream::connect(address).await.unwrap();
        assert_eq!(says(&mut again, b"two").await.unwrap(), b"two");
    }

    #[test]
    fn a_slow_link_takes_its_time() {
        assert_eq!(slow(50, 100), (10, Duration::from_millis(100)));
        assert_eq!(slow(3, 1_000), (3, Duration::from_millis(3)));
        assert_eq!(slow(3, 0), (1, Duration::from_secs(1)));
    }
}
