//! The ledger against a model of it, position by position.

use super::*;

/// What a gateway may send, honest or not.
#[derive(Clone, Debug)]
enum Step {
    Run { first: u64, kinds: Vec<u8> },
    Hello { first: u64, last: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let run = (1_u64..30, prop::collection::vec(0_u8..6, 1..8))
        .prop_map(|(first, kinds)| Step::Run { first, kinds });
    let hello = (1_u64..30, 0_u64..10)
        .prop_map(|(first, more)| Step::Hello { first, last: first - 1 + more });
    prop_oneof![4 => run, 1 => hello]
}

/// A run from `first`: each kind is a record, a record after a hole, or a tombstone of some
/// positions.
fn build(first: u64, kinds: &[u8]) -> Vec<Record> {
    let mut at = first;
    let mut records = Vec::new();
    for kind in kinds {
        match kind {
            0..=3 => records.push(record(at)),
            4 => {
                at += 2;
                records.push(record(at));
            }
            _ => {
                at += 3;
                records.push(tombstone(at - 3, at));
            }
        }
        at += 1;
    }
    records
}

/// Position by position: what stands there.
#[derive(Default)]
struct Model(BTreeMap<u64, &'static str>);

impl Model {
    fn stored_to(&self) -> u64 {
        (1..).take_while(|position| self.0.contains_key(position)).last().unwrap_or_default()
    }

    fn put(&mut self, position: u64, kind: &'static str) {
        let free = match self.0.get(&position) {
            None => true,
            Some(&"gap") => kind != "gap",
            Some(_) => false,
        };
        if free {
            self.0.insert(position, kind);
        }
    }

    fn take(&mut self, records: &[Record]) {
        let mut last = None;
        for record in records {
            let skipped = last.map_or(0..0, |last| last + 1..record.first());
            skipped.for_each(|position| self.put(position, "gap"));
            let kind = match record.body {
                RecordBody::Tombstone(_) => "tombstone",
                _ => "telemetry",
            };
            (record.first()..=record.seq).for_each(|position| self.put(position, kind));
            last = Some(record.seq);
        }
    }

    fn hello(&mut self, first: u64, last: u64) {
        let top = self.0.last_key_value().map(|(position, _)| *position).unwrap_or_default();
        if top > last {
            (1..=top).for_each(|position| self.put(position, "gap"));
        }
        (self.stored_to() + 1..first).for_each(|position| self.put(position, "gap"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_equals_the_model(steps in prop::collection::vec(step(), 1..12)) {
        let (cloud, mut model) = (Cloud::new(), Model::default());
        for step in steps {
            let receipt = match step {
                Step::Run { first, kinds } => {
                    let records = build(first, &kinds);
                    model.take(&records);
                    cloud.send(records)
                }
                Step::Hello { first, last } => {
                    model.hello(first, last);
                    cloud.hello(9, first, last)
                }
            };
            prop_assert_eq!(receipt, model.stored_to());
            let mut positions = BTreeMap::new();
            for (first, last, kind) in cloud.shape() {
                for position in first..=last {
                    prop_assert!(positions.insert(position, kind).is_none(), "overlap");
                }
            }
            prop_assert_eq!(&positions, &model.0);
            let lost = positions.values().filter(|kind| **kind != "telemetry").count() as u64;
            prop_assert_eq!(cloud.losses().iter().map(|(_, records)| records).sum::<u64>(), lost);
        }
    }
}
