//! `cargo xtask bench wear`: what a gateway writes to its flash.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use system_tests::crash::disk::{SmallDisk, why_no_small_disk};
use system_tests::wear::{self, Figures, Plan, Written};

use crate::setup::{self, Agent};

/// Bytes for a message, at most: each alone, and written together once a second.
const ALONE_BYTES_MAX: u64 = 8 << 10;
const TOGETHER_BYTES_MAX: u64 = 1_500;
/// Bytes in an idle hour, at most.
const IDLE_BYTES_MAX: u64 = 1 << 20;
const MESSAGES_PER_S: u32 = 20;
/// The file system that is made where that is allowed. Below 512 MiB ext4 has blocks of 1 KiB, and no card is so small.
const CARD_BYTES: u64 = 1 << 30;

/// Options of `cargo xtask bench wear`.
#[derive(Args)]
#[command(after_help = "\
20 messages a second, each of which has a function record 100 bytes, to a gateway that writes at once
and to others that wait (`commit_interval` of `[disk]`); then nothing happens for a while. `store` is
what the store wrote, in whole blocks of 4 KiB; `device` what the block device took, with the file system's
own book-keeping. As root, that is an ext4 of its own on a loop device, and judged; else the disk below
the checkout, to which others write too, and `store` is judged.

Examples:
  cargo xtask bench wear
  cargo xtask bench wear --seconds 300 --idle 600")]
pub(crate) struct WearArgs {
    /// How long messages come, for each interval, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(5..=3_000))]
    seconds: u16,
    /// How long nothing happens after them, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(10..=7_200))]
    idle: u16,
}

/// Measures, prints, and fails over a budget.
pub(crate) fn run(args: &WearArgs) -> Result<()> {
    setup::programs(Agent::Shipped)?;
    let dir = setup::empty_dir(Path::new(".holm/wear"))?;
    let data = dir.join("card");
    let card = match why_no_small_disk() {
        None => Some(SmallDisk::mount(&dir.join("card.img"), &data, CARD_BYTES)?),
        Some(why) => {
            println!("{why}: `device` is the disk below the checkout, and `store` is judged");
            None
        }
    };
    let judged = |written: Written| match (&card, written.device) {
        (Some(_), Some(device)) => device,
        _ => written.store,
    };
    let messages = u16::try_from(MESSAGES_PER_S)? * args.seconds;
    let idle = Duration::from_secs(args.idle.into());
    println!("            bytes for a message                       bytes in an idle hour");
    println!("  interval    store   device  syncs  median ack         store       device");
    let mut worst_idle = 0;
    let mut per_message = Vec::new();
    for interval_ms in [0, 100, 1_000] {
        let plan = Plan { interval_ms, messages, rate: MESSAGES_PER_S, idle };
        let figures = wear::measure(&data.join(format!("{interval_ms}-ms")), plan)?;
        let Figures { per_message: each, per_idle_hour: hour, .. } = figures;
        println!(
            "  {interval_ms:>5} ms  {:>7}  {:>7}  {:>5}  {:>7} ms  {:>12} {:>12}",
            each.store,
            shown(each.device),
            figures.syncs,
            figures.ack_median.as_millis(),
            hour.store,
            shown(hour.device),
        );
        worst_idle = worst_idle.max(judged(hour));
        per_message.push(judged(each));
    }
    drop(card);
    std::fs::remove_dir_all(&dir)?;
    let (alone, together) = (per_message[0], per_message[2]);
    ensure!(alone <= ALONE_BYTES_MAX, "{alone} B for a message alone, over {ALONE_BYTES_MAX} B");
    ensure!(
        together <= TOGETHER_BYTES_MAX,
        "{together} B for one of many, over {TOGETHER_BYTES_MAX} B"
    );
    ensure!(
        worst_idle <= IDLE_BYTES_MAX,
        "{worst_idle} B in an idle hour, over {IDLE_BYTES_MAX} B"
    );
    println!("OK: within {ALONE_BYTES_MAX}, {TOGETHER_BYTES_MAX} and {IDLE_BYTES_MAX} bytes");
    Ok(())
}

fn shown(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string())
}
