//! Hands a connection that stands to the MQTT client, which takes no stream of ours but connects to a
//! Unix socket: one task accepts it there and copies both ways.
//!
//! The socket has an abstract name (no file), fresh and random for each connection. It listens from
//! [`Relay::open`] until the client is accepted, and never again: a stale client of an earlier
//! connection, or a stranger that fills the queue, meets another name.
//!
//! # Invariants
//! - Nobody but this process gets through: a peer whose process id, as the kernel vouches for it, is
//!   another one is hung up on.
//! - Why the server's side ended is known ([`Relay::why`]) before the client sees an end.
//! - Dropped, both connections are gone.
//!
//! # Bounds
//! Two pieces of [`PIECE_BYTES`]. Who takes no bytes is waited for by the client's own bounds: behind a
//! full relay it can write nothing either.

use std::io;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ring::rand::{SystemRandom, generate};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What is read at once, in each direction.
const PIECE_BYTES: usize = 8 << 10;
/// How long a server that takes nothing any more may take to say why.
const LAST_WORD_MAX: Duration = Duration::from_secs(1);

/// A connection that waits for the client, or has it.
#[derive(Debug)]
pub(super) struct Relay {
    name: String,
    why: Arc<OnceLock<String>>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Listens for the client, for `server`.
    ///
    /// # Errors
    /// The system gives no socket, or no randomness.
    pub(super) fn open<S>(server: S) -> io::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let random = generate::<[u8; 16]>(&SystemRandom::new());
        let random = random.map_err(|_| io::Error::other("no randomness"))?.expose();
        // A name that begins so is abstract.
        let name = format!("\0holm-uplink-{:032x}", u128::from_ne_bytes(random));
        let listener = UnixListener::bind(&name)?;
        let why = Arc::new(OnceLock::new());
        let told = Arc::clone(&why);
        let task = tokio::spawn(async move {
            let mut client = None;
            let ended = match accept_own(&listener).await {
                Ok(accepted) => {
                    drop(listener);
                    copy(client.insert(accepted), server).await
                }
                Err(error) => Some(format!("a socket within the agent: {error}")),
            };
            if let Some(why) = ended {
                // Nobody else tells it.
                let _ = told.set(why);
            }
            // Only now: it sees an end behind the reason for it.
            drop(client);
        });
        Ok(Self { name, why, task })
    }

    /// Where the client connects.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Why the server's side ended, if it has.
    pub(super) fn why(&self) -> Option<&str> {
        self.why.get().map(String::as_str)
    }

    /// Waits until all that a client wrote before it closed is on its way.
    pub(super) async fn finish(mut self) {
        // One that panicked has nothing on its way.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The first client that is this process.
async fn accept_own(listener: &UnixListener) -> io::Result<UnixStream> {
    let own = i32::try_from(std::process::id()).map_err(io::Error::other)?;
    let mut is_told = false;
    loop {
        let (client, _) = listener.accept().await?;
        if client.peer_cred()?.pid() == Some(own) {
            return Ok(client);
        }
        if !is_told {
            tracing::warn!("another process knocked at the uplink's socket and was refused");
            is_told = true;
        }
    }
}

/// Copies both ways until one side ends: why the server's did, or nothing if it was the client's.
async fn copy<S: AsyncRead + AsyncWrite>(client: &mut UnixStream, server: S) -> Option<String> {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = split(server);
    let mut up = pin!(up(from_client, to_server));
    let mut down = pin!(down(from_server, to_client));
    tokio::select! {
        ended = &mut down => match ended {
            Some(why) => Some(why),
            // What it had written before it closed still goes up.
            None => up.await,
        },
        ended = &mut up => match ended {
            // A server that refuses closes too: what it says of that is worth more.
            Some(why) => Some(timeout(LAST_WORD_MAX, down).await.ok().flatten().unwrap_or(why)),
            None => None,
        },
    }
}

/// From the client to the server: why the server takes no more; nothing when the client has closed.
async fn up(
    mut client: impl AsyncRead + Unpin,
    mut server: impl AsyncWrite + Unpin,
) -> Option<String> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = match client.read(&mut piece).await {
            Ok(0) | Err(_) => {
                // Whoever is gone needs no goodbye.
                let _ = server.shutdown().await;
                return None;
            }
            Ok(read) => read,
        };
        let written = match server.write_all(&piece[..read]).await {
            Ok(()) => server.flush().await,
            failed => failed,
        };
        if let Err(error) = written {
            return Some(error.to_string());
        }
    }
}

/// From the server to the client: why there is no more; nothing when the client takes no more.
async fn down(
    mut server: impl AsyncRead + Unpin,
    mut client: impl AsyncWrite + Unpin,
) -> Option<String> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = match server.read(&mut piece).await {
            Ok(0) => return Some("the control plane closed the connection".to_owned()),
            Ok(read) => read,
            Err(error) => return Some(error.to_string()),
        };
        if client.write_all(&piece[..read]).await.is_err() {
            return None;
        }
    }
}

#[cfg(test)]
mod tests;
