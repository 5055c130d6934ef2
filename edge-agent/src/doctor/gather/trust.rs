//! Identity and certificates.

use std::fs;
use std::io;
use std::path::Path;

use edge_broker::transport::tls::{self, TlsSettings};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::credentials;
use crate::doctor::facts::{Certificate, Identity as IdentityFact, Trouble, Validity};
use crate::identity::Identity;
use crate::settings::{ListenerTls, Settings};

pub(super) fn identity(identity: io::Result<Option<Identity>>) -> IdentityFact {
    match identity {
        Ok(None) => IdentityFact::None,
        Ok(Some(identity)) => IdentityFact::Enrolled(identity.gateway),
        Err(error) => IdentityFact::Bad(trouble("the identity", &error)),
    }
}

pub(super) fn trouble(what: &str, error: &io::Error) -> Trouble {
    let text = format!("{what}: {error}");
    match error.kind() {
        io::ErrorKind::PermissionDenied => Trouble::Hidden(text),
        _ => Trouble::Wrong(text),
    }
}

fn wrong(error: impl std::fmt::Display) -> Trouble {
    Trouble::Wrong(error.to_string())
}

/// Of the listeners, and the gateway's own.
pub(super) fn certificates(settings: &Settings, identity: Option<&Identity>) -> Vec<Certificate> {
    let listeners = settings.listeners.iter().filter_map(|listener| {
        let tls = listener.tls.as_ref()?;
        let of = format!("listener {}", listener.bind);
        Some(Certificate { of, validity: of_listener(tls), renews_itself: false })
    });
    let own = identity.map(|identity| Certificate {
        of: "the gateway's certificate".to_owned(),
        validity: credentials::certified(identity).map_err(wrong).and_then(|_| {
            let der = CertificateDer::from(identity.enrolled.certificate.clone());
            validity(std::slice::from_ref(&der))
        }),
        renews_itself: true,
    });
    listeners.chain(own).collect()
}

/// As the agent loads them.
fn of_listener(files: &ListenerTls) -> Result<Validity, Trouble> {
    let read =
        |path: &Path| fs::read(path).map_err(|error| trouble(&path.display().to_string(), &error));
    let (chain, key) = (read(&files.certificate)?, read(&files.key)?);
    let ca = files.client_ca.as_deref().map(read).transpose()?;
    let config = tls::server_config(TlsSettings {
        cert_chain_pem: &chain,
        key_pem: &key,
        client_ca_pem: ca.as_deref(),
        allow_tls12: files.tls12,
        record_bytes_max: files.record_bytes_max,
        time: None,
    });
    config.map_err(wrong)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
    validity(&chain.map_err(wrong)?)
}

/// When all of a chain is valid.
fn validity(chain: &[CertificateDer<'_>]) -> Result<Validity, Trouble> {
    let mut all = Validity { from_unix_s: i64::MIN, to_unix_s: i64::MAX };
    for der in chain {
        let (_, parsed) = x509_parser::parse_x509_certificate(der)
            .map_err(|err| wrong(format!("a certificate of the chain cannot be read: {err}")))?;
        let one = parsed.validity();
        all.from_unix_s = all.from_unix_s.max(one.not_before.timestamp());
        all.to_unix_s = all.to_unix_s.min(one.not_after.timestamp());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn listener(dir: &Path) -> ListenerTls {
        ListenerTls {
            certificate: dir.join("chain.pem"),
            key: dir.join("key.pem"),
            client_ca: None,
            tls12: false,
            record_bytes_max: 4_096,
        }
    }

    #[test]
    fn a_chain_is_loaded_with_its_key_and_has_an_age() {
        let dir = tempfile::tempdir().unwrap();
        let files = listener(dir.path());
        let why = of_listener(&files).expect_err("nothing there");
        assert!(matches!(&why, Trouble::Wrong(why) if why.contains("chain.pem")), "{why:?}");
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 2);
        fs::write(&files.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(&files.key, other.serialize_pem()).unwrap();
        of_listener(&files).expect_err("the key of another certificate");
        fs::write(&files.key, key.serialize_pem()).unwrap();
        let found = of_listener(&files).unwrap();
        assert_eq!(found, Validity { from_unix_s: 1_577_836_800, to_unix_s: 1_577_923_200 });
        fs::write(&files.certificate, "no PEM").unwrap();
        of_listener(&files).expect_err("no chain");
    }
}
