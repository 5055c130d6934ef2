//! Bytes written to the disk over the life of this gateway: flash wears out by them.
//!
//! Counted twice: what the store writes, and all that reaches the block device below it, where the system
//! tells. The card's life is told by the device's count where there is one.
//!
//! The sums of earlier runs are a row of the store. It is written at most once a minute, and only into
//! a batch that is written anyway: it never causes a commit of its own. So a restart may forget what
//! was written in the last minute.

use bytes::Bytes;
use edge_core::time::Millis;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::seams::BlockDevice;
use crate::store::{LedgerOp, Op, ReadError, Reader, Stats};

mod device;

const ROW: &str = "wear";
const SAVE_EVERY: Millis = Millis(60_000);
const DAY: Millis = Millis(86_400_000);
/// What a cheap card takes: each of its bytes so many times.
const ENDURANCE_TIMES: u64 = 300;

/// As it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    /// Bytes that the store wrote.
    bytes: u64,
    /// Gateway time when counting began.
    since: Millis,
    /// The same of the device.
    device: Option<device::Row>,
}

impl Row {
    /// Of another version it is a statistic lost, nothing more.
    fn decode(row: &[u8]) -> Option<Self> {
        // Once it ended before `device`; a zero is none.
        postcard::from_bytes(&[row, &[0]].concat()).ok()
    }
}

/// Less running time tells nothing of years.
const YEARS_AFTER: Millis = Millis(3_600_000);

/// The count.
pub(super) struct Wear {
    /// Of earlier runs.
    before: Row,
    /// When the store was opened: its own count began.
    opened: Millis,
    saved: Millis,
    device: Option<Box<dyn BlockDevice>>,
    /// Bytes that the disk may take over its life, where that is known.
    endurance_bytes: Option<u64>,
}

/// What is known of the disk.
pub(super) struct Disk {
    /// The block device, where the system tells.
    pub device: Option<Box<dyn BlockDevice>>,
    /// Size of the file system in bytes, where it is known.
    pub bytes: Option<u64>,
    /// What the configuration says that it may take.
    pub endurance_bytes: Option<u64>,
}

impl Wear {
    /// Goes on from the store's row.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) fn load(reader: &Reader, now: Millis, disk: Disk) -> Result<Self, ReadError> {
        let before = reader.ledger_get(ROW)?.and_then(|row| Row::decode(&row));
        Ok(Self::new(before.unwrap_or(Row { bytes: 0, since: now, device: None }), now, disk))
    }

    fn new(mut before: Row, now: Millis, disk: Disk) -> Self {
        let Disk { device, bytes, endurance_bytes } = disk;
        let count = device.as_ref().and_then(|device| device.count());
        if let Some(count) = count {
            before.device = Some(device::Row::with(before.device, count, now));
        }
        let size = count.map(|count| count.size_bytes).or(bytes);
        let endurance_bytes =
            endurance_bytes.or(size.map(|size| size.saturating_mul(ENDURANCE_TIMES)));
        Self { before, opened: now, saved: now, device, endurance_bytes }
    }

    /// Whether the row is to be written with the next batch that somebody waits for.
    #[must_use]
    pub(super) fn is_due(&self, now: Millis) -> bool {
        now.since(self.saved) >= SAVE_EVERY
    }

    /// The row as it is now; it is due again in a minute.
    #[must_use]
    pub(super) fn save(&mut self, stats: &Stats, now: Millis) -> Op {
        self.saved = now;
        self.before.device = self.device_row(now).or(self.before.device);
        let row = Row { bytes: self.total(stats), ..self.before };
        let row = postcard::to_stdvec(&row).expect("invariant: some numbers");
        Op::Ledger(LedgerOp::Put { name: ROW.to_owned(), value: Bytes::from(row) })
    }

    fn total(&self, stats: &Stats) -> u64 {
        self.before.bytes + stats.disk_bytes
    }

    /// The device's row as it is now; `None` where the system does not count.
    fn device_row(&self, now: Millis) -> Option<device::Row> {
        let count = self.device.as_ref()?.count()?;
        Some(device::Row::with(self.before.device, count, now))
    }

    /// Bytes a day, at the rate since the store was opened.
    #[must_use]
    pub(super) fn per_day(&self, stats: &Stats, now: Millis) -> u64 {
        per_day(stats.disk_bytes, now.since(self.opened))
    }

    /// For `status`.
    #[must_use]
    pub(super) fn json(&self, stats: &Stats, now: Millis) -> Value {
        let store = Life { bytes: self.total(stats), time: now.since(self.before.since) };
        let device = self.device_row(now);
        let device = device.map(|row| Life { bytes: row.bytes, time: now.since(row.since) });
        let card = device.unwrap_or(store);
        json!({
            "written_bytes": stats.disk_bytes,
            "written_bytes_per_day": self.per_day(stats, now),
            "since_ms": now.since(self.opened),
            "syncs": stats.syncs,
            "life_written_bytes": store.bytes,
            "life_written_bytes_per_day": store.per_day(),
            "life_ms": store.time,
            "device_written_bytes": device.map(|device| device.bytes),
            "device_written_bytes_per_day": device.map(Life::per_day),
            "device_ms": device.map(|device| device.time),
            "endurance_bytes": self.endurance_bytes,
            "life_used_percent": self.endurance_bytes.map(|most| percent(card.bytes, most)),
            "years_left": self.endurance_bytes.and_then(|most| card.years_left(most)),
        })
    }
}

/// What was written in a life.
#[derive(Clone, Copy, Debug)]
struct Life {
    bytes: u64,
    time: Millis,
}

impl Life {
    fn per_day(self) -> u64 {
        per_day(self.bytes, self.time)
    }

    /// Until the disk has taken what it may, at the rate so far; in tenths of a year.
    fn years_left(self, endurance_bytes: u64) -> Option<f64> {
        let left = endurance_bytes.saturating_sub(self.bytes);
        let per_year = u128::from(self.per_day()) * 365;
        if self.time < YEARS_AFTER || per_year == 0 {
            return None;
        }
        let tenths = u128::from(left) * 10 / per_year;
        Some(f64::from(u32::try_from(tenths).unwrap_or(u32::MAX)) / 10.0)
    }
}

/// In hundredths, at most 100.
fn percent(part: u64, of: u64) -> f64 {
    let hundredths = u128::from(part) * 10_000 / u128::from(of.max(1));
    f64::from(u32::try_from(hundredths).unwrap_or(u32::MAX).min(10_000)) / 100.0
}

fn per_day(bytes: u64, over: Millis) -> u64 {
    let per_day = u128::from(bytes) * u128::from(DAY.0) / u128::from(over.0.max(1));
    u64::try_from(per_day).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::seams::BlockCount;

    fn stats(disk_bytes: u64) -> Stats {
        Stats { disk_bytes, ..Stats::default() }
    }

    /// A disk that only its settings tell of.
    fn plain(endurance_bytes: Option<u64>) -> Disk {
        Disk { device: None, bytes: None, endurance_bytes }
    }

    fn row(bytes: u64) -> Row {
        Row { bytes, since: Millis(0), device: None }
    }

    /// Has written so many bytes since the boot.
    struct Counted(u64);

    impl BlockDevice for Counted {
        fn count(&self) -> Option<BlockCount> {
            let size_bytes = 1_000;
            Some(BlockCount { identity: 1, boot: 1, written_bytes: self.0, size_bytes })
        }
    }

    fn counted(written_bytes: u64) -> Disk {
        let device: Box<dyn BlockDevice> = Box::new(Counted(written_bytes));
        Disk { device: Some(device), bytes: Some(500), endurance_bytes: None }
    }

    #[test]
    fn rates_and_sums_go_on_over_restarts() {
        let hour = Millis::from_secs(3_600);
        let mut wear = Wear::new(row(0), Millis(0), plain(None));
        assert!(!wear.is_due(Millis(59_999)));
        assert!(wear.is_due(Millis(60_000)));
        let op = wear.save(&stats(1_000), hour);
        assert!(!wear.is_due(hour), "once a minute");
        let Op::Ledger(LedgerOp::Put { name, value }) = op else { panic!("{op:?}") };
        assert_eq!(name, ROW);
        let saved = Row::decode(&value).expect("as written");
        assert_eq!(saved, row(1_000));
        let wear = Wear::new(saved, hour, plain(None));
        let now = hour + hour;
        let json = wear.json(&stats(500), now);
        assert_eq!(json["written_bytes"], 500);
        assert_eq!(json["written_bytes_per_day"], 24 * 500);
        assert_eq!(json["life_written_bytes"], 1_500);
        assert_eq!(json["life_written_bytes_per_day"], 12 * 1_500);
        assert_eq!(json["life_ms"], 2 * 3_600_000);
    }

    #[test]
    fn no_time_is_no_division_by_zero() {
        assert_eq!(per_day(u64::MAX, Millis(0)), u64::MAX);
    }

    #[test]
    fn the_life_of_the_card_is_told_after_an_hour() {
        let day = Millis(86_400_000);
        let wear = Wear::new(row(0), Millis(0), plain(Some(366_000)));
        let json = wear.json(&stats(1_000), day);
        assert_eq!((&json["life_used_percent"], &json["years_left"]), (&json!(0.27), &json!(1.0)));
        let early = wear.json(&stats(1_000), Millis(3_599_999));
        assert_eq!(early["years_left"], Value::Null);
        let idle = wear.json(&stats(0), day);
        assert_eq!((&idle["life_used_percent"], &idle["years_left"]), (&json!(0.0), &Value::Null));
        let worn = wear.json(&stats(1_000_000), day);
        assert_eq!((&worn["life_used_percent"], &worn["years_left"]), (&json!(100.0), &json!(0.0)));
        let unknown = Wear::new(row(0), Millis(0), plain(None));
        assert_eq!(unknown.json(&stats(1), day)["endurance_bytes"], Value::Null);
    }

    #[test]
    fn the_card_lives_by_what_its_device_counts() {
        let day = Millis(86_400_000);
        let mut wear = Wear::new(row(0), Millis(0), counted(5_000));
        wear.device = counted(8_000).device;
        let json = wear.json(&stats(1_000), day);
        assert_eq!(
            (&json["life_written_bytes"], &json["device_written_bytes"]),
            (&json!(1_000), &json!(3_000))
        );
        assert_eq!(json["endurance_bytes"], 300_000, "of the device, not of the file system");
        assert_eq!((&json["life_used_percent"], &json["years_left"]), (&json!(1.0), &json!(0.2)));
        let Op::Ledger(LedgerOp::Put { value, .. }) = wear.save(&stats(1_000), day) else {
            panic!()
        };
        let saved = Row::decode(&value).expect("as written");
        let json = Wear::new(saved, day, counted(8_500)).json(&stats(0), day);
        assert_eq!(json["device_written_bytes"], 3_500, "what was written meanwhile is counted");
        // One that cannot be read any more: the sum stays where it was.
        let mut wear = Wear::new(saved, day, plain(None));
        assert_eq!(wear.json(&stats(0), day)["device_written_bytes"], Value::Null);
        let Op::Ledger(LedgerOp::Put { value, .. }) = wear.save(&stats(0), day) else { panic!() };
        assert_eq!(Row::decode(&value), Some(saved));
    }

    #[test]
    fn a_row_from_before_the_device_was_counted_is_read() {
        let old = postcard::to_stdvec(&(7_u64, Millis(3))).expect("two numbers");
        assert_eq!(Row::decode(&old), Some(Row { bytes: 7, since: Millis(3), device: None }));
    }
}
