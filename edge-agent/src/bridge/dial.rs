//! Connections to the broker within the process: whoever dials vouches for the device.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use edge_broker::transport::Incoming;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

/// Bytes that a connection holds in each direction.
const PIPE_BYTES: usize = 32 << 10;
/// Connections that the broker has not accepted yet.
const WAITING_MAX: usize = 64;
/// Who dials has no address of a network.
pub(crate) const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

type Slot = Option<mpsc::Sender<(String, DuplexStream)>>;

/// Dials the broker of the day: after a store failure there is another one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dial(Arc<Mutex<Slot>>);

impl Dial {
    /// A connection as this device. `None` while nobody answers.
    pub(super) fn connect(&self, device: &str) -> Option<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.as_ref()?.try_send((device.to_owned(), theirs)).ok()?;
        Some(ours)
    }

    /// From now on a broker answers here.
    pub(crate) fn answer(&self) -> Lobby {
        let (to, from) = mpsc::channel(WAITING_MAX);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(to);
        Lobby { from, who: None }
    }

    /// Nobody answers any more.
    pub(crate) fn hang_up(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The broker's end.
#[derive(Debug)]
pub(crate) struct Lobby {
    from: mpsc::Receiver<(String, DuplexStream)>,
    who: Option<String>,
}

impl Incoming for Lobby {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.from.recv().await {
            Some((who, stream)) => {
                self.who = Some(who);
                Ok((stream, ADDRESS))
            }
            // Nobody dials any more; the listener is about to be stopped.
            None => std::future::pending().await,
        }
    }

    fn take_vouched(&mut self) -> Option<String> {
        self.who.take()
    }
}
