//! `cargo xtask bench wear`: what a gateway writes to its flash.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use serde_json::{Value, json};
use system_tests::crash::disk::{SmallDisk, why_no_small_disk};
use system_tests::wear::{self, Figures, Plan, Written};

use crate::setup::{self, Agent};

/// Bytes for a message, at most: each alone, and written together once a second.
const ALONE_BYTES_MAX: u64 = 8 << 10;
const TOGETHER_BYTES_MAX: u64 = 1_500;
/// Bytes in an idle hour, at most.
const IDLE_BYTES_MAX: u64 = 1 << 20;
const MESSAGES_PER_S: u32 = 20;
/// From none to many messages in a batch.
const INTERVALS_MS: [u64; 3] = [0, 100, 1_000];
/// The file system that is made where that is allowed. Below 512 MiB ext4 has blocks of 1 KiB, and no card is so small.
const CARD_BYTES: u64 = 1 << 30;

/// Options of `cargo xtask bench wear`.
#[derive(Args)]
#[command(after_help = "\
20 messages a second, each of which has a function record 100 bytes, to a gateway that writes at once
and to others that wait (`commit_interval` of `[disk]`); then nothing happens for a while. `store` is
what the store wrote, in whole blocks of 4 KiB; `device` what the block device took, with the file system's
own book-keeping. As root, that is an ext4 of each gateway's own on a loop device, and judged; else the disk below
the checkout, to which others write too, and `store` is judged.

Examples:
  cargo xtask bench wear
  cargo xtask bench wear --seconds 300 --idle 600
  cargo xtask bench wear --json > wear.json")]
pub(crate) struct WearArgs {
    /// How long messages come, for each interval, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(5..=3_000))]
    seconds: u16,
    /// How long nothing happens after them, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(10..=7_200))]
    idle: u16,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// A gateway with an interval, and what it came to.
struct Row {
    interval_ms: u64,
    figures: Figures,
    /// Whether the device is the gateway's own.
    has_card: bool,
}

impl Row {
    /// Measures, on a card of its own if that can be had.
    fn measure(dir: &Path, plan: Plan, has_card: bool) -> Result<Self> {
        let interval_ms = plan.interval_ms;
        let data = dir.join(format!("{interval_ms}-ms"));
        let image = data.with_extension("img");
        let card = has_card.then(|| SmallDisk::mount(&image, &data, CARD_BYTES)).transpose()?;
        let figures = wear::measure(&data.join("bench"), plan)?;
        drop(card);
        Ok(Self { interval_ms, figures, has_card })
    }

    fn judged(&self, written: Written) -> u64 {
        written.device.filter(|_| self.has_card).unwrap_or(written.store)
    }

    fn json(&self) -> Value {
        let Figures { per_message, per_idle_hour, syncs, ack_median } = self.figures;
        let bytes = |written: Written| {
            json!({
                "store": written.store, "device": written.device, "judged": self.judged(written),
            })
        };
        json!({
            "commit_interval_ms": self.interval_ms, "own_device": self.has_card, "syncs": syncs,
            "message_bytes": bytes(per_message), "idle_hour_bytes": bytes(per_idle_hour),
            "ack_median_ms": ack_median.as_secs_f64() * 1e3,
        })
    }

    fn print(&self) {
        let Figures { per_message, per_idle_hour, syncs, ack_median } = self.figures;
        let shown = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), |n| n.to_string());
        println!(
            "  {:>5} ms  {:>7}  {:>7}  {syncs:>5}  {:>7} ms  {:>12} {:>12}",
            self.interval_ms,
            per_message.store,
            shown(per_message.device),
            ack_median.as_millis(),
            per_idle_hour.store,
            shown(per_idle_hour.device),
        );
    }
}

/// Measures, prints, and fails over a budget.
pub(crate) fn run(args: &WearArgs) -> Result<()> {
    setup::programs(Agent::Shipped)?;
    let dir = setup::empty_dir(Path::new(".holm/wear"))?;
    let why_not = why_no_small_disk();
    if let Some(why) = why_not {
        eprintln!("{why}: `device` is the disk below the checkout, and `store` is judged");
    }
    let messages = u16::try_from(MESSAGES_PER_S)? * args.seconds;
    let idle = Duration::from_secs(args.idle.into());
    eprintln!("{} minutes", (args.seconds + args.idle) / 60 + 6);
    let rows = thread::scope(|scope| {
        let begin = |interval_ms| {
            let plan = Plan { interval_ms, messages, rate: MESSAGES_PER_S, idle };
            let dir = &dir;
            scope.spawn(move || Row::measure(dir, plan, why_not.is_none()))
        };
        let rows: Vec<_> = INTERVALS_MS.into_iter().map(begin).collect();
        let ended = rows.into_iter().map(|row| row.join().map_err(|_| anyhow!("it panicked"))?);
        ended.collect::<Result<Vec<_>>>()
    })?;
    std::fs::remove_dir_all(&dir)?;
    if args.json {
        let budgets = json!({
            "alone_bytes": ALONE_BYTES_MAX, "together_bytes": TOGETHER_BYTES_MAX, "idle_hour_bytes": IDLE_BYTES_MAX,
        });
        let rows: Vec<_> = rows.iter().map(Row::json).collect();
        println!("{:#}", json!({ "intervals": rows, "budgets": budgets }));
    } else {
        println!("            bytes for a message                       bytes in an idle hour");
        println!("  interval    store   device  syncs  median ack         store       device");
        rows.iter().for_each(Row::print);
    }
    judge(&rows)?;
    if !args.json {
        println!("OK: within {ALONE_BYTES_MAX}, {TOGETHER_BYTES_MAX} and {IDLE_BYTES_MAX} bytes");
    }
    Ok(())
}

fn judge(rows: &[Row]) -> Result<()> {
    let per_message = |row: &Row| row.judged(row.figures.per_message);
    let bound = |name: &str, bytes: Option<u64>, max: u64| {
        let bytes = bytes.context("nothing was measured")?;
        ensure!(bytes <= max, "{bytes} B {name}, over {max} B");
        Ok(())
    };
    bound("for a message alone", rows.first().map(per_message), ALONE_BYTES_MAX)?;
    bound("for one of many", rows.last().map(per_message), TOGETHER_BYTES_MAX)?;
    let idle = rows.iter().map(|row| row.judged(row.figures.per_idle_hour)).max();
    bound("in an idle hour", idle, IDLE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_data_and_tell_what_is_judged() {
        let written = |store, device| Written { store, device };
        let figures = Figures {
            per_message: written(4_000, Some(6_000)),
            syncs: 7,
            ack_median: Duration::from_micros(1_500),
            per_idle_hour: written(100, None),
        };
        let row = Row { interval_ms: 100, figures, has_card: true };
        let told = row.json();
        assert_eq!(
            (&told["message_bytes"]["judged"], &told["ack_median_ms"]),
            (&6_000.into(), &1.5.into())
        );
        assert_eq!(
            (&told["idle_hour_bytes"]["judged"], &told["idle_hour_bytes"]["device"]),
            (&100.into(), &Value::Null)
        );
        let error = judge(&[Row {
            figures: Figures { per_message: written(9_000, None), ..figures },
            ..row
        }]);
        assert_eq!(error.expect_err("over").to_string(), "9000 B for a message alone, over 8192 B");
    }
}
