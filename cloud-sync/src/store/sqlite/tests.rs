use rusqlite::Connection;
use sync_protocol::InstanceId;

use super::records::search_sql;
use super::schema::apply;
use super::*;
use crate::store::records::{Filter, Kind};
use crate::store::{GatewayId, read, write};

fn open(folder: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(&folder.join("cloud.db"))
}

#[test]
fn commits_survive_and_errors_roll_back() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path()).unwrap();
    write(&store, |rows| -> Result<(), StoreError> { rows.put_instance(InstanceId([1; 16])) })
        .unwrap();
    let refused: Result<(), StoreError> = write(&store, |rows| {
        rows.put_instance(InstanceId([2; 16]))?;
        Err(StoreError::Damaged("no".into()))
    });
    assert!(refused.is_err());
    drop(store);
    let store = open(temp.path()).unwrap();
    let instance: Result<_, StoreError> = read(&store, |rows| rows.instance());
    assert_eq!(instance.unwrap(), Some(InstanceId([1; 16])));
}

#[test]
fn commits_are_synced() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path()).unwrap();
    let writer = lock(&store.writer);
    let text = |name| writer.pragma_query_value(None, name, |row| row.get::<_, String>(0)).unwrap();
    let number = |name| writer.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(text("journal_mode"), "wal");
    assert_eq!(number("synchronous"), 2, "FULL");
}

#[test]
fn a_read_sees_one_moment() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path()).unwrap();
    let counts: Result<_, StoreError> = read(&store, |rows| {
        let before = rows.gateway_count()?;
        let added: Result<_, StoreError> = write(&store, |rows| rows.add_gateway("a", 1));
        added?;
        Ok((before, rows.gateway_count()?))
    });
    assert_eq!(counts.unwrap(), (0, 0));
    let after: Result<_, StoreError> = read(&store, |rows| rows.gateway_count());
    assert_eq!(after.unwrap(), 1);
}

#[test]
fn a_later_schema_is_refused_and_an_older_one_is_brought_up() {
    let temp = tempfile::tempdir().unwrap();
    drop(open(temp.path()).unwrap());
    let path = temp.path().join("cloud.db");
    let mut connection = Connection::open(&path).unwrap();
    apply(&mut connection, &["", "", "", "", "", "", "CREATE TABLE later (x INTEGER) STRICT;"])
        .unwrap();
    drop(connection);
    let refused = open(temp.path());
    assert!(matches!(refused, Err(StoreError::Schema { found: 7, known: 6, .. })));
}

#[test]
fn losses_of_an_older_schema_are_counted() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("cloud.db");
    let mut connection = Connection::open(&path).unwrap();
    apply(&mut connection, &[super::schema::V1]).unwrap();
    connection
        .execute_batch(
            "INSERT INTO gateways (id, name, added_ms) VALUES (1, 'a', 0);
             INSERT INTO records (gateway, stream, seq, first, kind, epoch, digest, time_ms, synced,
             stored_ms) VALUES (1, 1, 9, 3, 3, 0, x'', 0, 0, 50), (1, 1, 12, 10, 4, 0, x'', 0, 0, 60),
             (1, 1, 20, 13, 7, 0, x'', 0, 0, 70), (1, 1, 21, 21, 0, 0, x'', 0, 0, 80);",
        )
        .unwrap();
    drop(connection);
    let store = open(temp.path()).unwrap();
    let losses: Result<_, StoreError> = read(&store, |rows| rows.losses(GatewayId(1)));
    let losses = losses.unwrap();
    let counted: Vec<_> =
        losses.iter().map(|row| (row.kind.loss().unwrap(), row.records, row.last_ms)).collect();
    assert_eq!(counted, [("gap", 7, 50), ("full", 3, 60)]);
}

#[test]
fn all_64_bits_of_an_epoch_are_kept() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path()).unwrap();
    let epochs: Result<_, StoreError> = write(&store, |rows| {
        let gateway = rows.add_gateway("a", 1)?;
        rows.put_epochs(gateway, &[u64::MAX, 0, 1 << 63])?;
        rows.epochs(gateway)
    });
    assert_eq!(epochs.unwrap(), [u64::MAX, 0, 1 << 63]);
}

#[test]
fn no_search_reads_or_sorts_everything() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path()).unwrap();
    let db = lock(&store.writer);
    let text = |text: &str| Some(text.to_owned());
    let page = Filter { limit: 100, newest_first: true, ..Filter::default() };
    let gateway = Filter { gateway: Some(GatewayId(1)), ..page.clone() };
    let series = Filter { name: text("n"), device: text("d"), ..page.clone() };
    for (kind, filter, wanted) in [
        (Kind::Telemetry, &page, "SCAN r"),
        (Kind::Telemetry, &gateway, "records_gateway"),
        (Kind::Telemetry, &series, "records_series"),
        (Kind::Telemetry, &Filter { after: Some(5), ..series.clone() }, "records_series"),
        (Kind::DeadLetter, &page, "SCAN d"),
        (Kind::DeadLetter, &gateway, "SCAN d"),
        (Kind::Report, &page, "SCAN p"),
    ] {
        let (sql, values) = search_sql(kind, filter);
        let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps: Vec<String> = plan
            .query_map(rusqlite::params_from_iter(values), |row| row.get("detail"))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let steps = steps.join("; ");
        assert!(steps.contains(wanted) && !steps.contains("TEMP B-TREE"), "{filter:?}: {steps}");
    }
}
