//! `cargo xtask bench reopen`: the first ack after a SIGKILL with a full outbox, on one core.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use system_tests::reopen;

use crate::setup::{self, Agent};

/// The promise.
const FIRST_ACK_MAX: Duration = Duration::from_secs(5);

/// Options of `cargo xtask bench reopen`.
#[derive(Args)]
#[command(after_help = "\
A function fills the outbox with records of 1 KiB; then the gateway is killed and started on core 0
alone (`taskset`), once with its files in the page cache and once without. Needs 2.5 times the size
on the disk.

Examples:
  cargo xtask bench reopen
  cargo xtask bench reopen --gib 0.25")]
pub(crate) struct ReopenArgs {
    /// Size of the outbox in GiB.
    #[arg(long, default_value_t = 1.0)]
    gib: f64,
}

/// Measures, prints, and fails over 5 s.
pub(crate) fn run(args: &ReopenArgs) -> Result<()> {
    ensure!((0.01..=8.0).contains(&args.gib), "--gib must be from 0.01 to 8");
    setup::programs(Agent::Shipped)?;
    let dir = setup::empty_dir(Path::new(".holm/reopen"))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    let bytes = (args.gib * f64::from(1 << 30)) as u64;
    let figures = reopen::measure(&dir, bytes, |there| {
        print!("\r  filling: {:>5} of {} MiB", there >> 20, bytes >> 20);
        let _ = std::io::stdout().flush();
    })?;
    println!();
    println!("  records in the outbox        {:>10}", figures.records);
    println!("  bytes of the outbox          {:>10} MiB", figures.outbox_bytes >> 20);
    println!("  bytes of the store's files   {:>10} MiB", figures.store_bytes >> 20);
    println!("  first ack, files in cache    {:>10.2} s", figures.warm.as_secs_f64());
    println!("  first ack, files from disk   {:>10.2} s", figures.cold.as_secs_f64());
    std::fs::remove_dir_all(&dir)?;
    let worst = figures.warm.max(figures.cold);
    ensure!(worst <= FIRST_ACK_MAX, "the first ack took {worst:?}, over {FIRST_ACK_MAX:?}");
    println!("OK: within {FIRST_ACK_MAX:?} on one core");
    Ok(())
}
