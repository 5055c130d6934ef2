//! Many connections at once, in the small. The figures: `cargo xtask bench connections`.

use std::time::Duration;

use anyhow::Result;
use system_tests::connections::{self, Bounds, Plan, Report};

use crate::support::{author, bundle};

fn run(plan: &Plan) -> Result<Report> {
    let report = connections::run(plan, &|_| ())?;
    // Wide: other tests run beside this one. The benchmark asks for what users were promised.
    let bounds =
        Bounds { storm_max: Duration::from_secs(60), observer_p99_max: Duration::from_secs(2) };
    assert_eq!(report.problems(&bounds), Vec::<String>::new(), "\n{report}");
    Ok(report)
}

fn plan(dir: &std::path::Path) -> Result<Plan> {
    Ok(Plan {
        dir: dir.to_owned(),
        bundle: bundle("counter"),
        author_key: author().key()?,
        idle: 1_100,
        busy: 60,
        observers: 5,
        hold: Duration::from_secs(3),
        busy_every: Duration::from_millis(200),
        tls: false,
    })
}

/// More than the 1,024 open files that the agent is started with: it raises its own limit.
#[test]
fn idle_busy_and_password_clients_are_held() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let plan = plan(dir.path())?;
    let report = run(&plan)?;
    assert_eq!(report.idle.connections, plan.idle);
    assert!(report.idle.pings >= plan.idle as u64, "{report}");
    assert_eq!(report.busy.connections, plan.busy);
    assert!(report.busy.acked >= plan.busy as u64, "{report}");
    let [first, second] = report.storms.as_slice() else { panic!("{report}") };
    assert_eq!((first.connected, second.connected), (plan.busy, plan.busy));
    // 60 times argon2 against 60 times a keyed hash.
    assert!(second.took_s < first.took_s / 2.0, "{report}");
    Ok(())
}

#[test]
fn they_are_held_over_tls_too() -> Result<()> {
    let dir = tempfile::tempdir()?;
    run(&Plan { idle: 100, busy: 30, tls: true, ..plan(dir.path())? }).map(|_| ())
}
