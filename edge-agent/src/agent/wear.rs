//! Bytes written to the disk over the life of this gateway: flash wears out by them.
//!
//! The sum of earlier runs is a row of the store. It is written at most once a minute, and only into
//! a batch that is written anyway: it never causes a commit of its own. So a restart may forget what
//! was written in the last minute.

use bytes::Bytes;
use edge_core::time::Millis;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::store::{LedgerOp, Op, ReadError, Reader, Stats};

const ROW: &str = "wear";
const SAVE_EVERY: Millis = Millis(60_000);
const DAY: Millis = Millis(86_400_000);

/// As it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    /// Bytes written.
    bytes: u64,
    /// Gateway time when counting began.
    since: Millis,
}

/// Less running time tells nothing of years.
const YEARS_AFTER: Millis = Millis(3_600_000);

/// The count.
#[derive(Debug)]
pub(super) struct Wear {
    /// Of earlier runs.
    before: Row,
    /// When the store was opened: its own count began.
    opened: Millis,
    saved: Millis,
    /// Bytes that the disk may take over its life, where that is known.
    endurance_bytes: Option<u64>,
}

impl Wear {
    /// Goes on from the store's row.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) fn load(
        reader: &Reader,
        now: Millis,
        endurance_bytes: Option<u64>,
    ) -> Result<Self, ReadError> {
        let row = reader.ledger_get(ROW)?;
        // A row of another version is a statistic lost, nothing more.
        let before = row.and_then(|row| postcard::from_bytes(&row).ok());
        Ok(Self::new(before.unwrap_or(Row { bytes: 0, since: now }), now, endurance_bytes))
    }

    fn new(before: Row, now: Millis, endurance_bytes: Option<u64>) -> Self {
        Self { before, opened: now, saved: now, endurance_bytes }
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
        let row = Row { bytes: self.total(stats), ..self.before };
        let row = postcard::to_stdvec(&row).expect("invariant: two numbers");
        Op::Ledger(LedgerOp::Put { name: ROW.to_owned(), value: Bytes::from(row) })
    }

    fn total(&self, stats: &Stats) -> u64 {
        self.before.bytes + stats.disk_bytes
    }

    /// Bytes a day, at the rate since the store was opened.
    #[must_use]
    pub(super) fn per_day(&self, stats: &Stats, now: Millis) -> u64 {
        per_day(stats.disk_bytes, now.since(self.opened))
    }

    /// For `status`.
    #[must_use]
    pub(super) fn json(&self, stats: &Stats, now: Millis) -> Value {
        let (total, life) = (self.total(stats), now.since(self.before.since));
        json!({
            "written_bytes": stats.disk_bytes,
            "written_bytes_per_day": self.per_day(stats, now),
            "since_ms": now.since(self.opened),
            "syncs": stats.syncs,
            "life_written_bytes": total,
            "life_written_bytes_per_day": per_day(total, life),
            "life_ms": life,
            "endurance_bytes": self.endurance_bytes,
            "life_used_percent": self.endurance_bytes.map(|most| percent(total, most)),
            "years_left": self.years_left(total, life),
        })
    }

    /// Until the disk has taken what it may, at the rate of this store's life; in tenths of a year.
    fn years_left(&self, total: u64, life: Millis) -> Option<f64> {
        let left = self.endurance_bytes?.saturating_sub(total);
        let per_year = u128::from(per_day(total, life)) * 365;
        if life < YEARS_AFTER || per_year == 0 {
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

    fn stats(disk_bytes: u64) -> Stats {
        Stats { disk_bytes, ..Stats::default() }
    }

    #[test]
    fn rates_and_sums_go_on_over_restarts() {
        let hour = Millis::from_secs(3_600);
        let mut wear = Wear::new(Row { bytes: 0, since: Millis(0) }, Millis(0), None);
        assert!(!wear.is_due(Millis(59_999)));
        assert!(wear.is_due(Millis(60_000)));
        let op = wear.save(&stats(1_000), hour);
        assert!(!wear.is_due(hour), "once a minute");
        let Op::Ledger(LedgerOp::Put { name, value }) = op else { panic!("{op:?}") };
        assert_eq!(name, ROW);
        let row: Row = postcard::from_bytes(&value).expect("as written");
        assert_eq!(row, Row { bytes: 1_000, since: Millis(0) });
        let wear = Wear::new(row, hour, None);
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
        let wear = Wear::new(Row { bytes: 0, since: Millis(0) }, Millis(0), Some(366_000));
        let json = wear.json(&stats(1_000), day);
        assert_eq!((&json["life_used_percent"], &json["years_left"]), (&json!(0.27), &json!(1.0)));
        let early = wear.json(&stats(1_000), Millis(3_599_999));
        assert_eq!(early["years_left"], Value::Null);
        let idle = wear.json(&stats(0), day);
        assert_eq!((&idle["life_used_percent"], &idle["years_left"]), (&json!(0.0), &Value::Null));
        let worn = wear.json(&stats(1_000_000), day);
        assert_eq!((&worn["life_used_percent"], &worn["years_left"]), (&json!(100.0), &json!(0.0)));
        let unknown = Wear::new(Row { bytes: 0, since: Millis(0) }, Millis(0), None);
        assert_eq!(unknown.json(&stats(1), day)["endurance_bytes"], Value::Null);
    }
}
