//! Rows of gateways, enrolments and alarms.

use rusqlite::{Row, params};
use sync_protocol::InstanceId;
use sync_protocol::record::FirmwareStage;
use sync_protocol::wire::Health;

use super::codes::Code as _;
use super::query::Columns as _;
use super::{SqliteRows, bits, damaged, failed, int, uint};
use crate::store::fleet::{
    AlarmRow, EnrolmentRow, FirmwareRow, FleetRows, GatewayRow, SeenRow, UsedRow,
};
use crate::store::{GatewayId, StoreError};

fn gateway(row: &Row<'_>) -> Result<GatewayRow, StoreError> {
    let seen = match row.col::<Option<String>>("agent_version")? {
        Some(agent_version) => Some(SeenRow {
            agent_version,
            platform: row.col("platform")?,
            epoch: row.bits("epoch")?,
        }),
        None => None,
    };
    let health = match (row.col::<Option<Vec<u8>>>("health")?, row.uint_opt("health_ms")?) {
        (Some(bytes), Some(at_ms)) => Some((postcard::from_bytes(&bytes).map_err(damaged)?, at_ms)),
        _ => None,
    };
    let reported = match row.uint_opt("reported_generation")? {
        Some(generation) => Some((row.instance("reported_instance")?, generation)),
        None => None,
    };
    Ok(GatewayRow {
        id: GatewayId(row.col("id")?),
        name: row.col("name")?,
        added_ms: row.uint("added_ms")?,
        enrolled_ms: row.uint_opt("enrolled_ms")?,
        series: row.uint("series")?,
        removed_ms: row.uint_opt("removed_ms")?,
        seen,
        last_seen_ms: row.uint_opt("last_seen_ms")?,
        health,
        reported,
    })
}

impl FleetRows for SqliteRows<'_> {
    fn gateway(&self, name: &str) -> Result<Option<GatewayRow>, StoreError> {
        self.one("SELECT * FROM gateways WHERE name = ?1", [name], gateway)
    }

    fn gateways(&self, after: &str, limit: u32) -> Result<Vec<GatewayRow>, StoreError> {
        let sql = "SELECT * FROM gateways WHERE name > ?1 AND removed_ms IS NULL
             ORDER BY name LIMIT ?2";
        self.list(sql, params![after, limit], gateway)
    }

    fn gateway_count(&self) -> Result<u64, StoreError> {
        let sql = "SELECT COUNT(*) AS n FROM gateways WHERE removed_ms IS NULL";
        let count = self.one(sql, [], |row| row.uint("n"))?;
        Ok(count.unwrap_or_default())
    }

    fn add_gateway(&mut self, name: &str, now_ms: u64) -> Result<GatewayId, StoreError> {
        self.change(
            "INSERT INTO gateways (name, added_ms) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET removed_ms = NULL",
            params![name, int(now_ms)],
        )?;
        let id =
            self.one("SELECT id FROM gateways WHERE name = ?1", [name], |row| row.col("id"))?;
        id.map(GatewayId).ok_or_else(|| damaged("the new gateway is not there"))
    }

    fn enrolment(&self, gateway: GatewayId) -> Result<Option<EnrolmentRow>, StoreError> {
        self.one("SELECT * FROM enrolments WHERE gateway = ?1", [gateway.0], |row| {
            let used = match row.uint_opt("used_ms")? {
                Some(at_ms) => Some(UsedRow {
                    at_ms,
                    csr: row.digest("csr")?,
                    certificate: row.col("certificate")?,
                }),
                None => None,
            };
            let secret = row.digest("secret")?;
            Ok(EnrolmentRow { secret, expires_ms: row.uint("expires_ms")?, used })
        })
    }

    fn put_enrolment(&mut self, gateway: GatewayId, row: &EnrolmentRow) -> Result<(), StoreError> {
        let used = row.used.as_ref();
        self.change(
            "INSERT OR REPLACE INTO enrolments
             (gateway, secret, expires_ms, used_ms, csr, certificate)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                gateway.0,
                row.secret.0,
                int(row.expires_ms),
                used.map(|used| int(used.at_ms)),
                used.map(|used| used.csr.0),
                used.map(|used| &used.certificate),
            ],
        )?;
        Ok(())
    }

    fn set_enrolled(
        &mut self,
        gateway: GatewayId,
        series: u64,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE gateways SET enrolled_ms = ?2, series = ?3 WHERE id = ?1";
        self.change(sql, params![gateway.0, int(now_ms), int(series)])?;
        Ok(())
    }

    fn set_removed(
        &mut self,
        gateway: GatewayId,
        series: u64,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        self.change("DELETE FROM enrolments WHERE gateway = ?1", [gateway.0])?;
        self.change(
            "UPDATE gateways SET removed_ms = ?2, series = ?3, enrolled_ms = NULL WHERE id = ?1",
            params![gateway.0, int(now_ms), int(series)],
        )?;
        Ok(())
    }

    fn set_seen(&mut self, gateway: GatewayId, seen: &SeenRow) -> Result<(), StoreError> {
        self.change(
            "UPDATE gateways SET agent_version = ?2, platform = ?3, epoch = ?4 WHERE id = ?1",
            params![gateway.0, seen.agent_version, seen.platform, bits(seen.epoch)],
        )?;
        Ok(())
    }

    fn set_last_seen(&mut self, gateway: GatewayId, now_ms: u64) -> Result<(), StoreError> {
        let sql = "UPDATE gateways SET last_seen_ms = ?2 WHERE id = ?1";
        self.change(sql, params![gateway.0, int(now_ms)])?;
        Ok(())
    }

    fn set_health(
        &mut self,
        gateway: GatewayId,
        health: &Health,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let bytes = postcard::to_stdvec(health).map_err(failed)?;
        let sql = "UPDATE gateways SET health = ?2, health_ms = ?3 WHERE id = ?1";
        self.change(sql, params![gateway.0, bytes, int(now_ms)])?;
        Ok(())
    }

    fn set_reported(
        &mut self,
        gateway: GatewayId,
        instance: InstanceId,
        generation: u64,
    ) -> Result<(), StoreError> {
        self.change(
            "UPDATE gateways SET reported_instance = ?2, reported_generation = ?3 WHERE id = ?1",
            params![gateway.0, instance.0, int(generation)],
        )?;
        Ok(())
    }

    fn epochs(&self, gateway: GatewayId) -> Result<Vec<u64>, StoreError> {
        let sql = "SELECT epoch FROM epochs WHERE gateway = ?1 ORDER BY place";
        self.list(sql, [gateway.0], |row| row.bits("epoch"))
    }

    fn put_epochs(&mut self, gateway: GatewayId, epochs: &[u64]) -> Result<(), StoreError> {
        self.change("DELETE FROM epochs WHERE gateway = ?1", [gateway.0])?;
        for (place, epoch) in (0_i64..).zip(epochs) {
            self.change(
                "INSERT INTO epochs (gateway, place, epoch) VALUES (?1, ?2, ?3)",
                params![gateway.0, place, bits(*epoch)],
            )?;
        }
        Ok(())
    }

    fn raise_alarm(
        &mut self,
        gateway: GatewayId,
        code: &str,
        text: &str,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        self.change(
            "INSERT INTO alarms (gateway, code, text, count, first_ms, last_ms)
             VALUES (?1, ?2, ?3, 1, ?4, ?4)
             ON CONFLICT (gateway, code) DO UPDATE
             SET text = excluded.text, count = count + 1, last_ms = excluded.last_ms",
            params![gateway.0, code, text, int(now_ms)],
        )?;
        Ok(())
    }

    fn alarms(&self, gateway: Option<GatewayId>, limit: u32) -> Result<Vec<AlarmRow>, StoreError> {
        self.list(
            "SELECT a.*, g.name FROM alarms a JOIN gateways g ON g.id = a.gateway
             WHERE ?1 IS NULL OR a.gateway = ?1 ORDER BY a.last_ms DESC, a.id DESC LIMIT ?2",
            params![gateway.map(|gateway| gateway.0), limit],
            |row| {
                Ok(AlarmRow {
                    id: uint(row.col("id")?),
                    gateway: row.col("name")?,
                    code: row.col("code")?,
                    text: row.col("text")?,
                    count: row.uint("count")?,
                    first_ms: row.uint("first_ms")?,
                    last_ms: row.uint("last_ms")?,
                })
            },
        )
    }

    fn put_firmware(&mut self, gateway: GatewayId, row: &FirmwareRow) -> Result<(), StoreError> {
        self.change(
            "INSERT OR REPLACE INTO firmware (gateway, device, app, version, stage, reason, at_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                gateway.0,
                row.device,
                row.app,
                row.version,
                row.stage.code(),
                row.reason,
                int(row.at_ms)
            ],
        )?;
        Ok(())
    }

    fn firmware(&self, gateway: GatewayId, limit: u32) -> Result<Vec<FirmwareRow>, StoreError> {
        self.list(
            "SELECT * FROM firmware WHERE gateway = ?1 ORDER BY device LIMIT ?2",
            params![gateway.0, limit],
            |row| {
                Ok(FirmwareRow {
                    device: row.col("device")?,
                    app: row.col("app")?,
                    version: row.col("version")?,
                    stage: FirmwareStage::from_code(row.col("stage")?)?,
                    reason: row.col("reason")?,
                    at_ms: row.uint("at_ms")?,
                })
            },
        )
    }

    fn delete_alarm(&mut self, id: u64) -> Result<bool, StoreError> {
        Ok(self.change("DELETE FROM alarms WHERE id = ?1", [int(id)])? > 0)
    }
}
