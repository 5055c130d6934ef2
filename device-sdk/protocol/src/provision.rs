//! What a device is given before it is installed: its name, where its gateway is, whom to trust, how to prove itself.
//!
//! `holm device add` writes it, firmware reads it. It stands in flash pages of its own, in two copies, so that firmware
//! images hold no secret and an update does not touch it.
//!
//! # A copy, at most [`COPY_BYTES`]
//! | bytes | |
//! |---|---|
//! | 0..4 | `HLMP` |
//! | 4 | [`VERSION`] |
//! | 5..9 | generation, little endian: the copy with the higher one counts |
//! | 9..11 | length of the body, little endian |
//! | 11.. | body: a [`Provision`] by postcard |
//! | then 4 | CRC-32C of all before it, little endian |
//!
//! What follows is not read; images fill it with `0xFF`, as erased flash has it.
//!
//! # Invariants
//! - A copy is whole and canonical (one way to write a value), or it is refused.
//! - A write goes to the copy that does not count ([`Found::next`]), with a higher generation: wherever the power is cut,
//!   the other copy counts. That needs a flash page (an erasable unit) for each copy.
//! - Keys and tokens are in no [`core::fmt::Debug`] text.

mod copy;

use core::fmt;

use heapless::Vec;
use serde::{Deserialize, Serialize};

pub use copy::{Bad, Found, IMAGE_BYTES, decode, encode, encode_image, newest};

use crate::{Error, codec, name};

/// Version of the format.
pub const VERSION: u8 = 1;
/// Bytes of a copy, at most; also how far apart the copies are in an image that `holm device add` writes.
pub const COPY_BYTES: usize = 4096;
/// Gateways that a device knows.
pub const GATEWAYS_MAX: usize = 3;
/// Name or address of a gateway, and the name in its certificate.
pub const HOST_MAX: usize = 64;
/// A certificate, DER.
pub const CERTIFICATE_MAX: usize = 1024;
/// A generated token.
pub const TOKEN_MAX: usize = 128;
/// Identity, and key, of a pre-shared key.
pub const PSK_MAX: usize = 64;

/// Where a gateway listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway<'a> {
    /// Name or address, 1 to 64 bytes.
    pub host: &'a str,
    /// TCP port, not 0.
    pub port: u16,
}

/// How gateway and device prove themselves to each other.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Credential<'a> {
    /// TLS; the device shows a certificate.
    Certificate {
        /// CA that signs the gateway's certificate, DER. It is not the one that signs certificates of devices.
        gateway_ca: &'a [u8],
        /// The device's certificate, DER; its common name is the device's name.
        certificate: &'a [u8],
        /// Its private key: the scalar on P-256, big endian.
        key: [u8; 32],
    },
    /// TLS; the device shows a token as its MQTT password, with its name as user name.
    Token {
        /// CA that signs the gateway's certificate, DER.
        gateway_ca: &'a [u8],
        /// The token.
        token: &'a str,
    },
    /// TLS with a pre-shared key, for brokers that speak it. A Holm gateway does not.
    Psk {
        /// Which key, as the broker calls it.
        identity: &'a [u8],
        /// The key, 16 to 64 bytes.
        key: &'a [u8],
    },
    /// No TLS: for links that nobody else can reach.
    Plain {
        /// Token for the MQTT password; empty: the device connects without a user name, which a Holm gateway does not take.
        token: &'a str,
    },
}

/// All that a device is given. See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provision<'a> {
    /// Name of the device ([`crate::DeviceName`]).
    pub device: &'a str,
    /// When it was issued, seconds since 1970: a device without a clock knows that it is not earlier.
    pub issued_unix_s: u64,
    /// Where to connect, 1 to 3, in this order.
    #[serde(borrow)]
    pub gateways: Vec<Gateway<'a>, GATEWAYS_MAX>,
    /// Name that the gateway's certificate must bear, 1 to 64 bytes; not used without a certificate.
    pub server_name: &'a str,
    /// How both prove themselves.
    pub credential: Credential<'a>,
    /// Ed25519 key of the author of firmware; without one the device takes no update.
    pub author_key: Option<[u8; 32]>,
}

impl Provision<'_> {
    fn check(&self) -> Result<(), Error> {
        name::check(self.device)?;
        between(self.server_name.as_bytes(), 1, HOST_MAX)?;
        if self.gateways.is_empty() {
            return Err(Error::Malformed);
        }
        for gateway in &self.gateways {
            between(gateway.host.as_bytes(), 1, HOST_MAX)?;
            if gateway.port == 0 {
                return Err(Error::Malformed);
            }
        }
        self.credential.check()
    }
}

impl Credential<'_> {
    fn check(&self) -> Result<(), Error> {
        match self {
            Self::Certificate { gateway_ca, certificate, key: _ } => {
                between(gateway_ca, 1, CERTIFICATE_MAX)?;
                between(certificate, 1, CERTIFICATE_MAX)
            }
            Self::Token { gateway_ca, token } => {
                between(gateway_ca, 1, CERTIFICATE_MAX)?;
                between(token.as_bytes(), 1, TOKEN_MAX)
            }
            Self::Psk { identity, key } => {
                between(identity, 1, PSK_MAX)?;
                between(key, 16, PSK_MAX)
            }
            Self::Plain { token } => codec::bound(token.as_bytes(), TOKEN_MAX),
        }
    }

    /// What kind it is, in a word.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Certificate { .. } => "certificate",
            Self::Token { .. } => "token",
            Self::Psk { .. } => "psk",
            Self::Plain { .. } => "plain",
        }
    }
}

/// Refuses what is shorter or longer.
fn between(bytes: &[u8], min: usize, max: usize) -> Result<(), Error> {
    if bytes.len() < min { Err(Error::Malformed) } else { codec::bound(bytes, max) }
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credential").field(&self.kind()).finish()
    }
}
