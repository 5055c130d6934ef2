//! `cargo xtask test`: all tests of the workspace, with what they need.

use anyhow::{Result, bail};
use clap::Args;
use system_tests::crash::disk;
use system_tests::host;

use crate::command::{cargo, run as run_command};
use crate::setup::{self, Agent, Part};

/// Options of `cargo xtask test`.
#[derive(Args)]
pub(crate) struct TestArgs {
    /// Install missing Debian packages (needs root; as root it is the default).
    #[arg(long)]
    install: bool,
}

/// Runs everything; ends with a line that counts what was skipped.
pub(crate) fn run_line(skipped: &[&Part]) -> String {
    format!("{} skipped: install them with `{}`", skipped.len(), setup::apt_line(skipped))
}

/// Runs everything.
pub(crate) fn run(args: &TestArgs) -> Result<()> {
    let skipped = setup::offer(setup::PARTS, args.install)?;
    setup::programs(Agent::Planted)?;
    let mut tests = cargo(&["test", "--workspace", "--no-fail-fast"]);
    let without: Vec<_> = skipped.iter().map(|part| part.suite).collect();
    tests.env("HOLM_WITHOUT", without.join(","));
    run_command(tests)?;
    // These have locks and profiles of their own, as firmware has: its library in C, and what keeps a function's state in flash.
    for words in [
        ["--manifest-path", "device-sdk/c/Cargo.toml"].as_slice(),
        &["--manifest-path", "firmware-examples/device-function/Cargo.toml", "--features", "store"],
    ] {
        run_command(cargo(&[&["test", "--locked"], words].concat()))?;
    }
    // With planted bugs: the check of syncs must find an early ack, the simulator each of them.
    run_command(cargo(&[
        "test",
        "--workspace",
        "--features",
        "simulator/plant",
        "--test",
        "sync",
        "--test",
        "mutations",
    ]))?;
    if let Some(why) = disk::why_no_small_disk() {
        // In CI the test itself fails.
        println!(
            "skipped `a_full_disk_stops_acks_and_heals`: {why} (`cargo xtask kill --full-disk`)"
        );
    }
    if let Some(why) = host::why_not() {
        println!("skipped the crash replay: {why} (`cargo xtask crash-replay`)");
    }
    if skipped.is_empty() {
        return Ok(());
    }
    for part in &skipped {
        println!("skipped suite `{}`: needs {}", part.suite, part.program);
    }
    println!("{}", run_line(&skipped));
    if std::env::var_os("CI").is_some() {
        bail!("in CI a skipped suite is a failure");
    }
    Ok(())
}
