//! Who may do what: operators, authors, and the instance itself.

use sync_protocol::{AuthorKey, Digest, InstanceId};

use super::StoreError;

/// An operator of the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OperatorRow {
    /// Name, for people and logs.
    pub name: String,
    /// SHA-256 of the bearer token, which has 256 random bits.
    pub token: Digest,
    /// When it was added.
    pub added_ms: u64,
}

/// An author whose revisions are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuthorRow {
    /// The public key.
    pub key: AuthorKey,
    /// Name, for people.
    pub name: String,
    /// When it was added.
    pub added_ms: u64,
}

/// Rows of operators, authors and the instance.
pub(crate) trait AccessRows {
    /// The id of this control plane; `None` before `init`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn instance(&self) -> Result<Option<InstanceId>, StoreError>;

    /// Sets the id of this control plane.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put_instance(&mut self, instance: InstanceId) -> Result<(), StoreError>;

    /// The operator with this token.
    ///
    /// # Errors
    /// [`StoreError`].
    fn operator(&self, token: &Digest) -> Result<Option<OperatorRow>, StoreError>;

    /// Adds an operator, or replaces the token of the one with this name.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put_operator(&mut self, row: &OperatorRow) -> Result<(), StoreError>;

    /// All authors, in order of key id.
    ///
    /// # Errors
    /// [`StoreError`].
    fn authors(&self) -> Result<Vec<AuthorRow>, StoreError>;

    /// Adds an author, or renames the one with this key.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put_author(&mut self, row: &AuthorRow) -> Result<(), StoreError>;
}
