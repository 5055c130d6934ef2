//! Uploaded revisions.

use sync_protocol::{Digest, KeyId, SignedManifest};

use super::StoreError;

/// An uploaded revision. Its artifacts lie in the blob store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RevisionRow {
    /// Its name.
    pub digest: Digest,
    /// The app.
    pub app: String,
    /// What people call it.
    pub version: String,
    /// Its sequence.
    pub sequence: u64,
    /// Its floor.
    pub floor: u64,
    /// Who signed it.
    pub key: KeyId,
    /// When it was uploaded.
    pub uploaded_ms: u64,
}

/// Rows of revisions.
pub(crate) trait RevisionRows {
    /// A revision by its name.
    ///
    /// # Errors
    /// [`StoreError`].
    fn revision(&self, digest: &Digest) -> Result<Option<RevisionRow>, StoreError>;

    /// The newest revisions, of one app or of all.
    ///
    /// # Errors
    /// [`StoreError`].
    fn revisions(&self, app: Option<&str>, limit: u32) -> Result<Vec<RevisionRow>, StoreError>;

    /// Manifest and signature of a revision.
    ///
    /// # Errors
    /// [`StoreError`].
    fn signed_manifest(&self, digest: &Digest) -> Result<Option<SignedManifest>, StoreError>;

    /// Adds a revision with its artifacts (digest and length); does nothing when it is there.
    /// True when it was new.
    ///
    /// # Errors
    /// [`StoreError`].
    fn add_revision(
        &mut self,
        row: &RevisionRow,
        signed: &SignedManifest,
        artifacts: &[(Digest, u64)],
    ) -> Result<bool, StoreError>;

    /// Length of an artifact, if one of these revisions names it.
    ///
    /// # Errors
    /// [`StoreError`].
    fn artifact_of(
        &self,
        revisions: &[Digest],
        artifact: &Digest,
    ) -> Result<Option<u64>, StoreError>;
}
