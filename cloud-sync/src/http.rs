//! The HTTP listener: TLS unless told otherwise, with bounded connections and handshakes.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::limits::{HANDSHAKE_MS_MAX, HTTP_CONNECTIONS_MAX};

/// How long accepting rests after an error such as a lack of file descriptors.
const REST: Duration = Duration::from_millis(100);
/// Connections that are ready and not taken yet.
const READY_MAX: usize = 16;

/// A connection, encrypted or not. It holds one of the places until it ends.
pub(crate) struct HttpStream {
    io: Io,
    _place: OwnedSemaphorePermit,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connections whose handshake is done.
pub(crate) struct HttpListener {
    ready: mpsc::Receiver<(HttpStream, SocketAddr)>,
    local: SocketAddr,
    accepting: tokio::task::JoinHandle<()>,
}

impl HttpListener {
    /// Binds; handshakes go on beside each other, so that a slow one delays nobody.
    pub(crate) async fn bind(
        address: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let local = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(READY_MAX);
        let accepting = tokio::spawn(accept(listener, tls.map(TlsAcceptor::from), sender));
        Ok(Self { ready, local, accepting })
    }
}

impl Drop for HttpListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    ready: mpsc::Sender<(HttpStream, SocketAddr)>,
) {
    let places = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (tls, ready) = (tls.clone(), ready.clone());
                tokio::spawn(async move {
                    if let Some(io) = shake_hands(stream, tls).await {
                        // The server is gone only when it stops.
                        let _ = ready.send((HttpStream { io, _place: place }, peer)).await;
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept HTTP connections");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

async fn shake_hands(stream: TcpStream, tls: Option<TlsAcceptor>) -> Option<Io> {
    // Answers are small and wanted at once; the option is not worth a connection.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return Some(Io::Plain(stream)) };
    let patience = Duration::from_millis(HANDSHAKE_MS_MAX);
    let stream = tokio::time::timeout(patience, tls.accept(stream)).await.ok()?.ok()?;
    Some(Io::Tls(Box::new(stream)))
}

impl Listener for HttpListener {
    type Io = HttpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (HttpStream, SocketAddr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // The accepting task lives as long as this.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

impl AsyncRead for HttpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for HttpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
