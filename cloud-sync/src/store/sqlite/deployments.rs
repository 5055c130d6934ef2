//! Rows of deployments.

use rusqlite::{Row, params};
use sync_protocol::record::Phase;

use super::codes::Code as _;
use super::query::Columns as _;
use super::{SqliteRows, int, uint};
use crate::limits::STATE_HISTORY_PER_GATEWAY_MAX;
use crate::store::deployments::{
    AppRow, Cause, DeploymentRow, DeploymentRows, DesiredRow, StepRow, Target,
};
use crate::store::{GatewayId, StoreError};

const DEPLOYMENT: &str = "id, app, revision, cause, everyone, made_by, created_ms";
const APP: &str = "app, revision, phase, reason, running, generation, at_ms";

fn app(row: &Row<'_>) -> Result<AppRow, StoreError> {
    Ok(AppRow {
        app: row.col("app")?,
        revision: row.digest("revision")?,
        phase: Phase::from_code(row.col("phase")?)?,
        reason: row.col("reason")?,
        running: row.digest_opt("running")?,
        generation: row.uint("generation")?,
        at_ms: row.uint("at_ms")?,
    })
}

impl SqliteRows<'_> {
    fn deployment_of(&self, row: &Row<'_>) -> Result<DeploymentRow, StoreError> {
        let id: i64 = row.col("id")?;
        let target = if row.col::<bool>("everyone")? {
            Target::All
        } else {
            Target::Gateways(self.list(
                "SELECT g.name FROM targets t JOIN gateways g ON g.id = t.gateway
                 WHERE t.deployment = ?1 ORDER BY g.name",
                [id],
                |row| row.col("name"),
            )?)
        };
        Ok(DeploymentRow {
            id: uint(id),
            app: row.col("app")?,
            revision: row.digest_opt("revision")?,
            cause: Cause::from_code(row.col("cause")?)?,
            target,
            by: row.col("made_by")?,
            created_ms: row.uint("created_ms")?,
        })
    }
}

impl DeploymentRows for SqliteRows<'_> {
    fn deployment(&self, id: u64) -> Result<Option<DeploymentRow>, StoreError> {
        let sql = format!("SELECT {DEPLOYMENT} FROM deployments WHERE id = ?1");
        self.one(&sql, [int(id)], |row| self.deployment_of(row))
    }

    fn deployments(
        &self,
        app: Option<&str>,
        before: u64,
        limit: u32,
    ) -> Result<Vec<DeploymentRow>, StoreError> {
        let sql = format!(
            "SELECT {DEPLOYMENT} FROM deployments WHERE (?1 IS NULL OR app = ?1) AND id < ?2
             ORDER BY id DESC LIMIT ?3"
        );
        self.list(&sql, params![app, int(before), limit], |row| self.deployment_of(row))
    }

    fn add_deployment(&mut self, row: &DeploymentRow) -> Result<u64, StoreError> {
        self.change(
            "INSERT INTO deployments (app, revision, cause, everyone, made_by, created_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                row.app,
                row.revision.map(|revision| revision.0),
                row.cause.code(),
                row.target == Target::All,
                row.by,
                int(row.created_ms),
            ],
        )?;
        let id = self.db.last_insert_rowid();
        if let Target::Gateways(names) = &row.target {
            for name in names {
                self.change(
                    "INSERT INTO targets (deployment, gateway)
                     SELECT ?1, id FROM gateways WHERE name = ?2",
                    params![id, name],
                )?;
            }
        }
        Ok(uint(id))
    }

    fn skip_deployments_to(&mut self, number: u64) -> Result<(), StoreError> {
        let number = int(number);
        self.change(
            "UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'deployments' AND seq < ?1",
            [number],
        )?;
        // There is no such row before the first deployment.
        self.change(
            "INSERT INTO sqlite_sequence (name, seq) SELECT 'deployments', ?1 WHERE NOT EXISTS
             (SELECT 1 FROM sqlite_sequence WHERE name = 'deployments')",
            [number],
        )?;
        Ok(())
    }

    fn generation_base(&self, gateway: GatewayId) -> Result<u64, StoreError> {
        let sql = "SELECT generation_base FROM gateways WHERE id = ?1";
        let base = self.one(sql, [gateway.0], |row| row.uint("generation_base"))?;
        Ok(base.unwrap_or_default())
    }

    fn set_generation_base(&mut self, gateway: GatewayId, base: u64) -> Result<(), StoreError> {
        let sql = "UPDATE gateways SET generation_base = ?2 WHERE id = ?1";
        self.change(sql, params![gateway.0, int(base)])?;
        Ok(())
    }

    fn desired(&self, gateway: GatewayId) -> Result<Vec<DesiredRow>, StoreError> {
        self.list(
            "SELECT d.app, d.id, d.revision FROM deployments d JOIN (
                 SELECT app, MAX(id) AS newest FROM deployments
                 WHERE everyone
                    OR id IN (SELECT deployment FROM targets WHERE gateway = ?1)
                 GROUP BY app
             ) n ON d.id = n.newest ORDER BY d.app",
            [gateway.0],
            |row| {
                Ok(DesiredRow {
                    app: row.col("app")?,
                    deployment: row.uint("id")?,
                    revision: row.digest_opt("revision")?,
                })
            },
        )
    }

    fn apps_of(&self, gateway: GatewayId) -> Result<Vec<AppRow>, StoreError> {
        let sql = format!("SELECT {APP} FROM apps WHERE gateway = ?1 ORDER BY app");
        self.list(&sql, [gateway.0], app)
    }

    fn put_app(&mut self, gateway: GatewayId, row: &AppRow) -> Result<(), StoreError> {
        let sql = format!(
            "INSERT OR REPLACE INTO apps (gateway, {APP}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
        );
        self.change(
            &sql,
            params![
                gateway.0,
                row.app,
                row.revision.0,
                row.phase.code(),
                row.reason,
                row.running.map(|running| running.0),
                int(row.generation),
                int(row.at_ms),
            ],
        )?;
        Ok(())
    }

    fn delete_app(&mut self, gateway: GatewayId, app: &str) -> Result<(), StoreError> {
        self.change("DELETE FROM apps WHERE gateway = ?1 AND app = ?2", params![gateway.0, app])?;
        Ok(())
    }

    fn add_step(&mut self, gateway: GatewayId, step: &StepRow) -> Result<(), StoreError> {
        let sql = format!(
            "INSERT INTO steps (gateway, {APP}, gone) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
        );
        let row = &step.app;
        self.change(
            &sql,
            params![
                gateway.0,
                row.app,
                row.revision.0,
                row.phase.code(),
                row.reason,
                row.running.map(|running| running.0),
                int(row.generation),
                int(row.at_ms),
                step.gone,
            ],
        )?;
        self.change(
            "DELETE FROM steps WHERE gateway = ?1 AND id <= (
                 SELECT id FROM steps WHERE gateway = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            params![gateway.0, int(STATE_HISTORY_PER_GATEWAY_MAX)],
        )?;
        Ok(())
    }

    fn steps(&self, gateway: GatewayId, limit: u32) -> Result<Vec<StepRow>, StoreError> {
        let sql =
            format!("SELECT {APP}, gone FROM steps WHERE gateway = ?1 ORDER BY id DESC LIMIT ?2");
        self.list(&sql, params![gateway.0, limit], |row| {
            Ok(StepRow { app: app(row)?, gone: row.col("gone")? })
        })
    }

    fn live_floor(&self, app: &str) -> Result<u64, StoreError> {
        let floor = self.one(
            "SELECT MAX(r.floor) AS floor FROM apps a JOIN revisions r ON r.digest = a.revision
             WHERE a.app = ?1 AND a.phase = ?2",
            params![app, Phase::Live.code()],
            |row| row.uint_opt("floor"),
        )?;
        Ok(floor.flatten().unwrap_or_default())
    }
}
