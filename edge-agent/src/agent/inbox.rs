//! Everything that reaches the loop besides the network.
//!
//! The channel is unbounded in type but bounded by protocol: the store answers one batch, workers
//! one attempt each, the auth thread its bounded queue, the preparer one app, control clients one
//! request each, whoever watches one question; the uplink's positions and states are few, its log followers none.

use tokio::sync::{mpsc, oneshot};

use super::prepare::PrepareDone;
use crate::auth::Proof;
use crate::control::Asked;
use crate::runtime;
use crate::store;
use crate::uplink::Heard;

/// One thing the loop is told.
#[derive(Debug)]
pub(super) enum Inbound {
    /// The store is done with a batch, or has failed.
    Store(store::Completion),
    /// A worker is done with an attempt.
    Function(runtime::Completion),
    /// The auth thread has judged a password.
    Password {
        /// The account.
        name: String,
        /// The question.
        proof: Proof,
        /// Whether it holds.
        holds: bool,
    },
    /// The uplink.
    Uplink(Heard),
    /// A local command.
    Asked(Asked),
    /// An app was verified and compiled, or could not be.
    Prepared(Box<PrepareDone>),
    /// Whoever watches this process wants to know whether the loop turns.
    Beat(oneshot::Sender<()>),
    /// Stop gracefully.
    Stop,
}

/// The sending half; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Outlet(mpsc::UnboundedSender<Inbound>);

impl Outlet {
    /// Tells the loop; a loop that is gone needs no telling.
    pub(super) fn tell(&self, inbound: Inbound) {
        let _ = self.0.send(inbound);
    }
}

/// The loop's inbox.
#[must_use]
pub(super) fn inbox() -> (Outlet, mpsc::UnboundedReceiver<Inbound>) {
    let (outlet, inbox) = mpsc::unbounded_channel();
    (Outlet(outlet), inbox)
}
