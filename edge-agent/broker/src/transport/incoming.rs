//! Where connections come from.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A silent peer is asked for a sign of life after this, so that a client without keep alive
/// whose host is gone does not stay for good.
const TCP_KEEPALIVE: Duration = Duration::from_secs(120);

/// A listening socket, or what stands for one in a simulation.
pub trait Incoming: Send + 'static {
    /// A connection: bytes in order, both ways.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection and the address of its peer. Cancel safe.
    ///
    /// # Errors
    /// None can be had now, as for a lack of file descriptors.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    /// Who the client of the connection accepted last is, where whoever made the connection has found that out. Taken once.
    fn take_vouched(&mut self) -> Option<String> {
        None
    }
}

impl Incoming for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, address) = Self::accept(self).await?;
        // Answers are small and wanted at once. Neither option is worth a connection.
        let _ = stream.set_nodelay(true);
        let keepalive = socket2::TcpKeepalive::new().with_time(TCP_KEEPALIVE);
        let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        Ok((stream, address))
    }
}
