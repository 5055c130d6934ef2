//! Certificates for tests, and identity from them.

use std::sync::Arc;

use edge_broker::codec::{Connect, Decoder, Packet, ReasonCode, Version, encode};
use edge_broker::transport::doubt::CertificateTime;
use edge_broker::transport::tls::{RECORD_BYTES_DEFAULT, TlsSettings, server_config};
use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, ClientConfig, Error, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::owner::{Server, Setup, eventually};
use crate::raw::with_password;

/// A certificate authority with a server certificate for localhost.
pub(crate) struct Authority {
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
    chain_pem: String,
    key_pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test CA");
        let ca_pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let (chain_pem, key_pem) = issue(&issuer, "localhost");
        Self { ca_pem, issuer, chain_pem, key_pem }
    }

    /// The server's side; asks for client certificates of this authority if wanted.
    pub(crate) fn server(&self, clients: bool) -> Arc<ServerConfig> {
        self.server_at(clients, None)
    }

    /// The same by a clock of its own.
    fn server_at(
        &self,
        clients: bool,
        time: Option<Arc<dyn CertificateTime>>,
    ) -> Arc<ServerConfig> {
        server_config(TlsSettings {
            cert_chain_pem: self.chain_pem.as_bytes(),
            key_pem: self.key_pem.as_bytes(),
            client_ca_pem: clients.then_some(self.ca_pem.as_bytes()),
            allow_tls12: false,
            record_bytes_max: RECORD_BYTES_DEFAULT,
            time,
        })
        .unwrap()
    }

    /// The client's side, with a certificate of that name.
    pub(crate) fn client(&self, common_name: Option<&str>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match common_name {
            None => config.with_no_client_auth(),
            Some(name) => {
                let (chain, key) = issue(&self.issuer, name);
                let chain = vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                config.with_client_auth_cert(chain, key).unwrap()
            }
        })
    }
}

impl Authority {
    /// A client with a certificate of this authority, that trusts the server of another one.
    fn certified(&self, name: &str, server: &Self) -> Arc<ClientConfig> {
        let (chain, key) = issue(&self.issuer, name);
        let chain = vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(server.ca_pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .unwrap();
        Arc::new(config)
    }
}

fn issue(issuer: &Issuer<'_, KeyPair>, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.signed_by(&key, issuer).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// Connects over TLS and returns the CONNACK's reason, or none if the handshake fails.
async fn knock(server: &Server, config: Arc<ClientConfig>, connect: Connect) -> Option<ReasonCode> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(config);
    let mut stream = connector.connect(name, stream).await.ok()?;
    let mut bytes = Vec::new();
    encode(&Packet::Connect(Box::new(connect)), Version::V5, &mut bytes);
    stream.write_all(&bytes).await.ok()?;
    let mut decoder = Decoder::client(Version::V5, 10_000);
    let mut buf = bytes::BytesMut::new();
    loop {
        if let Some(packet) = decoder.decode(&mut buf).unwrap() {
            let Packet::ConnAck(connack) = packet else { panic!() };
            return Some(connack.reason);
        }
        // With TLS 1.3 a refused client certificate shows here, not in the handshake.
        if !stream.read_buf(&mut buf).await.is_ok_and(|bytes| bytes > 0) {
            return None;
        }
    }
}

#[tokio::test]
async fn a_certificate_is_an_identity_and_a_password_still_works() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let tls = Some(authority.server(true));
    let server = Server::start(Setup { tls, ..Setup::default() });
    let connect = || Connect::new(Version::V5, "c");
    let certified = authority.client(Some("device-7"));
    assert_eq!(knock(&server, certified, connect()).await, Some(ReasonCode::Success));
    let plain = authority.client(None);
    let bad = Some(ReasonCode::BadUserNameOrPassword);
    assert_eq!(knock(&server, Arc::clone(&plain), connect()).await, bad);
    let with_password = knock(&server, plain, with_password(connect())).await;
    assert_eq!(with_password, Some(ReasonCode::Success));
    // A certificate of a stranger's authority is refused by the handshake.
    let forged = stranger.certified("device-7", &authority);
    assert_eq!(knock(&server, forged, connect()).await, None);
    eventually("two clients", || {
        server.seen.connected.load(std::sync::atomic::Ordering::Relaxed) == 2
    })
    .await;
    server.stop().await;
}

/// A clock that stands in 1970, and whether anybody trusts it.
#[derive(Debug)]
struct Of1970 {
    is_trusted: bool,
}

impl TimeProvider for Of1970 {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::ZERO))
    }
}

impl CertificateTime for Of1970 {
    fn doubt(&self, refusal: &Error) -> Option<UnixTime> {
        match refusal {
            Error::InvalidCertificate(CertificateError::NotValidYetContext {
                not_before, ..
            }) if !self.is_trusted => Some(*not_before),
            _ => None,
        }
    }
}

#[tokio::test]
async fn a_clock_that_nobody_trusts_keeps_no_device_out() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for is_trusted in [true, false] {
        let tls = Some(authority.server_at(true, Some(Arc::new(Of1970 { is_trusted }))));
        let server = Server::start(Setup { tls, ..Setup::default() });
        let known = knock(&server, authority.client(Some("d")), Connect::new(Version::V5, "c"));
        let expected = (!is_trusted).then_some(ReasonCode::Success);
        assert_eq!(known.await, expected, "a certificate of later years, {is_trusted}");
        let foreign = stranger.certified("d", &authority);
        let refused = knock(&server, foreign, Connect::new(Version::V5, "f")).await;
        assert_eq!(refused, None, "doubt is about time only");
        server.stop().await;
    }
}

#[test]
fn settings_that_do_not_work_say_why() {
    let authority = Authority::new();
    let settings = |chain: &'static str, key: &'static str| TlsSettings {
        cert_chain_pem: chain.as_bytes(),
        key_pem: key.as_bytes(),
        client_ca_pem: None,
        allow_tls12: true,
        record_bytes_max: RECORD_BYTES_DEFAULT,
        time: None,
    };
    let error = server_config(settings("", "")).unwrap_err();
    assert!(error.to_string().contains("chain"), "{error}");
    let chain: &'static str = Box::leak(authority.chain_pem.into_boxed_str());
    let error = server_config(settings(chain, "nothing")).unwrap_err();
    assert!(error.to_string().contains("private key"), "{error}");
}
