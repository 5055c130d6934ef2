//! Many seeds: running them, and what they come to together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::book::Hash;
use crate::run::{self, Report};

/// What a range of seeds came to.
#[derive(Clone, Debug)]
pub struct Summary {
    /// First seed.
    pub from: u64,
    /// Seeds that were run: `from..from + seeds`.
    pub seeds: u64,
    /// Virtual time in microseconds.
    pub virtual_us: u64,
    /// Events that oracles saw.
    pub events: u64,
    /// Hash over the hashes of the seeds, in their order.
    pub hash: Hash,
    /// Faults that were injected, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Reports of the seeds that failed.
    pub failures: Vec<Report>,
}

impl Summary {
    /// Of no seeds.
    #[must_use]
    pub fn new(from: u64) -> Self {
        Self {
            from,
            seeds: 0,
            virtual_us: 0,
            events: 0,
            hash: Hash::EMPTY,
            faults: BTreeMap::new(),
            failures: Vec::new(),
        }
    }

    /// Takes in the report of the next seed.
    pub fn add(&mut self, report: Report) {
        assert_eq!(report.seed, self.from + self.seeds, "seeds come in order");
        self.seeds += 1;
        self.virtual_us += report.virtual_us;
        self.events += report.events;
        self.hash = self.hash.and(&report.hash.0.to_be_bytes());
        for (what, count) in &report.faults {
            *self.faults.entry(what).or_default() += count;
        }
        if report.failure.is_some() {
            self.failures.push(report);
        }
    }

    /// Simulated hours.
    #[must_use]
    pub fn hours(&self) -> f64 {
        self.virtual_us as f64 / 3.6e9
    }
}

/// Runs seeds from `from` on, at most `seeds`, until `go_on` says no. Each seed runs in one thread;
/// what it comes to does not depend on how many there are. `each` sees the reports in the order of
/// the seeds.
pub fn run_range(
    from: u64,
    seeds: u64,
    threads: usize,
    bug: &str,
    go_on: &(dyn Fn() -> bool + Sync),
    mut each: impl FnMut(&Report),
) -> Summary {
    let mut summary = Summary::new(from);
    let next = AtomicU64::new(0);
    let (done, reports) = mpsc::channel::<Report>();
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (done, next) = (done.clone(), &next);
            scope.spawn(move || {
                while go_on() {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    // Whoever waits for the reports is gone only after a panic of its own.
                    if n >= seeds || done.send(run::run_with(from + n, bug)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        let mut early: BTreeMap<u64, Report> = BTreeMap::new();
        for report in reports {
            early.insert(report.seed, report);
            while let Some(report) = early.remove(&(from + summary.seeds)) {
                each(&report);
                summary.add(report);
            }
        }
    });
    summary
}
