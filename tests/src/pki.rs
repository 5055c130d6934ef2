//! Certificates for tests and the demo: a server certificate for loopback, and certificates of
//! devices.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// A CA and a server certificate for `localhost` and the loopback addresses, as PEM files.
#[derive(Debug)]
pub struct ServerIdentity {
    authority: CertifiedIssuer<'static, KeyPair>,
    /// CA certificate.
    pub ca: PathBuf,
    /// Server certificate.
    pub certificate: PathBuf,
    /// Server key.
    pub key: PathBuf,
}

/// Writes a fresh CA and server certificate into `dir`.
///
/// # Errors
/// A file cannot be written.
pub fn server_identity(dir: &Path) -> Result<ServerIdentity> {
    std::fs::create_dir_all(dir)?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "holm test device CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let certificate = CertificateParams::new(names)?.signed_by(&key, &ca)?;
    let identity = ServerIdentity {
        authority: ca,
        ca: dir.join("ca.pem"),
        certificate: dir.join("server.pem"),
        key: dir.join("server.key"),
    };
    std::fs::write(&identity.ca, identity.authority.pem())?;
    std::fs::write(&identity.certificate, certificate.pem())?;
    std::fs::write(&identity.key, key.serialize_pem())?;
    Ok(identity)
}

/// A device's certificate and the authority that made it, as PEM files.
#[derive(Debug)]
pub struct DeviceIdentity {
    /// CA certificate.
    pub ca: PathBuf,
    /// Device certificate; its common name is the device's.
    pub certificate: PathBuf,
    /// Device key.
    pub key: PathBuf,
}

/// Writes a fresh device CA and a certificate for `device` into `dir`.
///
/// # Errors
/// A file cannot be written.
pub fn device_identity(dir: &Path, device: &str) -> Result<DeviceIdentity> {
    std::fs::create_dir_all(dir)?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "holm test CA of devices");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, device);
    let certificate = params.signed_by(&key, &ca)?;
    let identity = DeviceIdentity {
        ca: dir.join("device-ca.pem"),
        certificate: dir.join("device.pem"),
        key: dir.join("device.key"),
    };
    std::fs::write(&identity.ca, ca.pem())?;
    std::fs::write(&identity.certificate, certificate.pem())?;
    std::fs::write(&identity.key, key.serialize_pem())?;
    Ok(identity)
}

impl ServerIdentity {
    /// Writes a certificate of this CA for a device, and its key, beside the others.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn device(&self, name: &str) -> Result<(PathBuf, PathBuf)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.authority)?;
        let dir = self.ca.parent().unwrap_or_else(|| Path::new("."));
        let files = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        std::fs::write(&files.0, certificate.pem())?;
        std::fs::write(&files.1, key.serialize_pem())?;
        Ok(files)
    }
}
