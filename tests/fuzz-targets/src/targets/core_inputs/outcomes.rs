//! Outcomes of every kind, as bytes say.

use bytes::Bytes;
use edge_core::message::{Properties, QoS};
use edge_core::outcome::{
    BatchOutputs, Fault, FaultKind, ItemFailure, ItemFailureKind, Outcome, Outputs, Publish,
    Record, Segment, StateChange,
};
use edge_core::topic::Topic;

use crate::bytes_reader::BytesReader;

pub(super) fn topic(n: u8) -> Topic {
    Topic::new(["in", "in/a", "out", "nobody"][usize::from(n) % 4]).expect("a topic")
}

/// Whatever a function may return, for one event or for a batch, whatever it was given.
pub(super) fn outcome(reader: &mut BytesReader<'_>) -> Outcome {
    match reader.byte() % 10 {
        0 => Outcome::Retry { reason: text(reader) },
        1 => Outcome::Reject { reason: text(reader) },
        2 => Outcome::Fault(Fault { kind: FaultKind::Trap, message: text(reader) }),
        3 => Outcome::BatchDone(BatchOutputs::default()),
        4..=7 => Outcome::BatchDone(batch(reader)),
        8 => Outcome::Done(Outputs::default()),
        _ => Outcome::Done(outputs(reader)),
    }
}

fn batch(reader: &mut BytesReader<'_>) -> BatchOutputs {
    let mut batch = BatchOutputs::default();
    // Mostly positions that there are.
    for _ in 0..reader.byte() % 4 {
        let of = Some(reader.byte() % 5).filter(|of| *of < 4).map(u16::from);
        batch.segments.push(Segment { of, outputs: outputs(reader) });
    }
    for _ in 0..reader.byte() % 3 {
        let index = u16::from(reader.byte() % 5);
        let retry = reader.byte().is_multiple_of(2);
        let kind = if retry { ItemFailureKind::Retry } else { ItemFailureKind::Reject };
        batch.failures.push(ItemFailure { index, kind, reason: text(reader) });
    }
    batch
}

fn text(reader: &mut BytesReader<'_>) -> String {
    let len = usize::from(reader.byte());
    String::from_utf8_lossy(reader.take(len)).into_owned()
}

fn outputs(reader: &mut BytesReader<'_>) -> Outputs {
    let mut outputs = Outputs::default();
    for _ in 0..reader.byte() % 4 {
        let payload = Bytes::copy_from_slice(reader.take(4));
        match reader.byte() % 3 {
            0 => outputs.publishes.push(Publish {
                topic: topic(reader.byte()),
                payload,
                qos: QoS::AtLeastOnce,
                retain: reader.byte().is_multiple_of(2),
                properties: Properties::default(),
            }),
            1 => {
                let value = reader.byte().is_multiple_of(2).then_some(payload);
                outputs.state.push(StateChange { key: text(reader), value });
            }
            _ => outputs.records.push(Record {
                name: text(reader),
                payload,
                content_type: text(reader),
            }),
        }
    }
    outputs
}
