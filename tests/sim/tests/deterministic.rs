//! Goal: A10, the same seed is the same run, in this process and in another.
//! Method: hashes over all events of whole runs are compared.

use std::process::Command;

use simulator::campaign::run_range;
use simulator::ledger::Line;
use simulator::run;

#[test]
fn the_same_seed_is_the_same_run() {
    let mut hashes = std::collections::BTreeSet::new();
    for seed in 300..306 {
        let (one, two) = (run::run(seed), run::run(seed));
        assert_eq!((one.hash, one.events), (two.hash, two.events), "seed {seed}");
        assert_eq!(one.virtual_us, two.virtual_us, "seed {seed}");
        hashes.insert(one.hash.0);
    }
    assert_eq!(hashes.len(), 6, "other seeds are other runs");
}

#[test]
fn another_process_and_more_threads_change_nothing() {
    let program = env!("CARGO_BIN_EXE_sim");
    let here = run_range(310, 4, 1, "", &|| true, |_| {});
    for threads in ["1", "3"] {
        let args = ["--seeds", "4", "--seed", "310", "--json", "--threads", threads];
        let output = Command::new(program).args(args).output().unwrap();
        let line: Line = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(line, Line::of(&here, &line.core, line.dirty));
    }
}
