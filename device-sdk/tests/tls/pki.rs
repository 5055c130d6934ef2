//! Certificates: a gateway CA, a device CA, and leaves with whatever is wrong with them.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;

/// When all of this happens, in seconds since 1970.
pub(crate) const NOW: u64 = 1_795_000_000;
pub(crate) const DAY: u64 = 86_400;
pub(crate) const NAME: &str = "barn-3.local";

/// A certificate and its key.
pub(crate) struct Pair {
    pub(crate) params: CertificateParams,
    pub(crate) der: Vec<u8>,
    pub(crate) key: KeyPair,
}

impl Pair {
    /// The private scalar: the last 32 bytes of the first octet string of the EC private key in PKCS#8.
    pub(crate) fn scalar(&self) -> [u8; 32] {
        let pkcs8 = self.key.serialize_der();
        let at =
            pkcs8.windows(7).position(|bytes| bytes[..3] == [2, 1, 1] && bytes[3..5] == [4, 32]);
        let at = at.expect("an EC private key") + 5;
        pkcs8[at..at + 32].try_into().expect("32 bytes")
    }

    pub(crate) fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    /// Signs a leaf.
    pub(crate) fn sign(&self, params: CertificateParams) -> Pair {
        let issuer = Issuer::from_params(&self.params, &self.key);
        let key = KeyPair::generate().expect("a key");
        let der = params.signed_by(&key, &issuer).expect("a certificate").der().to_vec();
        Pair { params, der, key }
    }
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

pub(crate) fn at(unix_s: u64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(i64::try_from(unix_s).expect("a time")).expect("a time")
}

fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    (params.not_before, params.not_after) = (at(NOW - DAY), at(NOW + DAY));
    params
}

/// A CA.
pub(crate) fn authority(common_name: &str) -> Pair {
    self_signed(authority_params(common_name))
}

fn authority_params(common_name: &str) -> CertificateParams {
    let mut params = params(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

pub(crate) fn self_signed(params: CertificateParams) -> Pair {
    let key = KeyPair::generate().expect("a key");
    let der = params.self_signed(&key).expect("a certificate").der().to_vec();
    Pair { params, der, key }
}

/// What a gateway's certificate should be.
pub(crate) fn gateway() -> CertificateParams {
    let mut params = params("gateway");
    params.subject_alt_names = vec![
        SanType::DnsName("other.local".try_into().expect("a name")),
        SanType::DnsName(NAME.try_into().expect("a name")),
        SanType::IpAddress("127.0.0.1".parse().expect("an address")),
    ];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

/// What a device's certificate should be.
pub(crate) fn device(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// The world as `holm device` makes it.
pub(crate) struct World {
    pub(crate) gateway_ca: Pair,
    pub(crate) device_ca: Pair,
    pub(crate) gateway: Pair,
    pub(crate) device: Pair,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::valid(NOW - DAY, NOW + DAY)
    }

    /// All certificates valid within that, those of the authorities too: OpenSSL asks for it.
    pub(crate) fn valid(from_unix_s: u64, to_unix_s: u64) -> Self {
        let within = |mut params: CertificateParams| {
            (params.not_before, params.not_after) = (at(from_unix_s), at(to_unix_s));
            params
        };
        let authority = |name| self_signed(within(authority_params(name)));
        let (gateway_ca, device_ca) = (authority("gateways of test"), authority("devices of test"));
        let gateway = gateway_ca.sign(within(gateway()));
        let device = device_ca.sign(within(device("press-7")));
        Self { gateway_ca, device_ca, gateway, device }
    }
}
