//! What must be true of a life: kept from what clients sent and heard, and from what became
//! durable. No counter of the core is asked.

use super::*;
use crate::op::RecordBody;

/// A message of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sent {
    pub(super) device: u64,
    pub(super) n: u64,
}

/// Ends of an event at one function, as far as durable.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    done: u32,
    dead: u32,
}

pub(super) struct Reference {
    sent: BTreeMap<u64, u64>,
    acked: BTreeSet<Sent>,
    deliveries: BTreeMap<DeliveryId, Sent>,
    ends: BTreeMap<(String, Sent), Ends>,
}

impl Reference {
    pub(super) fn new() -> Self {
        Self {
            sent: BTreeMap::new(),
            acked: BTreeSet::new(),
            deliveries: BTreeMap::new(),
            ends: BTreeMap::new(),
        }
    }

    /// Number of the next message of a device, from 1.
    pub(super) fn next(&mut self, device: u64) -> u64 {
        let n = self.sent.entry(device).or_insert(0);
        *n += 1;
        *n
    }

    pub(super) fn sent(&mut self, sent: Sent, delivery: DeliveryId) {
        self.deliveries.insert(delivery, sent);
    }

    pub(super) fn hear(&mut self, acked: &BTreeMap<DeliveryId, Verdict>) {
        self.acked.extend(acked.keys().filter_map(|delivery| self.deliveries.get(delivery)));
    }

    /// In the order in which each client sent them, which is the order it sends them again.
    pub(super) fn not_acked(&self) -> Vec<Sent> {
        let all = self.sent.iter().flat_map(|(d, n)| (1..=*n).map(|n| Sent { device: *d, n }));
        all.filter(|sent| !self.acked.contains(sent)).collect()
    }

    /// Operations of one batch.
    pub(super) fn becomes_durable(&mut self, ops: &[CoreOp]) {
        for op in ops {
            match op {
                CoreOp::AppendOutbox(record) => self.recorded(&record.body),
                CoreOp::PutDeadLetter(letter) => {
                    let sent = sent_of(&letter.event.device, &letter.event.payload);
                    self.ends_of(letter.function.as_str(), sent).dead += 1;
                }
                _ => {}
            }
        }
    }

    fn recorded(&mut self, body: &RecordBody) {
        if let RecordBody::Telemetry { function, device, payload, .. } = body {
            self.ends_of(function.as_str(), sent_of(device, payload)).done += 1;
        }
    }

    /// `replaced`: what `k` was told to forget for something newer, by message id.
    pub(super) fn check(&self, state: &BTreeMap<StateKey, Bytes>, replaced: &BTreeSet<Sent>) {
        let all: Vec<Sent> = self.acked.iter().copied().collect();
        let sent: u64 = self.sent.values().sum();
        assert_eq!(all.len() as u64, sent, "in the end every message is acked");
        for sent in all {
            for function in ["a/f", "a/g", "a/h", "a/k", "a/m", "a/p"] {
                self.check_ends(function, sent, replaced.contains(&sent));
            }
        }
        for (key, log) in state {
            Self::check_domain(key, std::str::from_utf8(log).unwrap());
        }
        for function in ["a/f", "a/g", "a/k", "a/m", "a/p"] {
            let logs = state.iter().filter(|(key, _)| key.function.as_str() == function);
            let entries: Vec<&str> = logs
                .flat_map(|(_, log)| std::str::from_utf8(log).unwrap().split_whitespace())
                .collect();
            self.check_logs(function, &entries);
        }
    }

    /// A2 and A3: an end, and for numbered messages exactly one.
    fn check_ends(&self, function: &str, sent: Sent, replaced: bool) {
        let ends = self.ends.get(&(function.to_owned(), sent)).copied().unwrap_or_default();
        let at_f = self.ends.get(&("a/f".to_owned(), sent)).copied().unwrap_or_default();
        let what = format!("{function} {sent:?} {ends:?}");
        if function == "a/k" {
            assert!(ends.done + ends.dead >= 1 || replaced || sent.device == PLAIN, "{what}");
            assert!(ends.done + ends.dead <= 1 || sent.device == PLAIN, "{what}");
        } else {
            let expected = if function == "a/g" { at_f.done } else { 1 };
            if sent.device == PLAIN {
                assert!(ends.done + ends.dead >= expected.min(1), "{what}");
            } else {
                assert_eq!(ends.done + ends.dead, expected, "{what}");
            }
        }
    }

    /// State is of the events of its lane and of no others.
    fn check_domain(key: &StateKey, log: &str) {
        let belongs = |entry: &str| {
            let (device, _) = entry.split_once(':').unwrap();
            match (key.function.as_str(), &key.lane) {
                ("a/f" | "a/k", LaneKey::Device(of)) => of.as_str() == device,
                ("a/g", LaneKey::Function) => true,
                ("a/m", LaneKey::Key(of)) => device.strip_prefix('d') == Some(&**of),
                ("a/p", LaneKey::Key(of)) => &**of == "b007" && device != format!("d{PLAIN}"),
                ("a/p", LaneKey::Keyless) => device == format!("d{PLAIN}"),
                _ => false,
            }
        };
        assert!(log.split_whitespace().all(belongs), "{key:?} {log}");
    }

    /// A11: a serial run over what was done, in the order of sending, gives the same state.
    fn check_logs(&self, function: &str, entries: &[&str]) {
        for device in (0..DEVICES).filter(|device| *device != PLAIN) {
            let mine = entries.iter().filter_map(|e| e.strip_prefix(&format!("d{device}:")));
            let log: Vec<u64> = mine.map(|n| n.parse().unwrap()).collect();
            let was_done = |n: &u64| {
                let sent = Sent { device, n: *n };
                self.ends.get(&(function.to_owned(), sent)).is_some_and(|ends| ends.done > 0)
            };
            let sent = self.sent.get(&device).copied().unwrap_or(0);
            let serial: Vec<u64> = (1..=sent).filter(was_done).collect();
            assert_eq!(log, serial, "{function} d{device}");
        }
    }

    fn ends_of(&mut self, function: &str, sent: Sent) -> &mut Ends {
        self.ends.entry((function.to_owned(), sent)).or_default()
    }
}

fn sent_of(device: &Option<DeviceId>, payload: &Bytes) -> Sent {
    let device = device.as_ref().unwrap().as_str().strip_prefix('d').unwrap().parse().unwrap();
    Sent { device, n: std::str::from_utf8(payload).unwrap().parse().unwrap() }
}
