//! Where a bus's bytes come from and go to.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use serial2_tokio::SerialPort;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::settings::{Bus, BusPort};

/// An open port.
#[derive(Debug)]
pub(super) enum Port {
    Serial(SerialPort),
    Tcp(TcpStream),
}

/// A connection without a word for so long is asked whether it lives, and again as often as [`KEEPALIVE_PROBES`].
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;
/// Bytes that are not acked for so long end the connection; probes go only where none are under way.
const UNACKED_MAX: Duration = Duration::from_secs(40);

/// Opens ports of a bus; it keeps the listening socket between connections.
#[derive(Debug, Default)]
pub(super) struct Opener {
    listener: Option<TcpListener>,
    /// A connection that came while another one was open.
    newer: Option<TcpStream>,
}

impl Opener {
    /// Opens the port; where it listens, waits for a connection.
    pub(super) async fn open(&mut self, bus: &Bus) -> io::Result<Port> {
        match &bus.port {
            // Eight bits, no parity, one stop bit, nothing translated. A pseudo-terminal takes any speed.
            BusPort::Device(path) => SerialPort::open(path, bus.baud).map(Port::Serial),
            BusPort::Connect(address) => TcpStream::connect(address).await.map(tuned),
            BusPort::Listen(address) => {
                if let Some(newer) = self.newer.take() {
                    return Ok(tuned(newer));
                }
                if self.listener.is_none() {
                    let socket = tokio::net::TcpSocket::new_v4();
                    let socket =
                        if address.is_ipv4() { socket } else { tokio::net::TcpSocket::new_v6() }?;
                    // A restarted gateway must get its port back at once.
                    socket.set_reuseaddr(true)?;
                    socket.bind(*address)?;
                    self.listener = Some(socket.listen(1)?);
                }
                let listener = self.listener.as_ref().expect("invariant: just made");
                listener.accept().await.map(|(stream, _)| tuned(stream))
            }
        }
    }

    /// Where it listens: waits for another connection, which takes the place of the open one. Who connects again knows that
    /// the old connection is dead; this side may not.
    pub(super) async fn replaced(&mut self) -> io::Error {
        let Some(listener) = &self.listener else { return std::future::pending().await };
        match listener.accept().await {
            Ok((stream, _)) => {
                self.newer = Some(stream);
                io::Error::other("another connection took its place")
            }
            // For want of file descriptors, or because it is gone again: no reason to end a connection that works.
            Err(_) => std::future::pending().await,
        }
    }
}

fn tuned(stream: TcpStream) -> Port {
    // Frames are small and wanted at once. No option is worth a connection.
    let _ = stream.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE)
        .with_retries(KEEPALIVE_PROBES);
    let socket = socket2::SockRef::from(&stream);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_user_timeout(Some(UNACKED_MAX));
    Port::Tcp(stream)
}

impl AsyncRead for Port {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Serial(port) => Pin::new(port).poll_read(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Port {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Serial(port) => Pin::new(port).poll_write(cx, bytes),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // It would wait on the thread until the last bit is out.
            Self::Serial(_) => Poll::Ready(Ok(())),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Serial(_) => Poll::Ready(Ok(())),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
