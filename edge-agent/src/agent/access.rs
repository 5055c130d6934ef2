//! Joins accounts and the auth thread to the broker's question "who is this?".

use std::io;
use std::sync::Arc;

use edge_broker::broker::{AuthRequest, ConnId, Principal};
use edge_broker::codec::ReasonCode;
use edge_core::id::DeviceId;

use super::inbox::{Inbound, Outlet};
use crate::auth::pending::{Joined, Pending};
use crate::auth::thread::{AuthThread, Question};
use crate::auth::{Accounts, Claim, Identity, Proof, Verdict};

/// The answer, if it is known at once.
#[derive(Debug)]
pub(super) enum Judged {
    /// Known.
    Now(Result<Arc<Principal>, ReasonCode>),
    /// The auth thread will tell.
    Later,
}

/// Accounts and the auth thread.
#[derive(Debug)]
pub(super) struct Access {
    accounts: Accounts,
    pending: Pending<ConnId>,
    thread: AuthThread,
}

impl Access {
    /// Starts the auth thread.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn start(accounts: Accounts, outlet: Outlet) -> io::Result<Self> {
        let thread = AuthThread::spawn(move |question, holds| {
            let Question { name, proof, .. } = question;
            outlet.tell(Inbound::Password { name, proof, holds });
        })?;
        Ok(Self { accounts, pending: Pending::default(), thread })
    }

    /// Judges a client.
    pub(super) fn judge(&mut self, conn: ConnId, request: &AuthRequest) -> Judged {
        let claim = Claim {
            certificate: request.peer.certificate.as_ref().map(|cert| cert.common_name.clone()),
            username: request.username.clone(),
            password: request.password.as_ref().map(|password| password.to_vec()),
            loopback: request.peer.address.ip().is_loopback(),
        };
        match self.accounts.judge(&claim) {
            Verdict::Allowed(identity) => Judged::Now(Ok(principal(identity))),
            Verdict::Refused(why) => {
                let (peer, client) = (request.peer.address, &request.client_id);
                tracing::info!(%peer, client, why, "client refused");
                Judged::Now(Err(ReasonCode::BadUserNameOrPassword))
            }
            Verdict::AskThread { name, phc, proof } => match self.pending.join(proof, conn) {
                Joined::Waits => Judged::Later,
                Joined::Full => Judged::Now(Err(ReasonCode::ServerBusy)),
                Joined::First => {
                    let password = claim.password.unwrap_or_default();
                    if self.thread.ask(Question { proof, name, phc, password }).is_ok() {
                        return Judged::Later;
                    }
                    self.pending.leave(proof);
                    Judged::Now(Err(ReasonCode::ServerBusy))
                }
            },
        }
    }

    /// The auth thread has judged: who waited for that, and what becomes of them.
    pub(super) fn judged(
        &mut self,
        name: &str,
        proof: Proof,
        holds: bool,
    ) -> (Vec<ConnId>, Result<Arc<Principal>, ReasonCode>) {
        let waiting = self.pending.leave(proof);
        let known = if holds { self.accounts.remember(name, proof) } else { None };
        let outcome = known.map(principal).ok_or(ReasonCode::BadUserNameOrPassword);
        if outcome.is_err() {
            tracing::info!(account = name, clients = waiting.len(), "wrong password");
        }
        (waiting, outcome)
    }
}

fn principal(identity: Identity) -> Arc<Principal> {
    Arc::new(Principal {
        identity: DeviceId::new(&identity.name),
        publish: identity.access.publish,
        subscribe: identity.access.subscribe,
    })
}
