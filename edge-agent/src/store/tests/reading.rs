//! Goal: a reader sees each row once and in its newest state, on whatever level it stands.

use std::sync::Mutex;

use super::super::Point;
use super::*;

fn scan(reader: &Reader, prefix: &str, after: Option<&str>, rows: usize) -> Vec<(String, Bytes)> {
    reader.state_scan(&state_key(prefix), after, rows, 1 << 20).unwrap()
}

#[test]
fn the_applied_view_is_seen_at_once_and_a_failed_one_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    rig.commit(vec![put("a", "1")]);
    rig.apply(&[put("a", "2"), put("b", "1")]);
    assert_eq!(rig.state("a"), Some("2".into()));
    drop(rig);
    let rig = Rig::open(dir.path());
    assert_eq!((rig.state("a"), rig.state("b")), (Some("1".into()), None));
}

#[test]
fn a_scan_merges_all_levels() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    rig.commit(vec![put("k1", "base"), put("k2", "base"), put("k3", "base"), put("l", "base")]);
    rig.store.checkpoint().unwrap();
    rig.commit(vec![put("k2", "active"), delete("k3"), put("k4", "active"), put("k0", "active")]);
    rig.apply(&[put("k1", "open"), delete("k4"), put("k5", "open")]);
    let text = |rows: Vec<(String, Bytes)>| -> Vec<String> {
        rows.into_iter().map(|(k, v)| format!("{k}={}", String::from_utf8_lossy(&v))).collect()
    };
    let all = ["k0=active", "k1=open", "k2=active", "k5=open"];
    assert_eq!(text(scan(&rig.reader, "k", None, 10)), all);
    for rows in 1..=all.len() {
        assert_eq!(text(scan(&rig.reader, "k", None, rows)), all[..rows]);
    }
    assert_eq!(text(scan(&rig.reader, "k", Some("k1"), 10)), all[2..]);
    assert_eq!(text(scan(&rig.reader, "k", Some("k"), 10)), all);
    assert_eq!(scan(&rig.reader, "x", None, 10), []);
    assert_eq!(scan(&rig.reader, "k", None, 0), []);
}

#[test]
fn dropped_state_is_gone_on_every_level_and_later_rows_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let drop_state = Op::Core(CoreOp::DropState { function: function(), state_version: 1 });
    let other = StateKey { state_version: 2, ..state_key("a") };
    let put_other = Op::Core(CoreOp::PutState { key: other.clone(), value: "other".into() });
    rig.commit(vec![put("a", "base"), put("b", "base"), put_other]);
    rig.store.checkpoint().unwrap();
    rig.commit(vec![put("c", "active")]);
    let ops = vec![put("d", "open"), drop_state, put("b", "after")];
    rig.apply(&ops);
    let check = |rig: &Rig| {
        assert_eq!(scan(&rig.reader, "", None, 10), [("b".to_owned(), Bytes::from("after"))]);
        assert_eq!(rig.state("a"), None);
        assert_eq!(rig.reader.state_get(&other).unwrap(), Some("other".into()));
        let rows = rig.reader.state_rows(&function(), 1, None, 10).unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].lane, state_key("").lane);
    };
    check(&rig);
    rig.commit_applied(ops).unwrap();
    check(&rig);
    rig.store.checkpoint().unwrap();
    check(&rig);
    drop(rig);
    check(&Rig::open(dir.path()));
}

#[test]
fn reads_are_right_at_every_point_of_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let reader: Arc<Mutex<Option<Reader>>> = Arc::default();
    let seen = Arc::new(Mutex::new(0));
    let hook = {
        let (reader, seen) = (Arc::clone(&reader), Arc::clone(&seen));
        move |point| {
            let reader = reader.lock().unwrap();
            let checkpoint =
                matches!(point, Point::BeforeCheckpointCommit | Point::AfterCheckpointCommit);
            if let Some(reader) = reader.as_ref().filter(|_| checkpoint) {
                let rows = scan(reader, "", None, 1_000);
                assert_eq!(rows.len(), 20, "{point:?}");
                let rounds = || rows.iter().map(|(_, value)| value[0]);
                let (oldest, newest) = (rounds().min(), rounds().max());
                assert!(oldest >= newest.map(|round| round - 1), "{point:?}: stale rows");
                *seen.lock().unwrap() += 1;
            }
        }
    };
    let mut rig = Rig::with(dir.path(), Settings { hook: Some(Arc::new(hook)), ..small() });
    for round in 1..=12 {
        for n in 0..20 {
            rig.commit(vec![put(&n.to_string(), vec![round; 900])]);
        }
        *reader.lock().unwrap() = Some(rig.reader.clone());
    }
    assert!(*seen.lock().unwrap() > 4);
}

#[test]
fn ledger_rows_come_back_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let put = |name: &str, value: &'static str| {
        Op::Ledger(super::super::LedgerOp::Put { name: name.into(), value: value.into() })
    };
    rig.commit(vec![put("b", "2"), put("a", "1"), put("c", "3")]);
    rig.commit(vec![Op::Ledger(super::super::LedgerOp::Delete { name: "c".into() })]);
    drop(rig);
    let rig = Rig::open(dir.path());
    assert_eq!(rig.reader.ledger().unwrap(), [("a".into(), "1".into()), ("b".into(), "2".into())]);
    assert_eq!(rig.reader.ledger_get("b").unwrap(), Some("2".into()));
    assert_eq!(rig.reader.ledger_get("c").unwrap(), None);
}
