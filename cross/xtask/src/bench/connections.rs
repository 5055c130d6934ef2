//! `cargo xtask bench connections`: many idle and busy connections, and many passwords at once.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use system_tests::author::{Author, fixture};
use system_tests::connections::{self, Bounds, Plan};

use crate::setup::{self, Agent};

/// Options of `cargo xtask bench connections`.
#[derive(Args)]
#[command(after_help = "\
Progress goes to standard error, the table or JSON to standard output. It fails if a connection is lost, a
publish or ping is not answered, a storm takes longer than 60 s, or the observers' p99 during a storm is over
--p99-ms.

Examples:
  cargo xtask bench connections
  cargo xtask bench connections --idle 500 --busy 100 --hold-s 10     a quick look
  cargo xtask bench connections --tls --json > connections.json")]
pub(crate) struct ConnectionsArgs {
    /// Idle connections, held to the end.
    #[arg(long, default_value_t = 5_000)]
    idle: usize,
    /// Clients with passwords that come at once, and then are busy.
    #[arg(long, default_value_t = 1_000)]
    busy: usize,
    /// Clients that publish ten times a second all the time and watch how long it takes.
    #[arg(long, default_value_t = 20)]
    observers: usize,
    /// Seconds to watch the idle before anything else, and seconds that the busy are busy.
    #[arg(long, default_value_t = 60)]
    hold_s: u64,
    /// Milliseconds between the publishes of each busy client.
    #[arg(long, default_value_t = 1_000)]
    every_ms: u64,
    /// Everything over TLS 1.3.
    #[arg(long)]
    tls: bool,
    /// Milliseconds allowed to the observers' p99 during a storm.
    #[arg(long, default_value_t = 100)]
    p99_ms: u64,
    /// Print one JSON document instead of the table.
    #[arg(long)]
    json: bool,
    /// Where the gateway lives meanwhile; emptied first.
    #[arg(long, default_value = ".holm/bench/connections")]
    dir: PathBuf,
}

/// Measures, prints, and fails where the figures are not as they have to be.
pub(crate) fn run(args: &ConnectionsArgs) -> Result<()> {
    setup::programs(Agent::Shipped)?;
    let dir = setup::empty_dir(&args.dir)?;
    let author = Author::new(&dir.join("author"))?;
    let plan = Plan {
        dir,
        bundle: author.build(&fixture("apps/counter"))?,
        author_key: author.key()?,
        idle: args.idle,
        busy: args.busy,
        observers: args.observers,
        hold: Duration::from_secs(args.hold_s),
        busy_every: Duration::from_millis(args.every_ms),
        tls: args.tls,
    };
    let report = connections::run(&plan, &|step| eprintln!("... {step}"))?;
    let bounds = Bounds {
        storm_max: Duration::from_secs(60),
        observer_p99_max: Duration::from_millis(args.p99_ms),
    };
    let problems = report.problems(&bounds);
    if args.json {
        let report = serde_json::json!({ "report": report, "problems": problems });
        println!("{report:#}");
    } else {
        println!("\n{report}");
        problems.iter().for_each(|problem| println!("PROBLEM: {problem}"));
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!("{} problem(s), listed above", problems.len())
}
