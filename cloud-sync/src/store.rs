//! The store seam: transactions over rows. The decisions (what is a duplicate, what is desired)
//! are made above it and are the same for every database.
//!
//! Invariants:
//! - [`Store::write`] is the only way to change anything: one transaction, durable when it
//!   returns, or nothing happened.
//! - A read sees one moment.
//! - Every query is bounded by a limit that the caller states.

pub(crate) mod access;
pub(crate) mod deployments;
pub(crate) mod fleet;
pub(crate) mod records;
pub(crate) mod revisions;
pub(crate) mod sqlite;

pub(crate) use access::AccessRows;
pub(crate) use deployments::DeploymentRows;
pub(crate) use fleet::FleetRows;
pub(crate) use records::RecordRows;
pub(crate) use revisions::RevisionRows;

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database says no.
    #[error("the database failed: {0}")]
    Database(String),
    /// The file belongs to another version of this program.
    #[error("the database has schema version {found}, this program knows {known}: {advice}")]
    Schema {
        /// What the file says.
        found: u32,
        /// What this program writes.
        known: u32,
        /// What to do.
        advice: &'static str,
    },
    /// A row holds what cannot be.
    #[error("the database is damaged: {0}")]
    Damaged(String),
}

/// What becomes of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is made durable.
    Commit,
    /// Nothing of it remains.
    Rollback,
}

/// A gateway in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GatewayId(pub i64);

/// All families of rows.
pub(crate) trait Rows:
    AccessRows + DeploymentRows + FleetRows + RecordRows + RevisionRows
{
}

impl<T> Rows for T where T: AccessRows + DeploymentRows + FleetRows + RecordRows + RevisionRows {}

/// A database.
pub(crate) trait Store: Send + Sync + 'static {
    /// Runs `work` once in a transaction and does with it as it says.
    ///
    /// # Errors
    /// [`StoreError`] when the transaction could not be begun or made durable.
    fn write(&self, work: &mut dyn FnMut(&mut dyn Rows) -> Verdict) -> Result<(), StoreError>;

    /// Runs `work` once on a snapshot.
    ///
    /// # Errors
    /// [`StoreError`] when there is none.
    fn read(&self, work: &mut dyn FnMut(&dyn Rows)) -> Result<(), StoreError>;
}

/// Runs `work` in a transaction: an error of its own rolls back.
///
/// # Errors
/// That of `work`, or of the store.
pub(crate) fn write<T, E: From<StoreError>>(
    store: &dyn Store,
    work: impl FnOnce(&mut dyn Rows) -> Result<T, E>,
) -> Result<T, E> {
    let mut work = Some(work);
    let mut outcome = None;
    store.write(&mut |rows| {
        let Some(work) = work.take() else { return Verdict::Rollback };
        let result = work(rows);
        let verdict = if result.is_ok() { Verdict::Commit } else { Verdict::Rollback };
        outcome = Some(result);
        verdict
    })?;
    outcome.unwrap_or_else(|| Err(StoreError::Database("the work was not run".into()).into()))
}

/// Runs `work` on a snapshot.
///
/// # Errors
/// That of `work`, or of the store.
pub(crate) fn read<T, E: From<StoreError>>(
    store: &dyn Store,
    work: impl FnOnce(&dyn Rows) -> Result<T, E>,
) -> Result<T, E> {
    let mut work = Some(work);
    let mut outcome = None;
    store.read(&mut |rows| outcome = work.take().map(|work| work(rows)))?;
    outcome.unwrap_or_else(|| Err(StoreError::Database("the work was not run".into()).into()))
}
