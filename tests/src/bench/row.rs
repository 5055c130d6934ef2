//! What is kept of each round, and the sums that figures are made of.

use std::fmt;

use serde::Serialize;

use super::contender::Stored;
use super::ledger::Id;
use super::load::Outcome;

/// Lost ids that a row names.
const LOST_NAMED: usize = 10;

/// Who was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Contender {
    /// Holm, durable.
    Holm,
    /// Another build of Holm, durable.
    Before,
    /// Mosquitto with a native handler, volatile.
    Native,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Holm => "holm (durable)",
            Self::Before => "holm before (durable)",
            Self::Native => "mosquitto + native (volatile)",
        })
    }
}

/// Facts of a round: the machine at its begin, and the agent over all its loads.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The round.
    pub round: u32,
    /// Of the last minute: above 0 others were at work.
    pub load_average: f64,
    /// The disk: 4 KiB and `fdatasync`.
    pub syncs_per_s: f64,
    /// An idle agent with one function.
    pub idle_pss_kib: u64,
    /// Turns of the agent's loop: 99 of 100 took at most this.
    pub turn_p99_us: u64,
    /// The longest turn.
    pub turn_longest_us: u64,
}

/// One load of one contender in one round.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The round.
    pub round: u32,
    /// Who.
    pub contender: Contender,
    /// The load's name.
    pub load: &'static str,
    /// Measured time.
    pub seconds: f64,
    /// Over the whole load: sent by the publishers.
    pub sent: u64,
    /// Acked.
    pub acked: u64,
    /// Outputs that had to come.
    pub expected: u64,
    /// Outputs that came at least once.
    pub received: u64,
    /// Not acked, or without its output.
    pub lost: u64,
    /// The first of them: connection and number.
    pub lost_ids: Vec<(u16, u32)>,
    /// Outputs that came again.
    pub repeated: u64,
    /// Acks and outputs that belong to nothing or are wrong.
    pub strange: u64,
    /// Finished messages a second in the measured time.
    pub per_s: f64,
    /// Milliseconds from sending to the output, median.
    pub p50_ms: f64,
    /// The same, 99th percentile.
    pub p99_ms: f64,
    /// CPU of the contender's processes per 1,000 messages, in ms.
    pub cpu_ms_per_1000: f64,
    /// Their memory after the load (PSS).
    pub pss_kib: u64,
    /// Bytes per message that the kernel counts as written by the processes.
    pub kernel_bytes_per_message: f64,
    /// Bytes per message that reach the device by the store's own count; gateways only.
    pub disk_bytes_per_message: Option<f64>,
    /// Syncs during the load; gateways only.
    pub syncs: Option<u64>,
}

impl Row {
    /// From what a load came to.
    #[must_use]
    pub fn new(
        (round, contender, load): (u32, Contender, &'static str),
        outcome: &Outcome,
        stored: Option<Stored>,
        written: u64,
        pss_kib: u64,
    ) -> Self {
        let judgement = &outcome.judgement;
        let seconds = outcome.window.as_secs_f64();
        let named = judgement.lost.iter().take(LOST_NAMED);
        let ms = |percent| f64::from(percentile(&outcome.latencies_us, percent)) / 1_000.0;
        let per_message = |bytes| real(bytes) / real(judgement.sent).max(1.0);
        Self {
            round,
            contender,
            load,
            seconds,
            sent: judgement.sent,
            acked: judgement.acked,
            expected: judgement.expected,
            received: judgement.received,
            lost: judgement.lost.len() as u64,
            lost_ids: named.map(|Id { connection, n }| (*connection, *n)).collect(),
            repeated: judgement.repeated,
            strange: judgement.strange,
            per_s: real(outcome.finished) / seconds,
            p50_ms: ms(50),
            p99_ms: ms(99),
            cpu_ms_per_1000: outcome.used.cpu_ms * 1_000.0 / real(outcome.finished).max(1.0),
            pss_kib,
            kernel_bytes_per_message: per_message(written),
            disk_bytes_per_message: stored.map(|stored| per_message(stored.disk_bytes)),
            syncs: stored.map(|stored| stored.syncs),
        }
    }

    /// The row for people.
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            "{:<9} {:<30} {:>7.0}/s  p50 {:>7.2} ms  p99 {:>7.2} ms  CPU {:>5.0} ms/1,000  lost {}",
            self.load,
            self.contender.to_string(),
            self.per_s,
            self.p50_ms,
            self.p99_ms,
            self.cpu_ms_per_1000,
            self.lost
        )
    }
}

/// The value at or below which so many percent of an ascending list lie (nearest rank); 0 for an
/// empty one.
#[must_use]
pub fn percentile(ascending: &[u32], percent: usize) -> u32 {
    let rank = (ascending.len() * percent).div_ceil(100).max(1);
    ascending.get(rank - 1).copied().unwrap_or(0)
}

/// The middle value; of an even number of values the mean of the two in the middle.
#[must_use]
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) =
        (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

/// KiB as MiB.
#[must_use]
pub fn mib(kib: u64) -> f64 {
    real(kib) / 1_024.0
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub(super) fn real(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let hundred: Vec<u32> = (1..=100).collect();
        assert_eq!((percentile(&hundred, 50), percentile(&hundred, 99)), (50, 99));
        assert_eq!((percentile(&[7], 50), percentile(&[7], 99)), (7, 7));
        assert_eq!(percentile(&[1, 2, 3], 50), 2);
        assert_eq!(percentile(&[], 99), 0);
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![9.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }
}
