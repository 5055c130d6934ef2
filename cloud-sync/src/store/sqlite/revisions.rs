//! Rows of revisions.

use rusqlite::{Row, params};
use sync_protocol::{Digest, SignedManifest};

use super::query::Columns as _;
use super::{SqliteRows, damaged, int};
use crate::store::StoreError;
use crate::store::revisions::{RevisionRow, RevisionRows};

const COLUMNS: &str = "digest, app, version, sequence, floor, key_id, uploaded_ms";

fn revision(row: &Row<'_>) -> Result<RevisionRow, StoreError> {
    Ok(RevisionRow {
        digest: row.digest("digest")?,
        app: row.col("app")?,
        version: row.col("version")?,
        sequence: row.uint("sequence")?,
        floor: row.uint("floor")?,
        key: row.key_id("key_id")?,
        uploaded_ms: row.uint("uploaded_ms")?,
    })
}

impl RevisionRows for SqliteRows<'_> {
    fn revision(&self, digest: &Digest) -> Result<Option<RevisionRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM revisions WHERE digest = ?1");
        self.one(&sql, [&digest.0], revision)
    }

    fn revisions(&self, app: Option<&str>, limit: u32) -> Result<Vec<RevisionRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM revisions WHERE ?1 IS NULL OR app = ?1
             ORDER BY uploaded_ms DESC, sequence DESC LIMIT ?2"
        );
        self.list(&sql, params![app, limit], revision)
    }

    fn signed_manifest(&self, digest: &Digest) -> Result<Option<SignedManifest>, StoreError> {
        let bytes: Option<Vec<u8>> =
            self.one("SELECT signed FROM revisions WHERE digest = ?1", [&digest.0], |row| {
                row.col("signed")
            })?;
        bytes.map(|bytes| SignedManifest::from_bytes(&bytes).map_err(damaged)).transpose()
    }

    fn add_revision(
        &mut self,
        row: &RevisionRow,
        signed: &SignedManifest,
        artifacts: &[(Digest, u64)],
    ) -> Result<bool, StoreError> {
        let added = self.change(
            "INSERT OR IGNORE INTO revisions
             (digest, app, version, sequence, floor, key_id, signed, uploaded_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                row.digest.0,
                row.app,
                row.version,
                int(row.sequence),
                int(row.floor),
                row.key.0,
                signed.to_bytes(),
                int(row.uploaded_ms),
            ],
        )?;
        for (artifact, bytes) in artifacts {
            self.change(
                "INSERT OR IGNORE INTO artifacts (revision, artifact, bytes) VALUES (?1, ?2, ?3)",
                params![row.digest.0, artifact.0, int(*bytes)],
            )?;
        }
        Ok(added == 1)
    }

    fn artifact_of(
        &self,
        revisions: &[Digest],
        artifact: &Digest,
    ) -> Result<Option<u64>, StoreError> {
        for revision in revisions {
            let bytes = self.one(
                "SELECT bytes FROM artifacts WHERE revision = ?1 AND artifact = ?2",
                [&revision.0, &artifact.0],
                |row| row.uint("bytes"),
            )?;
            if bytes.is_some() {
                return Ok(bytes);
            }
        }
        Ok(None)
    }
}
