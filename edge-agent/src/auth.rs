//! Who a client is and what it may do.
//!
//! Certificates, generated tokens and remembered passwords are judged at once. A password that a
//! person chose costs tens of milliseconds of argon2 on purpose: it goes to the auth thread, whose
//! queue is bounded; beyond it a client is told that the server is busy and comes again. Clients
//! that present the same wait for one answer ([`pending`]).

use std::collections::BTreeMap;

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use crate::settings::{Access, DeviceSecret, Settings};

pub mod password;
pub mod pending;
pub mod thread;

/// Passwords waiting for the auth thread.
pub const QUEUE_MAX: usize = 2_048;

/// What a client presented.
#[derive(Clone, Debug, Default)]
pub struct Claim {
    /// Name of a device that a bridge within the process has let in.
    pub vouched: Option<String>,
    /// Common name of a certificate that the listener verified.
    pub certificate: Option<String>,
    /// MQTT user name.
    pub username: Option<String>,
    /// MQTT password.
    pub password: Option<Vec<u8>>,
    /// Whether it connects from this host.
    pub loopback: bool,
}

/// What is known at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is who it says.
    Allowed(Identity),
    /// It is not; the text is for the log, never for the client.
    Refused(&'static str),
    /// Only argon2 can tell.
    AskThread {
        /// The account.
        name: String,
        /// Its hash.
        phc: String,
        /// Stands for account and password; it tells nobody the password.
        proof: Proof,
    },
}

/// A keyed hash of an account, its hash and a password. The key is drawn at each start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proof([u8; 32]);

/// A client that proved itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name: the device of device lanes.
    pub name: String,
    /// What it may do.
    pub access: Access,
}

/// The accounts of this gateway.
#[derive(Debug)]
pub struct Accounts {
    by_name: BTreeMap<String, (DeviceSecret, Access)>,
    anonymous: Option<Access>,
    memory: hmac::Key,
    remembered: BTreeMap<String, Proof>,
}

impl Accounts {
    /// Accounts as configured.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new(settings: &Settings) -> Result<Self, ring::error::Unspecified> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed)?;
        let by_name = settings
            .devices
            .iter()
            .map(|device| (device.name.clone(), (device.secret.clone(), device.access.clone())))
            .collect();
        Ok(Self {
            by_name,
            anonymous: settings.anonymous.clone(),
            memory: hmac::Key::new(hmac::HMAC_SHA256, &seed),
            remembered: BTreeMap::new(),
        })
    }

    /// Judges a claim.
    #[must_use]
    pub fn judge(&self, claim: &Claim) -> Verdict {
        if let Some(name) = &claim.vouched {
            return match self.by_name.get(name) {
                Some((_, access)) => allowed(name, access),
                None => Verdict::Refused("no account for the device on the bus"),
            };
        }
        if let Some(name) = &claim.certificate {
            return match self.by_name.get(name) {
                Some((DeviceSecret::Certificate, access)) => allowed(name, access),
                _ => Verdict::Refused("no account for the certificate's common name"),
            };
        }
        let (Some(name), Some(password)) = (&claim.username, &claim.password) else {
            return match &self.anonymous {
                Some(access) if claim.loopback => allowed("anonymous", access),
                Some(_) => Verdict::Refused("anonymous clients are accepted on loopback only"),
                None => Verdict::Refused("no credentials"),
            };
        };
        match self.by_name.get(name) {
            Some((DeviceSecret::TokenSha256(hash), access)) => {
                let given = ring::digest::digest(&ring::digest::SHA256, password);
                if constant_time_eq(given.as_ref(), hash) {
                    allowed(name, access)
                } else {
                    Verdict::Refused("wrong token")
                }
            }
            Some((DeviceSecret::Argon2(phc), access)) => {
                let proof = self.proof(name, phc, password);
                let known = self.remembered.get(name);
                if known.is_some_and(|known| constant_time_eq(&known.0, &proof.0)) {
                    allowed(name, access)
                } else {
                    Verdict::AskThread { name: name.clone(), phc: phc.clone(), proof }
                }
            }
            _ => Verdict::Refused("no such account"),
        }
    }

    /// The auth thread found the password right: the next time it is judged at once.
    pub fn remember(&mut self, name: &str, proof: Proof) -> Option<Identity> {
        let (DeviceSecret::Argon2(_), access) = self.by_name.get(name)? else { return None };
        self.remembered.insert(name.to_owned(), proof);
        Some(Identity { name: name.to_owned(), access: access.clone() })
    }

    /// The hash is part of the keyed text: a changed password forgets the old one. So is the name:
    /// accounts may have the same hash.
    fn proof(&self, name: &str, phc: &str, password: &[u8]) -> Proof {
        let text = [name.as_bytes(), &[0], phc.as_bytes(), &[0], password].concat();
        let tag = hmac::sign(&self.memory, &text);
        let mut proof = [0; 32];
        proof.copy_from_slice(tag.as_ref());
        Proof(proof)
    }
}

fn allowed(name: &str, access: &Access) -> Verdict {
    Verdict::Allowed(Identity { name: name.to_owned(), access: access.clone() })
}

fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (x, y)| diff | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        let phc = password::hash_password(b"meadow", [7; 16]).expect("hash");
        let token: String = ring::digest::digest(&ring::digest::SHA256, b"tok")
            .as_ref()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let text = format!(
            "name = \"barn\"\n[anonymous]\npublish = [\"open/#\"]\n\
             [[devices]]\nname = \"cert\"\ncertificate = true\n\
             [[devices]]\nname = \"token\"\ntoken_sha256 = \"{token}\"\n\
             [[devices]]\nname = \"person\"\npassword_argon2 = \"{phc}\"\n\
             [[devices]]\nname = \"twin\"\npassword_argon2 = \"{phc}\"\n"
        );
        Accounts::new(&Settings::parse(&text).expect("valid")).expect("randomness")
    }

    fn with_password(name: &str, password: &str) -> Claim {
        Claim {
            username: Some(name.to_owned()),
            password: Some(password.into()),
            loopback: true,
            ..Claim::default()
        }
    }

    #[test]
    fn each_way_of_proof_is_judged() {
        let accounts = accounts();
        let with = |name: &str| Claim { certificate: Some(name.to_owned()), ..Claim::default() };
        assert!(matches!(accounts.judge(&with("cert")), Verdict::Allowed(_)));
        assert!(matches!(accounts.judge(&with("token")), Verdict::Refused(_)));
        assert!(matches!(accounts.judge(&with_password("token", "tok")), Verdict::Allowed(_)));
        assert!(matches!(accounts.judge(&with_password("token", "tik")), Verdict::Refused(_)));
        assert!(matches!(accounts.judge(&with_password("cert", "")), Verdict::Refused(_)));
        let far = Claim::default();
        assert!(matches!(accounts.judge(&far), Verdict::Refused(_)));
        let near = Claim { loopback: true, ..Claim::default() };
        assert!(matches!(accounts.judge(&near), Verdict::Allowed(_)));
    }

    #[test]
    fn a_password_is_asked_once_and_only_the_right_one_is_remembered() {
        let mut accounts = accounts();
        let Verdict::AskThread { name, phc, proof } =
            accounts.judge(&with_password("person", "meadow"))
        else {
            panic!("argon2 must be asked the first time");
        };
        assert_eq!((name.as_str(), password::is_hash(&phc)), ("person", true));
        accounts.remember(&name, proof).expect("known");
        assert!(matches!(accounts.judge(&with_password("person", "meadow")), Verdict::Allowed(_)));
        let wrong = accounts.judge(&with_password("person", "other"));
        assert!(matches!(wrong, Verdict::AskThread { .. }), "a wrong one is never remembered");
        let Verdict::AskThread { proof: twin, .. } =
            accounts.judge(&with_password("twin", "meadow"))
        else {
            panic!("another account is asked on its own");
        };
        assert_ne!(twin, proof, "though its hash is the same");
    }
}
