//! What other threads tell the loop, and the handle by which they do.

use std::sync::Arc;

use edge_broker::codec::ReasonCode;
use edge_broker::{AckToken, AuthRequest, ConnId, Principal};
use sync_protocol::enroll::EnrollReply;
use sync_protocol::wire::Down;
use tokio::sync::mpsc;

use crate::ingest::Answer;

/// Events that may wait for the loop.
pub(super) const EVENTS_MAX: usize = 1_024;

/// What other threads tell the loop.
pub(super) enum Event {
    /// A connection was judged, when [`Live::ends`](super::live::Live::ends) was this.
    Authenticated {
        conn: ConnId,
        request: Box<AuthRequest>,
        ends: u64,
        outcome: Result<Arc<Principal>, ReasonCode>,
    },
    /// The access of a gateway was ended.
    Disconnect {
        gateway: String,
    },
    Answers(Vec<Answer<AckToken>>),
    Enrolled {
        gateway: String,
        token: AckToken,
        reply: Box<EnrollReply>,
    },
    /// A request for a new certificate was judged; a refused one is only acked.
    Renewed {
        gateway: String,
        token: AckToken,
        certificate: Option<Vec<u8>>,
    },
    Tell {
        gateway: String,
        down: Box<Down>,
    },
}

/// Tells gateways something, if they are connected.
#[derive(Clone)]
pub(crate) struct HubHandle(pub(super) mpsc::Sender<Event>);

impl HubHandle {
    /// Sends a statement to a gateway.
    pub(crate) async fn tell(&self, gateway: &str, down: Down) {
        let event = Event::Tell { gateway: gateway.to_owned(), down: Box::new(down) };
        // The loop is gone only when the server stops.
        let _ = self.0.send(event).await;
    }

    /// Ends the connections of a gateway, whose access was ended.
    pub(crate) async fn disconnect(&self, gateway: &str) {
        // As in `tell`.
        let _ = self.0.send(Event::Disconnect { gateway: gateway.to_owned() }).await;
    }
}

/// A handle that leads nowhere.
#[cfg(test)]
pub(crate) fn test_hub_handle() -> HubHandle {
    HubHandle(mpsc::channel(1).0)
}
