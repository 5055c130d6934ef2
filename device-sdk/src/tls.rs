//! TLS 1.3 to the gateway, without a heap.
//!
//! [`connect`] takes a connected transport, a [`Memory`] that the caller keeps in a static, what the device was
//! provisioned with, and the time if it is known; it returns a [`Stream`] that reads and writes like the transport.
//!
//! The protocol is that of the crate `embedded-tls`: TLS 1.3, P-256, AES-128-GCM with SHA-256. It is fenced in on three
//! sides, because as it stands it accepts gateways that prove nothing, and panics on some bytes (SECURITY.md of the
//! project says which; `tests/tls` shows each):
//! - below, a gate (`gate.rs`) hands on whole records, in the order that a handshake has, and lets nothing out before
//!   the gateway has proven itself;
//! - at the cipher (`suite.rs`), what was decrypted is checked before the crate reads it;
//! - beside it, a verifier (`verify.rs`) of our own judges the certificate.
//!
//! # Invariants
//! - Nothing but the ClientHello leaves the device before the gateway has proven itself: by exactly one Certificate and
//!   then one CertificateVerify, or by the pre-shared key.
//! - The gateway's certificate is signed by the pinned CA itself, is no CA, is for servers, bears the name that was
//!   provisioned, and is valid now.
//! - Whatever a peer sends: an [`Error`], never a panic.
//! - A read may be cancelled anywhere and loses nothing. A write that was cancelled ends the connection: half a record
//!   may be out, and going on would use a nonce twice.
//!
//! # Time
//! A device that knows the time judges by it. One that does not knows only that it is not earlier than its provisioning:
//! it refuses a certificate that had ended by then, and cannot refuse one that ended since.

mod der;
mod error;
mod gate;
mod link;
mod random;
mod stream;
mod suite;
mod verify;
mod x509;

use device_protocol::provision::{Credential, Provision};
use embedded_io_async::{Read, Write};
use embedded_tls::{
    Certificate, CryptoProvider, CryptoRngCore, MaxFragmentLength, SignatureScheme, TlsConfig,
    TlsConnection, TlsContext, TlsError, TlsVerifier,
};
use p256::ecdsa::signature::SignerMut;
use p256::ecdsa::{DerSignature, SigningKey};

pub use error::{Error, Refusal};
pub use random::Random;
pub use stream::Stream;
pub use x509::Now;

use gate::Gate;
use link::Link;
use suite::Suite;
use verify::Verifier;

/// What a record adds to the bytes in it, at most (RFC 8446, 5.2): header, padding and content type, tag.
pub const RECORD_OVERHEAD: usize = 5 + 256;
/// Room for records of 4 KiB, which a device listener of Holm sends.
pub const RECORD_4_KIB: usize = 4096 + RECORD_OVERHEAD;
/// Room for any record, for brokers whose records cannot be made smaller.
pub const RECORD_ANY: usize = 16384 + RECORD_OVERHEAD;

/// The buffers of a connection: `2 * READ + WRITE` bytes. One serves one connection after the other.
///
/// `READ` holds one record as the gateway sends it ([`RECORD_4_KIB`]); there are two, since the crate decrypts in a buffer
/// of its own and must only begin when a record is whole. `WRITE` holds one record of the device, and its certificate in
/// the handshake: 512 bytes and the certificate at least.
#[derive(Debug)]
pub struct Memory<const READ: usize = RECORD_4_KIB, const WRITE: usize = 2048> {
    plain: [u8; READ],
    gate: [u8; READ],
    write: [u8; WRITE],
    link: Link,
}

impl<const READ: usize, const WRITE: usize> Memory<READ, WRITE> {
    /// Empty buffers.
    #[must_use]
    pub const fn new() -> Self {
        Self { plain: [0; READ], gate: [0; READ], write: [0; WRITE], link: Link::new() }
    }
}

impl<const READ: usize, const WRITE: usize> Default for Memory<READ, WRITE> {
    fn default() -> Self {
        Self::new()
    }
}

/// Opens TLS over `transport` with what the device was provisioned with. `now_unix_s` is the time if the device knows it,
/// in seconds since 1970. A handshake has no deadline of its own: drop the future when it takes too long.
///
/// # Errors
/// Why there is no connection; the transport is dropped.
pub async fn connect<'m, T, const READ: usize, const WRITE: usize>(
    transport: T,
    memory: &'m mut Memory<READ, WRITE>,
    provision: &Provision<'_>,
    now_unix_s: Option<u64>,
    random: &mut Random,
) -> Result<Stream<'m, T>, Error>
where
    T: Read + Write + 'm,
{
    let Memory { plain, gate, write, link } = memory;
    let link: &'m Link = link;
    let now = Now::new(now_unix_s, provision.issued_unix_s);
    let mut provider = Provider::new(provision, now, link, random)?;
    let mut config = fragments(TlsConfig::new(), READ)?;
    if WRITE < WRITE_MIN {
        return Err(Error::Buffers);
    }
    let identity;
    if let Credential::Psk { identity: name, key } = provision.credential {
        identity = [name];
        config = config.with_psk(key, &identity);
    }
    // An address is no server name (RFC 6066, 3); the verifier has it from the provisioning either way.
    if provision.server_name.parse::<core::net::IpAddr>().is_err() {
        config = config.with_server_name(provision.server_name);
    }
    link.begin(provider.device.by_key());
    let mut tls = TlsConnection::new(Gate::new(transport, gate, link), plain, write);
    match tls.open(TlsContext::new(&config, &mut provider)).await {
        Ok(()) if link.is_proven() => {}
        Ok(()) => return Err(Error::Refused(Refusal::NoProof)),
        Err(error) => return Err(Error::new(error, link)),
    }
    link.open();
    Ok(Stream::new(tls, link))
}

const WRITE_MIN: usize = 512;

/// Asks for records that the buffers hold.
fn fragments(config: TlsConfig<'_>, read: usize) -> Result<TlsConfig<'_>, Error> {
    let length = match read.saturating_sub(RECORD_OVERHEAD) {
        16384.. => return Ok(config),
        4096.. => MaxFragmentLength::Bits12,
        2048.. => MaxFragmentLength::Bits11,
        1024.. => MaxFragmentLength::Bits10,
        512.. => MaxFragmentLength::Bits9,
        0.. => return Err(Error::Buffers),
    };
    Ok(config.with_max_fragment_length(length))
}

/// How the device proves itself within TLS.
enum Device<'a> {
    Certificate {
        certificate: &'a [u8],
        key: SigningKey,
    },
    /// It does so later, by an MQTT password.
    Later,
    /// By knowing the key, as the gateway does.
    Key,
}

impl Device<'_> {
    const fn by_key(&self) -> bool {
        matches!(self, Self::Key)
    }
}

/// What the crate asks for during the handshake.
struct Provider<'a> {
    random: &'a mut Random,
    verifier: Verifier<'a>,
    device: Device<'a>,
}

impl<'a> Provider<'a> {
    fn new(
        provision: &Provision<'a>,
        now: Now,
        link: &'a Link,
        random: &'a mut Random,
    ) -> Result<Self, Error> {
        let (device, gateway_ca) = match provision.credential {
            Credential::Certificate { gateway_ca, certificate, key } => {
                let key = SigningKey::from_slice(&key).map_err(|_| Error::DeviceKey)?;
                (Device::Certificate { certificate, key }, Some(gateway_ca))
            }
            Credential::Token { gateway_ca, token: _ } => (Device::Later, Some(gateway_ca)),
            Credential::Psk { .. } => (Device::Key, None),
            Credential::Plain { .. } => return Err(Error::Plain),
        };
        let verifier = Verifier::new(gateway_ca, provision.server_name, now, link);
        Ok(Self { random, verifier, device })
    }
}

impl CryptoProvider for Provider<'_> {
    type CipherSuite = Suite;
    type Signature = DerSignature;

    fn rng(&mut self) -> impl CryptoRngCore {
        &mut *self.random
    }

    fn verifier(&mut self) -> Result<&mut impl TlsVerifier<Suite>, TlsError> {
        Ok(&mut self.verifier)
    }

    fn signer(&mut self) -> Result<(impl SignerMut<DerSignature>, SignatureScheme), TlsError> {
        match &self.device {
            Device::Certificate { key, .. } => {
                Ok((key.clone(), SignatureScheme::EcdsaSecp256r1Sha256))
            }
            Device::Later | Device::Key => Err(TlsError::InvalidPrivateKey),
        }
    }

    fn client_cert(&mut self) -> Option<Certificate<impl AsRef<[u8]>>> {
        match self.device {
            Device::Certificate { certificate, .. } => Some(Certificate::X509(certificate)),
            Device::Later | Device::Key => None,
        }
    }
}
