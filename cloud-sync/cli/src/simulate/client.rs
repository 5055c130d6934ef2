//! Options of MQTT clients that are no devices of the SDK: the watcher, attackers, devices without an envelope. Over TLS they
//! trust the gateway that devices trust, and no other: by the authority and the name that devices are provisioned with.

use std::sync::Arc;

use rumqttc::v5::MqttOptions;
use rumqttc::{TlsConfiguration, Transport};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::credentials::{Credentials, Trust};

/// A certificate and its key, as a client shows them.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivatePkcs8KeyDer<'static>,
}

/// A client at HOST:PORT that shows `pair`, if that is given.
///
/// # Errors
/// The authority, or the pair, is none.
pub(super) fn options(
    credentials: &Credentials,
    address: &str,
    id: String,
    pair: Option<Pair>,
) -> Result<MqttOptions, String> {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "1883"));
    let host = host.trim_matches(['[', ']']);
    let mut options = MqttOptions::new(id, host, port.parse().unwrap_or(1883));
    if let Some(trust) = credentials.trust() {
        let tls = config(trust, pair).map_err(|error| format!("no TLS: {error}"))?;
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
    }
    Ok(options)
}

/// A client that proves itself as this device does.
///
/// # Errors
/// See [`options`].
pub(super) fn as_device(
    credentials: &Credentials,
    address: &str,
    id: String,
    device: &str,
) -> Result<MqttOptions, String> {
    let mut options = options(credentials, address, id, credentials.pair(device))?;
    if let Some(token) = credentials.token(device) {
        options.set_credentials(device, token);
    }
    Ok(options)
}

fn config(
    trust: &Trust,
    pair: Option<Pair>,
) -> Result<Arc<ClientConfig>, Box<dyn std::error::Error>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(trust.gateway_ca.clone()))?;
    let roots = Arc::new(roots);
    let inner =
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build()?;
    let name = ServerName::try_from(trust.server_name.clone())?;
    let verifier = Arc::new(Pinned { inner, name, provider: Arc::clone(&provider) });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    Ok(Arc::new(match pair {
        Some(Pair { certificate, key }) => {
            builder.with_client_auth_cert(vec![certificate], key.into())?
        }
        None => builder.with_no_client_auth(),
    }))
}

/// The verifier of rustls, which asks for the provisioned name in place of the one that was dialled: as devices do.
#[derive(Debug)]
struct Pinned {
    inner: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _dialled: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.inner.verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
