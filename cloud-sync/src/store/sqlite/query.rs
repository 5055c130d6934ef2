//! Small helpers over rusqlite: cached statements, and pages bounded by bytes.

use rusqlite::types::Value;
use rusqlite::{Params, Row};
use sync_protocol::{AuthorKey, Digest, InstanceId, KeyId};

use super::{SqliteRows, damaged, failed};
use crate::store::StoreError;

impl SqliteRows<'_> {
    /// Runs a statement that changes rows; says how many.
    pub(super) fn change(&self, sql: &str, params: impl Params) -> Result<usize, StoreError> {
        let mut statement = self.db.prepare_cached(sql).map_err(failed)?;
        statement.execute(params).map_err(failed)
    }

    /// All rows of a query that has a limit.
    pub(super) fn list<T>(
        &self,
        sql: &str,
        params: impl Params,
        map: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        self.page(sql, params, usize::MAX, |_| 0, map)
    }

    /// Rows of a query until their bytes, as `bytes` counts them, go over `bytes_max`.
    pub(super) fn page<T>(
        &self,
        sql: &str,
        params: impl Params,
        bytes_max: usize,
        bytes: impl Fn(&T) -> usize,
        mut map: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.db.prepare_cached(sql).map_err(failed)?;
        let mut rows = statement.query(params).map_err(failed)?;
        let mut page = Vec::new();
        let mut sum = 0_usize;
        while let Some(row) = rows.next().map_err(failed)? {
            let item = map(row)?;
            sum = sum.saturating_add(bytes(&item));
            page.push(item);
            if sum > bytes_max {
                break;
            }
        }
        Ok(page)
    }

    /// The row of a query that has at most one.
    pub(super) fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        map: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let mut statement = self.db.prepare_cached(sql).map_err(failed)?;
        let mut rows = statement.query(params).map_err(failed)?;
        rows.next().map_err(failed)?.map(map).transpose()
    }
}

/// Typed columns of a row.
pub(super) trait Columns {
    fn col<T: rusqlite::types::FromSql>(&self, name: &str) -> Result<T, StoreError>;

    fn digest(&self, name: &str) -> Result<Digest, StoreError> {
        self.bytes(name).map(Digest)
    }

    fn digest_opt(&self, name: &str) -> Result<Option<Digest>, StoreError> {
        match self.col::<Value>(name)? {
            Value::Null => Ok(None),
            _ => self.digest(name).map(Some),
        }
    }

    fn key_id(&self, name: &str) -> Result<KeyId, StoreError> {
        self.bytes(name).map(KeyId)
    }

    fn instance(&self, name: &str) -> Result<InstanceId, StoreError> {
        self.bytes(name).map(InstanceId)
    }

    fn author(&self, name: &str) -> Result<AuthorKey, StoreError> {
        self.col::<String>(name)?.parse().map_err(damaged)
    }

    fn bytes<const N: usize>(&self, name: &str) -> Result<[u8; N], StoreError> {
        let bytes: Vec<u8> = self.col(name)?;
        bytes.try_into().map_err(|_| damaged(format!("column {name} has a wrong length")))
    }

    fn uint(&self, name: &str) -> Result<u64, StoreError> {
        Ok(super::uint(self.col(name)?))
    }

    fn uint_opt(&self, name: &str) -> Result<Option<u64>, StoreError> {
        Ok(self.col::<Option<i64>>(name)?.map(super::uint))
    }

    fn bits(&self, name: &str) -> Result<u64, StoreError> {
        Ok(super::from_bits(self.col(name)?))
    }
}

impl Columns for Row<'_> {
    fn col<T: rusqlite::types::FromSql>(&self, name: &str) -> Result<T, StoreError> {
        self.get(name).map_err(failed)
    }
}
