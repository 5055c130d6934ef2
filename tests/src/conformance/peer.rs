//! Brokers that scripts run against.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long an answer may take on a busy machine.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// What a client has received.
#[derive(Debug)]
pub enum Received {
    /// Some bytes.
    Bytes(Vec<u8>),
    /// The connection was closed.
    Closed,
    /// Nothing, and nothing will come.
    Nothing,
}

/// A broker and the connections of a script to it, by the names of clients.
pub trait Peer {
    /// Opens a connection in place of an earlier one.
    ///
    /// # Errors
    /// There is no broker.
    fn open(&mut self, client: &str) -> Result<()>;

    /// Sends bytes. That a broker has closed the connection shows when something is received.
    ///
    /// # Errors
    /// There is no such client.
    fn send(&mut self, client: &str, bytes: &[u8]) -> Result<()>;

    /// What comes next.
    ///
    /// # Errors
    /// There is no such client.
    fn receive(&mut self, client: &str) -> Result<Received>;

    /// Breaks a connection.
    ///
    /// # Errors
    /// There is no such client.
    fn close(&mut self, client: &str) -> Result<()>;

    /// Lets milliseconds pass.
    ///
    /// # Errors
    /// This broker's time cannot be told to pass.
    fn wait(&mut self, ms: u64) -> Result<()>;

    /// Kills the broker and starts it again.
    ///
    /// # Errors
    /// It does not start, or must not be killed.
    fn restart(&mut self) -> Result<()>;
}

/// A broker behind a socket.
pub struct Remote<'a> {
    address: SocketAddr,
    restart: Option<&'a mut dyn FnMut() -> Result<()>>,
    streams: BTreeMap<String, TcpStream>,
}

impl<'a> Remote<'a> {
    /// At this address; `restart` kills and starts it, where a script may do that.
    #[must_use]
    pub fn new(address: SocketAddr, restart: Option<&'a mut dyn FnMut() -> Result<()>>) -> Self {
        Self { address, restart, streams: BTreeMap::new() }
    }

    fn stream(&mut self, client: &str) -> Result<&mut TcpStream> {
        self.streams.get_mut(client).with_context(|| format!("no client {client}"))
    }
}

/// Whether an error means that the other side has closed.
fn is_closed(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted
    )
}

impl Peer for Remote<'_> {
    fn open(&mut self, client: &str) -> Result<()> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_nodelay(true)?;
        self.streams.insert(client.to_owned(), stream);
        Ok(())
    }

    fn send(&mut self, client: &str, bytes: &[u8]) -> Result<()> {
        match self.stream(client)?.write_all(bytes) {
            Err(error) if !is_closed(error.kind()) => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn receive(&mut self, client: &str) -> Result<Received> {
        let mut bytes = vec![0; 4_096];
        match self.stream(client)?.read(&mut bytes) {
            Ok(0) => Ok(Received::Closed),
            Ok(n) => {
                bytes.truncate(n);
                Ok(Received::Bytes(bytes))
            }
            Err(error) if is_closed(error.kind()) => Ok(Received::Closed),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(Received::Nothing)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn close(&mut self, client: &str) -> Result<()> {
        self.streams.remove(client).map(drop).with_context(|| format!("no client {client}"))
    }

    fn wait(&mut self, _ms: u64) -> Result<()> {
        bail!("a script that waits is `only broker`")
    }

    fn restart(&mut self) -> Result<()> {
        let restart =
            self.restart.as_mut().context("a script that restarts is not for this one")?;
        restart()
    }
}
