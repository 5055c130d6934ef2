//! The gateway's certificate: X.509 as far as a gateway needs it (RFC 5280), and nothing beyond.
//!
//! One certificate, signed by the pinned CA itself by ECDSA on P-256 with SHA-256. The CA is pinned by its bytes: of it
//! only name and key are read. Names stand in the alternative names; the common name is not asked, and there are no
//! wildcards.

use core::net::IpAddr;

use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};

use super::Refusal;
use super::der::{
    BIT_STRING, BOOLEAN, INTEGER, NotDer, OBJECT_ID, OCTET_STRING, Reader, SEQUENCE, bytes_of_bits,
    unix_s,
};

/// AlgorithmIdentifier of ecdsa-with-SHA256, whole.
const ECDSA_SHA256: &[u8] = &[0x30, 10, 6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2];
/// AlgorithmIdentifier of a key on P-256, whole.
const P256: &[u8] = &[
    0x30, 19, 6, 7, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 2, 1, 6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7,
];
const KEY_USAGE: &[u8] = &[0x55, 0x1D, 15];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1D, 17];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1D, 19];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1D, 37];
const SERVER_AUTH: &[u8] = &[0x2B, 6, 1, 5, 5, 7, 3, 1];

const VERSION: u8 = 0xA0;
const EXTENSIONS: u8 = 0xA3;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

/// What time it is for certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Now {
    /// The device knows it, in seconds since 1970.
    Known(u64),
    /// It is not earlier than this.
    NotBefore(u64),
}

impl Now {
    /// From the device's clock, if it has the time, and when the device was provisioned.
    #[must_use]
    pub fn new(clock_unix_s: Option<u64>, provisioned_unix_s: u64) -> Self {
        match clock_unix_s {
            Some(now) => Self::Known(now.max(provisioned_unix_s)),
            None => Self::NotBefore(provisioned_unix_s),
        }
    }
}

/// The key of the certificate `leaf`, if the CA signed it for a gateway of that name and it is valid. Both are DER.
pub(super) fn verify(
    leaf: &[u8],
    ca: &[u8],
    server_name: &str,
    now: Now,
) -> Result<VerifyingKey, Refusal> {
    let ca = Certificate::parse(ca).map_err(|_| Refusal::GatewayCa)?;
    let leaf = Certificate::parse(leaf).map_err(|_| Refusal::Certificate)?;
    if leaf.algorithm != ECDSA_SHA256 {
        return Err(Refusal::Algorithm);
    }
    let ca_key = ca.key().map_err(|_| Refusal::GatewayCa)?;
    let signature = Signature::from_der(leaf.signature).map_err(|_| Refusal::Issuer)?;
    if leaf.issuer != ca.subject || ca_key.verify(leaf.signed, &signature).is_err() {
        return Err(Refusal::Issuer);
    }
    // From here on the CA vouches for what stands there.
    match now {
        Now::Known(now) if now < leaf.not_before => return Err(Refusal::NotYetValid),
        Now::Known(now) | Now::NotBefore(now) if now > leaf.not_after => {
            return Err(Refusal::Expired);
        }
        Now::Known(_) | Now::NotBefore(_) => {}
    }
    let extensions = Extensions::parse(leaf.extensions, server_name)?;
    if extensions.is_ca {
        return Err(Refusal::IsCa);
    }
    if !extensions.may_sign || !extensions.for_servers {
        return Err(Refusal::Usage);
    }
    if !extensions.named {
        return Err(Refusal::Name);
    }
    leaf.key()
}

/// The fields that matter here.
struct Certificate<'a> {
    signed: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
    issuer: &'a [u8],
    subject: &'a [u8],
    not_before: u64,
    not_after: u64,
    key_algorithm: &'a [u8],
    key: &'a [u8],
    extensions: &'a [u8],
}

impl<'a> Certificate<'a> {
    fn parse(der: &'a [u8]) -> Result<Self, NotDer> {
        let mut outer = Reader(der);
        let mut certificate = outer.enter(SEQUENCE)?;
        outer.end()?;
        let signed = certificate.expect(SEQUENCE)?;
        let algorithm = certificate.expect(SEQUENCE)?.whole;
        let signature = bytes_of_bits(certificate.expect(BIT_STRING)?.content)?;
        certificate.end()?;

        let mut fields = Reader(signed.content);
        let version = fields.expect(VERSION)?;
        if version.content != [INTEGER, 1, 2] {
            return Err(NotDer);
        }
        fields.expect(INTEGER)?;
        if fields.expect(SEQUENCE)?.whole != algorithm {
            return Err(NotDer);
        }
        let issuer = fields.expect(SEQUENCE)?.whole;
        let mut validity = fields.enter(SEQUENCE)?;
        let (not_before, not_after) = (unix_s(&validity.next()?)?, unix_s(&validity.next()?)?);
        validity.end()?;
        let subject = fields.expect(SEQUENCE)?.whole;
        let mut public_key = fields.enter(SEQUENCE)?;
        let key_algorithm = public_key.expect(SEQUENCE)?.whole;
        let key = bytes_of_bits(public_key.expect(BIT_STRING)?.content)?;
        public_key.end()?;
        let mut extensions = fields.enter(EXTENSIONS)?;
        fields.end()?;
        let list = extensions.expect(SEQUENCE)?.content;
        extensions.end()?;
        Ok(Self {
            signed: signed.whole,
            algorithm,
            signature,
            issuer,
            subject,
            not_before,
            not_after,
            key_algorithm,
            key,
            extensions: list,
        })
    }

    fn key(&self) -> Result<VerifyingKey, Refusal> {
        if self.key_algorithm != P256 {
            return Err(Refusal::Algorithm);
        }
        VerifyingKey::from_sec1_bytes(self.key).map_err(|_| Refusal::Algorithm)
    }
}

/// What the extensions say.
struct Extensions {
    is_ca: bool,
    /// Digital signatures are allowed; so they are where nothing is said (RFC 5280, 4.2.1.3).
    may_sign: bool,
    for_servers: bool,
    named: bool,
}

impl Extensions {
    fn parse(list: &[u8], server_name: &str) -> Result<Self, Refusal> {
        let mut all = Self { is_ca: false, may_sign: true, for_servers: false, named: false };
        let mut list = Reader(list);
        while !list.is_empty() {
            let (id, critical, value) = extension(&mut list).map_err(|_| Refusal::Certificate)?;
            let read = match id {
                BASIC_CONSTRAINTS => is_ca(value).map(|is| all.is_ca = is),
                KEY_USAGE => may_sign(value).map(|may| all.may_sign = may),
                EXTENDED_KEY_USAGE => for_servers(value).map(|is| all.for_servers = is),
                ALTERNATIVE_NAMES => names(value, server_name).map(|is| all.named = is),
                _ if critical => return Err(Refusal::Extension),
                _ => Ok(()),
            };
            read.map_err(|_| Refusal::Certificate)?;
        }
        Ok(all)
    }
}

/// Id, whether it is critical, value.
fn extension<'a>(list: &mut Reader<'a>) -> Result<(&'a [u8], bool, Reader<'a>), NotDer> {
    let mut extension = list.enter(SEQUENCE)?;
    let id = extension.expect(OBJECT_ID)?.content;
    let critical = extension.optional(BOOLEAN)?.is_some_and(|is| is.content != [0]);
    let value = extension.enter(OCTET_STRING)?;
    extension.end()?;
    Ok((id, critical, value))
}

fn is_ca(mut value: Reader<'_>) -> Result<bool, NotDer> {
    let mut constraints = value.enter(SEQUENCE)?;
    value.end()?;
    Ok(constraints.optional(BOOLEAN)?.is_some_and(|is| is.content != [0]))
}

fn may_sign(mut value: Reader<'_>) -> Result<bool, NotDer> {
    let bits = value.expect(BIT_STRING)?.content;
    value.end()?;
    // The first byte counts unused bits; digitalSignature is the first bit.
    Ok(bits.get(1).is_some_and(|first| first & 0x80 != 0))
}

fn for_servers(mut value: Reader<'_>) -> Result<bool, NotDer> {
    let mut usages = value.enter(SEQUENCE)?;
    value.end()?;
    let mut found = false;
    while !usages.is_empty() {
        found |= usages.expect(OBJECT_ID)?.content == SERVER_AUTH;
    }
    Ok(found)
}

fn names(mut value: Reader<'_>, wanted: &str) -> Result<bool, NotDer> {
    let mut names = value.enter(SEQUENCE)?;
    value.end()?;
    let address = wanted.parse::<IpAddr>().ok();
    let mut found = false;
    while !names.is_empty() {
        let name = names.next()?;
        found |= match (name.tag, address) {
            (DNS_NAME, None) => name.content.eq_ignore_ascii_case(wanted.as_bytes()),
            (IP_ADDRESS, Some(IpAddr::V4(address))) => name.content == address.octets(),
            (IP_ADDRESS, Some(IpAddr::V6(address))) => name.content == address.octets(),
            _ => false,
        };
    }
    Ok(found)
}
