//! `holm cloud init`: makes the directory of a control plane.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sync_protocol::{AuthorKey, Digest, InstanceId, SigningKey};

use super::ca::{Authority, date};
use super::files::{PUBLIC, SECRET, at, create, read, sync_folder};
use super::{IdentityError, Settings, random};
use crate::store::access::{AuthorRow, OperatorRow};
use crate::store::sqlite::SqliteStore;
use crate::store::write;

/// What a new control plane should be.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// Host names and addresses in the server's certificate; empty: localhost, 127.0.0.1, ::1
    /// and this machine's name.
    pub names: Vec<String>,
    /// `host:port` at which gateways reach the MQTT listener; `None`: localhost:8883.
    pub endpoint: Option<String>,
    /// The author's private key file. It is made when it is not there, used when it is.
    pub author_key: PathBuf,
    /// Name of the author, for people.
    pub author: String,
    /// Name of the first operator.
    pub operator: String,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct InitReport {
    /// Names, addresses and instance id.
    pub settings: Settings,
    /// The first operator's bearer token: shown once, kept as a hash.
    pub operator_token: String,
    /// The author's public key; its private half is in the author's key file.
    pub author_key: AuthorKey,
    /// The certificate that signed the server's: what HTTP clients trust.
    pub gateway_ca: PathBuf,
    /// SHA-256 of it (DER): what enrolment tokens pin.
    pub gateway_ca_digest: Digest,
}

/// Makes the directory of a control plane.
///
/// # Errors
/// [`IdentityError::Exists`] when there is one, else what failed; then the directory is not
/// usable and may be deleted.
pub fn init(dir: &Path, options: &InitOptions, now_ms: u64) -> Result<InitReport, IdentityError> {
    if dir.join("cloud.toml").exists() {
        return Err(IdentityError::Exists(dir.to_owned()));
    }
    let names = if options.names.is_empty() { default_names() } else { options.names.clone() };
    let endpoint = options.endpoint.clone().unwrap_or_else(|| "localhost:8883".into());
    let settings = Settings::new(InstanceId(random()?), endpoint, names);
    let path = dir.join("cloud.toml");
    settings.check().map_err(|error| IdentityError::Settings { path: path.clone(), error })?;

    let tls = dir.join("tls");
    let folders = || {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&tls).and_then(|()| builder.create(dir.join("blobs")))
    };
    folders().map_err(at(dir))?;
    let now = date(now_ms);
    let gateway_ca = Authority::create(&tls, "gateway-ca", "holm gateway CA", now)?;
    Authority::create(&tls, "device-ca", "holm device CA", now)?;
    let (pem, key) = gateway_ca.issue_server(&settings.names, now)?;
    create(&tls.join("server.key"), &key, SECRET)?;
    create(&tls.join("server.pem"), &pem, PUBLIC)?;

    let author_key = author(&options.author_key)?.public();
    let operator_token = operator_token()?;
    let store = SqliteStore::open(&dir.join("cloud.db"))?;
    write(&store, |rows| -> Result<(), IdentityError> {
        rows.put_instance(settings.instance)?;
        rows.put_operator(&OperatorRow {
            name: options.operator.clone(),
            token: Digest::of(operator_token.as_bytes()),
            added_ms: now_ms,
        })?;
        let name = options.author.clone();
        Ok(rows.put_author(&AuthorRow { key: author_key, name, added_ms: now_ms })?)
    })?;
    // The settings come last: a directory without them is not a control plane.
    create(&path, &settings.to_toml()?, PUBLIC)?;
    sync_folder(&tls).and_then(|()| sync_folder(dir)).map_err(at(dir))?;
    Ok(InitReport {
        settings,
        operator_token,
        author_key,
        gateway_ca: tls.join("gateway-ca.pem"),
        gateway_ca_digest: gateway_ca.digest(),
    })
}

fn default_names() -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).into();
    let host = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let usable = |host: &str| {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
    };
    if usable(&host) && !names.contains(&host) {
        names.push(host);
    }
    names
}

/// The author's key file: an existing one is used, so that one author serves many control planes.
fn author(path: &Path) -> Result<SigningKey, IdentityError> {
    if path.exists() {
        return Ok(SigningKey::from_pem(&read(path)?)?);
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(folder).map_err(at(folder))?;
    }
    let key = SigningKey::generate()?;
    create(path, &key.to_pem(), SECRET)?;
    Ok(key)
}

/// A bearer token with 256 random bits.
pub(crate) fn operator_token() -> Result<String, IdentityError> {
    Ok(format!("holm-op-{}", URL_SAFE_NO_PAD.encode(random::<32>()?)))
}

#[cfg(test)]
mod tests;
