//! A certificate authority: makes itself, signs this server and gateways.
//!
//! Of a signing request only the public key is used, after its own signature was checked: names
//! and purposes are ours.
//!
//! The serial number of a gateway's certificate holds the *series* that it belongs to. The control
//! plane ends a gateway's access by a new series; no clock is asked whether a certificate is void.

use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use sync_protocol::Digest;
use time::OffsetDateTime;

use super::files::{PUBLIC, SECRET, create, read};
use super::{IdentityError, random};

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Clocks differ: an authority is good from a day before it is made, and so is what it signs. A start
/// of a certificate's own would protect nothing, and lock out whoever is given one while the clock
/// of this server is ahead.
const BACKDATE: Duration = DAY;
/// An authority outlives the machines it signs.
const AUTHORITY_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3_600);
/// A gateway is told to renew its certificate when less than half of it is left.
pub(super) const GATEWAY_LIFE: Duration = Duration::from_secs(365 * 24 * 3_600);
/// Renewed at start when less than half of it is left.
const SERVER_LIFE: Duration = Duration::from_secs(2 * 365 * 24 * 3_600);

/// How the serial number of a gateway's certificate begins; the series and random bytes follow.
const SERIAL_MARK: [u8; 4] = *b"holm";

/// Why a certificate was not issued.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    /// The request is not one, or its signature is wrong.
    #[error("the signing request is not valid: {0}")]
    Request(rcgen::Error),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Entropy,
    /// It could not be signed.
    #[error("the certificate could not be signed: {0}")]
    Sign(rcgen::Error),
}

/// A certificate authority.
pub(crate) struct Authority {
    certificate: CertificateDer<'static>,
    not_before: OffsetDateTime,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new authority and writes `<name>.pem` and `<name>.key`.
    pub(super) fn create(
        folder: &Path,
        name: &str,
        common_name: &str,
        now: OffsetDateTime,
    ) -> Result<Self, IdentityError> {
        let key = KeyPair::generate().map_err(refused)?;
        let mut params = params(common_name, now, AUTHORITY_LIFE)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(refused)?;
        create(&folder.join(format!("{name}.key")), &key.serialize_pem(), SECRET)?;
        create(&folder.join(format!("{name}.pem")), &certificate.pem(), PUBLIC)?;
        let (certificate, not_before) = (certificate.der().clone(), params.not_before);
        Ok(Self { certificate, not_before, issuer: Issuer::new(params, key) })
    }

    #[cfg(test)]
    pub(crate) fn for_tests(folder: &Path) -> Self {
        Self::create(folder, "ca", "test CA", date(1_790_000_000_000)).unwrap()
    }

    /// Reads an authority that was made before.
    pub(crate) fn load(folder: &Path, name: &str) -> Result<Self, IdentityError> {
        let pem = read(&folder.join(format!("{name}.pem")))?;
        let key = read(&folder.join(format!("{name}.key")))?;
        let key = KeyPair::from_pem(&key).map_err(refused)?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(refused)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(refused)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(refused)?;
        let start_s = parsed.validity().not_before.timestamp();
        let not_before = OffsetDateTime::from_unix_timestamp(start_s).map_err(refused)?;
        Ok(Self { certificate, not_before, issuer })
    }

    /// Its own certificate (DER).
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What names it in tokens.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.certificate)
    }

    /// A key and a certificate for this server, as PEM. The names are host names or addresses.
    pub(super) fn issue_server(
        &self,
        names: &[String],
        now: OffsetDateTime,
    ) -> Result<(String, String), IdentityError> {
        let key = KeyPair::generate().map_err(refused)?;
        let mut params = params("holm control plane", now, SERVER_LIFE)?;
        params.not_before = self.not_before;
        for name in names {
            params.subject_alt_names.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into().map_err(refused)?),
            });
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(refused)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// A certificate (DER) of a series for a gateway's own key.
    pub(crate) fn issue_gateway(
        &self,
        gateway: &str,
        series: u64,
        csr: &[u8],
        now_ms: u64,
    ) -> Result<Vec<u8>, IssueError> {
        let csr = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(
            csr.to_vec(),
        ))
        .map_err(IssueError::Request)?;
        let now = date(now_ms);
        let mut params = CertificateParams::default();
        params.distinguished_name = named(gateway);
        params.serial_number = Some(serial(series)?);
        (params.not_before, params.not_after) = (self.not_before, now + GATEWAY_LIFE);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate =
            params.signed_by(&csr.public_key, &self.issuer).map_err(IssueError::Sign)?;
        Ok(certificate.der().to_vec())
    }
}

fn serial(series: u64) -> Result<SerialNumber, IssueError> {
    let random: [u8; 8] = random().map_err(|_| IssueError::Entropy)?;
    Ok(SerialNumber::from([&SERIAL_MARK[..], &series.to_be_bytes(), &random].concat()))
}

/// The series of a gateway's certificate with this serial number; 0 where it was made before there
/// were any.
pub(crate) fn series_of(serial: &[u8]) -> u64 {
    let rest = serial.strip_prefix(&SERIAL_MARK);
    let series = rest.and_then(|rest| rest.first_chunk());
    series.map_or(0, |series| u64::from_be_bytes(*series))
}

/// Whether a gateway's certificate that is valid until then is worn: less than half of its life is
/// left, or it has expired.
pub(crate) fn is_gateway_worn(not_after_unix_s: i64, now_ms: u64) -> bool {
    let left_s = not_after_unix_s.saturating_sub(date(now_ms).unix_timestamp());
    left_s < i64::try_from(GATEWAY_LIFE.as_secs() / 2).unwrap_or(i64::MAX)
}

/// Whether a server certificate is worn: its names changed or less than half its life is left.
pub(super) fn is_worn(pem: &str, names: &[String], now: OffsetDateTime) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) else { return true };
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(&der) else { return true };
    let left_s = certificate.validity().not_after.timestamp() - now.unix_timestamp();
    let held = match certificate.subject_alternative_name() {
        Ok(Some(held)) => held.value.general_names.len(),
        Ok(None) | Err(_) => 0,
    };
    left_s < i64::try_from(SERVER_LIFE.as_secs() / 2).unwrap_or(i64::MAX)
        || held != names.len()
        || !names.iter().all(|name| holds_name(&certificate, name))
}

fn holds_name(certificate: &x509_parser::certificate::X509Certificate<'_>, name: &str) -> bool {
    use std::net::IpAddr;
    use x509_parser::extensions::GeneralName;
    let Ok(Some(held)) = certificate.subject_alternative_name() else { return false };
    held.value.general_names.iter().any(|held| match (held, name.parse::<IpAddr>()) {
        (GeneralName::IPAddress(bytes), Ok(IpAddr::V4(address))) => *bytes == address.octets(),
        (GeneralName::IPAddress(bytes), Ok(IpAddr::V6(address))) => *bytes == address.octets(),
        (GeneralName::DNSName(held), Err(_)) => *held == name,
        _ => false,
    })
}

/// A moment, for certificates.
pub(super) fn date(unix_ms: u64) -> OffsetDateTime {
    let seconds = i64::try_from(unix_ms / 1_000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn params(
    common_name: &str,
    now: OffsetDateTime,
    life: Duration,
) -> Result<CertificateParams, IdentityError> {
    let mut params = CertificateParams::new(Vec::<String>::new()).map_err(refused)?;
    params.distinguished_name = named(common_name);
    (params.not_before, params.not_after) = (now - BACKDATE, now + life);
    Ok(params)
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn refused(error: impl std::fmt::Display) -> IdentityError {
    IdentityError::Certificate(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The clock of this server is a month ahead, signs, and is set right again.
    #[test]
    fn what_is_signed_while_the_clock_is_ahead_is_good_at_once() {
        const NOW_MS: u64 = 1_790_000_000_000;
        let temp = tempfile::tempdir().unwrap();
        let made = Authority::for_tests(temp.path());
        let loaded = Authority::load(temp.path(), "ca").unwrap();
        let ahead_ms = NOW_MS + 30 * 86_400_000;
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap();
        for authority in [made, loaded] {
            let gateway = authority.issue_gateway("gw", 3, csr.der(), ahead_ms).unwrap();
            let (pem, _) = authority.issue_server(&["localhost".into()], date(ahead_ms)).unwrap();
            let server = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            for der in [gateway.as_slice(), &server] {
                let (_, certificate) = x509_parser::parse_x509_certificate(der).unwrap();
                let start_s = certificate.validity().not_before.timestamp();
                assert_eq!(start_s, date(NOW_MS).unix_timestamp() - 86_400, "as the authority's");
            }
            let (_, gateway) = x509_parser::parse_x509_certificate(&gateway).unwrap();
            assert_eq!(series_of(gateway.raw_serial()), 3);
        }
    }
}
