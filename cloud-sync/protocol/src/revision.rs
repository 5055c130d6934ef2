//! Signed revisions: digest, signature, verification and the rule of the floor.
//!
//! Invariants:
//! - The name of a revision is the SHA-256 of its manifest bytes; the signature (Ed25519) is over
//!   [`SIGNING_DOMAIN`] followed by the same bytes, so it can mean nothing else.
//! - A [`VerifiedRevision`] is made by [`SignedManifest::verify`] and by nothing else.

mod key;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use key::{AuthorKey, KeyError, SigningKey};

use crate::id::{Digest, KeyId};
use crate::limits::MANIFEST_BYTES_MAX;
use crate::manifest::{Manifest, ManifestError};

/// What a revision signature is over, before the manifest bytes.
pub const SIGNING_DOMAIN: &[u8] = b"holm revision signature v1\0";
/// Version of the encoding of a signed manifest: its first byte.
pub const VERSION: u8 = 1;
/// Longest encoding of a signed manifest.
pub const SIGNED_BYTES_MAX: usize = MANIFEST_BYTES_MAX + 128;

/// Why a revision is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevisionError {
    /// The bytes are not a signed manifest.
    #[error("the signed manifest is truncated, too long or of an unknown version")]
    Malformed,
    /// Its author is not known here.
    #[error(
        "the revision is signed with key {key}, which is not among the {known} author keys known \
         here; register it, or sign with a registered key"
    )]
    UnknownKey {
        /// The key that signed.
        key: KeyId,
        /// How many keys are known.
        known: usize,
    },
    /// The signature does not belong to these bytes.
    #[error("the signature of key {key} does not fit the manifest: it was changed or damaged")]
    BadSignature {
        /// The key that claims to have signed.
        key: KeyId,
    },
    /// An image for devices is not signed by the author of the revision.
    #[error(
        "firmware.{name}: its signature is not that of key {key}, which signed the revision; build it \
         again"
    )]
    BadFirmwareSignature {
        /// Which image.
        name: String,
        /// The key that signed the revision.
        key: KeyId,
    },
    /// Not the revision that was asked for.
    #[error("the revision is {actual}, but {expected} was asked for")]
    DigestMismatch {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The manifest itself is not good.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// An artifact is not what the manifest names.
    #[error(
        "the artifact has digest {actual} and {actual_bytes} bytes, the manifest names \
             {expected} with {expected_bytes}"
    )]
    Artifact {
        /// Named digest.
        expected: Digest,
        /// Named length.
        expected_bytes: u64,
        /// Digest of the bytes.
        actual: Digest,
        /// Their length.
        actual_bytes: u64,
    },
    /// It is older than what was ruled out.
    #[error(
        "revision sequence {sequence} is below the floor {floor} that an accepted revision of \
         this app set; build it again with a sequence of at least {floor}"
    )]
    BelowFloor {
        /// Sequence of the revision.
        sequence: u64,
        /// Highest floor accepted so far.
        floor: u64,
    },
}

/// Manifest bytes with the author's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedManifest {
    /// Canonical JSON of a [`Manifest`].
    #[serde(with = "serde_bytes")]
    pub manifest: Vec<u8>,
    /// Who signed.
    pub key: KeyId,
    /// Ed25519 signature, 64 bytes.
    #[serde(with = "serde_bytes")]
    pub signature: Vec<u8>,
}

impl SignedManifest {
    /// Signs a manifest, and each image for devices in it.
    ///
    /// # Errors
    /// [`RevisionError::Manifest`] with all problems: what nobody accepts is not signed.
    pub fn sign(manifest: &Manifest, key: &SigningKey) -> Result<Self, RevisionError> {
        let mut manifest = manifest.clone();
        manifest.firmware.values_mut().for_each(|firmware| firmware.sign(key));
        let bytes = manifest.to_bytes();
        Manifest::from_bytes(&bytes)?;
        let signature = key.sign(&message(&bytes));
        Ok(Self { manifest: bytes, key: key.public().id(), signature })
    }

    /// Name of the revision.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// The bytes that travel: what a chunk request by revision digest is answered with.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).expect("invariant: byte strings always serialise")
    }

    /// Reads what [`SignedManifest::to_bytes`] wrote. Nothing is verified yet.
    ///
    /// # Errors
    /// [`RevisionError::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RevisionError> {
        match bytes.split_first() {
            Some((&VERSION, rest)) if bytes.len() <= SIGNED_BYTES_MAX => {
                crate::wire::from_postcard(rest).map_err(|_| RevisionError::Malformed)
            }
            _ => Err(RevisionError::Malformed),
        }
    }

    /// Verifies author, signature and contents.
    ///
    /// # Errors
    /// [`RevisionError`] says which of them failed.
    pub fn verify(&self, authors: &AuthorKeys) -> Result<VerifiedRevision, RevisionError> {
        let author = authors
            .get(self.key)
            .ok_or(RevisionError::UnknownKey { key: self.key, known: authors.len() })?;
        if !author.verify(&message(&self.manifest), &self.signature) {
            return Err(RevisionError::BadSignature { key: self.key });
        }
        let manifest = Manifest::from_bytes(&self.manifest)?;
        let mut images = manifest.firmware.iter();
        if let Some((name, _)) = images.find(|(_, firmware)| !firmware.is_signed_by(author)) {
            let name = name.clone();
            return Err(RevisionError::BadFirmwareSignature { name, key: self.key });
        }
        Ok(VerifiedRevision { digest: self.digest(), key: self.key, manifest })
    }

    /// Verifies that it is the revision that was asked for, then author, signature and contents.
    ///
    /// # Errors
    /// [`RevisionError`] says which of them failed.
    pub fn verify_as(
        &self,
        expected: Digest,
        authors: &AuthorKeys,
    ) -> Result<VerifiedRevision, RevisionError> {
        let actual = self.digest();
        if actual != expected {
            return Err(RevisionError::DigestMismatch { expected, actual });
        }
        self.verify(authors)
    }
}

fn message(manifest: &[u8]) -> Vec<u8> {
    [SIGNING_DOMAIN, manifest].concat()
}

/// The authors whose revisions are accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorKeys(BTreeMap<KeyId, AuthorKey>);

impl AuthorKeys {
    /// The key of that id.
    #[must_use]
    pub fn get(&self, id: KeyId) -> Option<&AuthorKey> {
        self.0.get(&id)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody is accepted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = &AuthorKey> {
        self.0.values()
    }
}

impl FromIterator<AuthorKey> for AuthorKeys {
    fn from_iter<I: IntoIterator<Item = AuthorKey>>(keys: I) -> Self {
        Self(keys.into_iter().map(|key| (key.id(), key)).collect())
    }
}

/// A revision whose author, signature and contents were verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedRevision {
    digest: Digest,
    key: KeyId,
    manifest: Manifest,
}

impl VerifiedRevision {
    /// Its name.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Who signed it.
    #[must_use]
    pub const fn key(&self) -> KeyId {
        self.key
    }

    /// What it is.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The rule against old revisions: its sequence must not be below the highest floor of all
    /// revisions of the app that were accepted before. To take back to the last known good
    /// revision is always allowed and does not ask here.
    ///
    /// # Errors
    /// [`RevisionError::BelowFloor`].
    pub fn check_floor(&self, highest_floor: u64) -> Result<(), RevisionError> {
        let sequence = self.manifest.sequence;
        if sequence < highest_floor {
            return Err(RevisionError::BelowFloor { sequence, floor: highest_floor });
        }
        Ok(())
    }

    /// Checks the bytes of an artifact against the manifest.
    ///
    /// # Errors
    /// [`RevisionError::Artifact`] when they are not exactly what it names.
    pub fn check_artifact(&self, expected: Digest, bytes: &[u8]) -> Result<(), RevisionError> {
        let actual = Digest::of(bytes);
        let expected_bytes = self.manifest.artifacts().get(&expected).copied().unwrap_or_default();
        if actual != expected || bytes.len() as u64 != expected_bytes {
            let actual_bytes = bytes.len() as u64;
            return Err(RevisionError::Artifact { expected, expected_bytes, actual, actual_bytes });
        }
        Ok(())
    }
}
