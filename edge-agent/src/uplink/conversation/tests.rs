//! The conversation without transport: what it makes is made one at a time.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use edge_core::id::{Epoch, EventId, FunctionId, RecordSeq, StreamId};
use edge_core::op::{OutboxRecord, RecordBody};
use edge_core::time::WallTime;
use sync_protocol::id::InstanceId;
use sync_protocol::wire::{Chunk, StreamMark, Welcome};

use super::*;
use crate::uplink::RUN_BYTES_MAX;
use crate::uplink::partial::PartialFolder;

const STREAM: u8 = 1;
const EPOCH: u64 = 7;

/// Records that fill a message each.
struct Rows(Arc<AtomicUsize>);

impl Outbox for Rows {
    fn read(&self, stream: u8, from: u64, _to: u64, _max: usize) -> io::Result<Vec<OutboxRecord>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(vec![OutboxRecord {
            stream: StreamId(stream),
            seq: RecordSeq(from),
            epoch: Epoch(EPOCH),
            body: RecordBody::Telemetry {
                function: FunctionId::new("app/f"),
                event: EventId { epoch: Epoch(EPOCH), n: from },
                device: None,
                name: "t".to_owned(),
                payload: Bytes::from(vec![7; RUN_BYTES_MAX]),
                content_type: String::new(),
            },
            time: WallTime::default(),
            expires: None,
        }])
    }
}

struct Rig {
    conversation: Conversation,
    reads: Arc<AtomicUsize>,
    heard: Arc<Mutex<Vec<Heard>>>,
    dir: tempfile::TempDir,
}

fn rig() -> Rig {
    let (reads, heard) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<Heard>>>::default());
    let dir = tempfile::tempdir().unwrap();
    let told = Arc::clone(&heard);
    let start = Start {
        version: "0.1.0".to_owned(),
        epoch: EPOCH,
        streams: vec![(STREAM, 0, 0)],
        state: StateReport::default(),
        credentials: None,
        rate: None,
        outbox: Box::new(Rows(Arc::clone(&reads))),
        partial: Box::new(PartialFolder::new(dir.path().join("partial")).unwrap()),
        heard: Box::new(move |heard| told.lock().unwrap().push(heard)),
    };
    let mut conversation = Conversation::new(start, Millis(0));
    conversation.connected(Millis(0));
    assert!(matches!(conversation.next(Millis(0)), Some(Out::Publish(Up::Hello(_)))));
    let stored = vec![StreamMark { stream: STREAM, seq: 0, epoch: 0 }];
    let welcome = Welcome { instance: InstanceId([1; 16]), unix_ms: 0, stored };
    conversation.hear(Down::Welcome(welcome), Millis(0));
    assert_eq!(conversation.next(Millis(0)), None);
    Rig { conversation, reads, heard, dir }
}

#[test]
fn the_store_is_read_when_the_transport_asks_for_more() {
    let Rig { mut conversation, reads, .. } = rig();
    conversation.say(Say::Durable { stream: STREAM, seq: 9 }, Millis(0));
    for n in 1..=4 {
        let Some(Out::Publish(Up::Records(records))) = conversation.next(Millis(0)) else {
            panic!("no records");
        };
        assert_eq!((records.records[0].seq, records.records.len()), (n, 1));
        assert_eq!(reads.load(Ordering::Relaxed) as u64, n, "one message is in memory");
    }
    assert_eq!(conversation.next(Millis(0)), None, "the window is full");
}

#[test]
fn what_is_fetched_goes_on_where_it_was() {
    let Rig { mut conversation, heard, dir, .. } = rig();
    let file = b"an artifact".to_vec();
    let digest = Digest::of(&file);
    let bytes_max = 1 << 20;
    conversation.say(Say::Fetch { digest, bytes_max }, Millis(0));
    let chunk = |at: usize, end: usize| {
        let (offset, total) = (at as u64, file.len() as u64);
        Down::Chunk(Chunk { digest, offset, total, bytes: file[at..end].to_vec() })
    };
    conversation.hear(chunk(0, 4), Millis(0));
    while conversation.next(Millis(0)).is_some() {}
    conversation.say(Say::CancelFetch, Millis(0));
    conversation.say(Say::Fetch { digest, bytes_max }, Millis(0));
    let Some(Out::Publish(Up::ChunkRequest(request))) = conversation.next(Millis(0)) else {
        panic!("nothing is asked for");
    };
    assert_eq!(request.offset, 4);
    conversation.hear(chunk(4, file.len()), Millis(0));
    while conversation.next(Millis(0)).is_some() {}
    let path: PathBuf = dir.path().join("partial").join(digest.to_string());
    assert_eq!(std::fs::read(&path).unwrap(), file);
    let heard = heard.lock().unwrap();
    let last = heard.last();
    assert!(matches!(last, Some(Heard::Fetched { result: Ok(at), .. }) if *at == path), "{last:?}");
}
