//! Rows of operators, authors and the instance.

use rusqlite::params;
use sync_protocol::{Digest, InstanceId};

use super::query::Columns as _;
use super::{SqliteRows, int};
use crate::store::StoreError;
use crate::store::access::{AccessRows, AuthorRow, OperatorRow};

impl AccessRows for SqliteRows<'_> {
    fn instance(&self) -> Result<Option<InstanceId>, StoreError> {
        self.one("SELECT id FROM instance LIMIT 1", [], |row| row.instance("id"))
    }

    fn put_instance(&mut self, instance: InstanceId) -> Result<(), StoreError> {
        self.change("DELETE FROM instance", [])?;
        self.change("INSERT INTO instance (id) VALUES (?1)", [&instance.0])?;
        Ok(())
    }

    fn operator(&self, token: &Digest) -> Result<Option<OperatorRow>, StoreError> {
        self.one(
            "SELECT name, token, added_ms FROM operators WHERE token = ?1",
            [&token.0],
            |row| {
                Ok(OperatorRow {
                    name: row.col("name")?,
                    token: row.digest("token")?,
                    added_ms: row.uint("added_ms")?,
                })
            },
        )
    }

    fn put_operator(&mut self, row: &OperatorRow) -> Result<(), StoreError> {
        self.change(
            "INSERT OR REPLACE INTO operators (name, token, added_ms) VALUES (?1, ?2, ?3)",
            params![row.name, row.token.0, int(row.added_ms)],
        )?;
        Ok(())
    }

    fn authors(&self) -> Result<Vec<AuthorRow>, StoreError> {
        self.list("SELECT public, name, added_ms FROM authors ORDER BY key_id", [], |row| {
            Ok(AuthorRow {
                key: row.author("public")?,
                name: row.col("name")?,
                added_ms: row.uint("added_ms")?,
            })
        })
    }

    fn put_author(&mut self, row: &AuthorRow) -> Result<(), StoreError> {
        self.change(
            "INSERT INTO authors (key_id, public, name, added_ms) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (key_id) DO UPDATE SET name = excluded.name",
            params![row.key.id().0, row.key.to_string(), row.name, int(row.added_ms)],
        )?;
        Ok(())
    }
}
