//! The bundle file (`.holm`): a signed manifest and the artifacts it names, as one file.
//!
//! Layout, integers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `HOLMBNDL` |
//! | 1 | format, now 1 |
//! | 4 | length n of the signed manifest, at most 128 KiB and some |
//! | n | the signed manifest |
//! | 2 | number of artifacts |
//! | then for each artifact, in order of digest | 32 digest, 8 length m, m bytes |
//!
//! The artifacts are exactly those that the manifest names, and nothing follows the last one.
//! Parsing borrows from the file and copies no artifact.

use std::collections::BTreeMap;

use crate::id::Digest;
use crate::limits::{ARTIFACTS_MAX, BUNDLE_BYTES_MAX, SYSTEM_BYTES_MAX};
use crate::manifest::Manifest;
use crate::revision::{
    AuthorKeys, RevisionError, SIGNED_BYTES_MAX, SignedManifest, VerifiedRevision,
};

const MAGIC: &[u8; 8] = b"HOLMBNDL";
const FORMAT: u8 = 1;

/// Why bytes are not a bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Something else altogether.
    #[error("this is not a bundle: `holm build` writes one")]
    NotABundle,
    /// A later format.
    #[error("the bundle has format {0}, this version reads {FORMAT}")]
    Format(u8),
    /// It ends early.
    #[error("the bundle is truncated: it ends within {0}")]
    Truncated(&'static str),
    /// It goes on after its end.
    #[error("the bundle has {0} bytes after its end")]
    Trailing(usize),
    /// A part is over its bound.
    #[error("{what} has {len}, at most {max} is allowed")]
    Bound {
        /// Which part.
        what: &'static str,
        /// Its size.
        len: u64,
        /// The bound.
        max: u64,
    },
    /// Artifacts are repeated or not in order.
    #[error("the artifacts are not in order of their digests")]
    Order,
    /// An artifact that the manifest names is not in it.
    #[error("the bundle lacks artifact {0}, which its manifest names")]
    Missing(Digest),
    /// It holds something that the manifest does not name.
    #[error("the bundle holds artifact {0}, which its manifest does not name")]
    Unnamed(Digest),
    /// The revision is refused.
    #[error(transparent)]
    Revision(#[from] RevisionError),
}

/// A bundle, borrowed from the bytes of its file. Only its shape is checked until
/// [`Bundle::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle<'a> {
    /// Manifest and signature.
    pub signed: SignedManifest,
    /// Artifacts by digest.
    pub artifacts: BTreeMap<Digest, &'a [u8]>,
}

impl<'a> Bundle<'a> {
    /// Writes a bundle file.
    ///
    /// # Errors
    /// [`BundleError`] when the artifacts are not those that the manifest names.
    pub fn write(
        signed: &SignedManifest,
        artifacts: &BTreeMap<Digest, Vec<u8>>,
    ) -> Result<Vec<u8>, BundleError> {
        let manifest = Manifest::from_bytes(&signed.manifest).map_err(RevisionError::from)?;
        let named = manifest.artifacts();
        same_set(&named, artifacts)?;
        let head = signed.to_bytes();
        let total: usize = artifacts.values().map(|bytes| bytes.len() + 40).sum();
        let mut out = Vec::with_capacity(total + head.len() + 15);
        out.extend_from_slice(MAGIC);
        out.push(FORMAT);
        let head_bytes = u32::try_from(head.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&head_bytes.to_le_bytes());
        out.extend_from_slice(&head);
        let count = u16::try_from(artifacts.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&count.to_le_bytes());
        for (digest, bytes) in artifacts {
            out.extend_from_slice(&digest.0);
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            out.extend_from_slice(bytes);
        }
        at_most("the bundle", out.len() as u64, BUNDLE_BYTES_MAX)?;
        Ok(out)
    }

    /// Reads a bundle file.
    ///
    /// # Errors
    /// [`BundleError`] for whatever is not exactly one bundle.
    pub fn parse(file: &'a [u8]) -> Result<Self, BundleError> {
        at_most("the bundle", file.len() as u64, BUNDLE_BYTES_MAX)?;
        let mut rest = Rest(file);
        if rest.take(8, "its head").ok() != Some(MAGIC.as_slice()) {
            return Err(BundleError::NotABundle);
        }
        let [format] = rest.array("its head")?;
        if format != FORMAT {
            return Err(BundleError::Format(format));
        }
        let head_bytes = u32::from_le_bytes(rest.array("its head")?);
        at_most("the signed manifest", u64::from(head_bytes), SIGNED_BYTES_MAX as u64)?;
        let head = rest.take(u64::from(head_bytes), "the signed manifest")?;
        let signed = SignedManifest::from_bytes(head)?;
        let count = u16::from_le_bytes(rest.array("the number of artifacts")?);
        at_most("the number of artifacts", u64::from(count), ARTIFACTS_MAX as u64)?;
        let mut artifacts = BTreeMap::new();
        for _ in 0..count {
            let digest = Digest(rest.array("an artifact's digest")?);
            let bytes = u64::from_le_bytes(rest.array("an artifact's length")?);
            at_most("an artifact", bytes, SYSTEM_BYTES_MAX)?;
            if artifacts.last_key_value().is_some_and(|(last, _)| *last >= digest) {
                return Err(BundleError::Order);
            }
            artifacts.insert(digest, rest.take(bytes, "an artifact")?);
        }
        if !rest.0.is_empty() {
            return Err(BundleError::Trailing(rest.0.len()));
        }
        Ok(Self { signed, artifacts })
    }

    /// Verifies author, signature, manifest and every artifact.
    ///
    /// # Errors
    /// [`BundleError`] says which of them failed.
    pub fn verify(&self, authors: &AuthorKeys) -> Result<VerifiedRevision, BundleError> {
        let revision = self.signed.verify(authors)?;
        same_set(&revision.manifest().artifacts(), &self.artifacts)?;
        for (digest, bytes) in &self.artifacts {
            revision.check_artifact(*digest, bytes)?;
        }
        Ok(revision)
    }
}

fn same_set<T>(
    named: &BTreeMap<Digest, u64>,
    held: &BTreeMap<Digest, T>,
) -> Result<(), BundleError> {
    if let Some(unnamed) = held.keys().find(|digest| !named.contains_key(digest)) {
        return Err(BundleError::Unnamed(*unnamed));
    }
    match named.keys().find(|digest| !held.contains_key(digest)) {
        Some(missing) => Err(BundleError::Missing(*missing)),
        None => Ok(()),
    }
}

const fn at_most(what: &'static str, len: u64, max: u64) -> Result<(), BundleError> {
    if len <= max { Ok(()) } else { Err(BundleError::Bound { what, len, max }) }
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: u64, what: &'static str) -> Result<&'a [u8], BundleError> {
        let len = usize::try_from(len).map_err(|_| BundleError::Truncated(what))?;
        let (taken, rest) = self.0.split_at_checked(len).ok_or(BundleError::Truncated(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], BundleError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(BundleError::Truncated(what))?;
        self.0 = rest;
        Ok(*taken)
    }
}

#[cfg(test)]
mod tests;
