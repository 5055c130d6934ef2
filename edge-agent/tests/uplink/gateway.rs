//! The uplink as the loop uses it: an outbox that a test fills, and what the uplink tells.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use edge_agent::uplink::mqtt::Endpoint;
use edge_agent::uplink::partial::PartialFolder;
use edge_agent::uplink::{Heard, Outbox, Say, Setup, Uplink};
use edge_core::id::{Epoch, EventId, FunctionId, RecordSeq, StreamId};
use edge_core::op::{OutboxRecord, RecordBody};
use edge_core::time::WallTime;
use sync_protocol::wire::{Receipt, Reply, StateReport};

use crate::peer::{PATIENCE, Peer};

/// The stream that tests use.
pub(crate) const STREAM: u8 = 1;
/// Process run of the gateway.
pub(crate) const EPOCH: u64 = 7;

type Rows = Arc<Mutex<BTreeMap<u64, OutboxRecord>>>;

/// A gateway's uplink.
pub(crate) struct Gateway {
    pub(crate) uplink: Uplink,
    heard: Receiver<Heard>,
    rows: Rows,
    written: u64,
    _partial: tempfile::TempDir,
}

struct TestOutbox(Rows);

impl Outbox for TestOutbox {
    fn read(
        &self,
        stream: u8,
        from: u64,
        to: u64,
        bytes_max: usize,
    ) -> std::io::Result<Vec<OutboxRecord>> {
        assert_eq!(stream, STREAM);
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = 0;
        let fits = |record: &&OutboxRecord| {
            let first = bytes == 0;
            bytes += usize::try_from(record.cost_bytes()).unwrap_or(usize::MAX);
            first || bytes <= bytes_max
        };
        Ok(rows.range(from..=to).map(|(_, record)| record).take_while(fits).cloned().collect())
    }
}

impl Gateway {
    /// Starts with `records` of `payload_bytes` each in the outbox.
    pub(crate) fn start(
        peer: &Peer,
        keep_alive: Duration,
        records: u64,
        payload_bytes: usize,
    ) -> Self {
        Self::start_at(peer.endpoint(keep_alive), records, payload_bytes)
    }

    /// The same, for any endpoint.
    pub(crate) fn start_at(endpoint: Endpoint, records: u64, payload_bytes: usize) -> Self {
        let rows = Rows::default();
        let (tell, heard) = channel();
        let partial = tempfile::tempdir().expect("a folder");
        let setup = Setup {
            gateway: crate::peer::GATEWAY.to_owned(),
            version: "0.1.0".to_owned(),
            epoch: EPOCH,
            endpoint,
            credentials: None,
            streams: vec![(STREAM, 0, 0)],
            state: StateReport::default(),
            seed: 1,
            rate: None,
            outbox: Box::new(TestOutbox(Arc::clone(&rows))),
            partial: Box::new(PartialFolder::new(partial.path().to_owned()).expect("a folder")),
            heard: Box::new(move |said| {
                // A test that has seen enough hears no more.
                let _ = tell.send(said);
            }),
        };
        let uplink = Uplink::spawn(setup).expect("a thread");
        let mut gateway = Self { uplink, heard, rows, written: 0, _partial: partial };
        (0..records).for_each(|_| gateway.write(payload_bytes));
        gateway
    }

    /// Makes one more record durable.
    pub(crate) fn write(&mut self, payload_bytes: usize) {
        self.written += 1;
        let seq = self.written;
        let record = OutboxRecord {
            stream: StreamId(STREAM),
            seq: RecordSeq(seq),
            epoch: Epoch(EPOCH),
            body: RecordBody::Telemetry {
                function: FunctionId::new("app/f"),
                event: EventId { epoch: Epoch(EPOCH), n: seq },
                device: None,
                name: "t".to_owned(),
                payload: Bytes::from(vec![7; payload_bytes]),
                content_type: String::new(),
            },
            time: WallTime::default(),
            expires: None,
        };
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).insert(seq, record);
        self.uplink.say(Say::Durable { stream: STREAM, seq });
    }

    /// What the uplink tells next.
    pub(crate) fn heard(&self) -> Heard {
        self.heard.recv_timeout(PATIENCE).expect("the uplink tells something")
    }

    /// Passes over what the uplink tells until `wanted` gives a value.
    pub(crate) fn wait<T>(&self, what: &str, mut wanted: impl FnMut(Heard) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(found) = wanted(self.heard()) {
                return found;
            }
        }
        panic!("waited for {what}");
    }

    /// Waits until everything up to `seq` is receipted.
    pub(crate) fn wait_receipt(&self, seq: u64) {
        self.wait(&format!("a receipt for {seq}"), |heard| match heard {
            Heard::Receipt { stream: STREAM, seq: to } => (to == seq).then_some(()),
            _ => None,
        });
    }

    /// Waits until the link is lost; the reason.
    pub(crate) fn wait_lost(&self) -> String {
        self.wait_lost_counting().0
    }

    /// Waits until the link is lost; the reason, and how many commands came before.
    pub(crate) fn wait_lost_counting(&self) -> (String, usize) {
        let mut commands = 0;
        self.wait("the link to be lost", |heard| match heard {
            Heard::Link { up: false, reason } => Some((reason, commands)),
            Heard::Command(_) => {
                commands += 1;
                None
            }
            _ => None,
        })
    }

    /// Answers the next `count` commands, once all of them are here: an uplink that halts over the
    /// first answers hears no more.
    pub(crate) fn reply(&self, count: usize) {
        let command = |_| {
            self.wait("a command", |heard| match heard {
                Heard::Command(command) => Some(command.id),
                _ => None,
            })
        };
        let ids: Vec<u64> = (0..count).map(command).collect();
        for id in ids {
            self.uplink.say(Say::Reply(Reply { id, result: Ok(String::new()) }));
        }
    }
}

/// A receipt of the control plane.
pub(crate) fn receipt(seq: u64) -> sync_protocol::wire::Down {
    sync_protocol::wire::Down::Receipt(Receipt { stream: STREAM, seq })
}
