//! Random histories against a plain list of records.

use proptest::prelude::*;

use super::*;

const BYTES_MAX: u64 = 200_000;
const TTLS_MS: [u64; 2] = [20_000, 64_000];

#[derive(Clone, Copy, Debug)]
enum Action {
    Append { stream: u8, ttl: usize, newest: bool, bytes: usize, times: u16 },
    Skip(u8, u64),
    Receipt(u8, u64),
    Renumber(u8, u64),
    Pass(u64),
    Restart,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let append = (0..4u8, 0..4usize, any::<bool>(), 0..2_000usize, 1..300u16);
    let action = prop_oneof![
        8 => append.prop_map(|(stream, ttl, newest, bytes, times)| {
            Action::Append { stream, ttl, newest, bytes, times }
        }),
        4 => (0..4u8, 0..110u64).prop_map(|(s, percent)| Action::Receipt(s, percent)),
        1 => (0..4u8, 0..500u64).prop_map(|(s, by)| Action::Skip(s, by)),
        2 => (0..4u8, 0..100u64).prop_map(|(s, percent)| Action::Renumber(s, percent)),
        4 => (0..40_000u64).prop_map(Action::Pass),
        1 => Just(Action::Restart),
    ];
    prop::collection::vec(action, 1..40)
}

/// One record as the plain list knows it; its payload names it.
#[derive(Clone, Debug)]
struct Known {
    expires: Option<Millis>,
    key: Option<u64>,
}

/// A rig, and every record that was ever given to it.
struct World {
    rig: Rig,
    known: BTreeMap<u64, Known>,
    /// Records that left the store by receipts.
    stored: BTreeMap<u64, u32>,
    counted: u64,
}

fn name_of(record: &OutboxRecord) -> Option<u64> {
    let RecordBody::Telemetry { payload, .. } = &record.body else { return None };
    Some(u64::from_le_bytes(payload[..8].try_into().expect("eight bytes")))
}

impl World {
    fn new() -> Self {
        Self {
            rig: Rig::new(BYTES_MAX),
            known: BTreeMap::new(),
            stored: BTreeMap::new(),
            counted: 0,
        }
    }

    fn append(&mut self, stream: StreamId, ttl: Option<Millis>, newest: bool, bytes: usize) {
        let n = self.known.len() as u64;
        let key = (stream == StreamId::LATEST).then_some(n % 5);
        let expires = ttl.map(|ttl| self.rig.now + ttl);
        self.known.insert(n, Known { expires, key });
        let when_full = if newest { SeriesFull::DropNewest } else { SeriesFull::DropOldest };
        let mut payload = n.to_le_bytes().to_vec();
        payload.resize(8 + bytes, 0);
        let device = key.unwrap_or_default().to_string();
        let RecordBody::Telemetry { function, event, device, name, content_type, .. } =
            telemetry("t", &device, 0)
        else {
            panic!("telemetry")
        };
        let payload = Bytes::from(payload);
        let body = RecordBody::Telemetry { function, event, device, name, payload, content_type };
        let policy = SeriesPolicy { stream, ttl, when_full };
        self.rig.turn(|outbox, turn| outbox.append_series(policy, body, Pace::Prompt, turn));
    }

    fn act(&mut self, action: Action) {
        let stream_of = |n: u8| StreamId::ALL[usize::from(n)];
        match action {
            Action::Append { stream, ttl, newest, bytes, times } => {
                let ttl = TTLS_MS.get(ttl).map(|ms| Millis(*ms));
                for _ in 0..times {
                    self.append(stream_of(stream), ttl, newest, bytes);
                    assert!(self.rig.outbox.bytes() <= BYTES_MAX);
                }
                let real = self.rig.store.bytes();
                assert!(real <= self.rig.outbox.bytes(), "counts what is live");
            }
            Action::Receipt(stream, percent) => {
                let stream = stream_of(stream);
                let seq = self.rig.newest(stream) * percent / 100;
                if seq <= self.rig.newest(stream) {
                    for record in self.rig.store.records_of(stream) {
                        if let Some(n) = name_of(record).filter(|_| record.seq.0 <= seq) {
                            *self.stored.entry(n).or_default() += 1;
                        }
                    }
                }
                self.rig.receipt(stream, seq);
            }
            Action::Skip(stream, by) => {
                let stream = stream_of(stream);
                let seq = self.rig.newest(stream) + by;
                self.rig.go_on_after(stream, seq);
            }
            Action::Renumber(stream, percent) => {
                let stream = stream_of(stream);
                let seq = RecordSeq(self.rig.newest(stream) * percent / 100);
                if let Some(record) = self.rig.store.records.get(&(stream, seq)).cloned() {
                    self.rig.turn(|outbox, turn| outbox.renumber(record, turn));
                }
            }
            Action::Pass(ms) => {
                self.rig.pass(Millis(ms));
                // As the loop does: whatever is due by then.
                while self.rig.outbox.next_deadline().is_some_and(|at| at <= self.rig.now) {
                    self.rig.pass(Millis(0));
                }
            }
            Action::Restart => {
                let before: Vec<_> = StreamId::ALL.iter().map(|s| self.rig.newest(*s)).collect();
                self.counted += self.drops();
                self.rig.restart();
                let after: Vec<_> = StreamId::ALL.iter().map(|s| self.rig.newest(*s)).collect();
                assert_eq!(before, after);
            }
        }
    }

    fn drops(&self) -> u64 {
        self.rig.outbox.drops().iter().map(|row| row.records).sum()
    }

    /// Each record is in the store, was stored by the control plane, or is counted as dropped; none
    /// is there twice.
    fn check(&self) {
        self.rig.store.check_no_gap(&self.rig.outbox);
        let mut here: BTreeMap<u64, &OutboxRecord> = BTreeMap::new();
        for record in self.rig.store.records.values() {
            if let Some(n) = name_of(record) {
                assert!(here.insert(n, record).is_none(), "{n} is there twice");
                assert!(!self.stored.contains_key(&n), "{n} is stored already");
            }
        }
        assert!(self.stored.values().all(|times| *times == 1));
        let gone = (self.known.len() - here.len() - self.stored.len()) as u64;
        assert_eq!(self.counted + self.drops(), gone, "every drop is counted, once");
        let mut keys = BTreeMap::new();
        for (n, record) in here {
            let known = &self.known[&n];
            assert_eq!(record.expires, known.expires);
            if let Some(at) = known.expires {
                assert!(self.rig.now.since(at) <= GRACE_MAX, "{n} outlived its time");
            }
            if let Some(key) = known.key {
                assert_eq!(keys.insert(key, n), None, "one value for each key");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn bounded_gapless_counted_and_the_same_after_a_restart(actions in actions()) {
        let mut world = World::new();
        for action in actions {
            world.act(action);
            world.check();
        }
        for stream in StreamId::ALL {
            let newest = world.rig.newest(stream);
            world.rig.receipt(stream, newest);
        }
        prop_assert!(world.rig.store.records.is_empty() && world.rig.store.chunks.is_empty());
        prop_assert_eq!(world.rig.outbox.bytes(), 0);
        prop_assert_eq!(world.rig.outbox.next_deadline(), None);
    }
}
