//! Goal: what a seed meets rarely holds as well.
//! Method: plans made by hand, with one kind of fault again and again.

use simulator::disk::DiskFaults;
use simulator::plan::{Every, Plan, Ratios};
use simulator::run;
use simulator::time::SECOND;

/// A process that dies during an attempt, again during the same one, and tells of the dead letter at
/// its next start, while the link may be up before the first batch is durable.
#[test]
fn what_a_start_tells_the_cloud_is_sent_though_the_link_is_faster_than_the_disk() {
    for seed in 1..=30 {
        let plan = Plan {
            faults_us: 120 * SECOND,
            publish_us: SECOND,
            ratios: Ratios { linger: 600_000, ..Ratios::default() },
            disk: DiskFaults::default(),
            every: Every { kill_us: 4 * SECOND, ..Every::default() },
            ..Plan::new(seed)
        };
        let report = run::run_plan(plan);
        assert_eq!(report.failure, None, "seed {seed}");
    }
}
