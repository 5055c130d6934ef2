//! Medians, the table and the verdict.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::row::{Contender, Machine, Row, median, mib, real};
use super::run::{Load, NARROW, QUIET, STEADY, WIDE};

/// Wanted share of the throughput of Mosquitto with a native handler.
const SHARE: f64 = 0.5;
/// Wanted throughput, where the disk allows it,
const PER_S: f64 = 10_000.0;
/// else this share of what it allows: messages in flight times its sync rate.
const DISK_SHARE: f64 = 0.8;
/// Wanted memory of an idle agent with one function.
const IDLE_MIB: f64 = 10.0;
/// Share of the throughput before a change that is to be left after it.
const KEPT: f64 = 0.9;
/// Wanted for 99 of 100 turns of the loop.
const TURN_MS: f64 = 5.0;
const DAY_S: f64 = 86_400.0;

/// In the order of the table.
const CONTENDERS: [Contender; 3] = [Contender::Holm, Contender::Before, Contender::Native];

/// A figure of a row, where it has it.
type Column = fn(&Row) -> Option<f64>;

/// All rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    file_system: String,
    seconds: u64,
    machines: Vec<Machine>,
    /// Medians by load and contender.
    medians: BTreeMap<String, BTreeMap<String, f64>>,
    rows: Vec<Row>,
}

impl Summary {
    /// Of all rounds.
    #[must_use]
    pub fn new(file_system: String, seconds: u64, machines: Vec<Machine>, rows: Vec<Row>) -> Self {
        let mut summary = Self { file_system, seconds, machines, medians: BTreeMap::new(), rows };
        for load in [WIDE, NARROW, STEADY, QUIET] {
            for contender in CONTENDERS {
                let medians = summary.medians_of(contender, load);
                let key = format!("{} {contender}", load.name);
                summary.medians.extend((!medians.is_empty()).then_some((key, medians)));
            }
        }
        summary
    }

    fn medians_of(&self, contender: Contender, load: Load) -> BTreeMap<String, f64> {
        let columns: [(&str, Column); 7] = [
            ("per_s", |row| Some(row.per_s)),
            ("p50_ms", |row| Some(row.p50_ms)),
            ("p99_ms", |row| Some(row.p99_ms)),
            ("cpu_ms_per_1000", |row| Some(row.cpu_ms_per_1000)),
            ("pss_mib", |row| Some(mib(row.pss_kib))),
            ("disk_bytes_per_message", |row| row.disk_bytes_per_message),
            ("messages_per_sync", |row| row.syncs.map(|n| real(row.sent) / real(n).max(1.0))),
        ];
        let of = |column: Column| {
            let rows = self.rows.iter();
            let rows = rows.filter(|row| row.contender == contender && row.load == load.name);
            median(rows.filter_map(column).collect())
        };
        let medians = columns
            .into_iter()
            .filter_map(|(name, column)| of(column).map(|value| (name.to_owned(), value)));
        medians.collect()
    }

    fn get(&self, load: Load, contender: Contender, column: &str) -> Option<f64> {
        self.medians.get(&format!("{} {contender}", load.name))?.get(column).copied()
    }

    fn machine(&self, column: impl Fn(&Machine) -> f64) -> f64 {
        median(self.machines.iter().map(column).collect()).unwrap_or(0.0)
    }

    fn lost(&self) -> u64 {
        self.rows.iter().map(|row| row.lost + row.strange).sum()
    }

    /// Fewest syncs of a load of Holm.
    fn syncs_least(&self) -> u64 {
        self.rows.iter().filter_map(|row| row.syncs).min().unwrap_or(0)
    }

    /// Nothing lost or wrong, and syncs seen.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.lost() == 0 && self.syncs_least() > 0
    }

    /// The medians, in Markdown.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = format!(
            "medians of {} rounds of {} s; {}; {:.0} syncs/s\n\n\
             | load | contender | messages/s | p50 ms | p99 ms | CPU ms per 1,000 | PSS MiB | \
             bytes per message | messages per sync |\n|---|---|---|---|---|---|---|---|---|\n",
            self.machines.len(),
            self.seconds,
            self.file_system,
            self.machine(|machine| machine.syncs_per_s),
        );
        for load in [WIDE, NARROW, STEADY, QUIET] {
            for contender in CONTENDERS {
                if self.get(load, contender, "per_s").is_none() {
                    continue;
                }
                let cell = |column: &str, digits: usize| {
                    let value = self.get(load, contender, column);
                    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
                };
                // Writing to a string does not fail.
                let _ = writeln!(
                    out,
                    "| {} | {contender} | {} | {} | {} | {} | {} | {} | {} |",
                    load.name,
                    cell("per_s", 0),
                    cell("p50_ms", 2),
                    cell("p99_ms", 2),
                    cell("cpu_ms_per_1000", 0),
                    cell("pss_mib", 1),
                    cell("disk_bytes_per_message", 0),
                    cell("messages_per_sync", 1),
                );
            }
        }
        out
    }

    /// What was wanted, and whether it was reached.
    #[must_use]
    pub fn verdicts(&self) -> Vec<String> {
        let mut verdicts = vec![
            format!(
                "{} lost or wrong: {} of {} messages; repeated outputs: {}",
                word(self.lost() == 0, "FAILED"),
                self.lost(),
                self.rows.iter().map(|row| row.sent).sum::<u64>(),
                self.rows.iter().map(|row| row.repeated).sum::<u64>(),
            ),
            format!(
                "{} syncs seen: {} in all, at least {} in every load of Holm",
                word(self.syncs_least() > 0, "FAILED"),
                self.rows.iter().filter_map(|row| row.syncs).sum::<u64>(),
                self.syncs_least(),
            ),
        ];
        for load in [WIDE, NARROW] {
            verdicts.extend(self.throughput(load));
            verdicts.extend(self.kept(load));
        }
        let idle = self.machine(|machine| mib(machine.idle_pss_kib));
        verdicts.push(format!(
            "{} idle agent with one function: {idle:.1} MiB PSS (aim: under {IDLE_MIB})",
            word(idle < IDLE_MIB, "MISSED"),
        ));
        let turn = |us: u64| real(us) / 1_000.0;
        let p99 = self.machine(|machine| turn(machine.turn_p99_us));
        let longest = self.machines.iter().map(|machine| machine.turn_longest_us).max();
        verdicts.push(format!(
            "{} turns of the agent's loop: 99 of 100 within {p99:.2} ms (wanted: {TURN_MS} ms), the \
             longest {:.1} ms",
            word(p99 < TURN_MS, "MISSED"),
            turn(longest.unwrap_or(0)),
        ));
        if let Some(bytes) = self.get(QUIET, Contender::Holm, "disk_bytes_per_message") {
            let seconds = self.rows.iter().find(|row| row.load == QUIET.name);
            verdicts.push(format!(
                "       at 10 messages/s: {bytes:.0} bytes written per message, {:.2} GB a day \
                 (extrapolated from {:.0} s)",
                bytes * 10.0 * DAY_S / 1e9,
                seconds.map_or(0.0, |row| row.seconds),
            ));
        }
        verdicts.push(
            "       mosquitto + native keeps nothing: a restart loses what it has acked".to_owned(),
        );
        verdicts
    }

    /// Against the build before a change, where one was measured.
    fn kept(&self, load: Load) -> Option<String> {
        let column = |name: &str| {
            let now = self.get(load, Contender::Holm, name)?;
            Some(now / self.get(load, Contender::Before, name)?)
        };
        let (share, cpu) = (column("per_s")?, column("cpu_ms_per_1000")?);
        Some(format!(
            "{} {}: {share:.2}x the throughput before (wanted: {KEPT}x), {cpu:.2}x the CPU per message",
            word(share >= KEPT, "MISSED"),
            load.name,
        ))
    }

    fn throughput(&self, load: Load) -> Option<String> {
        let own = self.get(load, Contender::Holm, "per_s")?;
        let peer = self.get(load, Contender::Native, "per_s")?;
        let in_flight = f64::from(load.connections) * f64::from(load.in_flight);
        let disk = in_flight * self.machine(|machine| machine.syncs_per_s);
        let wanted = PER_S.min(DISK_SHARE * disk);
        Some(format!(
            "{} {}: {own:.0}/s durable is {:.2}x mosquitto + native (wanted: {SHARE}x)\n\
             {} {}: {own:.0}/s durable (wanted: {wanted:.0}/s, the lower of {PER_S:.0}/s and {:.0} % \
             of {in_flight:.0} in flight x the disk's syncs/s)",
            word(own >= SHARE * peer, "MISSED"),
            load.name,
            own / peer,
            word(own >= wanted, "MISSED"),
            load.name,
            DISK_SHARE * 100.0,
        ))
    }
}

fn word(is_met: bool, otherwise: &'static str) -> &'static str {
    if is_met { "ok    " } else { otherwise }
}

#[cfg(test)]
mod tests;
