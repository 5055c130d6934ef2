//! Golden vectors pin the bytes: who changes one breaks every gateway in the field.

use proptest::prelude::*;

use super::*;
use crate::enroll::EnrollRequest;
use crate::id::{Digest, EventId, InstanceId};
use crate::limits::{CHUNK_BYTES_MAX, POSITION_MAX, RECORD_PAYLOAD_BYTES_MAX};
use crate::record::{
    DeadLetter, DeadReason, DropReason, Phase, Quality, Record, RecordBody, Report, Stamp,
    Telemetry, Tombstone,
};

fn telemetry(seq: u64) -> Record {
    Record {
        seq,
        epoch: 0x0102,
        time: Stamp { unix_ms: 1_700_000_000_000, quality: Quality::Synced },
        body: RecordBody::Telemetry(Telemetry {
            function: "cold-chain/alarm".into(),
            event: EventId { epoch: 0x0102, n: 3 },
            device: Some("m1".into()),
            name: "temp".into(),
            content_type: "application/json".into(),
            payload: b"{}".to_vec(),
        }),
    }
}

fn dead_letter(seq: u64) -> Record {
    let body = DeadLetter {
        function: "a/f".into(),
        trigger: "a/t".into(),
        event: EventId { epoch: 1, n: 2 },
        topic: "x/y".into(),
        device: None,
        message: Some((5, 6)),
        reason: DeadReason::TooOld,
        error: "late".into(),
        attempts: 3,
        payload_bytes: 2,
        payload: vec![1, 2],
    };
    Record { body: RecordBody::DeadLetter(body), ..telemetry(seq) }
}

fn tombstone(from: u64, to: u64) -> Record {
    let body = RecordBody::Tombstone(Tombstone { from, reason: DropReason::Full });
    Record { body, ..telemetry(to) }
}

fn hello() -> Up {
    Up::Hello(Box::new(Hello {
        agent_version: "0.1.0".into(),
        platform: "x86_64-unknown-linux-gnu".into(),
        epoch: 7,
        streams: vec![StreamPosition { stream: 1, first: 4, last: 9 }],
        state: StateReport {
            instance: Some(InstanceId([1; 16])),
            generation: 2,
            apps: vec![AppState {
                app: "a".into(),
                revision: Digest([2; 32]),
                phase: Phase::TakenBack,
                reason: "trap".into(),
                running: Some(Digest([3; 32])),
            }],
        },
    }))
}

fn records(records: Vec<Record>) -> Up {
    Up::Records(Records { stream: 1, records })
}

fn hex_of(message: &impl Message) -> String {
    hex::encode(message.encode().unwrap())
}

#[test]
fn golden_up() {
    let hello_hex = [
        "0100",
        "05302e312e30",
        "187838365f36342d756e6b6e6f776e2d6c696e75782d676e75",
        "07",
        "01010409",
        "01",
        &"01".repeat(16),
        "02",
        "010161",
        &"02".repeat(32),
        "06",
        "0474726170",
        "01",
        &"03".repeat(32),
    ];
    assert_eq!(hex_of(&hello()), hello_hex.concat());
    assert_eq!(
        hex_of(&records(vec![telemetry(9)])),
        "01010101098202\
         80d095ffbc3101001\
         0636f6c642d636861696e2f616c61726d820203\
         01026d310474656d70106170706c69636174696f6e2f6a736f6e027b7d"
    );
    assert_eq!(hex_of(&records(vec![tombstone(2, 9)])), "0101010109820280d095ffbc3101030200");
    let request = ChunkRequest { digest: Digest([9; 32]), offset: 65_536, len: 65_536 };
    assert_eq!(
        hex_of(&Up::ChunkRequest(request)),
        "01040909090909090909090909090909090909090909090909090909090909090909808004808004"
    );
    assert_eq!(hex_of(&Up::Reply(Reply { id: 300, result: Err("no".into()) })), "0105ac0201026e6f");
    assert_eq!(hex_of(&Up::CertificateRequest(EnrollRequest { csr: vec![0x30] })), "01070130");
    let report = Report::Clock { epoch: 300, shown_ms: 128, true_ms: 1_790_000_000_000 };
    let report = Record { body: RecordBody::Report(report), ..telemetry(9) };
    assert_eq!(
        hex_of(&records(vec![report])),
        "0101010109820280d095ffbc31010202ac02800180d8c1a28c34"
    );
}

#[test]
fn golden_down() {
    let instance = InstanceId([0xab; 16]);
    let stored = vec![
        StreamMark { stream: 0, seq: 5, epoch: 0 },
        StreamMark { stream: 1, seq: 300, epoch: 0x0102 },
    ];
    assert_eq!(
        hex_of(&Down::Welcome(Welcome { instance, unix_ms: 1, stored })),
        "0100abababababababababababababababab010200050001ac028202"
    );
    assert_eq!(hex_of(&Down::Receipt(Receipt { stream: 1, seq: 128 })), "0101018001");
    let conflicts = Conflicts { stream: 1, seq: 128, positions: vec![3] };
    assert_eq!(hex_of(&Down::Conflicts(conflicts)), "01060180010103");
    assert_eq!(hex_of(&Down::RenewCertificate), "0107");
    assert_eq!(hex_of(&Down::Certificate(vec![0x30, 0x82])), "0108023082");
    let apps = vec![AppTarget { app: "a".into(), revision: Digest([1; 32]) }];
    assert_eq!(
        hex_of(&Down::Desired(Desired { instance, generation: 3, apps })),
        "0102abababababababababababababababab030101610101010101010101010101010101010101010101\
         010101010101010101010101"
    );
    assert_eq!(hex_of(&Down::Command(Command { id: 1, request: Request::Status })), "01050100");
    assert_eq!(hex_of(&Presence::Offline), "0100");
    assert_eq!(hex_of(&Presence::Online { epoch: 2 }), "010102");
}

#[test]
fn what_is_encoded_is_decoded() {
    let report = Report::Deployment {
        app: "a".into(),
        revision: Digest([4; 32]),
        generation: 8,
        phase: Phase::Live,
        reason: String::new(),
    };
    assert_eq!(Report::from_bytes(&report.to_bytes()), Ok(report.clone()));
    let report = Record { body: RecordBody::Report(report), ..telemetry(12) };
    let run = vec![telemetry(4), dead_letter(5), tombstone(6, 10), telemetry(11), report];
    for up in [hello(), records(run)] {
        assert_eq!(Up::decode(&up.encode().unwrap()), Ok(up));
    }
    let bytes = vec![7; CHUNK_BYTES_MAX as usize];
    let chunk = Down::Chunk(Chunk { digest: Digest([1; 32]), offset: 0, total: 1 << 20, bytes });
    assert_eq!(Down::decode(&chunk.encode().unwrap()), Ok(chunk));
}

#[test]
fn wire_bytes_is_the_length_on_the_wire() {
    let (a, b) = (telemetry(4), dead_letter(5));
    let one = records(vec![a.clone()]).encode().unwrap().len();
    let two = records(vec![a, b.clone()]).encode().unwrap().len();
    assert_eq!(two - one, b.wire_bytes());
}

#[test]
fn versions_variants_and_tails_are_errors() {
    let bytes = hello().encode().unwrap();
    assert_eq!(Up::decode(&[]), Err(WireError::Empty));
    assert_eq!(Up::decode(&[2, 0]), Err(WireError::Version(2)));
    assert_eq!(Up::decode(&[1, 99]), Err(WireError::Malformed));
    assert_eq!(Up::decode(&[&bytes[..], &[0]].concat()), Err(WireError::Malformed));
    for len in 1..bytes.len() {
        assert_eq!(Up::decode(&bytes[..len]), Err(WireError::Malformed), "cut to {len}");
    }
    let long = vec![1; MESSAGE_BYTES_MAX + 1];
    assert_eq!(Up::decode(&long), Err(WireError::TooLong(MESSAGE_BYTES_MAX + 1)));
}

#[test]
fn bounds_hold_both_ways() {
    let mut big = telemetry(1);
    if let RecordBody::Telemetry(body) = &mut big.body {
        body.payload = vec![0; RECORD_PAYLOAD_BYTES_MAX];
    }
    assert!(records(vec![big.clone()]).encode().is_ok(), "the longest record fits a message");
    if let RecordBody::Telemetry(body) = &mut big.body {
        body.payload.push(0);
    }
    let over = records(vec![big]);
    assert!(matches!(over.encode(), Err(WireError::Bound { what: "payload", .. })));
    let unchecked = postcard::to_extend(&over, vec![VERSION]).unwrap();
    assert!(matches!(Up::decode(&unchecked), Err(WireError::Bound { what: "payload", .. })));
}

#[test]
fn positions_must_ascend() {
    let bad = [
        vec![telemetry(0)],
        vec![telemetry(5), telemetry(5)],
        vec![telemetry(5), telemetry(4)],
        vec![telemetry(5), tombstone(5, 9)],
        vec![tombstone(9, 8)],
        vec![telemetry(POSITION_MAX + 1)],
    ];
    for run in bad {
        assert!(matches!(records(run).encode(), Err(WireError::Positions { .. })));
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..600), variant in 0_u8..8,
    ) {
        let _ = Up::decode(&bytes);
        let _ = Down::decode(&bytes);
        if bytes.len() > 1 {
            (bytes[0], bytes[1]) = (VERSION, variant);
        }
        let _ = Up::decode(&bytes);
        let _ = Down::decode(&bytes);
        let _ = Presence::decode(&bytes);
    }

    /// A length that promises more than there is must not be believed.
    #[test]
    fn damaged_messages_never_panic(at in 0_usize..200, to in any::<u8>(), cut in 0_usize..200) {
        let run = vec![telemetry(4), dead_letter(5), tombstone(6, 10)];
        for up in [hello(), records(run)] {
            let mut bytes = up.encode().unwrap();
            let at = at % bytes.len();
            bytes[at] = to;
            if let Ok(up) = Up::decode(&bytes) {
                prop_assert!(up.check().is_ok());
            }
            bytes.truncate(cut % bytes.len());
            let _ = Up::decode(&bytes);
        }
    }
}
