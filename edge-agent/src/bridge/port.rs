//! Where a bus's bytes come from and go to.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

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

/// Opens ports of a bus; it keeps the listening socket between connections.
#[derive(Debug, Default)]
pub(super) struct Opener {
    listener: Option<TcpListener>,
}

impl Opener {
    /// Opens the port; where it listens, waits for a connection.
    pub(super) async fn open(&mut self, bus: &Bus) -> io::Result<Port> {
        match &bus.port {
            // Eight bits, no parity, one stop bit, nothing translated. A pseudo-terminal takes any speed.
            BusPort::Device(path) => SerialPort::open(path, bus.baud).map(Port::Serial),
            BusPort::Connect(address) => TcpStream::connect(address).await.map(without_delay),
            BusPort::Listen(address) => {
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
                listener.accept().await.map(|(stream, _)| without_delay(stream))
            }
        }
    }
}

fn without_delay(stream: TcpStream) -> Port {
    // Frames are small and wanted at once; not worth a connection.
    let _ = stream.set_nodelay(true);
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
