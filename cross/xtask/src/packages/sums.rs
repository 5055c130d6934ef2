//! Checksums of a release, their signature, and the installer that checks both.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sync_protocol::{AuthorKey, release};

use super::release::Release;
use super::stage;

/// The beginning of every public Ed25519 key in DER (RFC 8410).
const SPKI: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Writes the installer, with the key that it believes, and the version that it installs.
pub(crate) fn installer(release: &Release) -> Result<()> {
    let text = String::from_utf8(release.file("install.sh")?)?;
    let key = release.key.as_ref().map(|key| pem(&key.public())).unwrap_or_default();
    let text = text.replace("@KEY@", &key).replace("@VERSION@", &release.version);
    write(&release.out.join("install.sh"), text.as_bytes())
}

/// Writes `SHA256SUMS` over all files of the release, and `SHA256SUMS.sig` where there is a key.
pub(crate) fn write_sums(release: &Release) -> Result<()> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&release.out).context("the release")? {
        names.push(entry?.file_name().into_string().ok().context("a name is not UTF-8")?);
    }
    names.sort();
    let mut text = release::HEAD.to_owned();
    for name in names {
        let (digest, _) = stage::digest(&release.out.join(&name))?;
        writeln!(text, "{digest}  {name}")?;
    }
    write(&release.out.join("SHA256SUMS"), text.as_bytes())?;
    if let Some(key) = &release.key {
        write(&release.out.join("SHA256SUMS.sig"), &release::sign(&text, key)?)?;
    }
    Ok(())
}

/// The key as `openssl` reads it.
fn pem(key: &AuthorKey) -> String {
    let der = [SPKI, &key.to_raw()].concat();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", STANDARD.encode(der))
}

fn write(path: &Path, contents: &[u8]) -> Result<()> {
    std::fs::write(path, contents).with_context(|| path.display().to_string())
}
