//! The default database: one SQLite file.
//!
//! Write-ahead log with `synchronous = FULL`: a commit is on the disk when it returns. One
//! connection writes; readers have their own and never wait for it.

mod access;
mod codes;
mod deployments;
mod fleet;
mod query;
mod records;
mod revisions;
mod schema;

#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::{Rows, Store, StoreError, Verdict};

/// Idle read connections kept open.
const READERS_KEPT: usize = 4;
/// Statements each connection keeps prepared.
const STATEMENTS_KEPT: usize = 128;
/// How long a connection waits for another process, such as the offline commands.
const BUSY_MS: u64 = 5_000;

/// A control plane's SQLite database.
pub(crate) struct SqliteStore {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

impl SqliteStore {
    /// Opens or makes the database and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Schema`] when a later version wrote it, else what SQLite says.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let mut writer = connect(path)?;
        schema::migrate(&mut writer)?;
        let (writer, readers) = (Mutex::new(writer), Mutex::new(Vec::new()));
        Ok(Self { path: path.to_owned(), writer, readers })
    }

    fn reader(&self) -> Result<Connection, StoreError> {
        let kept = lock(&self.readers).pop();
        match kept {
            Some(reader) => Ok(reader),
            None => {
                let reader = connect(&self.path)?;
                reader.pragma_update(None, "query_only", true).map_err(failed)?;
                Ok(reader)
            }
        }
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open(path).map_err(|error| {
        StoreError::Database(format!("cannot open {}: {error}", path.display()))
    })?;
    connection.busy_timeout(Duration::from_millis(BUSY_MS)).map_err(failed)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    Ok(connection)
}

/// A panic in another thread leaves the connection usable: its transaction was rolled back when
/// it was dropped.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(error: impl Display) -> StoreError {
    StoreError::Database(error.to_string())
}

fn damaged(what: impl Display) -> StoreError {
    StoreError::Damaged(what.to_string())
}

impl Store for SqliteStore {
    fn write(&self, work: &mut dyn FnMut(&mut dyn Rows) -> Verdict) -> Result<(), StoreError> {
        let mut writer = lock(&self.writer);
        let transaction =
            writer.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        match work(&mut SqliteRows { db: &transaction }) {
            Verdict::Commit => transaction.commit().map_err(failed),
            Verdict::Rollback => transaction.rollback().map_err(failed),
        }
    }

    fn read(&self, work: &mut dyn FnMut(&dyn Rows)) -> Result<(), StoreError> {
        let mut reader = self.reader()?;
        let transaction = reader.transaction().map_err(failed)?;
        work(&SqliteRows { db: &transaction });
        transaction.finish().map_err(failed)?;
        let mut readers = lock(&self.readers);
        if readers.len() < READERS_KEPT {
            readers.push(reader);
        }
        Ok(())
    }
}

/// The rows of one transaction.
struct SqliteRows<'t> {
    db: &'t Connection,
}

/// Positions and times are below 2^63 by the contract; a larger one is cut there.
fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that was written by [`int`].
fn uint(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// All 64 bits of an epoch, as SQLite keeps them.
const fn bits(number: u64) -> i64 {
    i64::from_ne_bytes(number.to_ne_bytes())
}

/// A number that was written by [`bits`].
const fn from_bits(number: i64) -> u64 {
    u64::from_ne_bytes(number.to_ne_bytes())
}
