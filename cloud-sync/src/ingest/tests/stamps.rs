//! Stamps of gateways whose clocks were not set.

use super::*;

#[test]
fn unsynced_stamps_are_corrected_whether_they_came_before_the_clock_or_after_it() {
    use Quality::{Synced, Unknown, Unsynced};
    let cloud = Cloud::new();
    let stamped = |seq, epoch, unix_ms, quality| Record {
        time: Stamp { unix_ms, quality },
        ..record_of(seq, epoch)
    };
    let clock = |seq, epoch| Record {
        body: RecordBody::Report(Report::Clock { epoch, shown_ms: 1_000, true_ms: NOW_MS }),
        ..stamped(seq, 2, NOW_MS, Synced)
    };
    cloud.send(vec![
        stamped(1, 1, 400, Unsynced),
        stamped(2, 2, 600, Unsynced),
        stamped(3, 2, NOW_MS, Synced),
        stamped(4, 3, 700, Unsynced),
        clock(5, 2),
        clock(6, u64::MAX),
    ]);
    cloud.send(vec![stamped(7, 2, 900, Unsynced), stamped(8, u64::MAX, 2_000, Unsynced)]);
    // Renumbered: of another run, which this one knows nothing of.
    cloud.send(vec![stamped(9, 2, 800, Unknown)]);
    let entries = cloud.entries();
    let corrected: Vec<Option<u64>> = entries.iter().map(|entry| entry.corrected_ms).collect();
    let expected = [
        None, // The gateway never learned what time it was in that run.
        Some(NOW_MS - 400),
        None, // It was right.
        None,
        None,
        None,
        Some(NOW_MS - 100),
        Some(NOW_MS + 1_000),
        None,
    ];
    assert_eq!(corrected, expected);
    assert_eq!(entries[1].time, Stamp { unix_ms: 600, quality: Unsynced }, "what it said is kept");
    assert_eq!(entries[8].time, Stamp { unix_ms: 800, quality: Unknown });
    let report = Report::Clock { epoch: u64::MAX, shown_ms: 1_000, true_ms: NOW_MS };
    assert_eq!(entries[5].content, Content::Report(report));
    assert_eq!(cloud.alarms(), [""; 0]);
    let found: Result<_, StoreError> = store::read(&cloud.store, |rows| {
        rows.telemetry(&Filter { limit: 10, ..Filter::default() })
    });
    assert_eq!(found.unwrap()[1].entry.corrected_ms, Some(NOW_MS - 400), "searches say the same");
}
