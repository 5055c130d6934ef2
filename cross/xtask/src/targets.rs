//! `cargo xtask targets`: builds the agent for each target, holds it to its budget, and runs it.

pub(crate) mod app;
pub(crate) mod build;
mod elf;
pub(crate) mod guest;
pub(crate) mod layout;
pub(crate) mod list;
mod scenario;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use clap::Args;
use serde::Serialize;

use self::app::App;
use self::build::Built;
use self::list::{Route, TARGETS, Target};
use self::scenario::{Plan, Seen};
use crate::setup;

const EXAMPLES: &str = "\
Builds edge-agent in the profile `dist` (small, stripped) and fails where a program is over its budget, or needs more of
the system than it may: targets with musl are static, targets with glibc start with glibc 2.28. Then the program runs, in
QEMU's user mode where this machine is another one: it takes a function, messages in, results out, SIGKILL, and goes on
counting where it was. Times are those of the emulator and say nothing about a board.

  ready    from the start of the process to a port that answers
  deploy   verify, compile and try a function
  result   from a message to its result

Examples:
  cargo xtask targets                                        all: about 10 minutes each on 2 cores
  cargo xtask targets --only aarch64-unknown-linux-musl
  cargo xtask targets --build-only
  cargo xtask targets --no-build --json                      run what was built last
";

/// Options of `cargo xtask targets`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TargetsArgs {
    /// Only this target.
    #[arg(long, value_name = "TARGET")]
    only: Option<String>,
    /// Build and judge, run nothing: no emulator is needed.
    #[arg(long)]
    build_only: bool,
    /// Take all programs as they were built last, those of this machine among them.
    #[arg(long, conflicts_with = "build_only")]
    no_build: bool,
    /// Print the rows as JSON, a line each.
    #[arg(long)]
    json: bool,
    /// Install missing Debian packages (needs root; as root it is the default).
    #[arg(long)]
    install: bool,
    /// Where gateways keep their data and logs.
    #[arg(long, default_value = ".holm/targets")]
    dir: PathBuf,
}

/// What came of a target.
#[derive(Debug, Serialize)]
struct Row {
    target: &'static str,
    bytes: Option<u64>,
    budget: u64,
    digest: Option<String>,
    file: Option<String>,
    #[serde(flatten)]
    seen: Option<Seen>,
    outcome: Outcome,
    /// Why it is no pass.
    why: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    /// Built, within budget, and it did what it has to; or only built, where that was asked for.
    Pass,
    Built,
    Fail,
    /// It could not be tried here: as good as not delivered.
    Skip,
    /// Nobody builds it.
    Untested,
}

/// Builds, runs, judges.
///
/// # Errors
/// A target fails; in CI, also where one is skipped.
pub(crate) fn run(args: &TargetsArgs) -> Result<()> {
    let targets: Vec<&Target> = match &args.only {
        Some(triple) => vec![list::named(triple)?],
        None => TARGETS.iter().collect(),
    };
    offer_parts(args, &targets)?;
    let dir = setup::empty_dir(&args.dir)?;
    let app = if args.build_only { None } else { Some(App::build(&dir, args.no_build)?) };
    let mut rows = Vec::new();
    for target in targets {
        eprintln!("{} ...", target.triple);
        let row = one(target, args, app.as_ref(), &dir);
        if args.json {
            println!("{}", serde_json::to_string(&row)?);
        }
        rows.push(row);
    }
    if !args.json {
        println!("\n{}", table(&rows));
    }
    let count = |outcome| rows.iter().filter(|row| row.outcome == outcome).count();
    if count(Outcome::Fail) > 0 {
        bail!("{} target(s) failed", count(Outcome::Fail));
    }
    if count(Outcome::Skip) > 0 && std::env::var_os("CI").is_some() {
        bail!("{} target(s) skipped: in CI that is a failure", count(Outcome::Skip));
    }
    Ok(())
}

/// Installs what all targets need in one go; what is missing then fails the targets that need it.
fn offer_parts(args: &TargetsArgs, targets: &[&Target]) -> Result<()> {
    let build = targets.iter().filter(|_| !args.no_build).flat_map(|target| target.build_parts());
    let run = targets.iter().filter(|_| !args.build_only).flat_map(|target| target.run_parts());
    setup::offer(build.chain(run), args.install)?;
    Ok(())
}

fn one(target: &'static Target, args: &TargetsArgs, app: Option<&App>, dir: &Path) -> Row {
    let (target_name, budget) = (target.triple, target.budget);
    let row = |outcome, why: Option<String>| Row {
        target: target_name,
        bytes: None,
        budget,
        digest: None,
        file: None,
        seen: None,
        outcome,
        why,
    };
    if let Route::Untested(why) = target.route {
        return row(Outcome::Untested, Some(why.to_owned()));
    }
    let built = if args.no_build { build::judge(target) } else { build::build(target) };
    let built = match built {
        Ok(built) => built,
        Err(error) => return row(Outcome::Fail, Some(format!("{error:#}"))),
    };
    let (seen, outcome, why) = match app.map(|app| try_out(target, &built, app, dir)) {
        None => (None, Outcome::Built, None),
        Some(Ok(Tried::Seen(seen))) => (Some(seen), Outcome::Pass, None),
        Some(Ok(Tried::Not(why))) => (None, Outcome::Skip, Some(why)),
        Some(Err(error)) => (None, Outcome::Fail, Some(format!("{error:#}"))),
    };
    let (bytes, digest, file) = (Some(built.bytes), Some(built.digest), Some(built.kind));
    Row { bytes, digest, file, seen, ..row(outcome, why) }
}

enum Tried {
    Seen(Seen),
    Not(String),
}

fn try_out(target: &Target, built: &Built, app: &App, dir: &Path) -> Result<Tried> {
    let missing: Vec<_> = target.run_parts().iter().filter(|part| !part.is_here()).collect();
    if !missing.is_empty() {
        return Ok(Tried::Not(format!("missing: {}", setup::apt_line(&missing))));
    }
    let dir = dir.join(target.triple);
    std::fs::create_dir_all(&dir)?;
    let agent = guest::launcher(&target.guest, &built.program, &dir)?;
    if let Some(why) = guest::why_not(&target.guest, &agent) {
        return Ok(Tried::Not(why));
    }
    let plan =
        Plan { agent: &agent, bundle: &app.bundle, author: &app.author, dir: &dir.join("gateway") };
    let seen = scenario::run(&plan)?;
    ensure!(
        seen.machine == target.machine,
        "it ran on {}, not on {}: something else was started",
        seen.machine,
        target.machine
    );
    Ok(Tried::Seen(seen))
}

fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let outcome = format!("{:?}", row.outcome).to_uppercase();
        text += &format!("{outcome:<9} {}\n", row.target);
        if let (Some(bytes), Some(digest), Some(file)) = (row.bytes, &row.digest, &row.file) {
            text += &format!("          {bytes} bytes of {}; sha256 {digest}\n", row.budget);
            text += &format!("          {file}\n");
        }
        if let Some(seen) = &row.seen {
            let Seen { machine, ready_ms, deploy_ms, result_ms } = seen;
            text += &format!(
                "          uname -m: {machine}; ready {ready_ms} ms, deploy {deploy_ms} ms, result {result_ms} ms\n"
            );
        }
        if let Some(why) = &row.why {
            text += &format!("          {why}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_was_seen_and_why_not() {
        let seen = Seen { machine: "armv7l".into(), ready_ms: 1, deploy_ms: 2, result_ms: 3 };
        let passed = Row {
            target: "a",
            bytes: Some(5),
            budget: 9,
            digest: Some("ab".into()),
            file: Some("ELF".into()),
            seen: Some(seen),
            outcome: Outcome::Pass,
            why: None,
        };
        let text = table(std::slice::from_ref(&passed));
        assert!(text.contains("PASS      a\n"), "{text}");
        assert!(text.contains("5 bytes of 9; sha256 ab"), "{text}");
        assert!(text.contains("uname -m: armv7l"), "{text}");
        let json = serde_json::to_value(&passed).unwrap();
        assert_eq!((&json["machine"], &json["outcome"]), (&"armv7l".into(), &"pass".into()));
    }

    #[test]
    fn every_target_has_a_name_of_its_own_and_those_that_are_built_a_budget() {
        for (at, target) in TARGETS.iter().enumerate() {
            assert!(!TARGETS[..at].iter().any(|other| other.triple == target.triple));
            let is_built = !matches!(target.route, Route::Untested(_));
            assert_eq!(is_built, target.budget > 0, "{}", target.triple);
            assert_eq!(list::named(target.triple).unwrap().triple, target.triple);
        }
        assert!(list::named("vax").is_err());
    }
}
