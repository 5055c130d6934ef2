//! Joins accounts and the auth thread to the broker's question "who is this?".

use std::sync::Arc;

use edge_broker::broker::{AuthRequest, ConnId, Principal};
use edge_broker::codec::ReasonCode;
use edge_core::claim;
use edge_core::id::DeviceId;
use edge_core::topic::TopicFilter;

use super::inbox::{Inbound, Outlet};
use super::seams::Passwords;
use crate::auth::pending::{Joined, Pending};
use crate::auth::thread::Question;
use crate::auth::{Accounts, Claim, Identity, Proof, Verdict};
use crate::desk;
use crate::settings::Access as Granted;

/// The answer, if it is known at once.
#[derive(Debug)]
pub(super) enum Judged {
    /// Known.
    Now(Result<Arc<Principal>, ReasonCode>),
    /// The auth thread will tell.
    Later,
}

/// Accounts, and who verifies passwords.
pub(super) struct Access {
    accounts: Accounts,
    pending: Pending<ConnId>,
    passwords: Box<dyn Passwords>,
}

impl Access {
    /// Nobody is being judged.
    #[must_use]
    pub(super) fn new(accounts: Accounts, passwords: Box<dyn Passwords>) -> Self {
        Self { accounts, pending: Pending::default(), passwords }
    }

    /// What tells the loop of judged passwords.
    pub(super) fn answer(outlet: Outlet) -> Box<dyn Fn(Question, bool) + Send> {
        Box::new(move |question, holds| {
            let Question { name, proof, .. } = question;
            outlet.tell(Inbound::Password { name, proof, holds });
        })
    }

    /// Judges a client.
    pub(super) fn judge(&mut self, conn: ConnId, request: &AuthRequest) -> Judged {
        let claim = Claim {
            certificate: request.peer.certificate.as_ref().map(|cert| cert.common_name.clone()),
            username: request.username.clone(),
            password: request.password.as_ref().map(|password| password.to_vec()),
            vouched: request.peer.vouched.clone(),
            loopback: request.peer.address.ip().is_loopback(),
        };
        match self.accounts.judge(&claim) {
            Verdict::Allowed(identity) => Judged::Now(Ok(principal(identity))),
            Verdict::Refused(why) => {
                let (peer, client) = (request.peer.address, &request.client_id);
                tracing::info!(%peer, client, why, "client refused");
                Judged::Now(Err(ReasonCode::BadUserNameOrPassword))
            }
            Verdict::AskThread { name, phc, proof } => {
                match self.pending.join(&name, proof, conn) {
                    Joined::Waits => Judged::Later,
                    Joined::Full => Judged::Now(Err(ReasonCode::ServerBusy)),
                    Joined::First => {
                        let password = claim.password.unwrap_or_default();
                        match self.passwords.ask(Question { proof, name, phc, password }) {
                            Ok(()) => Judged::Later,
                            Err(question) => {
                                self.pending.leave(&question.name, proof);
                                Judged::Now(Err(ReasonCode::ServerBusy))
                            }
                        }
                    }
                }
            }
        }
    }

    /// The auth thread has judged: who waited for that, and what becomes of them.
    pub(super) fn judged(
        &mut self,
        name: &str,
        proof: Proof,
        holds: bool,
    ) -> (Vec<ConnId>, Result<Arc<Principal>, ReasonCode>) {
        let waiting = self.pending.leave(name, proof);
        let known = if holds { self.accounts.remember(name, proof) } else { None };
        let outcome = known.map(principal).ok_or(ReasonCode::BadUserNameOrPassword);
        if outcome.is_err() {
            tracing::info!(account = name, clients = waiting.len(), "wrong password");
        }
        (waiting, outcome)
    }
}

/// What the configuration grants, and what every device may without: talk with the gateway in its own
/// name (`docs/devices.md`). That only the gateway tells the time is the core's rule, for all.
fn principal(identity: Identity) -> Arc<Principal> {
    let Identity { name, access: Granted { mut publish, mut subscribe } } = identity;
    publish.extend(TopicFilter::new(&format!("{}{name}/+", desk::UP)));
    subscribe.extend(TopicFilter::new(&format!("{}{name}/+", claim::DOWN)));
    Arc::new(Principal { identity: DeviceId::new(&name), publish, subscribe })
}

#[cfg(test)]
mod tests {
    use edge_broker::broker::Peer;
    use edge_broker::codec::Version;

    use super::*;
    use crate::agent::inbox::inbox;
    use crate::auth::password::hash_password;
    use crate::auth::thread::AuthThread;
    use crate::settings::Settings;

    fn request(password: &str) -> AuthRequest {
        let address = "127.0.0.1:1".parse().unwrap();
        AuthRequest {
            version: Version::V5,
            client_id: "c".to_owned(),
            username: Some("fleet".to_owned()),
            password: Some(password.to_owned().into()),
            peer: Arc::new(Peer { address, tls: false, certificate: None, vouched: None }),
        }
    }

    #[test]
    fn a_device_talks_with_the_gateway_in_its_own_name_and_in_no_other() {
        let identity = Identity { name: "press-7".to_owned(), access: Granted::default() };
        let principal = principal(identity);
        let topic = |text: &str| edge_core::topic::Topic::new(text).unwrap();
        let filter = |text: &str| TopicFilter::new(text).unwrap();
        assert!(principal.may_publish(&topic("$holm/v1/up/press-7/log")));
        assert!(principal.may_subscribe(&filter("$holm/v1/down/press-7/+")));
        for no in ["$holm/v1/up/press-8/log", "$holm/v1/down/press-7/command", "sensors/press-7"] {
            assert!(!principal.may_publish(&topic(no)), "{no}");
        }
        for no in ["$holm/v1/down/+/+", "$holm/v1/down/press-8/+", "$holm/v1/up/press-7/+", "#"] {
            assert!(!principal.may_subscribe(&filter(no)), "{no}");
        }
    }

    #[test]
    fn a_fleet_with_one_account_is_let_in_by_one_answer() {
        let phc = hash_password(b"meadow", [7; 16]).unwrap();
        let text = format!(
            "name = \"barn\"\n[[devices]]\nname = \"fleet\"\npassword_argon2 = \"{phc}\"\n"
        );
        let accounts = Accounts::new(&Settings::parse(&text).unwrap()).unwrap();
        let (outlet, mut told) = inbox();
        let thread = AuthThread::spawn(Access::answer(outlet)).unwrap();
        let mut access = Access::new(accounts, Box::new(thread));
        for n in 1..=50 {
            assert!(matches!(access.judge(ConnId(n), &request("meadow")), Judged::Later));
        }
        assert!(matches!(access.judge(ConnId(51), &request("a guess")), Judged::Later));
        let mut answer = || {
            let Some(Inbound::Password { name, proof, holds }) = told.blocking_recv() else {
                panic!("not an answer");
            };
            access.judged(&name, proof, holds)
        };
        let (waiting, outcome) = answer();
        assert_eq!(waiting, (1..=50).map(ConnId).collect::<Vec<_>>());
        assert_eq!(outcome.unwrap().identity, DeviceId::new("fleet"));
        let (waiting, outcome) = answer();
        assert_eq!(
            (waiting, outcome.err()),
            (vec![ConnId(51)], Some(ReasonCode::BadUserNameOrPassword))
        );
        let known = access.judge(ConnId(52), &request("meadow"));
        assert!(matches!(known, Judged::Now(Ok(_))));
    }
}
