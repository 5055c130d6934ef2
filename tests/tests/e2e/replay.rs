//! The small version of `cargo xtask crash-replay`.

use std::path::Path;

use anyhow::Result;
use system_tests::host;
use system_tests::interrupt::Interrupt;
use system_tests::replay::{self, Options};

use crate::support::planted_agent;

/// Whether the host cannot do it: then that is said, here and by `cargo xtask test`. The long run,
/// `cargo xtask crash-replay`, fails for it in CI.
fn is_skipped() -> bool {
    let Some(why) = host::why_not() else { return false };
    eprintln!("skipped: {why}");
    true
}

fn options(dir: &Path, points: usize) -> Options {
    Options {
        dir: dir.to_owned(),
        seed: 1,
        points,
        whole_every: points / 2,
        messages: 300,
        only: None,
        disk_lies: false,
        agent: "edge-agent".to_owned(),
        plant: None,
        again: false,
        keep: false,
        json: false,
    }
}

/// Whatever the power cut leaves, what was acked is there, whole and once. The same record on a disk that did not do its
/// last flushes is convicted.
#[test]
fn what_was_acked_survives_power_cuts() -> Result<()> {
    if is_skipped() {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let kept = Options { keep: true, ..options(dir.path(), 30) };
    let mut tell = |line: &str| println!("{line}");
    let report = replay::run(&kept, &Interrupt::default(), &mut tell)?;
    println!("{}", report.table());
    assert_eq!(report.problems(), [] as [String; 0]);
    assert_eq!(report.points.len(), 30);
    assert!(report.points.iter().any(|point| point.whole && point.acks > 0), "{report:?}");

    let lies = Options { disk_lies: true, again: true, whole_every: usize::MAX, ..kept };
    let report = replay::run(&lies, &Interrupt::default(), &mut tell)?;
    // Messages that are not there, or a store that sees that some are missing and does not open.
    assert_ne!(report.problems(), [] as [String; 0], "{}", report.table());
    let one =
        report.points.iter().find(|point| !point.problems.is_empty()).expect("a cut that lost");
    let only = Options { only: Some(one.number), ..lies };
    let again = replay::run(&only, &Interrupt::default(), &mut tell)?;
    let found: Vec<_> = again.points.iter().map(|point| (point.at, &point.problems)).collect();
    assert_eq!(found, [(one.at, &one.problems)], "the same cut leaves the same");
    Ok(())
}

/// An agent that acks before it commits does not get through.
#[test]
fn an_ack_before_its_commit_is_convicted() -> Result<()> {
    let Some(agent) = planted_agent() else { return Ok(()) };
    if is_skipped() {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let planted = Options {
        agent,
        plant: Some("ack-before-commit".to_owned()),
        whole_every: usize::MAX,
        ..options(dir.path(), 20)
    };
    let report = replay::run(&planted, &Interrupt::default(), &mut |line| println!("{line}"))?;
    assert!(report.lost(), "{}", report.table());
    Ok(())
}
