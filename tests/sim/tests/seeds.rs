//! Goal: whatever goes wrong in whatever order, the oracles A1 to A12 hold.
//! Method: 200 seeds, and every seed that ever failed.

use simulator::campaign::run_range;
use simulator::{known, run};

#[test]
fn two_hundred_seeds_hold() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let summary = run_range(1, 200, threads, "", &|| true, |_| {});
    let failures: Vec<_> =
        summary.failures.iter().map(|report| (report.seed, report.failure.clone())).collect();
    assert_eq!(failures, [], "run one again with `cargo xtask sim --seeds 1 --seed N`");
    // A simulation in which nothing goes wrong proves nothing.
    for what in [
        "power-cut",
        "process-end",
        "store-failed",
        "write-lost",
        "write-torn",
        "sync-failed",
        "disk-full",
        "disk-read-only",
        "connection-cut",
        "link-cut",
        "repeat",
        "dead-lettered",
        "outbox-dropped",
        "cloud-restored",
        "desired",
        "outcome-discarded",
        "held",
        "shed",
        "batch",
        "batch-halved",
    ] {
        assert!(summary.faults.get(what).copied().unwrap_or(0) > 0, "no {what} in 200 seeds");
    }
}

#[test]
fn seeds_that_failed_once_hold() {
    let seeds = known::parse(&std::fs::read_to_string(known::path()).unwrap()).unwrap();
    for seed in seeds {
        let report = run::run(seed);
        assert_eq!(report.failure, None, "seed {seed}");
    }
}
