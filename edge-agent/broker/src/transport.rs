//! Sockets for the broker, on tokio: plain TCP and TLS.
//!
//! One task per connection reads, decodes and writes. Packets go to the owner through one bounded
//! channel ([`Port`]); what the owner sends goes into the connection's mailbox, which never makes
//! the owner wait.
//!
//! # Invariants and limits
//! - The owner's side never blocks. A mailbox holds what the broker core lets through, which
//!   counts bytes per connection and in all.
//! - A connection has at most [`INPUTS_PER_CONNECTION`] inputs with the owner and then is not
//!   read: a flood waits in its own socket. An input holds the packets of one read of
//!   [`READ_BYTES`], or one larger packet.
//! - A connection without traffic holds no buffers. The rest of a packet larger than
//!   [`READ_BYTES`] is read only when there is room for it among `assembly_bytes_max`, and has to
//!   come within `packet_ms_max`: large packets wait for each other, small ones for nobody.
//! - Until its CONNECT is there, a connection holds one of `handshakes_max` places, for at most
//!   `connect_ms_max` (half of it when half of the places are taken), and buffers at most
//!   `connect_bytes_max`.
//! - Running out of file descriptors stops accepting for a moment, never for good.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::broker::ConnId;

mod accept;
mod conn;
pub mod doubt;
mod incoming;
mod mailbox;
mod port;
mod stream;
pub mod tls;

pub use incoming::Incoming;
pub use port::Port;

use port::Arrival;

/// Bytes taken from a socket at once.
pub const READ_BYTES: usize = 16 * 1_024;

/// Inputs of one connection that the owner may not have taken yet.
pub const INPUTS_PER_CONNECTION: usize = 2;

/// Bounds of a [`Transport`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportLimits {
    /// Open connections; more wait in the kernel's backlog.
    pub connections_max: usize,
    /// Connections whose CONNECT is not there yet; more wait in the kernel's backlog.
    pub handshakes_max: usize,
    /// Milliseconds from accepting a connection to its CONNECT.
    pub connect_ms_max: u64,
    /// Largest CONNECT packet in bytes.
    pub connect_bytes_max: usize,
    /// Largest packet in bytes: [`Limits::packet_bytes_max`](crate::Limits::packet_bytes_max).
    pub packet_bytes_max: usize,
    /// Topic aliases of a connection: [`Limits::topic_alias_max`](crate::Limits::topic_alias_max).
    pub topic_alias_max: u16,
    /// Bytes of the names behind them:
    /// [`Limits::topic_alias_bytes_max`](crate::Limits::topic_alias_bytes_max).
    pub topic_alias_bytes_max: usize,
    /// Bytes of incomplete large packets of all connections; a further one waits.
    pub assembly_bytes_max: usize,
    /// Milliseconds for a large packet to arrive, once it has room; then its connection is closed.
    pub packet_ms_max: u64,
    /// Inputs waiting for the owner; at this bound connections wait to be read.
    pub inputs_max: usize,
    /// Milliseconds to write the last bytes of a connection that is closed.
    pub close_ms_max: u64,
}

impl Default for TransportLimits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            handshakes_max: 256,
            connect_ms_max: 10_000,
            connect_bytes_max: 16 * 1_024,
            packet_bytes_max: crate::Limits::default().packet_bytes_max(),
            topic_alias_max: crate::codec::TOPIC_ALIAS_MAX,
            topic_alias_bytes_max: crate::codec::TOPIC_ALIAS_BYTES_MAX,
            assembly_bytes_max: 16 * 1_024 * 1_024,
            packet_ms_max: 60_000,
            inputs_max: 128,
            close_ms_max: 2_000,
        }
    }
}

/// Where to listen.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
    /// TLS, or plain TCP without.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// The sockets of one broker. Clones share everything.
#[derive(Clone, Debug)]
pub struct Transport {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: TransportLimits,
    ingress: mpsc::Sender<Arrival>,
    next_conn: AtomicU64,
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    /// Room for incomplete large packets, in bytes.
    assembly: Arc<Semaphore>,
}

impl Shared {
    /// Waits for room for a packet of so many bytes.
    async fn room(&self, packet_bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = packet_bytes.min(self.limits.assembly_bytes_max);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Arc::clone(&self.assembly).acquire_many_owned(bytes).await.ok()
    }

    fn conn_id(&self) -> ConnId {
        ConnId(self.next_conn.fetch_add(1, Ordering::Relaxed))
    }
}

impl Transport {
    /// A transport without listeners, and the owner's end of it.
    #[must_use]
    pub fn new(limits: TransportLimits) -> (Self, Port) {
        let (ingress, arrivals) = mpsc::channel(limits.inputs_max.max(1));
        let shared = Shared {
            connections: Arc::new(Semaphore::new(limits.connections_max)),
            handshakes: Arc::new(Semaphore::new(limits.handshakes_max)),
            assembly: Arc::new(Semaphore::new(limits.assembly_bytes_max)),
            next_conn: AtomicU64::new(1),
            ingress,
            limits,
        };
        (Self { shared: Arc::new(shared) }, Port::new(arrivals))
    }

    /// Listens on an address until the listener is stopped or dropped. Must be called within a
    /// tokio runtime with I/O and time.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn listen(&self, config: ListenConfig) -> io::Result<Listener> {
        const BACKLOG: u32 = 4_096;
        let socket = match config.address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // A restarted gateway must get its port back at once.
        socket.set_reuseaddr(true)?;
        socket.bind(config.address)?;
        let listener = socket.listen(BACKLOG)?;
        let local_addr = listener.local_addr()?;
        Ok(self.serve(listener, local_addr, config.tls))
    }

    /// Serves the connections that come from a listener of the caller, which has this address. As
    /// [`Transport::listen`], but that nothing is bound.
    pub fn serve(
        &self,
        incoming: impl Incoming,
        local_addr: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Listener {
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(accept::run(Arc::clone(&self.shared), incoming, tls, stopped));
        Listener { local_addr, _stop: stop }
    }

    /// Waits until every connection is closed, at most `timeout`. To be called after the owner
    /// has closed them and the listeners are stopped. False if time ran out.
    pub async fn drained(&self, timeout: Duration) -> bool {
        let all = u32::try_from(self.shared.limits.connections_max).unwrap_or(u32::MAX);
        let drained = self.shared.connections.acquire_many(all);
        tokio::time::timeout(timeout, drained).await.is_ok()
    }
}

/// A listening socket. It stops accepting when it is dropped; connections go on.
#[derive(Debug)]
pub struct Listener {
    local_addr: SocketAddr,
    /// Dropping it ends the accept loop.
    _stop: oneshot::Sender<()>,
}

impl Listener {
    /// The bound address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops accepting.
    pub fn stop(self) {
        drop(self);
    }
}
