//! Schema and migrations. `PRAGMA user_version` counts the migrations that were applied; each is
//! one transaction. A migration that was released is never edited: a change is a new one.

use rusqlite::Connection;

use super::failed;
use crate::store::StoreError;

const MIGRATIONS: [&str; 6] = [V1, V2, V3, V4, V5, V6];

/// Times are milliseconds since the Unix epoch; digests are blobs; epochs are 64 bits kept in a
/// signed column.
pub(super) const V1: &str = "
CREATE TABLE instance (
    id BLOB NOT NULL
) STRICT;
CREATE TABLE operators (
    name TEXT PRIMARY KEY,
    token BLOB NOT NULL UNIQUE,
    added_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE authors (
    key_id BLOB PRIMARY KEY,
    public TEXT NOT NULL,
    name TEXT NOT NULL,
    added_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE gateways (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    added_ms INTEGER NOT NULL,
    enrolled_ms INTEGER,
    agent_version TEXT,
    platform TEXT,
    epoch INTEGER,
    last_seen_ms INTEGER,
    health BLOB,
    health_ms INTEGER,
    reported_instance BLOB,
    reported_generation INTEGER
) STRICT;
CREATE TABLE enrolments (
    gateway INTEGER PRIMARY KEY REFERENCES gateways(id),
    secret BLOB NOT NULL,
    expires_ms INTEGER NOT NULL,
    used_ms INTEGER,
    csr BLOB,
    certificate BLOB
) STRICT;
CREATE TABLE epochs (
    gateway INTEGER NOT NULL REFERENCES gateways(id),
    place INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    PRIMARY KEY (gateway, place)
) STRICT, WITHOUT ROWID;
CREATE TABLE alarms (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    gateway INTEGER NOT NULL REFERENCES gateways(id),
    code TEXT NOT NULL,
    text TEXT NOT NULL,
    count INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    UNIQUE (gateway, code)
) STRICT;

CREATE TABLE streams (
    gateway INTEGER NOT NULL REFERENCES gateways(id),
    stream INTEGER NOT NULL,
    stored_to INTEGER NOT NULL,
    top INTEGER NOT NULL,
    gateway_first INTEGER NOT NULL,
    gateway_last INTEGER NOT NULL,
    PRIMARY KEY (gateway, stream)
) STRICT, WITHOUT ROWID;
CREATE TABLE records (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    gateway INTEGER NOT NULL REFERENCES gateways(id),
    stream INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    first INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    digest BLOB NOT NULL,
    time_ms INTEGER NOT NULL,
    synced INTEGER NOT NULL,
    stored_ms INTEGER NOT NULL,
    function TEXT,
    device TEXT,
    name TEXT,
    content_type TEXT,
    event_epoch INTEGER,
    event_n INTEGER,
    payload BLOB
) STRICT;
CREATE UNIQUE INDEX records_place ON records (gateway, stream, seq);
CREATE INDEX records_gateway ON records (gateway, id) WHERE kind = 0;
CREATE INDEX records_series ON records (name, device, id) WHERE kind = 0;
CREATE INDEX records_gaps ON records (gateway, stream, seq) WHERE kind = 3;
CREATE TABLE dead_letters (
    record INTEGER PRIMARY KEY REFERENCES records(id),
    trigger_name TEXT NOT NULL,
    topic TEXT NOT NULL,
    boot INTEGER,
    sequence INTEGER,
    reason INTEGER NOT NULL,
    error TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    payload_bytes INTEGER NOT NULL
) STRICT;
CREATE TABLE reports (
    record INTEGER PRIMARY KEY REFERENCES records(id),
    app TEXT,
    revision BLOB,
    generation INTEGER,
    phase INTEGER,
    code TEXT,
    text TEXT NOT NULL
) STRICT;
CREATE TABLE conflicts (
    gateway INTEGER NOT NULL REFERENCES gateways(id),
    stream INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    digest BLOB NOT NULL,
    record BLOB NOT NULL,
    stored_ms INTEGER NOT NULL,
    PRIMARY KEY (gateway, stream, seq, digest)
) STRICT;

CREATE TABLE revisions (
    digest BLOB PRIMARY KEY,
    app TEXT NOT NULL,
    version TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    floor INTEGER NOT NULL,
    key_id BLOB NOT NULL,
    signed BLOB NOT NULL,
    uploaded_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX revisions_app ON revisions (app, sequence);
CREATE TABLE artifacts (
    revision BLOB NOT NULL REFERENCES revisions(digest),
    artifact BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (revision, artifact)
) STRICT, WITHOUT ROWID;
CREATE TABLE deployments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    app TEXT NOT NULL,
    revision BLOB REFERENCES revisions(digest),
    cause INTEGER NOT NULL,
    everyone INTEGER NOT NULL,
    made_by TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX deployments_app ON deployments (app, id);
CREATE TABLE targets (
    deployment INTEGER NOT NULL REFERENCES deployments(id),
    gateway INTEGER NOT NULL REFERENCES gateways(id),
    PRIMARY KEY (deployment, gateway)
) STRICT, WITHOUT ROWID;
CREATE TABLE apps (
    gateway INTEGER NOT NULL REFERENCES gateways(id),
    app TEXT NOT NULL,
    revision BLOB NOT NULL,
    phase INTEGER NOT NULL,
    reason TEXT NOT NULL,
    running BLOB,
    generation INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (gateway, app)
) STRICT, WITHOUT ROWID;
CREATE TABLE steps (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    gateway INTEGER NOT NULL REFERENCES gateways(id),
    app TEXT NOT NULL,
    revision BLOB NOT NULL,
    phase INTEGER NOT NULL,
    reason TEXT NOT NULL,
    running BLOB,
    generation INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    gone INTEGER NOT NULL
) STRICT;
CREATE INDEX steps_gateway ON steps (gateway, id);
";

/// Losses are counted as they are learned of: to add up the entries of a gateway that drops much
/// would take long.
const V2: &str = "
CREATE TABLE losses (
    gateway INTEGER NOT NULL REFERENCES gateways(id),
    stream INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    records INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    PRIMARY KEY (gateway, stream, kind)
) STRICT, WITHOUT ROWID;
INSERT INTO losses
    SELECT gateway, stream, kind, SUM(seq - first + 1), MAX(stored_ms) FROM records
    WHERE kind IN (3, 4, 5, 6, 8, 9) GROUP BY gateway, stream, kind;
";

/// What time it was during process runs whose clock nobody had vouched for: stamps of such a run
/// that are not synced are off by `true_ms - shown_ms`. They are corrected when they are read; the
/// rows keep what the gateway said.
const V3: &str = "
CREATE TABLE clocks (
    gateway INTEGER NOT NULL REFERENCES gateways(id),
    epoch INTEGER NOT NULL,
    shown_ms INTEGER NOT NULL,
    true_ms INTEGER NOT NULL,
    PRIMARY KEY (gateway, epoch)
) STRICT, WITHOUT ROWID;
ALTER TABLE reports ADD COLUMN clock_epoch INTEGER;
ALTER TABLE reports ADD COLUMN shown_ms INTEGER;
ALTER TABLE reports ADD COLUMN true_ms INTEGER;
";

/// Generations of a gateway are numbers of deployments and this base, which grows when the gateway
/// has taken a generation that is not known here: a backup was put back.
const V4: &str = "
ALTER TABLE gateways ADD COLUMN generation_base INTEGER NOT NULL DEFAULT 0;
";

/// Certificates of a gateway that are below its series are void; enrolment and removal begin a new
/// one. A gateway that was removed keeps its row, because its data stay.
const V5: &str = "
ALTER TABLE gateways ADD COLUMN series INTEGER NOT NULL DEFAULT 0;
ALTER TABLE gateways ADD COLUMN removed_ms INTEGER;
";

/// How far devices are with their images: every report, and of each device the last one.
const V6: &str = "
ALTER TABLE reports ADD COLUMN stage INTEGER;
ALTER TABLE reports ADD COLUMN firmware_version INTEGER;
CREATE TABLE firmware (
    gateway INTEGER NOT NULL REFERENCES gateways(id),
    device TEXT NOT NULL,
    app TEXT NOT NULL,
    version INTEGER NOT NULL,
    stage INTEGER NOT NULL,
    reason TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (gateway, device)
) STRICT, WITHOUT ROWID;
";

/// Brings the schema up to date.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    apply(connection, &MIGRATIONS)
}

pub(super) fn apply(connection: &mut Connection, migrations: &[&str]) -> Result<(), StoreError> {
    let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    loop {
        let transaction = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(failed)?;
        let found: u32 = transaction
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(failed)?;
        if found > known {
            let advice = "a newer cloud-sync wrote it; start that one";
            return Err(StoreError::Schema { found, known, advice });
        }
        let Some(migration) = migrations.get(found as usize) else { return Ok(()) };
        transaction.execute_batch(migration).map_err(failed)?;
        transaction.pragma_update(None, "user_version", found + 1).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
}
