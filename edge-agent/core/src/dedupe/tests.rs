//! The windows against the plain list of all ids that came.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::effect::Effect;
use crate::status::Counters;
use crate::time::Now;

fn id(device: &str, boot: u64, seq: u64) -> MessageId {
    MessageId { device: DeviceId::new(device), boot, seq }
}

type Store = BTreeMap<(DeviceId, u64, u64), DedupeRow>;

fn note(dedupe: &mut Dedupe, id: &MessageId, store: &mut Store) {
    let mut out = Vec::new();
    let mut turn = Turn::new(Now::default(), Counters::default(), &mut out);
    dedupe.note(id, Pace::Prompt, &mut turn);
    for effect in out {
        match effect {
            Effect::Op(CoreOp::PutDedupe(row), _) => {
                store.insert((row.device.clone(), row.boot, row.block), row);
            }
            Effect::Op(CoreOp::DeleteDedupe { device, boot, blocks }, pace) => {
                assert_eq!(pace, Pace::Lazy);
                for block in blocks {
                    let gone = store.remove(&(device.clone(), boot, block));
                    assert!(gone.is_some(), "deletes only what is there");
                }
            }
            Effect::Event(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
}

fn restored(store: &Store, devices_max: u32) -> Dedupe {
    let mut dedupe = Dedupe::new(devices_max);
    for row in store.values() {
        dedupe.restore(row.clone());
    }
    dedupe
}

#[test]
fn a_number_is_known_within_the_window_and_flagged_below_it() {
    let (mut dedupe, mut store) = (Dedupe::new(10), Store::new());
    note(&mut dedupe, &id("d", 1, 5), &mut store);
    assert_eq!(dedupe.look(&id("d", 1, 5)), Seen::Before);
    assert_eq!(dedupe.look(&id("d", 1, 4)), Seen::New, "an earlier number may still come");
    assert_eq!(dedupe.look(&id("d", 2, 5)), Seen::New);
    assert_eq!(dedupe.look(&id("e", 1, 5)), Seen::New);
    note(&mut dedupe, &id("d", 1, 5 + WINDOW), &mut store);
    assert_eq!(dedupe.look(&id("d", 1, 5)), Seen::Before);
    note(&mut dedupe, &id("d", 1, 6 + WINDOW), &mut store);
    assert_eq!(dedupe.look(&id("d", 1, 5)), Seen::BelowWindow);
    assert_eq!(dedupe.look(&id("d", 1, 6)), Seen::New);
}

#[test]
fn the_ends_of_the_number_range_are_no_trouble() {
    let (mut dedupe, mut store) = (Dedupe::new(10), Store::new());
    for seq in [0, u64::MAX, u64::MAX - 1, 0, u64::MAX - WINDOW] {
        note(&mut dedupe, &id("d", 0, seq), &mut store);
    }
    assert_eq!(dedupe.look(&id("d", 0, u64::MAX)), Seen::Before);
    assert_eq!(dedupe.look(&id("d", 0, u64::MAX - WINDOW)), Seen::Before);
    assert_eq!(dedupe.look(&id("d", 0, 0)), Seen::BelowWindow);
    assert_eq!(restored(&store, 10).look(&id("d", 0, u64::MAX)), Seen::Before);
}

#[test]
fn the_boots_heard_last_are_kept_also_over_a_restart() {
    let (mut dedupe, mut store) = (Dedupe::new(10), Store::new());
    for boot in (0..BOOTS_MAX as u64).rev() {
        note(&mut dedupe, &id("d", boot, 1), &mut store);
    }
    let mut dedupe = restored(&store, 10);
    note(&mut dedupe, &id("d", 99, 1), &mut store);
    assert_eq!(dedupe.look(&id("d", 7, 1)), Seen::New, "the first boot heard is forgotten");
    assert_eq!(dedupe.look(&id("d", 6, 1)), Seen::Before);
    assert_eq!(store.len(), BOOTS_MAX);
}

#[test]
fn the_device_not_heard_for_longest_is_forgotten() {
    let (mut dedupe, mut store) = (Dedupe::new(2), Store::new());
    note(&mut dedupe, &id("a", 1, 1), &mut store);
    note(&mut dedupe, &id("b", 1, 1), &mut store);
    note(&mut dedupe, &id("a", 1, 2), &mut store);
    note(&mut dedupe, &id("c", 1, 1), &mut store);
    assert_eq!(dedupe.look(&id("b", 1, 1)), Seen::New);
    assert_eq!(dedupe.look(&id("a", 1, 1)), Seen::Before);
    assert!(store.keys().all(|(device, _, _)| device.as_str() != "b"));
    assert_eq!(dedupe.devices(), 2);
}

/// The setting was lowered: each message makes a few go, never all at once.
#[test]
fn a_surplus_of_the_store_goes_a_few_at_a_time() {
    let (mut dedupe, mut store) = (Dedupe::new(100), Store::new());
    for n in 0..40 {
        note(&mut dedupe, &id(&format!("d{n:02}"), 1, 1), &mut store);
    }
    let mut dedupe = restored(&store, 5);
    for (step, left) in [36, 32, 28, 24, 20, 16, 12, 8, 5, 5].into_iter().enumerate() {
        note(&mut dedupe, &id("d39", 1, step as u64 + 2), &mut store);
        assert_eq!(dedupe.devices(), left);
    }
    assert_eq!(dedupe.look(&id("d39", 1, 2)), Seen::Before, "who is heard stays");
    assert_eq!(dedupe.look(&id("d00", 1, 1)), Seen::New);
    let devices: std::collections::BTreeSet<_> = store.keys().map(|(device, ..)| device).collect();
    assert_eq!(devices.len(), 5, "what is forgotten leaves the store");
}

/// `cargo test -p edge-core what_a_device_costs -- --ignored --nocapture`
#[test]
#[ignore = "it only prints figures"]
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a measurement asks the system and prints"
)]
fn what_a_device_costs() {
    const DEVICES: usize = 2_000;
    let resident = || -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    // All stay until the end: memory that was given back would be taken again, and not be counted.
    let mut all = Vec::new();
    for (boots, messages) in [(1, 1), (1, 1_100), (8, 1_100)] {
        let before = resident();
        let mut dedupe = Dedupe::new(u32::MAX);
        let mut out = Vec::new();
        for n in 0..DEVICES {
            let device = format!("device-{n:06}");
            for boot in 0..boots {
                for seq in 0..messages {
                    let mut turn = Turn::new(Now::default(), Counters::default(), &mut out);
                    dedupe.note(&id(&device, boot, seq), Pace::Lazy, &mut turn);
                    out.clear();
                }
            }
        }
        let each = (resident() - before) / dedupe.devices();
        println!("{boots} boots of {messages} messages: {each} bytes a device");
        all.push(dedupe);
    }
}

proptest! {
    #[test]
    fn agrees_with_the_list_of_all_ids(
        ids in prop::collection::vec((0..2u64, prop_oneof![0..3_000u64, 0..200u64]), 1..200),
        restart_at in 0..200usize,
    ) {
        let (mut dedupe, mut store) = (Dedupe::new(10), Store::new());
        let mut all: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (step, (boot, seq)) in ids.into_iter().enumerate() {
            if step == restart_at {
                dedupe = restored(&store, 10);
            }
            let before = all.entry(boot).or_default();
            let high = before.iter().max().copied().unwrap_or(0);
            let expected = if seq + WINDOW < high {
                Seen::BelowWindow
            } else if before.contains(&seq) {
                Seen::Before
            } else {
                Seen::New
            };
            let id = id("d", boot, seq);
            prop_assert_eq!(dedupe.look(&id), expected);
            before.push(seq);
            note(&mut dedupe, &id, &mut store);
            prop_assert!(store.len() <= 2 * 17);
        }
    }
}
