//! The same of the whole block device: what else is written to it wears it out too, and so does the file
//! system's own book-keeping, which no count of the store knows.
//!
//! The system counts from the start of the machine. So what an agent misses between two of its lives
//! is made up for, but for what was written between its last note and the end of a boot.

use edge_core::time::Millis;
use serde::{Deserialize, Serialize};

use super::super::seams::BlockCount;

/// As it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    /// Which device.
    identity: u64,
    /// During which boot `seen` was.
    boot: u64,
    /// The system's count when the row was made.
    seen: u64,
    /// Bytes since the gateway counts.
    pub(super) bytes: u64,
    /// Gateway time when it began to count.
    pub(super) since: Millis,
}

impl Row {
    /// Nothing is counted yet.
    fn begin(count: BlockCount, now: Millis) -> Self {
        let BlockCount { identity, boot, written_bytes: seen, .. } = count;
        Self { identity, boot, seen, bytes: 0, since: now }
    }

    /// What a row becomes with a later count. Another device begins its own life.
    pub(super) fn with(row: Option<Self>, count: BlockCount, now: Millis) -> Self {
        let Some(row) = row.filter(|row| row.identity == count.identity) else {
            return Self::begin(count, now);
        };
        // A smaller count of the same boot: the device was taken out and put back.
        let goes_on = row.boot == count.boot && row.seen <= count.written_bytes;
        let new = count.written_bytes - if goes_on { row.seen } else { 0 };
        Self {
            boot: count.boot,
            seen: count.written_bytes,
            bytes: row.bytes.saturating_add(new),
            ..row
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(identity: u64, boot: u64, written_bytes: u64) -> BlockCount {
        BlockCount { identity, boot, written_bytes, size_bytes: 1 << 30 }
    }

    fn after(row: Option<Row>, count: BlockCount) -> Row {
        Row::with(row, count, Millis(7))
    }

    #[test]
    fn what_was_written_before_the_gateway_came_is_not_known() {
        let row = after(None, count(1, 1, 5_000));
        assert_eq!((row.bytes, row.since), (0, Millis(7)));
    }

    #[test]
    fn it_goes_on_within_a_boot_and_over_boots() {
        let row = after(Some(Row::begin(count(1, 1, 5_000), Millis(3))), count(1, 1, 5_600));
        assert_eq!((row.bytes, row.since), (600, Millis(3)));
        // All that the next boot has written so far is new.
        let row = after(Some(row), count(1, 2, 900));
        assert_eq!(row.bytes, 1_500);
        let row = after(Some(row), count(1, 2, 1_000));
        assert_eq!(row.bytes, 1_600);
        // Counted from nothing again.
        let row = after(Some(row), count(1, 2, 40));
        assert_eq!(row.bytes, 1_640);
    }

    #[test]
    fn another_card_has_a_life_of_its_own() {
        let row = after(Some(Row::begin(count(1, 1, 0), Millis(3))), count(1, 1, 600));
        let row = after(Some(row), count(2, 1, 9_000));
        assert_eq!((row.bytes, row.since), (0, Millis(7)));
    }
}
