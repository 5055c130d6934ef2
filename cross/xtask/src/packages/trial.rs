//! Tests the packages: `test.sh` does what a user does, with systemd as process 1. That of this machine in a
//! copy of its system that is thrown away, where `test-openrc.sh` tries the tarball with OpenRC too, both with the agent
//! that tests use; those of other machines in a Debian in QEMU, with the agent that is shipped.

mod guest;
mod scene;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use self::guest::Debian;
use self::scene::{Program, Props, Times};
use super::{PARTS, depends};
use crate::command::{built, project_root, run as run_command};
use crate::setup::{self, Agent, Part};
use crate::targets::build;
use crate::targets::list::Target;

/// Longest that the whole test may take.
const HERE_SECONDS_MAX: u64 = 300;
const EMULATED_SECONDS_MAX: u64 = 1_500;

const HERE: Times = Times { patience_s: 30, hang_s: 3, stop_s: 3 };
const EMULATED: Times = Times { patience_s: 120, hang_s: 12, stop_s: 10 };

const SYSTEMD: &str = "/lib/systemd/systemd";
const NEEDED: &[Part] = &[
    Part { program: SYSTEMD, package: "systemd", suite: "packages --test" },
    Part { program: "strip", package: "binutils", suite: "packages --test" },
    Part { program: "unshare", package: "util-linux", suite: "packages --test" },
    Part { program: "openssl", package: "openssl", suite: "packages --test" },
    Part { program: "findmnt", package: "mount", suite: "packages --test" },
    Part { program: "ip", package: "iproute2", suite: "packages --test" },
    Part { program: "ps", package: "procps", suite: "packages --test" },
];

/// How the test is run.
pub(crate) struct Plan<'a> {
    /// The packages that are tested.
    pub(crate) targets: Vec<&'static Target>,
    /// Take programs as they were built last.
    pub(crate) no_build: bool,
    /// Where everything is made; empty.
    pub(crate) dir: &'a Path,
    /// Where the emulated machines are kept from test to test.
    pub(crate) guests: PathBuf,
    /// Whether missing packages are installed.
    pub(crate) install: bool,
}

/// Debian's OpenRC, and what it needs beside what is everywhere.
const OPENRC: &[&str] = &["openrc", "insserv", "libeinfo1", "librc1"];

/// Where a package is tested.
enum Place {
    Here,
    OpenRc,
    Emulated(&'static guest::Machine),
}

impl Place {
    /// All places for a target.
    fn of(target: &Target) -> Vec<Self> {
        if target.machine == std::env::consts::ARCH {
            return vec![Self::Here, Self::OpenRc];
        }
        guest::machine(target).map(Self::Emulated).into_iter().collect()
    }

    fn named(&self) -> &'static str {
        match self {
            Self::Here => "a copy of this system",
            Self::OpenRc => "the same with OpenRC",
            Self::Emulated(_) => "Debian in QEMU, 512 MiB",
        }
    }

    fn parts(&self) -> &'static [Part] {
        match self {
            Self::Here | Self::OpenRc => NEEDED,
            Self::Emulated(_) => guest::NEEDED,
        }
    }
}

/// Installs, runs, hangs, updates, upgrades, removes and purges each.
///
/// # Errors
/// Something is not as it has to be, or it cannot be tested here.
pub(crate) fn run(plan: &Plan<'_>) -> Result<()> {
    ensure!(
        setup::is_root(),
        "only root can start another systemd, and make a system: sudo -E cargo xtask packages --test"
    );
    let mut tests = Vec::new();
    for target in &plan.targets {
        let places = Place::of(target);
        ensure!(!places.is_empty(), "there is no test of {} on this machine", target.triple);
        tests.extend(places.into_iter().map(|place| (*target, place)));
    }
    let parts = tests.iter().flat_map(|(target, place)| {
        let run = target.run_parts().iter().chain(place.parts());
        let builds = !plan.no_build && matches!(place, Place::Emulated(_));
        target.build_parts().iter().filter(move |_| builds).chain(run)
    });
    let missing = setup::offer(parts.chain(PARTS), plan.install)?;
    ensure!(missing.is_empty(), "missing: {}", setup::apt_line(&missing));
    if !plan.no_build {
        setup::programs(Agent::Shipped)?;
    }
    let props = Props::make(plan.dir)?;
    let mut rows = Vec::new();
    for (target, place) in &tests {
        eprintln!("{}: in {} ...", target.deb, place.named());
        let begun = Instant::now();
        let result = one(target, place, &props, plan);
        rows.push((target.deb, place.named(), begun.elapsed(), result));
    }
    judge(rows)
}

fn judge(rows: Vec<(&str, &str, Duration, Result<()>)>) -> Result<()> {
    println!();
    let mut failed = Vec::new();
    for (package, place, took, result) in rows {
        let outcome = if result.is_ok() { "PASS" } else { "FAIL" };
        println!("{outcome}  {package:<6} {place:<24} {:>6.0} s", took.as_secs_f64());
        if let Err(error) = result {
            println!("      {error:#}");
            failed.push(package);
        }
    }
    if !failed.is_empty() {
        bail!("the test of {} failed", failed.join(", "));
    }
    Ok(())
}

fn one(target: &Target, place: &Place, props: &Props, plan: &Plan<'_>) -> Result<()> {
    match place {
        Place::Here => {
            let program = tested_here(props, plan.dir)?;
            thrown_away(&props.scene(target, &program, HERE)?, "systemd")
        }
        Place::OpenRc => {
            // The scene is that of the place before.
            let folder = props.folder(target);
            fetch_openrc(&folder.join("openrc"))?;
            thrown_away(&folder, "openrc")
        }
        Place::Emulated(machine) => {
            let built = if plan.no_build { build::judge(target)? } else { build::build(target)? };
            let program = Program {
                bytes: std::fs::read(&built.program)?,
                target: target.triple.to_owned(),
                depends: depends(target),
            };
            let folder = props.scene(target, &program, EMULATED)?;
            let debian = Debian::make(machine, target, &plan.guests.join(target.deb))?;
            debian.run(&folder, Duration::from_secs(EMULATED_SECONDS_MAX))
        }
    }
}

/// The agent that tests use, without what is only for a debugger.
fn tested_here(props: &Props, dir: &Path) -> Result<Program> {
    let stripped = dir.join("edge-agent");
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&stripped).arg(built("edge-agent")?);
    run_command(strip)?;
    let bytes = std::fs::read(&stripped).with_context(|| stripped.display().to_string())?;
    Ok(Program { bytes, target: props.own_target()?, depends: "libc6".to_owned() })
}

fn thrown_away(folder: &Path, init: &str) -> Result<()> {
    let mut command = Command::new("bash");
    command.arg(project_root().join("cross/packages/throwaway.sh"));
    command.arg(folder).arg(HERE_SECONDS_MAX.to_string()).arg(init);
    run_command(command).with_context(|| format!("see {}/{init}.log", folder.display()))
}

fn fetch_openrc(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut apt = Command::new("apt-get");
    apt.args(["-q", "-o", "APT::Sandbox::User=root", "download"]).args(OPENRC);
    apt.current_dir(folder);
    run_command(apt).context("OpenRC is one of Debian's packages here")
}
