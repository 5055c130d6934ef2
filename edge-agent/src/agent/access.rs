//! Joins accounts and the auth thread to the broker's question "who is this?".

use std::io;
use std::sync::Arc;

use edge_broker::broker::{AuthRequest, ConnId, Principal};
use edge_broker::codec::ReasonCode;
use edge_core::id::DeviceId;

use super::inbox::{Inbound, Outlet};
use crate::auth::thread::{AuthThread, Question};
use crate::auth::{Accounts, Claim, Identity, Verdict};

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
    thread: AuthThread<ConnId>,
}

impl Access {
    /// Starts the auth thread.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn start(accounts: Accounts, outlet: Outlet) -> io::Result<Self> {
        let thread = AuthThread::spawn(move |question: Question<ConnId>, holds| {
            let Question { waiting: conn, name, password, .. } = question;
            outlet.tell(Inbound::Password { conn, name, password, holds });
        })?;
        Ok(Self { accounts, thread })
    }

    /// Judges a client.
    pub(super) fn judge(&self, conn: ConnId, request: &AuthRequest) -> Judged {
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
            Verdict::AskThread { name, phc } => {
                let password = claim.password.unwrap_or_default();
                match self.thread.ask(Question { waiting: conn, name, phc, password }) {
                    Ok(()) => Judged::Later,
                    Err(_) => Judged::Now(Err(ReasonCode::ServerBusy)),
                }
            }
        }
    }

    /// The auth thread has judged.
    pub(super) fn judged(
        &mut self,
        name: &str,
        password: &[u8],
        holds: bool,
    ) -> Result<Arc<Principal>, ReasonCode> {
        let known = if holds { self.accounts.remember(name, password) } else { None };
        known.map(principal).ok_or(ReasonCode::BadUserNameOrPassword)
    }
}

fn principal(identity: Identity) -> Arc<Principal> {
    Arc::new(Principal {
        identity: DeviceId::new(&identity.name),
        publish: identity.access.publish,
        subscribe: identity.access.subscribe,
    })
}
