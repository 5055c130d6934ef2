//! Accepting connections and shaking hands.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_rustls::TlsAcceptor;

use super::{Shared, conn, tls};
use crate::broker::Peer;

/// How long accepting rests after an error such as a lack of file descriptors.
const REST: Duration = Duration::from_millis(100);

/// A silent peer is asked for a sign of life after this, so that a client without keep alive
/// whose host is gone does not stay for good.
const TCP_KEEPALIVE: Duration = Duration::from_secs(120);

/// The places a new connection holds.
pub(super) struct Places {
    /// Until it is closed.
    pub(super) connection: OwnedSemaphorePermit,
    /// Until its CONNECT is there.
    pub(super) handshake: OwnedSemaphorePermit,
}

/// Accepts until `stopped` is dropped.
pub(super) async fn run(
    shared: Arc<Shared>,
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    mut stopped: oneshot::Receiver<()>,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    loop {
        let next = async {
            let places = places(&shared).await?;
            Some((listener.accept().await, places))
        };
        let accepted = tokio::select! {
            _ = &mut stopped => return,
            accepted = next => accepted,
        };
        let Some((accepted, places)) = accepted else { return };
        match accepted {
            Ok((stream, _)) => {
                tokio::spawn(shake_hands(Arc::clone(&shared), stream, acceptor.clone(), places));
            }
            Err(_) => tokio::time::sleep(REST).await,
        }
    }
}

async fn places(shared: &Shared) -> Option<Places> {
    let take = |semaphore: &Arc<Semaphore>| Arc::clone(semaphore).acquire_owned();
    Some(Places {
        connection: take(&shared.connections).await.ok()?,
        handshake: take(&shared.handshakes).await.ok()?,
    })
}

async fn shake_hands(
    shared: Arc<Shared>,
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    places: Places,
) {
    let limits = &shared.limits;
    let crowded = shared.handshakes.available_permits() < limits.handshakes_max / 2;
    let patience = Duration::from_millis(limits.connect_ms_max / if crowded { 2 } else { 1 });
    let deadline = tokio::time::Instant::now() + patience;
    let Ok(address) = stream.peer_addr() else { return };
    // Answers are small and wanted at once. Neither option is worth a connection.
    let _ = stream.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new().with_time(TCP_KEEPALIVE);
    let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    let Some(acceptor) = acceptor else {
        let peer = Peer { address, tls: false, certificate: None };
        return conn::run(shared, stream, peer, places, deadline).await;
    };
    let Ok(Ok(stream)) = tokio::time::timeout_at(deadline, acceptor.accept(stream)).await else {
        return;
    };
    let certificate = tls::peer_certificate(stream.get_ref().1.peer_certificates());
    let peer = Peer { address, tls: true, certificate };
    // On the heap: a plain connection's task should not be as large as a TLS one's.
    Box::pin(conn::run(shared, stream, peer, places, deadline)).await;
}
