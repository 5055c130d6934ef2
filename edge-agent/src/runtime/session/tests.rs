//! A session against the plain model: a map that is simply written to.

use std::collections::BTreeMap;

use edge_core::id::{DeviceId, FunctionId, LaneKey};
use proptest::prelude::*;

use super::super::state::MemoryState;
use super::*;

fn domain(device: &str) -> StateDomain {
    StateDomain {
        function: FunctionId::new("app/f"),
        state_version: 1,
        lane: LaneKey::Device(DeviceId::new(device)),
    }
}

fn change(key: &str, value: Option<&str>) -> StateChange {
    StateChange { key: key.to_owned(), value: value.map(|v| Bytes::from(v.to_owned())) }
}

/// A session over applied entries, with neighbours that it must not see.
fn session(applied: &[(String, u8)]) -> StateSession {
    let state = MemoryState::default();
    for device in ["a", "m", "z"] {
        let keys = ["a", "ab", "b", ""].map(|key| change(key, Some("foreign")));
        state.apply(&domain(device), if device == "m" { &[] } else { &keys });
    }
    let entries: Vec<StateChange> = applied
        .iter()
        .map(|(key, value)| StateChange {
            key: key.clone(),
            value: Some(Bytes::copy_from_slice(&[*value])),
        })
        .collect();
    state.apply(&domain("m"), &entries);
    StateSession::new(Arc::new(state), domain("m"))
}

#[derive(Clone, Debug)]
enum Op {
    Put(String, u8),
    Delete(String),
    Scan {
        prefix: String,
        after: Option<String>,
        limit: usize,
    },
    /// A segment ends.
    Take,
}

fn key() -> impl Strategy<Value = String> {
    // Few keys, with common prefixes, so that operations meet.
    prop::collection::vec(prop::sample::select(vec!['a', 'b', 'é']), 1..4)
        .prop_map(|letters| letters.into_iter().collect())
}

fn op() -> impl Strategy<Value = Op> {
    let prefix = prop_oneof![Just(String::new()), key()];
    prop_oneof![
        (key(), any::<u8>()).prop_map(|(key, value)| Op::Put(key, value)),
        key().prop_map(Op::Delete),
        Just(Op::Take),
        (prefix, prop::option::of(key()), 0_usize..6).prop_map(|(prefix, after, limit)| Op::Scan {
            prefix,
            after,
            limit
        }),
    ]
}

fn expected_page(
    model: &BTreeMap<String, u8>,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Page {
    let matching: Vec<(String, Bytes)> = model
        .iter()
        .filter(|(key, _)| key.starts_with(prefix) && after.is_none_or(|a| key.as_str() > a))
        .map(|(key, value)| (key.clone(), Bytes::copy_from_slice(&[*value])))
        .collect();
    let more = matching.len() > limit;
    Page { entries: matching.into_iter().take(limit).collect(), more }
}

fn apply(state: &mut BTreeMap<String, u8>, changes: Vec<StateChange>) {
    for change in changes {
        match change.value {
            Some(value) => state.insert(change.key, value[0]),
            None => state.remove(&change.key),
        };
    }
}

proptest! {
    #[test]
    fn behaves_like_a_map(
        applied in prop::collection::btree_map(key(), any::<u8>(), 0..20),
        ops in prop::collection::vec(op(), 0..40),
    ) {
        let limits = Limits::default();
        let mut session = session(&applied.clone().into_iter().collect::<Vec<_>>());
        let mut model = applied.clone();
        let mut after = applied.clone();
        for op in ops {
            match op {
                Op::Put(key, value) => {
                    session.put(key.clone(), Bytes::copy_from_slice(&[value]), &limits).unwrap();
                    model.insert(key, value);
                }
                Op::Delete(key) => {
                    session.delete(key.clone(), &limits).unwrap();
                    model.remove(&key);
                }
                Op::Scan { prefix, after, limit } => {
                    let page = session.scan(&prefix, after.as_deref(), limit).unwrap();
                    prop_assert_eq!(page, expected_page(&model, &prefix, after.as_deref(), limit));
                }
                Op::Take => apply(&mut after, session.take_changes()),
            }
        }
        for key in applied.keys().chain(model.keys()) {
            let expected = model.get(key).map(|value| Bytes::copy_from_slice(&[*value]));
            prop_assert_eq!(session.get(key).unwrap(), expected);
        }
        // What it hands out, in as many parts as it may be, turns the applied state into the model.
        apply(&mut after, session.take_changes());
        prop_assert_eq!(after, model);
        prop_assert_eq!(session.take_changes(), []);
    }
}

#[test]
fn pages_are_bounded_by_bytes_and_entries() {
    let limits = Limits { state_write_bytes: 8 << 20, ..Limits::default() };
    let mut session = session(&[]);
    for n in 0..5 {
        session.put(format!("{n}"), Bytes::from(vec![0; 100 << 10]), &limits).unwrap();
    }
    let page = session.scan("", None, 100).unwrap();
    assert_eq!((page.entries.len(), page.more), (2, true));
    session.put("big".into(), Bytes::from(vec![0; 1 << 20]), &limits).unwrap();
    let page = session.scan("big", None, 100).unwrap();
    assert_eq!((page.entries.len(), page.more), (1, false));
    for n in 0..1_100 {
        session.put(format!("many/{n:04}"), Bytes::new(), &limits).unwrap();
    }
    let page = session.scan("many/", None, usize::MAX).unwrap();
    assert_eq!((page.entries.len(), page.more), (1_000, true));
    let rest = session.scan("many/", Some("many/0999"), usize::MAX).unwrap();
    assert_eq!((rest.entries.len(), rest.more), (100, false));
}

#[test]
fn deep_scans_cross_the_fetch_size() {
    let applied: Vec<(String, u8)> = (0..200).map(|n| (format!("k{n:03}"), 1)).collect();
    let mut session = session(&applied);
    for n in (0..200).step_by(2) {
        session.delete(format!("k{n:03}"), &Limits::default()).unwrap();
    }
    let page = session.scan("k", None, 1_000).unwrap();
    assert_eq!(page.entries.len(), 100);
    assert!(page.entries.iter().all(|(key, _)| key.ends_with(['1', '3', '5', '7', '9'])));
}

#[test]
fn what_is_kept_counts_replaced_values_once() {
    let limits = Limits { state_bytes: 10_000, ..Limits::default() };
    let state = Arc::new(MemoryState::default());
    let kept = |n: usize| StateChange { key: "k".into(), value: Some(Bytes::from(vec![0; n])) };
    state.apply(&domain("m"), &[kept(9_000)]);
    let mut session = StateSession::new(state, domain("m"));
    // Written twice, more than the limit in sum, but less is kept than before.
    session.put("k".into(), Bytes::from(vec![0; 8_000]), &limits).unwrap();
    session.put("k".into(), Bytes::from(vec![0; 9_500]), &limits).unwrap();
    let refused = session.put("l".into(), Bytes::from(vec![0; 1_000]), &limits).unwrap_err();
    assert!(matches!(refused, Refusal::Limit(Key::StateBytes)), "{refused:?}");
}

/// One byte written for each of many segments is kept as often.
#[test]
fn a_write_that_is_kept_counts_for_more_than_its_bytes() {
    let limits = Limits::default();
    let mut session = session(&[]);
    let mut kept = 0;
    let refused = loop {
        match session.put("a".to_owned(), Bytes::new(), &limits) {
            Ok(()) => kept += session.take_changes().len(),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, Refusal::Limit(Key::StateWriteBytes)), "{refused:?}");
    assert_eq!(kept, (1 << 20) / 129);
    // A key that is written again in one segment takes no more room.
    let mut session = StateSession::new(Arc::new(MemoryState::default()), domain("m"));
    for _ in 0..100_000 {
        session.put("a".to_owned(), Bytes::new(), &limits).unwrap();
    }
    let changes = session.take_changes();
    assert_eq!((changes.len(), changes.capacity()), (1, 1));
}

#[test]
fn what_a_dropped_delete_made_room_for_is_refused() {
    let limits = Limits { state_bytes: 10_000, ..Limits::default() };
    let state = Arc::new(MemoryState::default());
    let entry = |key: &str, bytes: usize| StateChange {
        key: key.to_owned(),
        value: Some(Bytes::from(vec![0; bytes])),
    };
    state.apply(&domain("m"), &[entry("old", 9_000)]);
    let mut session = StateSession::new(state, domain("m"));
    session.delete("old".to_owned(), &limits).unwrap();
    let deleted = session.take_changes();
    session.put("new".to_owned(), Bytes::from(vec![0; 8_000]), &limits).unwrap();
    let written = session.take_changes();
    session.check_kept(deleted.iter().chain(&written), &limits).unwrap();
    session.check_kept(deleted.iter(), &limits).unwrap();
    let refused = session.check_kept(written.iter(), &limits).unwrap_err();
    assert!(matches!(refused, Refusal::Limit(Key::StateBytes)), "{refused:?}");
}

#[test]
fn keys_have_one_to_256_bytes() {
    let mut session = session(&[]);
    let limits = Limits::default();
    assert!(matches!(session.get(""), Err(Refusal::KeyLength(0))));
    assert!(matches!(session.get(&"k".repeat(257)), Err(Refusal::KeyLength(257))));
    let put = session.put("é".repeat(129), Bytes::new(), &limits);
    assert!(matches!(put, Err(Refusal::KeyLength(258))));
    assert!(matches!(session.delete(String::new(), &limits), Err(Refusal::KeyLength(0))));
    session.put("k".repeat(256), Bytes::new(), &limits).unwrap();
}
