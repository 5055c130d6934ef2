//! How a device proves itself, and how it knows its gateway.

use std::path::Path;

use device_protocol::provision::Credential;
use time::OffsetDateTime;

use super::agent_toml::Account;
use super::authority::{self, Of};
use super::{hex, random, sha256};
use crate::failure::Done;

/// See the module. The kinds are those of [`Credential`].
pub(crate) enum Secret {
    Certificate { gateway_ca: Vec<u8>, certificate: Vec<u8>, key: [u8; 32], expires_unix_s: u64 },
    Token { gateway_ca: Vec<u8>, token: String },
    Psk { identity: String, key: Vec<u8> },
    Plain { token: String },
}

impl Secret {
    /// A certificate of the authority of devices in this folder.
    pub(crate) fn certificate(dir: &Path, name: &str, days: u32) -> Done<Self> {
        let gateway_ca = authority::certificate(dir, Of::Gateways)?.to_vec();
        let issued = authority::device(dir, name, days, OffsetDateTime::now_utc())?;
        let key = authority::scalar(&issued.key)?;
        let (certificate, expires_unix_s) = (issued.certificate, issued.expires_unix_s);
        Ok(Self::Certificate { gateway_ca, certificate, key, expires_unix_s })
    }

    /// A token over TLS; the gateway is one of the authority in this folder.
    pub(crate) fn token(dir: &Path) -> Done<Self> {
        let gateway_ca = authority::certificate(dir, Of::Gateways)?.to_vec();
        Ok(Self::Token { gateway_ca, token: hex(&random()?) })
    }

    /// A pre-shared key, for other brokers.
    pub(crate) fn psk(name: &str) -> Done<Self> {
        Ok(Self::Psk { identity: name.to_owned(), key: random()?.to_vec() })
    }

    /// A token without TLS.
    pub(crate) fn plain() -> Done<Self> {
        Ok(Self::Plain { token: hex(&random()?) })
    }

    /// What an image says.
    pub(crate) fn of(credential: &Credential<'_>) -> Self {
        match *credential {
            Credential::Certificate { gateway_ca, certificate, key } => Self::Certificate {
                gateway_ca: gateway_ca.to_vec(),
                certificate: certificate.to_vec(),
                key,
                expires_unix_s: super::not_after_unix_s(certificate).unwrap_or(0),
            },
            Credential::Token { gateway_ca, token } => {
                Self::Token { gateway_ca: gateway_ca.to_vec(), token: token.to_owned() }
            }
            Credential::Psk { identity, key } => Self::Psk {
                identity: String::from_utf8_lossy(identity).into_owned(),
                key: key.to_vec(),
            },
            Credential::Plain { token } => Self::Plain { token: token.to_owned() },
        }
    }

    /// As it stands in an image.
    pub(crate) fn credential(&self) -> Credential<'_> {
        match self {
            Self::Certificate { gateway_ca, certificate, key, .. } => {
                Credential::Certificate { gateway_ca, certificate, key: *key }
            }
            Self::Token { gateway_ca, token } => Credential::Token { gateway_ca, token },
            Self::Psk { identity, key } => Credential::Psk { identity: identity.as_bytes(), key },
            Self::Plain { token } => Credential::Plain { token },
        }
    }

    /// What the gateway knows of it; none: it is none of a Holm gateway's `[[devices]]`.
    pub(crate) fn account(&self) -> Option<Account> {
        match self {
            Self::Certificate { .. } => Some(Account::Certificate),
            // Without a name of its own a gateway takes no envelope of a device.
            Self::Token { token, .. } | Self::Plain { token } => {
                Some(Account::TokenSha256(sha256(token)))
            }
            Self::Psk { .. } => None,
        }
    }

    /// The authority that signs its gateway; none: it connects without certificates.
    pub(crate) fn gateway_ca(&self) -> Option<&[u8]> {
        match self {
            Self::Certificate { gateway_ca, .. } | Self::Token { gateway_ca, .. } => {
                Some(gateway_ca)
            }
            Self::Psk { .. } | Self::Plain { .. } => None,
        }
    }

    /// What it sends as its MQTT password.
    pub(crate) fn password(&self) -> Option<&str> {
        match self {
            Self::Token { token, .. } | Self::Plain { token } => Some(token),
            Self::Certificate { .. } | Self::Psk { .. } => None,
        }
    }

    /// When its certificate ends.
    pub(crate) fn expires_unix_s(&self) -> Option<u64> {
        match self {
            Self::Certificate { expires_unix_s, .. } => Some(*expires_unix_s),
            Self::Token { .. } | Self::Psk { .. } | Self::Plain { .. } => None,
        }
    }

    /// What a broker with pre-shared keys has in its file of them.
    pub(crate) fn psk_line(&self, name: &str) -> Option<String> {
        match self {
            Self::Psk { key, .. } => Some(format!("{name}:{}\n", hex(key))),
            Self::Certificate { .. } | Self::Token { .. } | Self::Plain { .. } => None,
        }
    }
}
