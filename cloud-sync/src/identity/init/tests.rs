use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::identity::TlsFiles;
use crate::identity::ca::IssueError;
use crate::store::read as read_rows;

const NOW_MS: u64 = 1_790_000_000_000;

fn options(dir: &Path) -> InitOptions {
    InitOptions {
        names: Vec::new(),
        endpoint: None,
        author_key: dir.join("keys/author.pem"),
        author: "me".into(),
        operator: "admin".into(),
    }
}

#[test]
fn init_makes_what_serve_needs() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("cloud");
    let report = init(&dir, &options(temp.path()), NOW_MS).unwrap();
    assert_eq!(Settings::load(&dir).unwrap(), report.settings);
    assert!(report.settings.names.contains(&"::1".to_owned()));

    let files = TlsFiles::load(&dir, &report.settings, NOW_MS).unwrap();
    files.mqtt().unwrap();
    files.http().unwrap();
    assert_eq!(files.gateway_ca.digest(), report.gateway_ca_digest);
    let device_ca = Authority::load(&dir.join("tls"), "device-ca").unwrap();
    assert_ne!(device_ca.digest(), report.gateway_ca_digest);

    let store = SqliteStore::open(&dir.join("cloud.db")).unwrap();
    let token = Digest::of(report.operator_token.as_bytes());
    read_rows(&store, |rows| -> Result<(), IdentityError> {
        assert_eq!(rows.instance()?, Some(report.settings.instance));
        assert_eq!(rows.operator(&token)?.unwrap().name, "admin");
        assert_eq!(rows.authors()?[0].key, report.author_key);
        Ok(())
    })
    .unwrap();
}

#[test]
fn secrets_are_for_the_owner_and_the_author_key_stays_outside() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("cloud");
    init(&dir, &options(temp.path()), NOW_MS).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for secret in ["gateway-ca.key", "device-ca.key", "server.key"] {
        assert_eq!(mode(&dir.join("tls").join(secret)), 0o600, "{secret}");
    }
    let author = temp.path().join("keys/author.pem");
    assert_eq!(mode(&author), 0o600);
    let private = fs::read_to_string(&author).unwrap();
    let body = private.lines().nth(1).unwrap();
    for file in fs::read_dir(&dir).unwrap().flatten().filter(|file| file.path().is_file()) {
        let bytes = fs::read(file.path()).unwrap();
        assert!(!bytes.windows(body.len()).any(|window| window == body.as_bytes()));
    }
}

#[test]
fn init_twice_is_refused_and_an_author_key_is_used_again() {
    let temp = tempfile::tempdir().unwrap();
    let first = init(&temp.path().join("a"), &options(temp.path()), NOW_MS).unwrap();
    let again = init(&temp.path().join("a"), &options(temp.path()), NOW_MS);
    assert!(matches!(again, Err(IdentityError::Exists(_))));
    let second = init(&temp.path().join("b"), &options(temp.path()), NOW_MS).unwrap();
    assert_eq!(first.author_key, second.author_key);
    assert_ne!(first.settings.instance, second.settings.instance);
}

#[test]
fn a_worn_server_certificate_is_replaced_at_start() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("cloud");
    let report = init(&dir, &options(temp.path()), NOW_MS).unwrap();
    let pem = || fs::read_to_string(dir.join("tls/server.pem")).unwrap();
    let first = pem();
    TlsFiles::load(&dir, &report.settings, NOW_MS).unwrap();
    assert_eq!(pem(), first, "a fresh one is kept");
    let year_ms = 367 * 24 * 3_600_000;
    TlsFiles::load(&dir, &report.settings, NOW_MS + year_ms).unwrap();
    let second = pem();
    assert_ne!(second, first, "an old one is replaced");
    let mut settings = report.settings;
    settings.names.push("cloud.example".into());
    TlsFiles::load(&dir, &settings, NOW_MS + year_ms).unwrap();
    assert_ne!(pem(), second, "new names are taken up");
}

#[test]
fn only_the_key_of_a_request_is_used() {
    let temp = tempfile::tempdir().unwrap();
    let ca = Authority::create(temp.path(), "ca", "test CA", date(NOW_MS)).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "another-gateway");
    let csr = params.serialize_request(&key).unwrap();
    let der = ca.issue_gateway("gw-a", 1, csr.der(), NOW_MS).unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert_eq!(certificate.subject().to_string(), "CN=gw-a");
    assert!(certificate.subject_alternative_name().unwrap().is_none());
    assert!(!certificate.is_ca());
    let purposes = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.client_auth && !purposes.server_auth);
    assert_eq!(
        certificate.public_key().subject_public_key.data,
        key.public_key_raw(),
        "the gateway's own key"
    );
}

#[test]
fn a_damaged_request_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let ca = Authority::create(temp.path(), "ca", "test CA", date(NOW_MS)).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    let mut der = csr.der().to_vec();
    let last = der.len() - 1;
    der[last] ^= 1;
    assert!(matches!(ca.issue_gateway("a", 1, &der, NOW_MS), Err(IssueError::Request(_))));
    assert!(matches!(ca.issue_gateway("a", 1, b"junk", NOW_MS), Err(IssueError::Request(_))));
}
