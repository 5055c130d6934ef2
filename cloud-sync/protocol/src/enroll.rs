//! Enrolment: a one-time token and a signing request become a certificate.
//!
//! The new gateway connects with TLS and accepts exactly the chain that holds the CA certificate
//! whose SHA-256 is in the token. User name is the gateway's name, password is
//! [`Token::password`]. It publishes an [`EnrollRequest`] and gets an [`EnrollReply`]. A token
//! works once; the same request within some minutes gets the same answer, so that a lost reply is
//! harmless.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::id::{Digest, InstanceId, is_name};
use crate::limits::{
    AUTHOR_KEYS_MAX, CERTIFICATE_BYTES_MAX, CSR_BYTES_MAX, LABEL_BYTES_MAX, TEXT_BYTES_MAX,
    TOKEN_TEXT_BYTES_MAX,
};
use crate::revision::AuthorKey;
use crate::wire::{Message, WireError};

const TOKEN_PREFIX: &str = "holm1-";

/// What `holm gateway add` prints and a new gateway is given. It is a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// `host:port` of the control plane's MQTT listener (TLS).
    pub endpoint: String,
    /// Name the gateway will have.
    pub gateway: String,
    /// 256 random bits.
    pub secret: [u8; 32],
    /// SHA-256 of the DER of the CA certificate that the server's chain must hold.
    pub ca: Digest,
}

/// The text is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not an enrolment token: `holm gateway add NAME` prints one")]
pub struct TokenError;

impl Token {
    /// The MQTT password.
    #[must_use]
    pub fn password(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.secret)
    }

    /// What the control plane keeps instead of the secret: 256 random bits need no slow hash.
    #[must_use]
    pub fn password_digest(password: &str) -> Digest {
        Digest::of(password.as_bytes())
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = postcard::to_stdvec(self).map_err(|_| fmt::Error)?;
        write!(f, "{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("endpoint", &self.endpoint)
            .field("gateway", &self.gateway)
            .field("ca", &self.ca)
            .finish_non_exhaustive()
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > TOKEN_TEXT_BYTES_MAX {
            return Err(TokenError);
        }
        let encoded = text.strip_prefix(TOKEN_PREFIX).ok_or(TokenError)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError)?;
        let token: Self = crate::wire::from_postcard(&bytes).map_err(|_| TokenError)?;
        if is_name(&token.gateway) && is_endpoint(&token.endpoint) {
            Ok(token)
        } else {
            Err(TokenError)
        }
    }
}

/// Whether `text` is `host:port`; an IPv6 address stands in brackets.
#[must_use]
pub fn is_endpoint(text: &str) -> bool {
    split_endpoint(text).is_some()
}

/// Host and port of `host:port`; of an IPv6 address without its brackets.
#[must_use]
pub fn split_endpoint(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':').filter(|_| text.len() <= LABEL_BYTES_MAX)?;
    let host = match host.strip_prefix('[') {
        Some(rest) => {
            let address = rest.strip_suffix(']')?;
            // With the interface of a link-local one.
            let (bare, zone) = address.split_once('%').unwrap_or((address, "0"));
            bare.parse::<Ipv6Addr>().ok().filter(|_| !zone.is_empty())?;
            address
        }
        None => host,
    };
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "/@[]".contains(c);
    let is_host = !host.is_empty() && !host.contains(is_odd);
    // Without brackets the last number of an address would be taken for the port.
    let is_clear = text.starts_with('[') || !host.contains(':');
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (is_host && is_clear).then_some((host, port))
}

/// `host:port`, with brackets around an IPv6 address.
#[must_use]
pub fn endpoint(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// What a new gateway asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollRequest {
    /// PKCS#10 certificate signing request, DER. Only its public key is used.
    #[serde(with = "serde_bytes")]
    pub csr: Vec<u8>,
}

/// What it gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnrollReply {
    /// It is enrolled.
    Accepted(Box<Enrolled>),
    /// It is not.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
}

/// What a gateway needs from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// Its certificate (DER); the subject's common name is the gateway's name.
    #[serde(with = "serde_bytes")]
    pub certificate: Vec<u8>,
    /// The gateway CA (DER): it signed the certificate and the control plane's own.
    #[serde(with = "serde_bytes")]
    pub gateway_ca: Vec<u8>,
    /// `host:port` to connect to.
    pub endpoint: String,
    /// The control plane.
    pub instance: InstanceId,
    /// Authors whose revisions it accepts: pinned.
    pub author_keys: Vec<AuthorKey>,
}

impl Message for EnrollRequest {
    fn check(&self) -> Result<(), WireError> {
        WireError::at_most("signing request", self.csr.len(), CSR_BYTES_MAX)
    }
}

impl Message for EnrollReply {
    fn check(&self) -> Result<(), WireError> {
        match self {
            Self::Accepted(enrolled) => {
                let (own, ca) = (enrolled.certificate.len(), enrolled.gateway_ca.len());
                WireError::at_most("certificate", own, CERTIFICATE_BYTES_MAX)?;
                WireError::at_most("CA certificate", ca, CERTIFICATE_BYTES_MAX)?;
                WireError::at_most("endpoint", enrolled.endpoint.len(), LABEL_BYTES_MAX)?;
                WireError::at_most("author keys", enrolled.author_keys.len(), AUTHOR_KEYS_MAX)
            }
            Self::Refused { reason } => WireError::at_most("reason", reason.len(), TEXT_BYTES_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> Token {
        Token {
            endpoint: "localhost:8883".into(),
            gateway: "gw-a".into(),
            secret: [7; 32],
            ca: Digest::of(b"ca"),
        }
    }

    #[test]
    fn endpoints_have_a_host_and_a_port() {
        let good = [
            ("localhost:8883", "localhost", 8_883),
            ("192.0.2.1:1", "192.0.2.1", 1),
            ("[2001:db8::1]:8883", "2001:db8::1", 8_883),
            ("[fe80::1%eth0]:8883", "fe80::1%eth0", 8_883),
        ];
        for (text, host, port) in good {
            assert_eq!(split_endpoint(text), Some((host, port)), "{text}");
            assert_eq!(endpoint(host, port), text);
        }
        let bad = [
            "",
            ":1",
            "h",
            "h:",
            "h:0",
            "h:65536",
            "a b:1",
            "a/b:1",
            "u@h:1",
            "2001:db8::1:8883",
            "2001:db8::1",
            "[2001:db8::1]",
            "[h]:1",
            "[::1:1",
            "[]:1",
            "::1]:1",
            "[fe80::1%]:1",
        ];
        for text in bad {
            assert_eq!(split_endpoint(text), None, "{text}");
        }
        let token = Token { endpoint: "[2001:db8::1]:8883".into(), ..token() };
        assert_eq!(token.to_string().parse::<Token>(), Ok(token));
    }

    #[test]
    fn token_text_round_trips_and_hides_its_secret() {
        let text = token().to_string();
        assert!(text.starts_with("holm1-"));
        assert_eq!(format!(" {text}\n").parse::<Token>(), Ok(token()));
        let debug = format!("{:?}", token());
        assert!(!debug.contains("7, 7") && !debug.contains(&token().password()), "{debug}");
        assert_eq!(text[..text.len() - 2].parse::<Token>(), Err(TokenError));
    }

    #[test]
    fn a_token_for_a_bad_name_or_endpoint_is_none() {
        for (gateway, endpoint) in [("a/b", "h:1"), ("a", "h"), ("a", "h:0"), ("a", "/h:1")] {
            let token = Token { gateway: gateway.into(), endpoint: endpoint.into(), ..token() };
            assert_eq!(token.to_string().parse::<Token>(), Err(TokenError));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged(text in ".*", bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = text.parse::<Token>();
            let _ = format!("holm1-{}", URL_SAFE_NO_PAD.encode(&bytes)).parse::<Token>();
            let _ = EnrollRequest::decode(&bytes);
            let _ = EnrollReply::decode(&bytes);
        }
    }
}
