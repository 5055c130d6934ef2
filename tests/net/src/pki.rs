//! Certificates for the link to the control plane: one CA, the control plane's own, the gateway's.

use std::sync::{Arc, OnceLock};

use edge_agent::tls::{TimeFloor, enrolled};
use edge_broker::transport::tls::{RECORD_BYTES_MAX, TlsSettings, server_config};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig};

/// Both ends' TLS settings.
#[derive(Clone, Debug)]
pub struct Pki {
    /// Of the control plane.
    pub server: Arc<ServerConfig>,
    /// Of the gateway.
    pub client: Arc<ClientConfig>,
}

/// The certificates of this process; keys are made once.
pub fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(|| make().unwrap_or_else(|error| panic!("invariant: certificates: {error}")))
}

fn make() -> anyhow::Result<Pki> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let own = CertificateParams::new(["127.0.0.1".to_owned()])?.signed_by(&key, &ca)?;
    let gateway_key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, crate::hub::GATEWAY);
    let gateway = params.signed_by(&gateway_key, &ca)?;
    let ca_pem = ca.pem();
    let server = server_config(TlsSettings {
        cert_chain_pem: own.pem().as_bytes(),
        key_pem: key.serialize_pem().as_bytes(),
        client_ca_pem: Some(ca_pem.as_bytes()),
        allow_tls12: false,
        record_bytes_max: RECORD_BYTES_MAX,
        time: None,
    })?;
    let key = PrivateKeyDer::Pkcs8(gateway_key.serialize_der().into());
    let provider = rustls::crypto::ring::default_provider();
    let own = CertifiedKey::from_der(vec![gateway.der().clone()], key, &provider)?;
    let client = enrolled(
        CertificateDer::from(ca.der().to_vec()),
        Arc::new(SingleCertAndKey::from(own)),
        TimeFloor::new(0),
    )?;
    Ok(Pki { server, client })
}
