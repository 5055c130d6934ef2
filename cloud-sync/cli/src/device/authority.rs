//! The two authorities of `holm device`, and what they sign.
//!
//! # Invariants
//! - Keys are P-256, which is what devices speak; private keys are in files that only their owner reads.
//! - Listeners' certificates are for servers, devices' for clients; nothing that is issued may sign.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use time::OffsetDateTime;

use crate::failure::{Done, Exit, Failure, read_file};
use crate::secret_file;

pub(super) const PEM_BYTES_MAX: u64 = 16 << 10;
const DAY: Duration = Duration::from_secs(86_400);
/// Clocks differ: what is issued is valid from a day before.
const BACKDATE: Duration = DAY;
/// An authority outlives the machines that trust it.
const AUTHORITY_DAYS: u32 = 20 * 365;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// Signs listeners of gateways; devices trust it.
    Gateways,
    /// Signs devices; listeners trust it.
    Devices,
}

impl Of {
    pub(crate) fn certificate(self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.pem", self.stem()))
    }

    fn key(self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.key", self.stem()))
    }

    fn stem(self) -> &'static str {
        match self {
            Self::Gateways => "gateway-ca",
            Self::Devices => "device-ca",
        }
    }
}

/// What was issued.
pub(crate) struct Issued {
    pub(crate) certificate: Vec<u8>,
    pub(crate) certificate_pem: String,
    pub(crate) key: KeyPair,
    pub(crate) expires_unix_s: u64,
}

/// Makes both authorities in `dir`; none of the files may be there.
pub(crate) fn create(dir: &Path, now: OffsetDateTime) -> Done {
    let all = [Of::Gateways, Of::Devices];
    for path in all.iter().flat_map(|of| [of.certificate(dir), of.key(dir)]) {
        if path.exists() {
            return Err(Failure::failed(format!("there is {} already", path.display()))
                .next("devices trust what is there; choose another folder with --ca"));
        }
    }
    for of in all {
        let key = KeyPair::generate().map_err(failed)?;
        // The name tells apart authorities made at other times, of which only the key differs.
        let name = format!("holm {} {}", of.stem(), now.unix_timestamp());
        let mut params = params(&name, now, AUTHORITY_DAYS);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(failed)?;
        secret_file::write(&of.key(dir), key.serialize_pem().as_bytes())?;
        let path = of.certificate(dir);
        std::fs::write(&path, certificate.pem())
            .map_err(|error| Failure::file("write", &path, &error))?;
    }
    Ok(())
}

/// The certificate of an authority, DER.
pub(crate) fn certificate(dir: &Path, of: Of) -> Done<CertificateDer<'static>> {
    let path = of.certificate(dir);
    let pem = read_file(&path, PEM_BYTES_MAX).map_err(|failure| missing(failure, dir))?;
    CertificateDer::from_pem_slice(&pem)
        .map_err(|error| Failure::input(format!("{}: {error}", path.display())))
}

fn missing(failure: Failure, dir: &Path) -> Failure {
    match failure.exit {
        Exit::NotFound => {
            Failure::new(Exit::NotFound, format!("{} holds no authorities", dir.display()))
                .next("make them with `holm device ca`, or name their folder with --ca")
        }
        _ => failure,
    }
}

/// A certificate for a listener under these hosts.
pub(crate) fn listener(
    dir: &Path,
    gateway: &str,
    hosts: &[String],
    days: u32,
    now: OffsetDateTime,
) -> Done<Issued> {
    let mut params = params(gateway, now, days);
    for host in hosts {
        let name = match host.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => {
                let no_name = |_| Failure::usage(format!("`{host}` is no host name"));
                SanType::DnsName(host.as_str().try_into().map_err(no_name)?)
            }
        };
        params.subject_alt_names.push(name);
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    issue(dir, Of::Gateways, params)
}

/// A certificate for a device.
pub(crate) fn device(dir: &Path, name: &str, days: u32, now: OffsetDateTime) -> Done<Issued> {
    let mut params = params(name, now, days);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    issue(dir, Of::Devices, params)
}

fn issue(dir: &Path, of: Of, mut params: CertificateParams) -> Done<Issued> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let path = of.key(dir);
    let pem = read_file(&path, PEM_BYTES_MAX).map_err(|failure| missing(failure, dir))?;
    let input = |error: rcgen::Error| Failure::input(format!("{}: {error}", path.display()));
    let key = KeyPair::from_pem(&String::from_utf8_lossy(&pem)).map_err(input)?;
    let issuer = Issuer::from_ca_cert_der(&certificate(dir, of)?, key).map_err(input)?;
    let key = KeyPair::generate().map_err(failed)?;
    let issued = params.signed_by(&key, &issuer).map_err(failed)?;
    Ok(Issued {
        certificate: issued.der().to_vec(),
        certificate_pem: issued.pem(),
        key,
        expires_unix_s: u64::try_from(params.not_after.unix_timestamp()).unwrap_or(0),
    })
}

fn params(common_name: &str, now: OffsetDateTime, days: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    (params.not_before, params.not_after) = (now - BACKDATE, now + DAY * days);
    params
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("no certificate can be made: {error}"))
}

/// The private scalar of a P-256 key: in its PKCS#8 stands an ECPrivateKey (RFC 5915), version 1, then 32 bytes.
pub(crate) fn scalar(key: &KeyPair) -> Done<[u8; 32]> {
    const BEFORE: [u8; 5] = [0x02, 1, 1, 0x04, 32];
    let pkcs8 = key.serialize_der();
    let found = pkcs8.windows(BEFORE.len() + 32).find(|window| window.starts_with(&BEFORE));
    let scalar = found.and_then(|window| window[BEFORE.len()..].try_into().ok());
    scalar.ok_or_else(|| Failure::failed("the new key is not one on P-256"))
}

/// The private key of a certificate on P-256 as a PKCS#8 document (RFC 5958), from its scalar.
pub(crate) fn pkcs8(certificate: &[u8], scalar: &[u8; 32]) -> Option<Vec<u8>> {
    // Version, id-ecPublicKey and prime256v1, then an ECPrivateKey (RFC 5915) with the scalar and the public point.
    const BEFORE: [u8; 36] = [
        0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d,
        0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x6d, 0x30,
        0x6b, 0x02, 0x01, 0x01, 0x04, 0x20,
    ];
    const BETWEEN: [u8; 5] = [0xa1, 0x44, 0x03, 0x42, 0x00];
    const POINT_BYTES: usize = 65;
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let point = &certificate.public_key().subject_public_key.data;
    (point.len() == POINT_BYTES).then(|| [&BEFORE, &scalar[..], &BETWEEN, point].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_after_its_way_through_a_device() {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        create(dir.path(), now).unwrap();
        let issued = device(dir.path(), "press-7", 1, now).unwrap();
        let scalar = scalar(&issued.key).unwrap();
        let again = pkcs8(&issued.certificate, &scalar).unwrap();
        assert_eq!(again, issued.key.serialize_der());
        assert_eq!(pkcs8(&[1, 2, 3], &scalar), None);
    }
}
