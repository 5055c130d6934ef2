use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use sync_protocol::enroll::EnrollReply;

use super::*;
use crate::identity::{InitOptions, Settings, TlsFiles, init};
use crate::store::sqlite::SqliteStore;

const NOW_MS: u64 = 1_790_000_000_000;

struct Cloud {
    office: Office,
    store: SqliteStore,
    _temp: tempfile::TempDir,
}

fn cloud() -> Cloud {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("cloud");
    let options = InitOptions {
        names: Vec::new(),
        endpoint: None,
        author_key: temp.path().join("author.pem"),
        author: "me".into(),
        operator: "admin".into(),
    };
    init(&dir, &options, NOW_MS).unwrap();
    let (office, store) = open(&dir);
    Cloud { office, store, _temp: temp }
}

fn open(dir: &Path) -> (Office, SqliteStore) {
    let settings = Settings::load(dir).unwrap();
    let ca = TlsFiles::load(dir, &settings, NOW_MS).unwrap().gateway_ca;
    let office = Office { ca, endpoint: settings.endpoint, instance: settings.instance };
    (office, SqliteStore::open(&dir.join("cloud.db")).unwrap())
}

impl Cloud {
    fn add(&self, name: &str) -> Result<Token, Failure> {
        let (endpoint, ca) = (&self.office.endpoint, self.office.ca.digest());
        store::write(&self.store, |rows| add_gateway(rows, name, endpoint, ca, NOW_MS))
    }

    fn may(&self, token: &Token, now_ms: u64) -> bool {
        let (name, password) = (token.gateway.clone(), token.password());
        let may: Result<bool, StoreError> =
            store::read(&self.store, |rows| may_enrol(rows, &name, password.as_bytes(), now_ms));
        may.unwrap()
    }

    fn enrol(&self, gateway: &str, csr: &EnrollRequest, now_ms: u64) -> Result<Enrolled, String> {
        match self.office.enrol(&self.store, gateway, csr, now_ms) {
            EnrollReply::Accepted(enrolled) => Ok(*enrolled),
            EnrollReply::Refused { reason } => Err(reason),
        }
    }
}

fn csr() -> EnrollRequest {
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap();
    EnrollRequest { csr: csr.der().to_vec() }
}

#[test]
fn a_token_gives_one_certificate_with_all_that_a_gateway_pins() {
    let cloud = cloud();
    let token = cloud.add("gw-a").unwrap();
    assert_eq!(token.to_string().parse(), Ok(token.clone()));
    assert_eq!(token.ca, cloud.office.ca.digest());
    assert!(cloud.may(&token, NOW_MS));
    let enrolled = cloud.enrol("gw-a", &csr(), NOW_MS).unwrap();
    assert_eq!(Digest::of(&enrolled.gateway_ca), token.ca);
    assert_eq!(enrolled.instance, cloud.office.instance);
    assert_eq!(enrolled.author_keys.len(), 1);
    let refused = cloud.enrol("gw-a", &csr(), NOW_MS + 1).unwrap_err();
    assert!(refused.contains("used already"), "{refused}");
}

#[test]
fn the_same_request_gets_the_same_answer_for_some_minutes() {
    let cloud = cloud();
    let (token, request) = (cloud.add("gw-a").unwrap(), csr());
    let first = cloud.enrol("gw-a", &request, NOW_MS).unwrap();
    let soon = NOW_MS + ENROLL_REPLAY_MS - 1;
    assert!(cloud.may(&token, soon));
    assert_eq!(cloud.enrol("gw-a", &request, soon).unwrap(), first);
    let late = NOW_MS + ENROLL_REPLAY_MS;
    assert!(!cloud.may(&token, late));
    assert!(cloud.enrol("gw-a", &request, late).is_err());
}

#[test]
fn old_wrong_and_foreign_tokens_are_refused() {
    let cloud = cloud();
    let (a, b) = (cloud.add("gw-a").unwrap(), cloud.add("gw-b").unwrap());
    assert!(!cloud.may(&Token { gateway: "gw-b".into(), ..a.clone() }, NOW_MS), "a for b");
    assert!(!cloud.may(&Token { gateway: "nobody".into(), ..b }, NOW_MS));
    let old = NOW_MS + TOKEN_LIFE_MS;
    assert!(!cloud.may(&a, old));
    assert!(cloud.enrol("gw-a", &csr(), old).unwrap_err().contains("too old"));
    let again = cloud.add("gw-a").unwrap();
    assert!(!cloud.may(&a, NOW_MS), "a new token replaces the old one");
    assert!(cloud.may(&again, NOW_MS));
}

#[test]
fn a_bad_request_does_not_use_the_token_up() {
    let cloud = cloud();
    cloud.add("gw-a").unwrap();
    let junk = EnrollRequest { csr: b"junk".to_vec() };
    assert!(cloud.enrol("gw-a", &junk, NOW_MS).unwrap_err().contains("not valid"));
    assert!(cloud.enrol("gw-a", &csr(), NOW_MS).is_ok());
}

#[test]
fn bad_names_are_refused() {
    let cloud = cloud();
    for name in ["", "GW", "a/b", "a+", "-a"] {
        assert!(cloud.add(name).is_err(), "{name:?}");
    }
}

#[test]
fn a_known_gateway_renews_its_certificate_without_a_token() {
    let cloud = cloud();
    cloud.add("gw-a").unwrap();
    let old = cloud.enrol("gw-a", &csr(), NOW_MS).unwrap().certificate;
    let year_ms = 365 * 86_400_000;
    let validity = |der: &[u8]| {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).unwrap();
        assert_eq!(certificate.subject().to_string(), "CN=gw-a");
        certificate.validity().not_after.timestamp()
    };
    let is_worn = |der: &[u8], now_ms| crate::identity::is_gateway_worn(validity(der), now_ms);
    assert!(!is_worn(&old, NOW_MS + year_ms / 2 - 1_000));
    assert!(is_worn(&old, NOW_MS + year_ms / 2 + 1_000));
    let late = NOW_MS + year_ms + 26 * 86_400_000;
    assert!(is_worn(&old, late), "it has expired");
    let of = series(&old);
    let renew =
        |name: &str, csr: &EnrollRequest| cloud.office.renew(&cloud.store, name, of, csr, late);
    let new = renew("gw-a", &csr()).unwrap();
    assert!(!is_worn(&new, late));
    assert!(renew("gw-b", &csr()).is_err(), "nobody knows it");
    assert!(renew("gw-a", &EnrollRequest { csr: b"junk".to_vec() }).is_err());
}

fn series(der: &[u8]) -> u64 {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).unwrap();
    crate::identity::series_of(certificate.raw_serial())
}

#[test]
fn an_enrolment_and_a_removal_void_what_was_given_before_and_a_renewal_does_not() {
    let cloud = cloud();
    let row = |name: &str| {
        let row: Result<_, StoreError> = store::read(&cloud.store, |rows| rows.gateway(name));
        row.unwrap().unwrap()
    };
    let remove = |name: &str| store::write(&cloud.store, |rows| remove_gateway(rows, name, NOW_MS));
    let renew = |series| cloud.office.renew(&cloud.store, "gw-a", series, &csr(), NOW_MS);
    cloud.add("gw-a").unwrap();
    let first = series(&cloud.enrol("gw-a", &csr(), NOW_MS).unwrap().certificate);
    assert_eq!((first, row("gw-a").series), (NOW_MS / 1_000, first));
    assert_eq!(series(&renew(first).unwrap()), first);
    let token = cloud.add("gw-a").unwrap();
    assert_eq!(row("gw-a").series, first, "nobody has used the token yet");
    // The clock stands, or was set back: what is new is new.
    let second = series(&cloud.enrol("gw-a", &csr(), NOW_MS).unwrap().certificate);
    assert_eq!((second, row("gw-a").series), (first + 1, second));
    assert!(renew(first).is_err(), "a connection from before does not get a good one");
    assert_eq!(series(&renew(second).unwrap()), second);

    remove("gw-a").unwrap();
    assert!(row("gw-a").series > second && row("gw-a").removed_ms == Some(NOW_MS));
    assert!(remove("gw-a").is_err(), "it is gone already");
    assert!(remove("gw-b").is_err(), "nobody knows it");
    assert!(renew(second).is_err());
    assert!(!cloud.may(&token, NOW_MS), "the replay of a used token ends, too");
    let again = cloud.add("gw-a").unwrap();
    assert!(cloud.may(&again, NOW_MS));
    assert_eq!((row("gw-a").removed_ms, row("gw-a").enrolled_ms), (None, None));
    let third = series(&cloud.enrol("gw-a", &csr(), NOW_MS).unwrap().certificate);
    assert!(third > second + 1);
}
