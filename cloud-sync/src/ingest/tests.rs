//! Each rule of the ledger; against a model in [`model`].

mod model;
mod stamps;

use std::collections::BTreeMap;

use proptest::prelude::*;
use sync_protocol::record::{
    DropReason, FirmwareStage, Phase, Quality, Record, RecordBody, Report, Stamp, Telemetry,
    Tombstone,
};
use sync_protocol::wire::{
    AppState, Conflicts, Down, Hello, Records, StateReport, StreamMark, StreamPosition, Up,
};
use sync_protocol::{Digest, EventId, InstanceId};

use super::*;
use crate::store::records::{Content, EntryRow, Filter, Kind};
use crate::store::sqlite::SqliteStore;
use crate::store::{self, GatewayId, StoreError};

const NOW_MS: u64 = 1_790_000_000_000;
const INSTANCE: InstanceId = InstanceId([7; 16]);

struct Cloud {
    store: SqliteStore,
    gateway: GatewayId,
    _temp: tempfile::TempDir,
}

impl Cloud {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&temp.path().join("cloud.db")).unwrap();
        let gateway: Result<_, StoreError> =
            store::write(&store, |rows| rows.add_gateway("gw", NOW_MS));
        Self { store, gateway: gateway.unwrap(), _temp: temp }
    }

    fn take(&self, up: &Up) -> Vec<Down> {
        let taken: Result<_, StoreError> =
            store::write(&self.store, |rows| take(rows, INSTANCE, self.gateway, up, NOW_MS));
        taken.unwrap()
    }

    /// Sends a run and gives the position of the receipt.
    fn send(&self, records: Vec<Record>) -> u64 {
        match self.take(&Up::Records(Records { stream: 1, records })).as_slice() {
            [Down::Receipt(receipt)] => receipt.seq,
            [Down::Conflicts(conflicts)] => conflicts.seq,
            other => panic!("{other:?}"),
        }
    }

    /// The gateway states its position; gives the position stored here.
    fn hello(&self, epoch: u64, first: u64, last: u64) -> u64 {
        self.mark(epoch, first, last).seq
    }

    fn mark(&self, epoch: u64, first: u64, last: u64) -> StreamMark {
        let hello = Hello {
            agent_version: "1".into(),
            platform: "test".into(),
            epoch,
            streams: vec![StreamPosition { stream: 1, first, last }],
            state: StateReport::default(),
        };
        match self.take(&Up::Hello(Box::new(hello))).as_slice() {
            [Down::Welcome(welcome), Down::Desired(_)] => {
                let [mark @ StreamMark { stream: 1, .. }] = welcome.stored[..] else {
                    panic!("{welcome:?}")
                };
                mark
            }
            other => panic!("{other:?}"),
        }
    }

    fn entries(&self) -> Vec<EntryRow> {
        let entries: Result<_, StoreError> =
            store::read(&self.store, |rows| rows.entries(self.gateway, 1, 1, 1_000));
        entries.unwrap()
    }

    /// `(first, last, kind)` of all entries.
    fn shape(&self) -> Vec<(u64, u64, &'static str)> {
        let entries = self.entries();
        entries.iter().map(|e| (e.place.first, e.place.seq, e.place.kind.as_str())).collect()
    }

    /// What the counters say is lost, by kind; what adding up all entries says must be the same.
    fn losses(&self) -> Vec<(&'static str, u64)> {
        let rows: Result<_, StoreError> =
            store::read(&self.store, |rows| rows.losses(self.gateway));
        let counted: Vec<_> = rows
            .unwrap()
            .iter()
            .map(|row| (row.kind.loss().expect("only losses are counted"), row.records))
            .collect();
        for (reason, records) in &counted {
            let entries = self.entries();
            let of_reason = entries.iter().filter(|entry| entry.place.kind.loss() == Some(reason));
            let sum: u64 = of_reason.map(|entry| entry.place.seq - entry.place.first + 1).sum();
            assert_eq!(sum, *records, "{reason}");
        }
        counted
    }

    fn alarms(&self) -> Vec<String> {
        let alarms: Result<_, StoreError> = store::read(&self.store, |rows| rows.alarms(None, 100));
        let mut codes: Vec<String> = alarms.unwrap().into_iter().map(|alarm| alarm.code).collect();
        codes.sort();
        codes
    }

    fn conflicts(&self) -> u64 {
        let count: Result<_, StoreError> =
            store::read(&self.store, |rows| rows.conflict_count(self.gateway));
        count.unwrap()
    }
}

fn record_of(seq: u64, epoch: u64) -> Record {
    Record {
        seq,
        epoch,
        time: Stamp { unix_ms: 5, quality: Quality::Synced },
        body: RecordBody::Telemetry(Telemetry {
            function: "a/f".into(),
            event: EventId { epoch, n: seq },
            device: Some("d".into()),
            name: "t".into(),
            content_type: "application/json".into(),
            payload: seq.to_string().into_bytes(),
        }),
    }
}

fn record(seq: u64) -> Record {
    record_of(seq, 9)
}

fn tombstone(from: u64, to: u64) -> Record {
    let body = RecordBody::Tombstone(Tombstone { from, reason: DropReason::Full });
    Record { body, ..record(to) }
}

fn run(range: std::ops::RangeInclusive<u64>) -> Vec<Record> {
    range.map(record).collect()
}

#[test]
fn a_run_is_stored_once_and_receipted() {
    let cloud = Cloud::new();
    assert_eq!(cloud.send(run(1..=3)), 3);
    assert_eq!(cloud.send(run(1..=3)), 3, "all of it again");
    assert_eq!(cloud.send(run(2..=5)), 5, "some of it again");
    assert_eq!(cloud.entries().len(), 5);
    assert_eq!(cloud.alarms(), [""; 0]);
}

#[test]
fn out_of_order_runs_wait_for_the_missing_one() {
    let cloud = Cloud::new();
    assert_eq!(cloud.send(run(7..=9)), 0);
    assert_eq!(cloud.send(run(4..=6)), 0);
    assert_eq!(cloud.send(run(1..=3)), 9);
    assert_eq!(cloud.entries().len(), 9);
}

#[test]
fn a_position_that_a_run_skips_is_a_gap() {
    let cloud = Cloud::new();
    assert_eq!(cloud.send(vec![record(1), record(5)]), 5);
    assert_eq!(cloud.shape()[1], (2, 4, "gap"));
}

#[test]
fn hello_shows_what_the_gateway_no_longer_keeps_as_a_gap() {
    let cloud = Cloud::new();
    cloud.send(run(1..=2));
    cloud.send(vec![record(5)]);
    assert_eq!(cloud.hello(9, 11, 20), 10);
    assert_eq!(cloud.shape()[2..], [(3, 4, "gap"), (5, 5, "telemetry"), (6, 10, "gap")]);
    assert_eq!(cloud.send(run(11..=12)), 12, "nothing stalls");
    assert_eq!(cloud.hello(9, 13, 12), 12, "an empty outbox is no gap");
}

#[test]
fn a_late_record_fills_its_place_in_a_gap() {
    let cloud = Cloud::new();
    assert_eq!(cloud.send(vec![record(1), record(6)]), 6);
    assert_eq!(cloud.send(vec![record(4)]), 6);
    let shape = cloud.shape();
    assert_eq!(cloud.losses(), [("gap", 3)]);
    let expected = [(1, 1, "telemetry"), (2, 3, "gap"), (4, 4, "telemetry"), (5, 5, "gap")];
    assert_eq!(shape[..4], expected);
    cloud.send(vec![record(5)]);
    cloud.send(run(2..=3));
    assert_eq!(cloud.shape().len(), 6);
    assert!(cloud.shape().iter().all(|(_, _, kind)| *kind == "telemetry"));
    assert_eq!(cloud.alarms(), [""; 0]);
}

#[test]
fn tombstones_are_stored_like_records() {
    let cloud = Cloud::new();
    assert_eq!(cloud.send(vec![record(1), tombstone(2, 8), record(9)]), 9);
    assert_eq!(cloud.shape()[1], (2, 8, "tombstone"));
    assert_eq!(cloud.entries()[1].place.kind, Kind::Tombstone(DropReason::Full));
    assert_eq!(cloud.send(vec![tombstone(2, 8)]), 9, "again");
    assert_eq!(cloud.entries().len(), 3);
}

#[test]
fn a_tombstone_takes_only_what_is_free() {
    let cloud = Cloud::new();
    cloud.send(run(1..=3));
    cloud.send(vec![record(6)]);
    // The receipt for 1..=3 was lost and the gateway dropped 2..=8 meanwhile.
    assert_eq!(cloud.send(vec![tombstone(2, 8)]), 8);
    let expected = [(4, 5, "tombstone"), (6, 6, "telemetry"), (7, 8, "tombstone")];
    assert_eq!(cloud.shape()[3..], expected);
    assert_eq!(cloud.alarms(), [""; 0]);
}

#[test]
fn a_tombstone_explains_a_gap() {
    let cloud = Cloud::new();
    cloud.hello(9, 11, 20);
    assert_eq!(cloud.shape(), [(1, 10, "gap")]);
    assert_eq!(cloud.losses(), [("gap", 10)]);
    cloud.send(vec![tombstone(4, 6)]);
    assert_eq!(cloud.shape(), [(1, 3, "gap"), (4, 6, "tombstone"), (7, 10, "gap")]);
    assert_eq!(cloud.losses(), [("gap", 7), ("full", 3)]);
    assert_eq!(cloud.send(run(11..=11)), 11);
}

#[test]
fn another_epoch_or_body_at_a_stored_position_is_an_alarm_and_kept() {
    let cloud = Cloud::new();
    cloud.send(run(1..=3));
    assert_eq!(cloud.send(vec![record_of(2, 8)]), 3, "nothing stalls");
    let records = vec![record(1), record_of(2, 8), record_of(3, 8)];
    let contradicting = Records { stream: 1, records };
    let conflicts = Conflicts { stream: 1, seq: 3, positions: vec![2, 3] };
    let told = Cloud::new();
    told.send(run(1..=3));
    assert_eq!(
        told.take(&Up::Records(contradicting)),
        [Down::Conflicts(conflicts)],
        "what to send again"
    );
    assert_eq!(cloud.alarms(), [alarm::RECORD_CONFLICT]);
    assert_eq!(cloud.conflicts(), 1);
    let mut other = record(3);
    other.time.unix_ms += 1;
    cloud.send(vec![other.clone()]);
    cloud.send(vec![other]);
    assert_eq!(cloud.conflicts(), 2, "the same contradiction is kept once");
    assert_eq!(cloud.entries()[1].place.epoch, 9, "what was stored first stays");
    let inside = Cloud::new();
    inside.send(vec![tombstone(1, 5)]);
    inside.send(vec![record(3)]);
    assert_eq!(inside.alarms(), [alarm::RECORD_CONFLICT]);
}

#[test]
fn a_gateway_that_lost_its_store_is_told_and_seen() {
    let cloud = Cloud::new();
    cloud.send(run(1..=9));
    assert_eq!(cloud.hello(10, 1, 0), 9, "it continues above 9");
    assert_eq!(cloud.alarms(), [alarm::GATEWAY_BEHIND]);
    cloud.send(run(15..=20));
    assert_eq!(cloud.hello(11, 1, 0), 20, "above everything that is stored, holes included");
    assert_eq!(cloud.shape()[9], (10, 14, "gap"));
}

#[test]
fn the_mark_names_the_process_run_of_its_record() {
    let cloud = Cloud::new();
    assert_eq!(cloud.mark(9, 1, 0), StreamMark { stream: 1, seq: 0, epoch: 0 });
    cloud.send(run(1..=3));
    assert_eq!(cloud.mark(10, 1, 3), StreamMark { stream: 1, seq: 3, epoch: 9 });
    cloud.send(vec![tombstone(4, 8)]);
    assert_eq!(cloud.mark(10, 1, 8), StreamMark { stream: 1, seq: 8, epoch: 9 });
    assert_eq!(cloud.mark(10, 12, 20), StreamMark { stream: 1, seq: 11, epoch: 0 }, "a gap");
}

/// The whole of a restored gateway's way back: an old copy of its store, written to before it came
/// into contact again. Nothing of either life is lost silently, and nothing stalls.
#[test]
fn what_a_restored_gateway_wrote_at_stored_positions_is_kept_aside() {
    let cloud = Cloud::new();
    cloud.send(run(1..=7));
    assert_eq!(cloud.mark(10, 4, 5), StreamMark { stream: 1, seq: 7, epoch: 9 });
    assert_eq!(cloud.alarms(), [alarm::GATEWAY_BEHIND]);
    // It held 4 of the first life and wrote 5 in its second one.
    assert_eq!(cloud.send(vec![record(4)]), 7);
    assert_eq!(cloud.conflicts(), 0);
    assert_eq!(cloud.send(vec![record_of(5, 10)]), 7);
    assert_eq!(cloud.conflicts(), 1);
    let skipped = RecordBody::Tombstone(Tombstone { from: 6, reason: DropReason::Skipped });
    assert_eq!(cloud.send(vec![Record { body: skipped, ..record_of(7, 10) }]), 7);
    assert_eq!(cloud.send(vec![record_of(8, 10)]), 8);
    assert_eq!(cloud.shape().len(), 8);
    assert!(cloud.shape().iter().all(|(_, _, kind)| *kind == "telemetry"));
    assert_eq!(cloud.alarms(), [alarm::GATEWAY_BEHIND, alarm::RECORD_CONFLICT]);
}

#[test]
fn a_restored_control_plane_shows_what_it_lost() {
    let cloud = Cloud::new();
    cloud.send(run(1..=2));
    assert_eq!(cloud.hello(9, 6, 9), 5, "3 to 5 were receipted and deleted");
    assert_eq!(cloud.shape()[2..], [(3, 5, "gap")]);
    assert_eq!(cloud.alarms(), [alarm::CLOUD_BEHIND]);
    assert_eq!(cloud.hello(9, 6, 9), 5, "said once more: nothing new is missing");
    assert_eq!(cloud.send(run(6..=9)), 9, "nothing stalls");
}

#[test]
fn a_process_run_that_comes_back_is_a_second_gateway() {
    let cloud = Cloud::new();
    for epoch in [1, 1, 2, 3] {
        cloud.hello(epoch, 1, 0);
    }
    assert_eq!(cloud.alarms(), [""; 0], "restarts and reconnects are none");
    cloud.hello(2, 1, 0);
    assert_eq!(cloud.alarms(), [alarm::TWO_GATEWAYS]);
}

#[test]
fn dead_letters_and_reports_land_in_their_tables() {
    let cloud = Cloud::new();
    let letter = sync_protocol::record::DeadLetter {
        function: "a/f".into(),
        trigger: "a/t".into(),
        event: EventId { epoch: u64::MAX, n: 2 },
        topic: "x".into(),
        device: Some("d".into()),
        message: Some((u64::MAX, 3)),
        reason: sync_protocol::record::DeadReason::Loop,
        error: "too far".into(),
        attempts: 3,
        payload_bytes: 4,
        payload: vec![0, 1, 2, 255],
    };
    let notice = Report::Notice { code: "function-paused".into(), text: "a/f".into() };
    let step = Report::Deployment {
        app: "a".into(),
        revision: Digest([3; 32]),
        generation: 4,
        phase: Phase::TakenBack,
        reason: "trap".into(),
    };
    let image = Report::Firmware {
        device: "d".into(),
        app: "a".into(),
        version: u32::MAX,
        stage: FirmwareStage::Declined,
        reason: "built for another board".into(),
    };
    let bodies = [
        RecordBody::DeadLetter(letter.clone()),
        RecordBody::Report(notice.clone()),
        RecordBody::Report(step.clone()),
        RecordBody::Report(image.clone()),
    ];
    let records = (1..).zip(bodies).map(|(seq, body)| Record { body, ..record(seq) }).collect();
    assert_eq!(cloud.send(records), 4);
    let contents: Vec<Content> = cloud.entries().into_iter().map(|entry| entry.content).collect();
    let expected = [
        Content::DeadLetter(letter.clone()),
        Content::Report(notice),
        Content::Report(step),
        Content::Report(image),
    ];
    assert_eq!(contents, expected);
    let found: Result<_, StoreError> = store::read(&cloud.store, |rows| {
        let filter = Filter { device: Some("d".into()), limit: 10, ..Filter::default() };
        assert_eq!(rows.reports(&Filter { limit: 10, ..Filter::default() })?.len(), 3);
        assert_eq!(rows.reports(&filter)?.len(), 1);
        assert_eq!(rows.telemetry(&filter)?.len(), 0);
        rows.dead_letters(&filter)
    });
    let found = found.unwrap();
    assert_eq!((found.len(), found[0].gateway.as_str(), found[0].stream), (1, "gw", 1));
    assert_eq!(found[0].entry.content, Content::DeadLetter(letter));
    assert_eq!(cloud.alarms(), ["function-paused"], "a notice of a gateway is an alarm");
}

#[test]
fn of_each_device_the_last_word_on_its_firmware_is_kept() {
    let cloud = Cloud::new();
    let report = |device: &str, version, stage| Report::Firmware {
        device: device.into(),
        app: "a".into(),
        version,
        stage,
        reason: String::new(),
    };
    let reports = [
        report("press-2", 2, FirmwareStage::Fetching),
        report("press-1", 2, FirmwareStage::Verified),
        report("press-2", 3, FirmwareStage::Confirmed),
    ];
    let bodies = reports.map(RecordBody::Report);
    let records = (1..).zip(bodies).map(|(seq, body)| Record { body, ..record(seq) }).collect();
    assert_eq!(cloud.send(records), 3);
    let rows: Result<_, StoreError> = store::read(&cloud.store, |rows| {
        let gateway = rows.gateway("gw")?.unwrap();
        rows.firmware(gateway.id, 10)
    });
    let rows: Vec<_> =
        rows.unwrap().into_iter().map(|row| (row.device, row.version, row.stage)).collect();
    let expected = [
        ("press-1".to_owned(), 2, FirmwareStage::Verified),
        ("press-2".to_owned(), 3, FirmwareStage::Confirmed),
    ];
    assert_eq!(rows, expected);
    assert!(cloud.alarms().is_empty());
}

#[test]
fn state_reports_are_kept_with_their_history() {
    let cloud = Cloud::new();
    let say = |phase, reason: &str| {
        let app = AppState {
            app: "a".into(),
            revision: Digest([1; 32]),
            phase,
            reason: reason.into(),
            running: None,
        };
        StateReport { instance: Some(INSTANCE), generation: 3, apps: vec![app] }
    };
    for report in [
        say(Phase::Fetching, ""),
        say(Phase::Fetching, ""),
        say(Phase::Failed, "below the floor"),
        StateReport { apps: Vec::new(), ..say(Phase::Live, "") },
    ] {
        cloud.take(&Up::StateReport(report));
    }
    let read: Result<_, StoreError> = store::read(&cloud.store, |rows| {
        let gateway = rows.gateway("gw")?.unwrap();
        assert_eq!(gateway.reported, Some((INSTANCE, 3)));
        Ok((rows.apps_of(cloud.gateway)?, rows.steps(cloud.gateway, 10)?))
    });
    let (apps, steps) = read.unwrap();
    assert_eq!(apps, []);
    let steps: Vec<_> =
        steps.iter().map(|step| (step.app.phase, step.app.reason.as_str(), step.gone)).collect();
    let failed = (Phase::Failed, "below the floor", false);
    assert_eq!(steps, [(Phase::Failed, "", true), failed, (Phase::Fetching, "", false)]);
    let foreign = StateReport { instance: Some(InstanceId([8; 16])), ..say(Phase::Live, "") };
    cloud.take(&Up::StateReport(foreign));
    // Nothing was ever deployed here: generation 3 was stated before a backup was put back.
    assert_eq!(cloud.alarms(), [alarm::CLOUD_BEHIND, alarm::FOREIGN_INSTANCE]);
}
