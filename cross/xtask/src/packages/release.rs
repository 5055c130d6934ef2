//! What all packages of a release share.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sync_protocol::SigningKey;

use crate::command::project_root;

/// A release in the making.
#[derive(Debug)]
pub(crate) struct Release {
    /// Of the workspace.
    pub(crate) version: String,
    /// Seconds since 1970 that everything in it is from.
    pub(crate) epoch: u64,
    /// Where packages go.
    pub(crate) out: PathBuf,
    /// Where they are made.
    pub(crate) scratch: PathBuf,
    /// Who signs it.
    pub(crate) key: Option<SigningKey>,
}

/// What is packaged for a target.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    /// The program.
    pub(crate) agent: Vec<u8>,
    /// What it is made of, CycloneDX.
    pub(crate) sbom: Vec<u8>,
}

impl Release {
    /// A folder of its own to make a package in.
    pub(crate) fn work(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// A file of `cross/packages`.
    pub(crate) fn file(&self, name: &str) -> Result<Vec<u8>> {
        read(&project_root().join("cross/packages").join(name))
    }

    /// Both licences, and where those of dependencies are named.
    pub(crate) fn copyright(&self) -> Result<Vec<u8>> {
        let root = project_root();
        let mut text = b"Holm (https://github.com/holm-edge/holm) is licensed under the Apache License 2.0 or\n\
            the MIT licence, at your option. What it is built of, and under which licences, is\n\
            listed in sbom.cdx.json beside this file.\n\n"
            .to_vec();
        text.extend(read(&root.join("LICENSE-MIT"))?);
        text.extend(b"\n\n");
        text.extend(read(&root.join("LICENSE-APACHE"))?);
        Ok(text)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| path.display().to_string())
}

/// The private key in a file.
pub(crate) fn key(path: &Path) -> Result<SigningKey> {
    let pem = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    SigningKey::from_pem(&pem).with_context(|| path.display().to_string())
}

/// `SOURCE_DATE_EPOCH`, or the time of the last commit.
pub(crate) fn epoch() -> Result<u64> {
    if let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") {
        return text.parse().with_context(|| format!("SOURCE_DATE_EPOCH={text}: not a number"));
    }
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"]).current_dir(project_root());
    let text = String::from_utf8(git.output().context("git")?.stdout)?;
    text.trim().parse().context("no commit to take the time of: set SOURCE_DATE_EPOCH")
}
