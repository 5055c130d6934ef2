//! A listener, as the broker's transport takes one.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use edge_broker::transport::Incoming;

use super::{Net, Side, SimStream};

/// Connections to one address.
#[derive(Debug)]
pub struct SimIncoming {
    net: Net,
    address: SocketAddr,
}

impl SimIncoming {
    pub(super) fn new(net: Net, address: SocketAddr) -> Self {
        Self { net, address }
    }

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<(SimStream, SocketAddr)> {
        let mut state = self.net.state();
        // Whoever is not in the table any more has lost its place to another one.
        let Some(listening) = state.listening.get_mut(&self.address) else { return Poll::Pending };
        let Some(id) = listening.backlog.pop_front() else {
            listening.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        // One that has gone meanwhile is found to be reset when it is read.
        let from = state.conns.get_mut(&id).map_or(self.address, |conn| {
            conn.is_accepted = true;
            conn.from
        });
        Poll::Ready((SimStream::new(self.net.clone(), id, Side::Server), from))
    }
}

impl Incoming for SimIncoming {
    type Stream = SimStream;

    async fn accept(&mut self) -> io::Result<(SimStream, SocketAddr)> {
        Ok(poll_fn(|context| self.poll_accept(context)).await)
    }
}
