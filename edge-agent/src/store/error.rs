//! What can go wrong, and what to do about it.

use std::io;
use std::sync::Arc;

use edge_core::id::BatchSeq;
use thiserror::Error;

/// A store that cannot be opened. Nothing in its directory was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it.
    #[error("the store is in use by another process; stop that one first")]
    InUse,
    /// The disk is full and nothing could be freed.
    #[error(
        "the disk is full and the store cannot free space by itself; make room and start again"
    )]
    DiskFull,
    /// A setting makes no sense.
    #[error("the store's settings cannot work: {0}")]
    Settings(&'static str),
    /// The system refused.
    #[error("{step}: {source}; check that the directory can be written and the disk is sound")]
    Io {
        /// What was tried.
        step: String,
        /// What it said.
        source: io::Error,
    },
    /// redb refused the checkpoint.
    #[error(
        "the checkpoint file cannot be used: {source}; restore the whole store directory from a \
         backup, or move it away to start empty"
    )]
    Checkpoint {
        /// What it said.
        source: Box<redb::Error>,
    },
    /// A file is not what its name says, or belongs to another store.
    #[error(
        "{file} does not belong to this store: {why}; put back the file that was there, or move \
         the whole store directory away to start empty"
    )]
    Foreign {
        /// Which.
        file: String,
        /// Why it is thought so.
        why: &'static str,
    },
    /// Written by a version this one does not know.
    #[error(
        "{file} has format {found}, this program knows {known}; start the program that wrote it"
    )]
    OtherFormat {
        /// Which.
        file: String,
        /// Its format.
        found: String,
        /// What is known here.
        known: String,
    },
    /// A file is gone or damaged, and acknowledged batches with it.
    #[error(
        "the journal is damaged: {what}; acknowledged messages are missing, so the store does not \
         go on by itself. Restore the whole directory from a backup, or move it away to start empty"
    )]
    Damaged {
        /// What is missing, and where.
        what: String,
    },
    /// The checkpoint is older than the journal's oldest batch.
    #[error(
        "the checkpoint ends at batch {checkpoint} and the journal begins at batch {journal}: the \
         checkpoint file was replaced by an older one. Put the newer one back"
    )]
    StaleCheckpoint {
        /// Last batch of the checkpoint.
        checkpoint: u64,
        /// First batch of the journal.
        journal: u64,
    },
    /// The journal is older than the checkpoint.
    #[error(
        "the checkpoint ends at batch {checkpoint} and the journal at batch {journal}: the journal \
         was replaced by an older one. Put the newer one back"
    )]
    StaleJournal {
        /// Last batch of the checkpoint.
        checkpoint: u64,
        /// Last batch of the journal.
        journal: u64,
    },
}

impl OpenError {
    pub(super) fn io(step: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let step = step.into();
        move |source| match source.kind() {
            io::ErrorKind::ResourceBusy => Self::InUse,
            _ if super::disk::is_full(&source) => Self::DiskFull,
            _ => Self::Io { step, source },
        }
    }

    pub(super) fn checkpoint(source: impl Into<redb::Error>) -> Self {
        let source = source.into();
        if let redb::Error::Io(error) = &source {
            if super::disk::is_full(error) {
                return Self::DiskFull;
            }
            if error.kind() == io::ErrorKind::InvalidData {
                let why = super::base::NOT_REDB;
                return Self::Foreign { file: super::base::FILE.into(), why };
            }
        }
        Self::Checkpoint { source: Box::new(source) }
    }
}

/// A batch that was not committed.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It is not the next one; the store is fine.
    #[error("batch {got:?} is not the next one, {expected:?}")]
    OutOfOrder {
        /// The number that was due.
        expected: BatchSeq,
        /// Its number.
        got: BatchSeq,
    },
    /// No space for the journal or the checkpoint. Open again when there is some.
    #[error("the disk is full")]
    DiskFull,
    /// The disk refused. Open again.
    #[error("{step}: {source}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// What it said.
        source: Arc<io::Error>,
    },
    /// The checkpoint failed earlier. Open again.
    #[error("the checkpoint failed: {0}")]
    Checkpoint(Arc<str>),
    /// It failed before and was not opened again.
    #[error("the store has failed before and must be opened again")]
    Failed,
}

impl StoreError {
    pub(super) fn io(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            if super::disk::is_full(&source) {
                Self::DiskFull
            } else {
                Self::Io { step, source: Arc::new(source) }
            }
        }
    }

    /// Whether the store is as good as before.
    #[must_use]
    pub fn is_harmless(&self) -> bool {
        matches!(self, Self::OutOfOrder { .. })
    }
}

/// A read that failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The store was closed; ask the reader of the one that is opened next.
    #[error("the store was closed")]
    Closed,
    /// redb refused.
    #[error("reading the checkpoint: {0}")]
    Checkpoint(#[source] Box<redb::Error>),
    /// A row is not what its table says.
    #[error("a row of table {table} does not decode; the store was written by another version")]
    Row {
        /// The table.
        table: &'static str,
    },
}

impl ReadError {
    pub(super) fn base(source: impl Into<redb::Error>) -> Self {
        Self::Checkpoint(Box::new(source.into()))
    }
}
