//! Accepting connections and shaking hands.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::{Incoming, Shared, conn, tls};
use crate::broker::Peer;

/// How long accepting rests after an error such as a lack of file descriptors.
const REST: Duration = Duration::from_millis(100);

/// The places a new connection holds.
pub(super) struct Places {
    /// Until it is closed.
    pub(super) connection: OwnedSemaphorePermit,
    /// Until its CONNECT is there.
    pub(super) handshake: OwnedSemaphorePermit,
}

/// Accepts until `stopped` is dropped.
pub(super) async fn run<I: Incoming>(
    shared: Arc<Shared>,
    mut incoming: I,
    tls: Option<Arc<rustls::ServerConfig>>,
    mut stopped: oneshot::Receiver<()>,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    loop {
        let next = async {
            let places = places(&shared).await?;
            Some((incoming.accept().await, places))
        };
        let accepted = tokio::select! {
            _ = &mut stopped => return,
            accepted = next => accepted,
        };
        let Some((accepted, places)) = accepted else { return };
        match accepted {
            Ok((stream, address)) => {
                let vouched = incoming.take_vouched();
                // IPv4 on a listener for both: who is on this machine is so in either form.
                let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                let new = New { shared: Arc::clone(&shared), stream, address, vouched, places };
                // Two tasks, so that a plain connection's is not as large as a TLS one's.
                match acceptor.clone() {
                    None => tokio::spawn(new.plain()),
                    Some(acceptor) => tokio::spawn(new.tls(acceptor)),
                };
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

/// A connection that was accepted.
struct New<S> {
    shared: Arc<Shared>,
    stream: S,
    address: SocketAddr,
    vouched: Option<String>,
    places: Places,
}

impl<S: AsyncRead + AsyncWrite + Unpin> New<S> {
    async fn plain(self) {
        let deadline = self.deadline();
        let Self { address, vouched, .. } = self;
        let peer = Peer { address, tls: false, certificate: None, vouched };
        conn::run(self.shared, self.stream, peer, self.places, deadline).await;
    }

    async fn tls(self, acceptor: TlsAcceptor) {
        let deadline = self.deadline();
        // On the heap: only while it lasts.
        let handshake = Box::pin(acceptor.accept(self.stream));
        let Ok(Ok(stream)) = tokio::time::timeout_at(deadline, handshake).await else { return };
        let certificate = tls::peer_certificate(stream.get_ref().1.peer_certificates());
        let peer = Peer { address: self.address, tls: true, certificate, vouched: None };
        conn::run(self.shared, stream, peer, self.places, deadline).await;
    }

    /// Until when there has to be a CONNECT.
    fn deadline(&self) -> Instant {
        let limits = &self.shared.limits;
        let crowded = self.shared.handshakes.available_permits() < limits.handshakes_max / 2;
        let patience_ms = limits.connect_ms_max / if crowded { 2 } else { 1 };
        Instant::now() + Duration::from_millis(patience_ms)
    }
}
